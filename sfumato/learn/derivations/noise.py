"""The posterior mean, Tweedie's formula, and how noise, clean data, score and v determine each other."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "noise.mean",
        "The best denoiser is the conditional mean",
        "Vincent 2011; EDM, appendix B",
        r"""
Let $D(x)$ be any function of the noisy point, and $m(x) = \mathbb{E}[x_0 \mid x]$. Add and subtract $m$:

$$\mathbb{E}\,\|x_0 - D(x)\|^2 = \mathbb{E}\,\|x_0 - m(x)\|^2 + \mathbb{E}\,\|m(x) - D(x)\|^2
{} + 2\,\mathbb{E}\,\big\langle x_0 - m(x),\ m(x) - D(x)\big\rangle.$$

The last term is 0: given $x$, the second factor is fixed, and the first one has mean 0. The first term does not
depend on $D$. So the squared error is least for $D = m$ and only there, and what remains is the variance of $x_0$
given $x$, which no denoiser can remove. The same holds for the noise, with $\mathbb{E}[\epsilon \mid x]$.
$\blacksquare$
""",
    ),
    Derivation(
        "noise.tweedie",
        "Tweedie's formula: the denoiser gives the score",
        "Robbins 1956; Vincent 2011; DDPM, section 3.2",
        r"""
With $x = \alpha x_0 + \sigma\epsilon$ the noisy data have the density

$$p(x) = \int p(x_0)\, N(x;\ \alpha x_0,\ \sigma^2 I)\, dx_0.$$

Differentiate under the integral; a Gaussian's gradient is itself, times $(\alpha x_0 - x)/\sigma^2$:

$$\nabla p(x) = \int p(x_0)\, N(x;\ \alpha x_0,\ \sigma^2 I)\ \frac{\alpha x_0 - x}{\sigma^2}\, dx_0.$$

Divide by $p(x)$. By Bayes' rule $p(x_0)\,N(x; \alpha x_0, \sigma^2 I)/p(x) = p(x_0 \mid x)$, so the integral is a
conditional mean:

$$\nabla \log p(x) = \frac{\alpha\,\mathbb{E}[x_0 \mid x] - x}{\sigma^2} = -\frac{\mathbb{E}[\epsilon \mid x]}{\sigma}. \qquad\blacksquare$$

Differentiate once more, and the spread of the guess follows as well:

$$\operatorname{Cov}[x_0 \mid x] = \frac{\sigma^2}{\alpha^2}\,\big(I + \sigma^2\,\nabla^2 \log p(x)\big).$$
""",
    ),
    Derivation(
        "noise.conversions",
        "Noise, clean data, score and v: each gives the others",
        "DDPM, eq. 15; Salimans and Ho 2022, appendix D",
        r"""
At a known level, $x = \alpha\hat x_0 + \sigma\hat\epsilon$ is one equation between two unknowns, so one prediction
fixes the other. With $v = \alpha\epsilon - \sigma x_0$, solve the two linear equations for $x_0$ and $\epsilon$:

| predicted | $\hat x_0$ | $\hat\epsilon$ |
|---|---|---|
| $\hat\epsilon$ | $(x - \sigma\hat\epsilon)/\alpha$ | |
| $\hat x_0$ | | $(x - \alpha\hat x_0)/\sigma$ |
| score $s$ | $(x + \sigma^2 s)/\alpha$ | $-\sigma s$ |
| $v$ | $(\alpha x - \sigma v)/(\alpha^2 + \sigma^2)$ | $(\sigma x + \alpha v)/(\alpha^2 + \sigma^2)$ |

At a fixed $x$ an error in $\hat\epsilon$ is an error in $\hat x_0$ that is $\sigma/\alpha$ times as large:
$\|\hat x_0 - x_0\|^2 = (\sigma/\alpha)^2\,\|\hat\epsilon - \epsilon\|^2$. So losses in the one or the other differ by
a weight on each level, the signal-to-noise ratio $\alpha^2/\sigma^2$.
""",
    ),
)
