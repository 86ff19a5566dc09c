"""The samplers of eight papers as one sum: predicted data, predicted noise, fresh noise."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "capstone.one_step",
        "All samplers are one sum of three terms",
        "DPM to ADM, beside each other",
        r"""
At level $t$ the network gives $\hat x_0$ and $\hat\epsilon$ with $x_t = \alpha_t\hat x_0 + \sigma_t\hat\epsilon$.
Whatever a step computes, it can be written as

$$x_s = \alpha_s\,\hat x_0 + b\,\hat\epsilon + c\,z.$$

| | $s$ | $b$ | $c$ |
|---|---|---|---|
| DDIM, $\eta = 0$; the ODE's Euler step in $\sigma/\alpha$ | $< t$ | $\sigma_s$ | 0 |
| DDIM, any $\eta$ | $< t$ | $\sqrt{\sigma_s^2 - c^2}$ | $\eta\,\tilde\beta^{1/2}$ |
| DPM, DDPM, Improved DDPM with $\tilde\beta$ | $< t$ | $\sqrt{\sigma_s^2 - c^2}$ | $\tilde\beta^{1/2}$ |
| DDPM with $\beta$ | $< t$ | $\sqrt{\sigma_s^2 - \tilde\beta}$ | $\sigma_{t\mid s}$ |
| NCSN, NCSNv2, a corrector: Langevin, step $d$ | $= t$ | $\sigma_t - d/\sigma_t$ | $\sqrt{2d}$ |

Row three: $\tilde\mu$ at $\hat x_0$ has $x_t$ with the factor $\alpha_{t|s}\sigma_s^2/\sigma_t^2$; put $x_t$ in, and
$\hat\epsilon$ has $\alpha_{t|s}\sigma_s^2/\sigma_t = \sqrt{\sigma_s^2 - \tilde\beta}$, and $\hat x_0$ has
$\alpha_s(\alpha_{t|s}^2\sigma_s^2 + \sigma_{t|s}^2)/\sigma_t^2 = \alpha_s$. Last row: $x + d\,s + \sqrt{2d}\,z$ with
$s = -\hat\epsilon/\sigma_t$.

Where $b^2 + c^2 = \sigma_s^2$ a perfect prediction leads to the right marginal in one step. All rows but one keep
this: DDPM's larger variance puts in more noise than belongs there, which is right only because predictions are means,
with less variance than data; and Langevin's keeps it to first order, $b^2 + c^2 = \sigma_t^2 + d^2/\sigma_t^2$. So
NCSN's move is DDIM's with $s = t$ and $c^2 = 2d$, up to $d^2$. $\blacksquare$ Guidance changes $\hat\epsilon$ (and
$\hat x_0$ with it) and nothing else.
""",
    ),
)
