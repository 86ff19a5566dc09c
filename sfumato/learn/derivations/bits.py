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
    Derivation(
        "bits.entropies",
        "How uncertain a reverse step must be: two bounds on its entropy",
        "DPM, section 2.6 and appendix A",
        r"""
Before anything is learned, the entropy of each true reverse step lies between two numbers that depend on the forward
process alone. Write the entropy of the pair $(X_{t-1}, X_t)$ in both orders:

$$H(X_{t-1} \mid X_t) = H(X_t \mid X_{t-1}) + H(X_{t-1}) - H(X_t).$$

**From above.** The uniform distribution is stationary for coin flips, so a step brings every distribution nearer to
it in $D_\text{KL}$ (data processing inequality), and $D_\text{KL}(q\,\|\,\text{uniform}) = n\log 2 - H$. So the
entropy does not fall, $H(X_{t-1}) \le H(X_t)$, and

$$H(X_{t-1} \mid X_t) \le H(X_t \mid X_{t-1}).$$

(For Gaussian diffusion it is enough that the data have no more entropy than $N(0, I)$, by the entropy power
inequality.)

**From below.** To know $X_0$ as well can only lower the entropy. Given $X_0$ the same identity holds, and the chain
is Markov, $H(X_t \mid X_{t-1}, X_0) = H(X_t \mid X_{t-1})$:

$$H(X_{t-1} \mid X_t) \ \ge\ H(X_{t-1} \mid X_t, X_0) = H(X_t \mid X_{t-1}) + H(X_{t-1} \mid X_0) - H(X_t \mid X_0). \qquad\blacksquare$$

For $n$ bits $H(X_t \mid X_{t-1}) = n\,h(\beta_t/2)$ and
$H(X_t \mid X_0) = n\,h\big(\tfrac12 + \tfrac12\prod_{i\le t}(1-\beta_i)\big)$, where $h$ is the entropy of one bit.

What the true entropy has above the lower bound is what a reverse step tells about the data,
$H(X_{t-1} \mid X_t) - H(X_{t-1} \mid X_t, X_0) = H(X_0 \mid X_t) - H(X_0 \mid X_{t-1})$. Over the whole chain it adds
up to $H(X_0 \mid X_T)$, the entropy of the data if nothing of them is left at $T$. The two bounds are
$H(X_t \mid X_0) - H(X_{t-1} \mid X_0)$ apart, which adds up to $H(X_T \mid X_0)$, at most $n$ bits, however many
steps there are; so with more steps the two bounds of a step are closer, on average.
""",
    ),
)
