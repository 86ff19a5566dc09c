"""Binomial diffusion in closed form, and the bound K (Sohl-Dickstein et al. 2015, sections 2.2 to 2.4, appendix B)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "bits.marginal",
        "A bit after t steps, and its posterior",
        "DPM, appendix B.2",
        r"""
A step keeps a bit with probability $1 - \beta_t$, and else flips a fair coin:
$q(x_t = 1 \mid x_{t-1}) = (1 - \beta_t)\,x_{t-1} + \tfrac12\beta_t$. The distance to one half shrinks by the same
factor in each step:

$$\mathbb{E}[x_t - \tfrac12 \mid x_{t-1}] = (1 - \beta_t)\,(x_{t-1} - \tfrac12)
\quad\Rightarrow\quad q(x_t = 1 \mid x_0) = \tfrac12 + (x_0 - \tfrac12)\prod_{i=1}^{t}(1 - \beta_i).$$

So $x_t$ can be drawn from $x_0$ directly. The posterior is Bayes' rule; since the chain is Markov,
$q(x_t \mid x_{t-1}, x_0) = q(x_t \mid x_{t-1})$:

$$q(x_{t-1} \mid x_t, x_0) = \frac{q(x_t \mid x_{t-1})\; q(x_{t-1} \mid x_0)}{q(x_t \mid x_0)},$$

and each of the three factors is known. $\blacksquare$
""",
    ),
    Derivation(
        "bits.bound",
        "The bound K on the log likelihood",
        "DPM, sections 2.3 and 2.4, eq. 14",
        r"""
Multiply and divide by the forward process, so that the integral becomes a mean over trajectories that start at the
data point:

$$p(x_0) = \mathbb{E}_{q(x_{1:T} \mid x_0)}\Big[\, p(x_T) \prod_{t=1}^{T} \frac{p(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})} \Big].$$

The logarithm is concave (Jensen's inequality):

$$\log p(x_0) \ \ge\ K(x_0) = \mathbb{E}_q\Big[ \log p(x_T) + \sum_{t=1}^{T} \log \frac{p(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})} \Big].$$

For $t \ge 2$ turn the forward step round with the posterior,
$q(x_t \mid x_{t-1}) = q(x_{t-1} \mid x_t, x_0)\, q(x_t \mid x_0)/q(x_{t-1} \mid x_0)$. The ratios
$q(x_{t-1} \mid x_0)/q(x_t \mid x_0)$ multiply up to $q(x_1 \mid x_0)/q(x_T \mid x_0)$, and $q(x_1 \mid x_0)$ cancels
the step $t = 1$:

$$K = -\sum_{t=2}^{T} \mathbb{E}_q\, D_\text{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t)\big)
{} + \mathbb{E}_q \log p(x_0 \mid x_1) + \mathbb{E}_q \log p(x_T) + H_q(X_T \mid X_0).$$

The paper takes the first step back from the noise itself, $p(x_0 \mid x_1) = q(x_1 \mid x_0)\,\pi(x_0)/\pi(x_1)$. For
fair coins $\pi$ is constant, $\mathbb{E}\log p(x_0 \mid x_1) = -H_q(X_1 \mid X_0)$ and
$\mathbb{E}\log p(x_T) = -H_p(X_T)$, which is eq. 14:

$$K = -\sum_{t=2}^{T} \mathbb{E}_q\, D_\text{KL}(\cdot\,\|\,\cdot) + H_q(X_T \mid X_0) - H_q(X_1 \mid X_0) - H_p(X_T). \qquad\blacksquare$$

Only the sum depends on what is learned, and it is a sum over levels: one may draw a level and improve that step
alone.
""",
    ),
)
