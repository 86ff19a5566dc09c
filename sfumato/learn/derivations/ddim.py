"""The non-Markovian family, theorem 1, the step and its ODE (Song, Meng & Ermon 2020, eq. 7 to 16)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "ddim.family",
        "A family of processes with the same marginals",
        "DDIM, eq. 6 to 8, lemma 1",
        r"""
(The paper's $\alpha_t$ is $\alpha_t^2$ here, and its $\sigma_t$ is $\varsigma_t$.) Choose any
$0 \le \varsigma_t \le \sigma_s$, $s = t - 1$, and define the process *backwards*, with
$q(x_T \mid x_0) = N(\alpha_T x_0, \sigma_T^2 I)$ and (eq. 7)

$$q_\varsigma(x_s \mid x_t, x_0) = N\Big(\alpha_s x_0 + \sqrt{\sigma_s^2 - \varsigma_t^2}\;\frac{x_t - \alpha_t x_0}{\sigma_t},\ \varsigma_t^2 I\Big).$$

**Claim:** $q_\varsigma(x_t \mid x_0) = N(\alpha_t x_0, \sigma_t^2 I)$ for every $t$. It holds at $T$. If it holds at
$t$, then $(x_t - \alpha_t x_0)/\sigma_t$ is standard normal given $x_0$, so $x_s$ is Gaussian with mean
$\alpha_s x_0$ and variance $(\sigma_s^2 - \varsigma_t^2) + \varsigma_t^2 = \sigma_s^2$. $\blacksquare$

The forward step follows by Bayes' rule (eq. 8), and depends on $x_0$ too: the process is no Markov chain, and none is
needed, since training only ever uses $q(x_t \mid x_0)$. With $\varsigma_t^2 = \tilde\beta_t$ eq. 7 is DDPM's
posterior: then $\sqrt{\sigma_s^2 - \varsigma_t^2} = \alpha_{t|s}\,\sigma_s^2/\sigma_t$, because
$\sigma_s^2\,(1 - \sigma_{t|s}^2/\sigma_t^2) = \alpha_{t|s}^2\,\sigma_s^4/\sigma_t^2$.
""",
    ),
    Derivation(
        "ddim.theorem",
        "Theorem 1: one network serves the whole family",
        "DDIM, eq. 9 to 11, theorem 1",
        r"""
The model steps with the predicted data in the place of $x_0$:
$p(x_s \mid x_t) = q_\varsigma(x_s \mid x_t, \hat x_0)$, $\hat x_0 = (x_t - \sigma_t\epsilon_\theta)/\alpha_t$ (eq. 9
and 10). Its bound is a sum of KL divergences, as for DDPM (eq. 11). Both Gaussians have the variance $\varsigma_t^2$,
and their means differ by

$$c_t\,(x_0 - \hat x_0), \qquad c_t = \alpha_s - \sqrt{\sigma_s^2 - \varsigma_t^2}\,\frac{\alpha_t}{\sigma_t}.$$

With $x_0 - \hat x_0 = -(\sigma_t/\alpha_t)\,(\epsilon - \epsilon_\theta)$ each term is a weighted squared error of
the noise:

$$D_\text{KL} = \frac{c_t^2\,\|x_0 - \hat x_0\|^2}{2\,\varsigma_t^2} = \gamma_t\,\|\epsilon - \epsilon_\theta(x_t, t)\|^2, \qquad \gamma_t = \frac{c_t^2\,\sigma_t^2}{2\,\varsigma_t^2\,\alpha_t^2}.$$

So for every $\varsigma > 0$ the bound is $J_\varsigma = L_\gamma + C$, the loss of DDPM with weights $\gamma$.
$\blacksquare$ If the network shares nothing between levels, each term has its minimum where $L_\text{simple}$ has it,
whatever the weights: a trained DDPM is a trained member of the family, for any $\varsigma$. For $\varsigma \to 0$ the
bound is no use, but the minimum stays where it is.
""",
    ),
    Derivation(
        "ddim.step",
        "The step, and the eta between two ends",
        "DDIM, eq. 12 and 16, section 4.2",
        r"""
Put $\hat x_0$ into eq. 7; then $(x_t - \alpha_t\hat x_0)/\sigma_t$ is $\epsilon_\theta$ (eq. 12):

$$x_s = \alpha_s\,\hat x_0 + \sqrt{\sigma_s^2 - \varsigma^2}\;\epsilon_\theta(x_t, t) + \varsigma\,z.$$

The claim of the family uses nothing but the levels $t$ and $s$, so it holds along any subsequence
$\tau_1 < \dots < \tau_S$ of levels: take longer steps with the same network. Eq. 16 measures the noise in units of
the posterior's:

$$\varsigma = \eta\,\sqrt{\tilde\beta} = \eta\,\frac{\sigma_s}{\sigma_t}\sqrt{1 - \frac{\alpha_t^2}{\alpha_s^2}},$$

where $\sigma_{t|s}^2 = 1 - \alpha_t^2/\alpha_s^2$ for a variance-preserving schedule. $\eta = 1$ is DDPM with the
small variance, $\eta = 0$ draws nothing.
""",
    ),
    Derivation(
        "ddim.ode",
        "With eta = 0 it is Euler's method for an ODE",
        "DDIM, eq. 13 and 14, section 4.3",
        r"""
Divide the step with $\varsigma = 0$ by $\alpha_s$, and write $\bar x = x/\alpha$, $\lambda = \sigma/\alpha$:

$$\bar x_s = \hat x_0 + \lambda_s\,\epsilon_\theta, \qquad \bar x_t = \hat x_0 + \lambda_t\,\epsilon_\theta \quad\Rightarrow\quad \bar x_s - \bar x_t = (\lambda_s - \lambda_t)\,\epsilon_\theta(x_t, t).$$

That is one step of Euler's method for (eq. 14)

$$\frac{d\bar x}{d\lambda} = \epsilon_\theta\big(\alpha\,\bar x,\ t(\lambda)\big). \qquad\blacksquare$$

An ODE has one solution through each point, forwards and backwards: so a picture has a code, and fewer steps give the
same picture with a larger error. It is the probability flow of the variance-exploding process
$\bar x = x_0 + \lambda\epsilon$: with the score $-\epsilon_\theta/\lambda$ its eq. 13 (Score-SDE) reads
$d\bar x/d\lambda = -\tfrac12\,(\lambda^2)'\,(-\epsilon_\theta/\lambda) = \epsilon_\theta$.
""",
    ),
)
