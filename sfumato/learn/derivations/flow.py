"""Flow matching and rectified flow: velocities, the conditional loss, times, pairs (Lipman et al. 2023, Liu et al. 2023)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "flow.marginal",
        "The velocity of the marginal path is a conditional mean",
        "Lipman et al. 2023, theorem 1; Liu et al. 2023, theorem 3.3",
        r"""
Each pair $(x_0, \epsilon)$ moves along its own line $x_t = (1-t)\,x_0 + t\,\epsilon$ with the velocity
$\dot x_t = \epsilon - x_0$. Let $p_t$ be the density of $x_t$, and

$$u(x, t) = \mathbb{E}\big[\epsilon - x_0 \mid x_t = x\big].$$

For any smooth test function $f$, by the chain rule and by conditioning on $x_t$,

$$\frac{d}{dt}\,\mathbb{E}\,f(x_t) = \mathbb{E}\big[\nabla f(x_t)\cdot(\epsilon - x_0)\big] = \mathbb{E}\big[\nabla f(x_t)\cdot u(x_t, t)\big].$$

The left side is $\int f\,\partial_t p_t$; the right side, after integration by parts, $-\int f\,\nabla\!\cdot(u\,p_t)$. So

$$\partial_t p_t = -\nabla\!\cdot(u\,p_t):$$

points that follow the one field $u$ have the same $p_t$ as the lines, at every $t$. $\blacksquare$ They do not have the same *paths*: lines
cross, and solutions of an ODE cannot.
""",
    ),
    Derivation(
        "flow.conditional",
        "Regression on single lines learns the mean of all",
        "Lipman et al. 2023, theorem 2",
        r"""
What one would like to minimise, and what one can sample, with $v_\theta = v_\theta(x_t, t)$:

$$L_\text{FM} = \mathbb{E}\,\|v_\theta - u(x_t, t)\|^2, \qquad L_\text{CFM} = \mathbb{E}\,\|v_\theta - (\epsilon - x_0)\|^2.$$

Insert $u$ into the second: the mixed term vanishes, since $u$ is the conditional mean of $\epsilon - x_0$ given $x_t$ and
$v_\theta - u$ is a function of $x_t$. So

$$L_\text{CFM} = L_\text{FM} + \mathbb{E}\,\|\epsilon - x_0 - u(x_t, t)\|^2,$$

and the last term knows nothing of $\theta$: same gradient, same minimum. $\blacksquare$ It is the argument of denoising score matching (the
lesson on NCSN) once more.
""",
    ),
    Derivation(
        "flow.velocity",
        "The velocity is one more reading of a denoiser",
        "Lipman et al. 2023, eq. 20 to 23; Kingma & Gao 2023",
        r"""
With $\alpha_t = 1 - t$, $\sigma_t = t$ the probability flow $\alpha'\hat x_0 + \sigma'\hat\epsilon$ (the lesson on Score-SDE) is
$\hat\epsilon - \hat x_0 = u$: a flow is a diffusion model with this schedule. From $x = (1-t)\hat x_0 + t\,\hat\epsilon$,

$$\hat x_0 = x - t\,u, \qquad \hat\epsilon = x + (1-t)\,u, \qquad \text{score} = -\hat\epsilon/t.$$

Nothing is divided by a small number at either end. An error of $u$ is one of $\hat x_0$ over $t$, so the plain loss is

$$\|u - \hat u\|^2 = \frac{1}{t^2}\,\|x_0 - \hat x_0\|^2 = \Big(1 + \frac{\alpha_t}{\sigma_t}\Big)^2\,\|x_0 - \hat x_0\|^2:$$

a weight on the levels, like every other loss of the path. $\blacksquare$
""",
    ),
    Derivation(
        "flow.euler",
        "Euler's step along the flow is DDIM",
        "Liu et al. 2023, section 2.2",
        r"""
Euler's method from $t$ to $s < t$: $x_s = x_t - (t - s)\,u(x_t, t)$. DDIM with $\eta = 0$ goes to
$\alpha_s\hat x_0 + \sigma_s\hat\epsilon$, and with the readings above

