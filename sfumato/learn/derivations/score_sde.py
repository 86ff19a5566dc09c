"""SDEs forward and reverse, their kernels, the probability flow and its likelihood (Song et al. 2021, eq. 5 to 40)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "score_sde.forward",
        "From chains to SDEs: VE and VP",
        "Score-SDE, eq. 5 and 8 to 11, appendix B",
        r"""
An SDE $dx = f(x, t)\,dt + g(t)\,dw$ (eq. 5) is the limit of steps
$x_{t + \Delta t} = x_t + f\,\Delta t + g\sqrt{\Delta t}\,z$. Read the papers' chains as such steps.

**NCSN** adds noise until its variance is $\sigma_i^2$: $x_i = x_{i-1} + \sqrt{\sigma_i^2 - \sigma_{i-1}^2}\,z$ (eq.
8). With $\sigma_i^2 - \sigma_{i-1}^2 \approx (\sigma^2)'(t)\,\Delta t$ this is the *variance exploding* SDE (eq. 9)

$$dx = \sqrt{\frac{d\,\sigma^2(t)}{dt}}\;dw.$$

**DDPM** has $x_i = \sqrt{1-\beta_i}\,x_{i-1} + \sqrt{\beta_i}\,z$ (eq. 10). With $\beta_i = \beta(t)\,\Delta t$ and
$\sqrt{1 - \beta\Delta t} \approx 1 - \tfrac12\beta\Delta t$ this is the *variance preserving* SDE (eq. 11)

$$dx = -\tfrac12\,\beta(t)\,x\,dt + \sqrt{\beta(t)}\,dw. \qquad\blacksquare$$
""",
    ),
    Derivation(
        "score_sde.kernels",
        "The kernels of VE, VP and sub-VP",
        "Score-SDE, eq. 12 and 29, appendix B",
        r"""
Let the drift be linear, $f(x, t) = f(t)\,x$. Then $x_t$ is Gaussian given $x_0$, and its mean $m$ and variance $V$
follow ordinary equations. From $x_{t+\Delta t} = (1 + f\Delta t)\,x_t + g\sqrt{\Delta t}\,z$, to first order in
$\Delta t$,

$$m' = f\,m, \qquad V' = 2f\,V + g^2.$$

In terms of $m = \alpha x_0$ and $V = \sigma^2$: $\ f = \alpha'/\alpha$ and
$g^2 = (\sigma^2)' - 2\,(\alpha'/\alpha)\,\sigma^2$. Any schedule $\alpha, \sigma$ has its SDE. With
$B(t) = \int_0^t\beta$:

| | $f$ | $g^2$ | $\alpha$ | $\sigma^2$ |
|---|---|---|---|---|
| VE | 0 | $(\sigma^2)'$ | 1 | $\sigma^2(t) - \sigma^2(0)$ |
| VP | $-\tfrac12\beta$ | $\beta$ | $e^{-B/2}$ | $1 - e^{-B}$ |
| sub-VP | $-\tfrac12\beta$ | $\beta\,(1 - e^{-2B})$ | $e^{-B/2}$ | $(1 - e^{-B})^2$ |

VP: $V = 1 - \alpha^2$ has $V' = -2\alpha\alpha' = \beta\alpha^2 = -\beta V + \beta$. Sub-VP: $V = (1-\alpha^2)^2$ has
$V' = 2\,(1-\alpha^2)\,\beta\alpha^2$, and
$-\beta V + \beta\,(1 - \alpha^4) = \beta\,(1-\alpha^2)\,\big((1+\alpha^2) - (1-\alpha^2)\big)$ is the same.
$\blacksquare$ (Codes, and the schedule `VE` here, leave out $\sigma^2(0)$, which is tiny.)
""",
    ),
    Derivation(
        "score_sde.reverse",
        "The reverse SDE",
        "Score-SDE, eq. 6; Anderson 1982",
        r"""
Take one short step back, from $x$ at $t + \Delta t$ to $y$ at $t$. Bayes' rule:
$p(y \mid x) \propto p(x \mid y)\,p_t(y)$. To first order
$\log p_t(y) \approx \log p_t(x) + (y - x)\cdot\nabla\log p_t(x)$, and the forward step is
$N(x;\ y + f\Delta t,\ g^2\Delta t)$. In the exponent

