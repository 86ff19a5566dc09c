"""Classifier guidance, by Taylor and by scores, and guidance without a classifier (Dhariwal & Nichol 2021; Ho & Salimans)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "adm.taylor",
        "Algorithm 1: the mean moves by the variance times the gradient",
        "ADM, section 4.1, eq. 2 to 10, appendix H",
        r"""
Given the class, the chain that makes noise is the same, so by Bayes' rule the reverse step is the old one times a
factor:

$$p(x_s \mid x_t, y) = Z\;p(x_s \mid x_t)\;p(y \mid x_s), \qquad Z = 1/p(y \mid x_t) \text{ does not depend on } x_s.$$

(Given $x_s$, $x_t$ is only more noise and says nothing more about $y$.) The old step is $N(\mu, \Sigma)$. It is
narrow where steps are short, and the classifier changes little within it; to first order around $\mu$

$$\log p_\phi(y \mid x) \approx \log p_\phi(y \mid \mu) + (x - \mu)^\top g, \qquad g = \nabla_x\log p_\phi(y \mid x)\big|_{x = \mu}.$$

Complete the square:

$$-\tfrac12(x-\mu)^\top\Sigma^{-1}(x-\mu) + (x-\mu)^\top g = -\tfrac12(x - \mu - \Sigma g)^\top\Sigma^{-1}(x - \mu - \Sigma g) + \tfrac12\,g^\top\Sigma g.$$

So the guided step is $N(\mu + \Sigma g,\ \Sigma)$. $\blacksquare$ With a scale $s$ for the gradient:

```text
Algorithm 1  Classifier guided sampling
1: x_T ~ N(0, I)
2: for t = T, ..., 1:
3:    mu, Sigma = mu_theta(x_t), Sigma_theta(x_t)
4:    x_{t-1} ~ N(mu + s * Sigma * grad log p_phi(y | x_t), Sigma)
5: return x_0
```
""",
    ),
    Derivation(
        "adm.score",
        "Algorithm 2: the score moves, for samplers without noise",
        "ADM, section 4.2, eq. 11 to 14",
        r"""
With $\Sigma = 0$ algorithm 1 does nothing. But scores add: the log of Bayes' rule, differentiated by $x_t$, loses the
constant $\log p(y)$,

$$\nabla\log p(x_t \mid y) = \nabla\log p(x_t) + \nabla\log p(y \mid x_t).$$

Put in $\nabla\log p(x_t) = -\epsilon_\theta/\sigma_t$ and read the sum as the score of another predicted noise,
$-\hat\epsilon/\sigma_t$:

$$\hat\epsilon = \epsilon_\theta(x_t) - \sigma_t\,\nabla_{x_t}\log p_\phi(y \mid x_t). \qquad\blacksquare$$

```text
Algorithm 2  Classifier guided DDIM sampling
1: x_T ~ N(0, I)
2: for t = T, ..., 1:
3:    eps = eps_theta(x_t) - s * sigma_t * grad log p_phi(y | x_t)
4:    x_{t-1} = alpha_{t-1} * (x_t - sigma_t * eps) / alpha_t + sigma_{t-1} * eps
5: return x_0
```

A scale $s \ne 1$ uses the score of $p(x_t)\,p(y \mid x_t)^s/Z_t$ at each level. These densities, one a level, are
*not* the noisy versions of $p(x_0)\,p(y \mid x_0)^s$: noise and a power cannot be exchanged. So what comes out is
sharper, but it has no such closed form.
""",
    ),
    Derivation(
        "adm.classifier_free",
        "Guidance without a classifier",
        "Ho and Salimans 2022, eq. 6",
        r"""
Bayes' rule once more: a conditional and an unconditional score make a classifier's gradient,

$$\nabla\log p(y \mid x_t) = \nabla\log p(x_t \mid y) - \nabla\log p(x_t) = -\frac{\epsilon(x_t, y) - \epsilon(x_t)}{\sigma_t}.$$

Put it into algorithm 2:

$$\hat\epsilon = \epsilon(x_t) - s\,\sigma_t\,\nabla\log p(y \mid x_t) = \epsilon(x_t) + s\,\big(\epsilon(x_t, y) - \epsilon(x_t)\big). \qquad\blacksquare$$

$s = 0$ is the unconditional model, $s = 1$ the conditional one, $s > 1$ goes beyond. The paper writes
$(1 + w)\,\epsilon(x_t, y) - w\,\epsilon(x_t)$, so $s = 1 + w$. One network is both: in training its label is left out
for a share of the pictures. Learned scores are not exact, so the difference need not be the gradient of any
classifier.
""",
    ),
    Derivation(
        "adm.adagn",
        "AdaGN: the level and the class as scale and shift",
        "ADM, section 3.1; Perez et al. 2018 (FiLM); Wu and He 2018",
        r"""
*Group normalisation* takes mean and variance over a group of channels and all places, and so makes the block's output
independent of the size of what comes in. DDPM adds the embedding $e$ of level and class *before* it, Improved DDPM
and ADM scale and shift *after* it:

$$\text{DDPM: } \operatorname{GN}(h + We), \qquad \text{AdaGN: } y_s\odot\operatorname{GN}(h) + y_b, \qquad (y_s, y_b) = We + b.$$

**Added before**, the embedding is a constant $b_c$ on each channel. With group mean and variance $m_h, s_h^2$ of $h$
and $m_b, s_b^2$ of the $b_c$ of that group (and no correlation between the two)

$$\operatorname{GN}(h + b)_c = \frac{h_c - m_h + b_c - m_b}{\sqrt{s_h^2 + s_b^2}}.$$

What the $b_c$ have in common is subtracted again (all of it, where a group is one channel), and a large $b$ makes $h$
smaller for the whole group: shift and scale cannot be chosen separately.

**Scaled after**, every channel has a gain of its own that depends on the level. The best denoiser needs one: for
Gaussian data of variance $v$ it is linear, with a gain that depends on the level alone,

$$\hat\epsilon = g_t\,x_t, \qquad g_t = \frac{\sigma_t}{\alpha_t^2 v + \sigma_t^2}.$$

One layer with a scale has it exactly. A layer that is only shifted, $\hat\epsilon = w\,x_t + c_t$, has the best
$c_t = 0$ and one $w$ for all levels, and errs by at least
$\mathbb{E}_t\big[(g_t - w)^2\,(\alpha_t^2 v + \sigma_t^2)\big]$ more. $\blacksquare$ The nonlinearities after a shift
can imitate the product; the paper found that they do so less well (its table 3). In NCSN the same thing is
*conditional instance normalisation*; in DiT it is adaLN.
""",
    ),
)
