"""Exponential integration and multistep solvers (Lu et al. 2022), preconditioning, the grid and churn (Karras et al. 2022)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "edm.exponential",
        "The linear part of the flow is solved exactly",
        "DPM-Solver++, eq. 8 and proposition 4.1",
        r"""
The probability flow is $dx/dt = \alpha'\hat x_0 + \sigma'\hat\epsilon$ (the lesson on Score-SDE). Divide $x$ by
$\sigma$, and put in $x = \alpha\hat x_0 + \sigma\hat\epsilon$:

$$\frac{d}{dt}\frac{x}{\sigma} = \frac{\alpha'\hat x_0 + \sigma'\hat\epsilon}{\sigma} - \frac{\sigma'}{\sigma^2}\,(\alpha\hat x_0 + \sigma\hat\epsilon) = \hat x_0\,\frac{d}{dt}\frac{\alpha}{\sigma}.$$

The noise has gone. With $\lambda = \log(\alpha/\sigma)$, half the log SNR, $d(\alpha/\sigma) = e^\lambda d\lambda$.
Integrate from $t$ to $s$ and multiply by $\sigma_s = \alpha_s e^{-\lambda_s}$:

$$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\int_{\lambda_t}^{\lambda_s} e^{-(\lambda_s - \lambda)}\,\hat x_0(x_\lambda, \lambda)\,d\lambda. \qquad\blacksquare$$

All that is approximated is how $\hat x_0$ changes on the way. Held constant, with $h = \lambda_s - \lambda_t$,

$$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\,(1 - e^{-h})\,\hat x_0 = \alpha_s\hat x_0 + \sigma_s\hat\epsilon,$$

which is DDIM with $\eta = 0$: the first order.
""",
    ),
    Derivation(
        "edm.multistep",
        "The second order, for one evaluation a step",
        "DPM-Solver++, section 4, algorithm 2",
        r"""
The step before has evaluated $D' = \hat x_0$ at $\lambda_t - h'$. So the slope is known without a further evaluation:
$\hat x_0(\lambda_t + \tau) = D + \tau\,(D - D')/h' + O(h^2)$. The integral of $\tau$ against the exponential is

$$\int_0^h e^{-(h-\tau)}\,\tau\,d\tau = h - 1 + e^{-h} = \tfrac12 h^2 - \tfrac16 h^3 + \dots$$

The published step (2M) takes the value at the middle of the interval instead, and holds it: with $r = h'/h$

$$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\,(1 - e^{-h})\Big[D + \frac{D - D'}{2r}\Big].$$

Its factor of the slope $(D - D')/h'$ is $\tfrac12 h\,(1 - e^{-h}) = \tfrac12 h^2 - \tfrac14 h^3 + \dots$, the same to $O(h^3)$. A
step errs by $O(h^3)$, $1/h$ steps by $O(h^2)$: twice the steps, a quarter of the error. $\blacksquare$ Heun's method has that order as
well, for two evaluations a step.
""",
    ),
    Derivation(
        "edm.third",
        "The factor that the third order lacks",
        "DPM-Solver++, section 4; the claim solvers/third-order",
        r"""
The parabola through $D$ at $\tau = 0$, $D'$ at $-r_0h$ and $D''$ at $-(r_0 + r_1)h$ has, with the slopes
$d_0 = (D - D')/r_0$ and $d_1 = (D' - D'')/r_1$ in units of $h$, by Newton's divided differences

$$f_1 = d_0 + \frac{r_0\,(d_0 - d_1)}{r_0 + r_1}, \qquad f_2 = \frac{2\,(d_0 - d_1)}{r_0 + r_1}, \qquad
\hat x_0(\lambda_t + h u) = D + f_1 u + \tfrac12 f_2 u^2.$$

The second derivative is *twice* the second divided difference. The multistep order 3 that was published, and copied, has
$f_2$ without the 2: what is left of the curvature is an error of $O(h^3)$ in each step, and the order is 2. $\blacksquare$
""",
    ),
    Derivation(
        "edm.preconditioning",
        "Preconditioning: c_skip, c_out and c_in from unit variance",
        "EDM, eq. 7 and 8, appendix B.6",
        r"""
Let $x = x_0 + \sigma\epsilon$ with data of standard deviation $\sigma_d$, and let the denoiser be made of a network $F$ as

$$D(x; \sigma) = c_\text{skip}\,x + c_\text{out}\,F\big(c_\text{in}\,x;\ c_\text{noise}\big).$$

**Input**: $c_\text{in}\,x$ has variance 1 for $c_\text{in} = 1/\sqrt{\sigma^2 + \sigma_d^2}$.

**Target**: $F$ is to be $(x_0 - c_\text{skip}\,x)/c_\text{out}$, whose variance is 1 for

$$c_\text{out}^2 = (1 - c_\text{skip})^2\,\sigma_d^2 + c_\text{skip}^2\,\sigma^2.$$

**Skip**: an error of $F$ is multiplied by $c_\text{out}$, so make that least. Its derivative
$-2\,(1 - c_\text{skip})\,\sigma_d^2 + 2\,c_\text{skip}\,\sigma^2$ vanishes at

$$c_\text{skip} = \frac{\sigma_d^2}{\sigma^2 + \sigma_d^2}, \qquad c_\text{out} = \frac{\sigma\,\sigma_d}{\sqrt{\sigma^2 + \sigma_d^2}}.$$

**Weight**: the error of $D$ weighed by $1/c_\text{out}^2 = (\sigma^2 + \sigma_d^2)/(\sigma\sigma_d)^2$ is the plain error of $F$, the
same at every level. $\blacksquare$ At little noise $D \approx x$, at much noise $D \approx F$: the network never has to
repeat its input. For $\sigma_d = 1$, $F$ is $-v$ of a variance-preserving process at the same $\sigma/\alpha$.
""",
    ),
    Derivation(
        "edm.grid",
        "The grid: even in a root of the noise",
        "EDM, eq. 5",
        r"""
$$\sigma_i = \Big(\sigma_\text{max}^{1/\rho} + \tfrac{i}{n-1}\big(\sigma_\text{min}^{1/\rho} - \sigma_\text{max}^{1/\rho}\big)\Big)^\rho, \quad i < n, \qquad \sigma_n = 0.$$

With $u = \sigma^{1/\rho}$, $\lambda = -\log\sigma = -\rho\log u$: an even step $\Delta u$ is a step of
$h = \rho\,\Delta u/u$ in $\lambda$, so steps in $\lambda$ grow as the noise falls, by $(\sigma_\text{max}/\sigma_\text{min})^{1/\rho}$ in all.
$\rho = 1$ is even in $\sigma$; $\rho \to \infty$ is even in $\lambda$, since $\rho\,(u - 1) \to \log\sigma$. The paper finds that the
local errors of a step are about equal at $\rho = 3$, and that samples are best at 7: errors at little noise show more.
""",
    ),
    Derivation(
        "edm.churn",
        "Churn: a Langevin step inside the sampler",
        "EDM, algorithm 2 and section 4",
        r"""
Before a step, raise the level from $\sigma$ to $\hat\sigma = (1 + \gamma)\,\sigma$:
$\hat x = x + \sqrt{\hat\sigma^2 - \sigma^2}\;z$. If $x \sim p_\sigma$, then $\hat x \sim p_{\hat\sigma}$: variances add up, so no error is
made here. The flow then goes down from $\hat\sigma$.

For a small $\delta = \hat\sigma^2 - \sigma^2$, the flow $dx = -\sigma\,\nabla\log p_\sigma\,d\sigma = -\tfrac12\nabla\log p_\sigma\,d(\sigma^2)$
brings $\hat x$ back to $\sigma$ by $+\tfrac12\delta\,\nabla\log p$. Together

$$x \leftarrow x + \tfrac12\,\delta\,\nabla\log p_\sigma(x) + \sqrt\delta\;z:$$

a step of Langevin dynamics, which leaves $p_\sigma$ as it is and draws other distributions to it, so that errors of the steps before are
forgotten. $\blacksquare$ $\gamma = \min(S_\text{churn}/n,\ \sqrt2 - 1)$: at most $\sigma^2$ is added. Each such step has an error of its own,
so few steps are better without.
""",
    ),
)