$$-\frac{\|y - x + f\,\Delta t\|^2}{2g^2\Delta t} + (y - x)\cdot\nabla\log p_t(x)
= -\frac{\|y - x + f\,\Delta t - g^2\Delta t\,\nabla\log p_t(x)\|^2}{2g^2\Delta t} + \dots$$

So $y = x - \big(f - g^2\,\nabla\log p_t(x)\big)\Delta t + g\sqrt{\Delta t}\,z$: the step of

$$dx = \big[f(x, t) - g(t)^2\,\nabla\log p_t(x)\big]\,dt + g(t)\,d\bar w, \qquad \text{with time running backwards.}$$

The densities confirm it. Forward, the Fokker-Planck equation is
$\partial_t p = -\nabla\!\cdot(f p) + \tfrac12 g^2\Delta p$. In $\tau = T - t$ the reverse SDE has drift
$-f + g^2\nabla\log p$, and with $p\,\nabla\log p = \nabla p$

$$\partial_\tau p = \nabla\!\cdot(f p) - g^2\Delta p + \tfrac12 g^2\Delta p = -\partial_t p. \qquad\blacksquare$$
""",
    ),
    Derivation(
        "score_sde.objective",
        "One loss for all times",
        "Score-SDE, eq. 7",
        r"""
$$\theta^* = \arg\min_\theta\ \mathbb{E}_t\Big[\lambda(t)\,\mathbb{E}_{x_0}\,\mathbb{E}_{x_t \mid x_0}\,\big\|s_\theta(x_t, t) - \nabla_{x_t}\log p(x_t \mid x_0)\big\|^2\Big].$$

It is denoising score matching at every time (the lesson on NCSN), so its minimum is $s_\theta = \nabla\log p_t$. The
kernel is the Gaussian of the fold above, and
$\nabla_{x_t}\log p(x_t \mid x_0) = -(x_t - \alpha_t x_0)/\sigma_t^2 = -\epsilon/\sigma_t$. With
$\lambda = \sigma_t^2$ it is the error of the noise, $\|\hat\epsilon - \epsilon\|^2$: DDPM's simple loss, in
continuous time. With $\lambda = g(t)^2$ it bounds the likelihood (Song et al. 2021b).
""",
    ),
    Derivation(
        "score_sde.flow",
        "The probability flow, by the Fokker-Planck equation",
        "Score-SDE, eq. 13, appendix D.1",
        r"""
Since $\nabla p = p\,\nabla\log p$, the diffusion term is a transport term as well:
$\tfrac12 g^2\Delta p = \nabla\!\cdot\big(\tfrac12 g^2\,p\,\nabla\log p\big)$. So

$$\partial_t p = -\nabla\!\cdot(f p) + \tfrac12 g^2\Delta p = -\nabla\!\cdot\Big(\big[f - \tfrac12 g^2\,\nabla\log p\big]\,p\Big).$$

The right side is the continuity equation of points that move without noise by

$$\frac{dx}{dt} = \tilde f(x, t) = f(x, t) - \tfrac12\,g(t)^2\,\nabla\log p_t(x). \qquad\blacksquare$$

Same $p_t$ at every time, other paths. Split off any share of the diffusion and there is a whole family with the same
$p_t$, in reverse time $dx = \big[f - \tfrac12(1 + \kappa^2)\,g^2\,\nabla\log p\big]dt + \kappa\,g\,d\bar w$:
$\kappa = 1$ is eq. 6, $\kappa = 0$ the flow.

With $f = (\alpha'/\alpha)\,x$, $g^2 = 2\sigma\sigma' - 2(\alpha'/\alpha)\sigma^2$, the score $-\hat\epsilon/\sigma$
and $x = \alpha\hat x_0 + \sigma\hat\epsilon$ it becomes

$$\tilde f = \alpha'\hat x_0 + \frac{\alpha'}{\alpha}\,\sigma\hat\epsilon + \sigma'\hat\epsilon - \frac{\alpha'}{\alpha}\,\sigma\hat\epsilon = \alpha'\,\hat x_0 + \sigma'\,\hat\epsilon.$$
""",
    ),
    Derivation(
        "score_sde.likelihood",
        "The likelihood: instantaneous change of variables",
        "Score-SDE, eq. 39 and 40, appendix D.2; Chen et al. 2018",
        r"""