$$(1-s)(x - t\,u) + s\,\big(x + (1-t)\,u\big) = x + (-t + st + s - st)\,u = x - (t - s)\,u. \qquad\blacksquare$$

Where a path is straight, $u$ is the same all along it, and one step is exact.
""",
    ),
    Derivation(
        "flow.times",
        "Times of training, and the shift",
        "Esser et al. 2024, eq. 19 and 23",
        r"""
On this path $\sigma/\alpha = t/(1-t)$, so $\log(\sigma/\alpha) = \operatorname{logit} t$. Times $t = \operatorname{sigmoid}(n)$ with
$n \sim N(m, s^2)$ (logit-normal) are therefore log-normal noise, $\log(\sigma/\alpha) \sim N(m, s^2)$: EDM's density is the logit-normal one
with $m = -1.2$, $s = 1.2$. $\blacksquare$

More pixels show more of an image through the same noise. To multiply $\sigma/\alpha$ by $c$ at every time,

$$\frac{t'}{1-t'} = c\,\frac{t}{1-t} \quad\Leftrightarrow\quad t' = \frac{c\,t}{1 + (c - 1)\,t}.$$

For $n$ times as many pixels of smooth images $c = \sqrt n$: the mean over $n$ pixels divides the noise by $\sqrt n$.
""",
    ),
    Derivation(
        "flow.reflow",
        "Reflow: pairs that belong together make straight paths",
        "Liu et al. 2023, theorems 3.5 to 3.7",
        r"""
The lines of independent pairs cross; $u$ is their mean, and its paths bend. Solve the flow from noise $z$ to its end $\phi(z)$, and
train a second flow on the pairs $(\phi(z), z)$.

**One step.** At $t = 1$ nothing but $z$ is seen. For independent pairs $\hat x_0 = \mathbb{E}[x_0 \mid z] = \mathbb{E}[x_0]$, the mean of all
data: one Euler step is useless. For the new pairs $\hat x_0 = \phi(z)$: one step from $t = 1$ is exact, for a perfect second model.

**Shorter ways.** For any convex $c$, $z - \phi(z) = \int_0^1 u(z_t, t)\,dt$ and Jensen's inequality, twice:

$$\mathbb{E}\,c\big(z - \phi(z)\big) \le \int_0^1\mathbb{E}\,c\big(u(z_t, t)\big)\,dt \le \int_0^1\mathbb{E}\,c(\epsilon - x_0)\,dt = \mathbb{E}\,c(\epsilon - x_0).$$

The second holds since $u$ is a conditional mean and $z_t$ has the distribution of $x_t$. So no convex cost of transport grows. $\blacksquare$
Equality needs paths that are straight already. In one dimension $\phi$ is increasing, the new lines do not cross, and a single reflow makes
all paths straight.

Optimal pairs within a batch (OT-CFM) aim at the same, before any model is trained.
""",
    ),
    Derivation(
        "flow.sde",
        "Any amount of noise along the same path",
        "SiT, Ma et al. 2024, eq. 4 to 6",
        r"""
Add and subtract a Langevin term, which changes no density: for any $w(t) \ge 0$ the Fokker-Planck equation of

$$dx = \Big[u(x, t) - \tfrac12 w(t)\,\nabla\log p_t(x)\Big]dt + \sqrt{w(t)}\,d\bar w, \qquad \text{time running backwards,}$$

has the solution $p_t$, since $\tfrac12 w\,\nabla\!\cdot(p\,\nabla\log p) = \tfrac12 w\,\Delta p$ cancels the diffusion. A step from $t$ to
$t - \Delta$ is

$$x \leftarrow x - u\,\Delta + \tfrac12 w\,\Delta\,\nabla\log p_t(x) + \sqrt{w\Delta}\,z.$$

$w = 0$ is the flow, $w = g^2$ the reverse SDE of the path. The choice is one of sampling, and needs no other training. $\blacksquare$
""",
    ),
)
