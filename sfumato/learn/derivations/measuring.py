"""The Frechet distance, its floor, and the kernel distance (Heusel et al. 2017; Binkowski et al. 2018)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "measuring.frechet",
        "The Fréchet distance of two Gaussians",
        "Dowson and Landau 1982; Heusel et al. 2017",
        r"""
The squared Wasserstein-2 distance is the least mean squared distance over all ways to pair $X$ with $Y$. Multiply
out:

$$\mathbb{E}\,\|X - Y\|^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{tr} C_1 + \operatorname{tr} C_2 - 2\operatorname{tr} K, \qquad K = \operatorname{Cov}(X, Y).$$

So $\operatorname{tr} K$ is to be as large as possible. The joint covariance has no negative eigenvalue exactly if
$K = C_1^{1/2}\,Q\,C_2^{1/2}$ with all singular values of $Q$ at most 1. Then

$$\operatorname{tr} K = \operatorname{tr}\big(Q\,C_2^{1/2}C_1^{1/2}\big) \le \big\|C_2^{1/2}C_1^{1/2}\big\|_*
= \operatorname{tr}\big(C_1^{1/2}C_2\,C_1^{1/2}\big)^{1/2},$$

where $\|\cdot\|_*$, the nuclear norm, is the sum of the singular values. Some orthogonal $Q$ gives equality, and
$C_1^{1/2}C_2C_1^{1/2}$ has the eigenvalues of $C_1C_2$:

$$d^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(C_1 + C_2 - 2\,(C_1C_2)^{1/2}\big). \qquad\blacksquare$$

Only means and covariances enter. Any two distributions that agree in these have distance 0.
""",
    ),
    Derivation(
        "measuring.floor",
        "Why real against real is not zero",
        "Bińkowski et al. 2018",
        r"""
Take two independent sets of $n_1$ and $n_2$ points of the *same* distribution with covariance $C$. Their means
scatter independently, so

$$\mathbb{E}\,\|\hat\mu_1 - \hat\mu_2\|^2 = \operatorname{tr} C\,\Big(\frac1{n_1} + \frac1{n_2}\Big) > 0,$$

and the covariances add a part of the same order. The squared distance is never negative, so errors cannot cancel: it
has a *bias* of order $1/n$, which depends on the distribution too. Two models may therefore be compared at the same
$n$ only, and beside the floor at that $n$.

The kernel distance avoids it. $\mathrm{MMD}^2 = \mathbb{E}\,k(x, x') + \mathbb{E}\,k(y, y') - 2\,\mathbb{E}\,k(x, y)$
is a sum of means over *independent* pairs. Average over pairs $i \ne j$ only, and each term has the right mean, so

$$\frac{1}{n(n-1)}\sum_{i\ne j}k(x_i, x_j) + \frac{1}{m(m-1)}\sum_{i\ne j}k(y_i, y_j) - \frac{2}{nm}\sum_{i,j}k(x_i, y_j)$$

has no bias, and is negative about half of the time when both distributions are the same. $\blacksquare$
""",
    ),
)