Follow one point, $dx/dt = \tilde f(x, t)$, and watch the log density where it is:

$$\frac{d}{dt}\log p_t(x_t) = \partial_t\log p_t + \tilde f\cdot\nabla\log p_t.$$

The continuity equation, divided by $p$, says $\partial_t\log p = -\nabla\!\cdot\tilde f - \tilde f\cdot\nabla\log p$.
The transport terms cancel:

$$\frac{d}{dt}\log p_t(x_t) = -\nabla\!\cdot\tilde f(x_t, t)
\quad\Rightarrow\quad \log p_0(x_0) = \log p_T(x_T) + \int_0^T \nabla\!\cdot\tilde f(x_t, t)\,dt. \qquad\blacksquare$$

Where the flow spreads points, density falls. The divergence is a trace of $D$ derivatives; with random $v$,
$\mathbb{E}[vv^\top] = I$, one is enough in the mean (Hutchinson, eq. 40):
$\nabla\!\cdot\tilde f = \mathbb{E}\big[v^\top\,\nabla\tilde f\;v\big]$.
""",
    ),
    Derivation(
        "score_sde.algorithm",
        "Algorithm 1: predictor and corrector",
        "Score-SDE, algorithm 1 and appendix G",
        r"""
```text
Algorithm 1  Predictor-corrector sampling
1: x_N ~ p_T(x)
2: for i = N - 1, ..., 0:
3:    x_i = predictor(x_{i+1})           # from t_{i+1} to t_i: a step of the reverse SDE, or ancestral
4:    for j = 1, ..., M:
5:        x_i = corrector(x_i)           # stays at t_i: a step of Langevin dynamics
6: return x_0
```

The predictor's error shifts the distribution away from $p_{t_i}$; Langevin dynamics leaves $p_{t_i}$ as it is and
draws other distributions to it (the lesson on NCSN). Its step follows from the wanted ratio $r$ of signal to noise,
$\|d\,s\| \approx r\,\|\sqrt{2d}\,z\|$, that is $d = 2\,(r\,\|z\|/\|s\|)^2$.
""",
    ),
    Derivation(
        "score_sde.conditional",
        "Conditional generation with an unconditional score",
        "Score-SDE, section 5, eq. 14, appendix I",
        r"""
Let $y$ be something known of $x_0$: a class, some of the pixels, a grey picture. Given $y$ the forward SDE is the
same, so its reverse is eq. 6 with the score of $p_t(x \mid y)$; and by Bayes' rule
$\nabla\log p_t(x \mid y) = \nabla\log p_t(x) + \nabla\log p_t(y \mid x)$:

$$dx = \big[f - g^2\,\nabla\log p_t(x) - g^2\,\nabla\log p_t(y \mid x)\big]\,dt + g\,d\bar w. \qquad\blacksquare$$

**A class.** $p_t(y \mid x)$ is a classifier of noisy pictures, trained for it. ADM's guidance is this with a scale.

**Known pixels $\Omega$** (imputation). Noise acts on each pixel alone, so the known ones can be kept at their own
noisy values $\alpha_t y + \sigma_t\epsilon$ at every level, and

$$\nabla\log p_t(x_{\bar\Omega} \mid y) \approx \big[\nabla\log p_t(x)\big]_{\bar\Omega} \quad\text{with } x_\Omega \sim p_t(x_\Omega \mid y).$$

It is an approximation: the right score is a mean over $x_\Omega$ *given what the others are*, and drawing $x_\Omega$
from $y$ alone ignores that. (The lesson on inverse problems computes what it costs.)

**Colouring.** A grey picture is no pixel but $w^\top x$ with $w = (1, 1, 1)/\sqrt3$ at each place. Complete $w$ to an
orthonormal matrix $M$ of three rows: $u = Mx$ has the grey value as its first channel, the noise of $u$ is
$M\epsilon \sim N(0, I)$ as before, and its score is $\nabla_u\log p_t = M\,\nabla_x\log p_t$. So colouring is
imputation in $u$.
""",
    ),
)
