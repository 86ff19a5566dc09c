"""The cosine schedule, learned variances, the hybrid loss, importance sampling (Nichol & Dhariwal 2021, eq. 15 to 19)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "iddpm.schedule",
        "Betas from what is left, and respacing",
        "Improved DDPM, eq. 17 and 19",
        r"""
Since $\bar\alpha_t = \prod_{i\le t}(1-\beta_i)$, any falling sequence
$\bar\alpha_0 = 1 > \bar\alpha_1 > \dots > \bar\alpha_T$ is the schedule of

$$\beta_t = 1 - \frac{\bar\alpha_t}{\bar\alpha_{t-1}}.$$

With $\bar\alpha_t = f(t)/f(0)$, $f(t) = \cos^2\big(\frac{t/T + s}{1 + s}\cdot\frac\pi2\big)$, the last one would be 1
(nothing is left at $T$), so betas are cut off at 0.999. The offset $s = 0.008$ keeps the first ones from being too
small for the noise to be predicted: $\sqrt{\beta_1}$ is a little less than the width of a byte's bin.

*Respacing* is the same formula on a subsequence $S_1 < \dots < S_K$ of levels:
$\beta_{S_k} = 1 - \bar\alpha_{S_k}/\bar\alpha_{S_{k-1}}$ makes a shorter chain with the very same $\bar\alpha$, hence
the same $q(x_t \mid x_0)$, at the levels that are kept. So the same network serves it.
""",
    ),
    Derivation(
        "iddpm.range",
        "The right variance lies between beta-tilde and beta",
        "Improved DDPM, eq. 15; DDPM, section 3.2",
        r"""
Given $x_t$ and $x_0$, $x_s$ has mean $\tilde\mu$ and variance $\tilde\beta$. If $x_0$ is not known, the law of total
variance adds what the unknown $x_0$ moves the mean by, the factor being $\alpha_s\sigma_{t|s}^2/\sigma_t^2$:

$$\operatorname{Var}[x_s \mid x_t] = \tilde\beta + \Big(\frac{\alpha_s\,\sigma_{t|s}^2}{\sigma_t^2}\Big)^2\operatorname{Var}[x_0 \mid x_t] \ \ge\ \tilde\beta,$$

with equality where $x_t$ tells $x_0$: for data that are one point. On the other side, let each pixel have variance 1.
The best guess of $x_0$ errs no more than the best *linear* guess, $\alpha_t x_t$, whose error is $\sigma_t^2$ (as
$\alpha_t^2 + \sigma_t^2 = 1$). So on average

$$\mathbb{E}\operatorname{Var}[x_s \mid x_t] \le \tilde\beta + \frac{\alpha_s^2\,\sigma_{t|s}^4}{\sigma_t^2}
= \sigma_{t|s}^2\,\frac{\sigma_s^2 + \alpha_s^2\,\sigma_{t|s}^2}{\sigma_t^2} = \sigma_{t|s}^2 = \beta_t,$$

because $\sigma_s^2 + \alpha_s^2\sigma_{t|s}^2 = (1 - \sigma_{t|s}^2)\,\sigma_s^2 + \sigma_{t|s}^2 = \sigma_t^2$; with
equality for $N(0, I)$. $\blacksquare$

Hence eq. 15, an interpolation of the two in the logarithm, $\Sigma_t = \exp(v\log\beta_t + (1-v)\log\tilde\beta_t)$.
The two differ at the first levels: their ratio is $\tilde\beta_t/\beta_t = \sigma_{t-1}^2/\sigma_t^2$.
""",
    ),
    Derivation(
        "iddpm.hybrid",
        "The hybrid loss, and why the bound's gradient stops at the mean",
        "Improved DDPM, eq. 16",
        r"""
$L_\text{simple}$ does not depend on $\Sigma$, so it cannot teach it. The bound does: for one pixel

$$D_\text{KL}\big(N(\tilde\mu, \tilde\beta)\,\|\,N(\mu, \Sigma)\big) = \frac12\Big(\log\frac{\Sigma}{\tilde\beta} + \frac{\tilde\beta + (\tilde\mu - \mu)^2}{\Sigma} - 1\Big).$$

Its derivative by $\log\Sigma$ is $\tfrac12\big(1 - (\tilde\beta + (\tilde\mu-\mu)^2)/\Sigma\big)$. In the mean it is
0 at

$$\Sigma^* = \tilde\beta + \mathbb{E}\,(\tilde\mu - \mu)^2,$$

which, for the best $\mu$, is $\operatorname{Var}[x_s \mid x_t]$: the variance of the fold above. The loss is

$$L_\text{hybrid} = L_\text{simple} + \lambda\,L_\text{vlb}\big(\operatorname{sg}[\mu],\ \Sigma\big), \qquad \lambda = 0.001,$$

where $\operatorname{sg}$, the *stop-gradient*, hands on the value and has gradient 0. Without it the mean would get
the gradient $(\mu - \tilde\mu)/\Sigma$ too, that is the bound's weights, which grow about a hundredfold towards clean
data: what DDPM left out. With it the mean follows $L_\text{simple}$ alone, and $\Sigma$ follows the mean that there
is. $\blacksquare$
""",
    ),
    Derivation(
        "iddpm.importance",
        "Importance sampling of the levels",
        "Improved DDPM, eq. 18",
        r"""
To train with the bound alone, $L_\text{vlb} = \sum_t L_t$, one draws a level with probability $p_t$ and takes
$L_t/p_t$. Its mean is the sum for any $p$: $\sum_t p_t\,\mathbb{E}[L_t]/p_t$. Its second moment is not the same, and
by the Cauchy-Schwarz inequality, with $\sum_t p_t = 1$,

$$\sum_t \frac{\mathbb{E}[L_t^2]}{p_t} = \sum_t \frac{\mathbb{E}[L_t^2]}{p_t}\,\sum_t p_t \ \ge\ \Big(\sum_t\sqrt{\mathbb{E}[L_t^2]}\Big)^2,$$

with equality only for $p_t \propto \sqrt{\mathbb{E}[L_t^2]}$. That is eq. 18, the least noise that a choice of levels
can leave. $\blacksquare$ The moments are not known and change as the network learns; the paper keeps the last ten
losses of each level, and draws evenly until every level has ten.
""",
    ),
)
