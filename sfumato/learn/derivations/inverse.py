"""Posterior sampling: Bayes' rule for scores, and what replacement, DPS, PiGDM and MMPS approximate (2021 to 2024)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "inverse.bayes",
        "The score of the posterior, and the term nobody knows",
        "Score-SDE, eq. 14 and section 5; Chung et al. 2023, eq. 6 and 7",
        r"""
What was seen is $y = A x_0 + n$, $n \sim N(0, \sigma_y^2 I)$. By Bayes' rule at every level

$$\nabla\log p_t(x_t \mid y) = \nabla\log p_t(x_t) + \nabla\log p_t(y \mid x_t).$$

The first term is the trained model. The second is an integral over all data that may be there,

$$p_t(y \mid x_t) = \int N(y;\ A x_0,\ \sigma_y^2 I)\;p(x_0 \mid x_t)\,dx_0,$$

and the model gives of $p(x_0 \mid x_t)$ no more than its mean $\hat x_0$, and by Tweedie's second formula (the lesson on noise) its
covariance $V = \frac{\sigma_t^2}{\alpha_t}\nabla\hat x_0$. All methods differ in what they put in its place. In terms of data instead of
scores: multiply by $\sigma_t^2/\alpha_t$, and

$$\mathbb{E}[x_0 \mid x_t, y] = \hat x_0 + \frac{\sigma_t^2}{\alpha_t}\,\nabla\log p_t(y \mid x_t). \qquad\blacksquare$$

So a posterior method is one more wrapper of a denoiser, and every sampler goes with it.
""",
    ),
    Derivation(
        "inverse.gaussian",
        "A Gaussian in its place: MMPS and PiGDM",
        "Song et al. 2023, eq. 7; Rozet et al. 2024, eq. 13 to 15",
        r"""
Take $p(x_0 \mid x_t) \approx N(\hat x_0, V)$. Then $y$ given $x_t$ is $N(A\hat x_0,\ \sigma_y^2 I + A V A^\top)$, and the gradient of its log
density, with the dependence of $V$ on $x_t$ neglected, is
$(\nabla\hat x_0)^\top A^\top(\sigma_y^2 I + A V A^\top)^{-1}(y - A\hat x_0)$. With $\frac{\sigma_t^2}{\alpha_t}\nabla\hat x_0 = V = V^\top$

$$\mathbb{E}[x_0 \mid x_t, y] \approx \hat x_0 + V A^\top\,\big(\sigma_y^2 I + A V A^\top\big)^{-1}\,(y - A\hat x_0).$$

**MMPS** computes just that: $V$ times a vector is one backward pass through the network, and the linear system is solved by a step or
more of conjugate gradients. For Gaussian data $V$ is constant, and nothing was approximated: it is exact at every level. $\blacksquare$

**PiGDM** puts $r_t^2 I$, $r_t^2 = \sigma_t^2/(\alpha_t^2 + \sigma_t^2)$, in the place of $V$ inside the inverse, which is $V$ for uncorrelated data of
unit variance; then the inverse is known in closed form.
""",
    ),
    Derivation(
        "inverse.dps",
        "A point in its place: DPS",
        "Chung et al. 2023, theorem 1 and algorithm 1",
        r"""
Take $p(y \mid x_t) \approx p(y \mid \hat x_0(x_t))$, as if $\hat x_0$ were certain ($V = 0$). Then

$$\nabla\log p_t(y \mid x_t) \approx -\frac{1}{2\sigma_y^2}\,\nabla_{x_t}\big\|y - A(\hat x_0(x_t))\big\|^2,$$

for any differentiable $A$. At much noise this trusts a guess that is worth nothing, so the factor is replaced by a tuned one that shrinks with
the error: after each step $x_s \leftarrow x_s - \zeta\,\nabla_{x_t}\|y - A(\hat x_0)\|$, the norm and not its square, of each picture by itself.

For Gaussian data with $A = I$ and variance $v$ the factor of $y - \hat x_0$ should be $V/(\sigma_y^2 + V)$, at most 1; with $V = 0$ in the inverse it
is $V/\sigma_y^2$, which has no bound as the measurement becomes exact. $\blacksquare$
""",
    ),
    Derivation(
        "inverse.replacement",
        "Why replacement is biased, however many steps there are",
        "Score-SDE, appendix I.2; Lugmayr et al. 2022, section 4.2",
        r"""
Known coordinates $a$, unknown $b$. Replacement draws $a_s = \alpha_s y + \sigma_s z$, fresh at each level, and leaves $b$ to the reverse
step. The unknown part thus moves by $\nabla_b\log p_t(a_t, b_t)$ at an $a_t$ of which the *noise* is thrown anew each time:
on average over $z$, not by $\nabla_b\log p_t(b_t \mid y)$, but by

$$\mathbb{E}_z\,\nabla_b\log p_t(b_t \mid \alpha_t y + \sigma_t z).$$

For unit Gaussians with correlation $\rho$ and a variance-preserving schedule, $(a_t, b_t)$ has unit variances and correlation
$\alpha_t^2\rho$, so this mean is $-(b - \alpha_t^3\rho\,y)/(1 - \alpha_t^4\rho^2)$. The posterior's is $-(b - \alpha_t\rho\,y)/(1 - \alpha_t^2\rho^2)$.
They agree at $\alpha_t = 1$ and in pure noise, $\alpha_t = 0$, alone. $\blacksquare$ Shorter steps only make the average more exact: the limit is another process.

RePaint goes up and down again at each level, so that $b_t$ comes to agree with many draws of $a_t$: it is Langevin dynamics of the pair, and costs
that many more evaluations.
""",
    ),
)
