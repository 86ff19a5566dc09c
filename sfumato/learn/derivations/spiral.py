"""Products of a model with a second distribution (Sohl-Dickstein et al. 2015, section 2.5 and appendix C)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "spiral.product",
        "A model multiplied by what is known",
        "DPM, section 2.5",
        r"""
Wanted are samples of $\tilde p(x_0) \propto p(x_0)\,r(x_0)$; $r$ is what is known, for instance an observation.
Multiply every level, $\tilde p(x_t) = p(x_t)\,r(x_t)/Z_t$, and look for a step that leads from one to the next:

$$\tilde p(x_s) = \int \tilde p(x_s \mid x_t)\,\tilde p(x_t)\,dx_t.$$

Put both definitions in; it reads
$p(x_s) = \int \tilde p(x_s \mid x_t)\,\frac{Z_s\, r(x_t)}{Z_t\, r(x_s)}\,p(x_t)\,dx_t$. Since
$p(x_s) = \int p(x_s \mid x_t)\,p(x_t)\,dx_t$, it is enough that

$$\tilde p(x_s \mid x_t) = p(x_s \mid x_t)\ \frac{Z_t\, r(x_s)}{Z_s\, r(x_t)}.$$

This is no distribution over $x_s$ for every $x_t$. The paper normalises it,

$$\tilde p(x_s \mid x_t) = \frac{p(x_s \mid x_t)\, r(x_s)}{\int p(x \mid x_t)\, r(x)\,dx},$$

which is the same where $r$ hardly changes over one step. Steps are short, so that is nearly true when $r$ is smooth;
it is what costs accuracy when $r$ is sharp, as in the figure above. The exact factor is $p(\text{known} \mid x_s)$,
which changes with the level.
""",
    ),
    Derivation(
        "spiral.gaussian",
        "The product with a Gaussian step, and with any smooth factor",
        "DPM, appendix C, eq. 61",
        r"""
The step is $N(x; \mu, v)$, the observation of a pixel $r(x) = N(y; x, w)$. Add the exponents and complete the square:

$$\frac{(x-\mu)^2}{v} + \frac{(x-y)^2}{w} = \Big(\frac1v + \frac1w\Big)\Big(x - \frac{w\mu + v y}{v + w}\Big)^2 + \text{const},$$

so the product is $N\big(\frac{w\mu + vy}{v+w},\ \frac{vw}{v+w}\big)$. With $w \to 0$ the pixel is set to what is
known, with $w \to \infty$ the step is left as it was.

For any smooth $r$ take the first order of its logarithm at the mean, $\log r(x) \approx \log r(\mu) + g\,(x - \mu)$
with $g = \nabla\log r(\mu)$:

$$-\frac{(x-\mu)^2}{2v} + g\,(x-\mu) = -\frac{(x - \mu - v g)^2}{2v} + \text{const}.$$

The mean moves by the variance times the gradient, $\mu + v\,g$, and the variance stays. $\blacksquare$ Six years
later this is algorithm 1 of ADM, with a classifier for $r$.
""",
    ),
    Derivation(
        "spiral.feller",
        "Why the reverse of a small Gaussian step is Gaussian",
        "DPM, section 2.2; Feller 1949",
        r"""
The forward step is $q(x_t \mid x_s) = N(a x_s, \beta)$ with $a = \sqrt{1-\beta}$, and $x_s$ has the density $p$. By
Bayes' rule

$$\log q(x_s \mid x_t) = -\frac{(x_t - a x_s)^2}{2\beta} + \log p(x_s) + \text{const}.$$

The first term is a Gaussian around $m = x_t/a$ of the small width $\tau = \sqrt\beta/a$. Put $x_s = m + \tau u$ and
expand $\log p$ at $m$, with derivatives $\ell', \ell'', \ell^{(3)}$ there:

$$\log q = -\tfrac12\,(1 - \tau^2\ell'')\,u^2 + \tau\,\ell'\,u + \tfrac16\,\tau^3\,\ell^{(3)}\,u^3 + O(\tau^4) + \text{const}.$$

Up to the second power this is a Gaussian, the product of the step with a quadratic:

$$\operatorname{Var} \approx \frac{\tau^2}{1 - \tau^2\ell''}, \qquad \text{mean} \approx m + \frac{\tau^2\,\ell'}{1 - \tau^2\ell''}.$$

The cubic term is the first that is not. It gives the skewness $\tau^3\ell^{(3)}$, and a density with a small skewness
$\gamma$ differs from the Gaussian of its own mean and variance by $\gamma^2/12$:

$$D_\text{KL}\big(q(x_s \mid x_t)\,\big\|\,\text{Gaussian}\big) = \frac{\tau^6\,(\ell^{(3)})^2}{12} + O(\tau^8). \qquad\blacksquare$$

So with $T$ steps of $\beta \approx 1/T$ each, all steps together lose $T \cdot O(T^{-3})$, which goes to 0. In the
limit of small steps the reverse process has the form of the forward one; that is Feller's result for diffusions, and
why a network that only says a mean and a variance is enough.

In many dimensions the variance becomes $\tau^2\,(I - \tau^2\,\nabla^2\log p)^{-1} = \tau^2 I + O(\tau^4)$: given
$x_t$, the pixels of $x_s$ are nearly independent, each with the variance of the forward step. And "small" is measured
by $p$: the density of data under noise $\sigma_s$ bends over distances of about $\sigma_s$, so $\beta$ must be small
beside $\sigma_s^2$. For the very first step it never is, which is why that one is treated apart.
""",
    ),
)
