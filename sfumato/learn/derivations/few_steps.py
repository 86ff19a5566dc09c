"""Progressive distillation, consistency functions and mean flows, derived (Salimans & Ho, Song et al., Geng et al.)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "few_steps.distillation",
        "Progressive distillation: the target of one step for two",
        "Salimans & Ho 2022, algorithm 2, appendix G",
        r"""
A step of DDIM from $t$ to $s$ with the data prediction $\hat x_0$ is
$x_s = \alpha_s\hat x_0 + \frac{\sigma_s}{\sigma_t}\,(x_t - \alpha_t\hat x_0)$. The teacher goes from $t$ to $m$ and on to $s$. Which
$\tilde x$ makes the student's single step end at the same $x_s$? Solve for it:

$$\tilde x = \frac{x_s - (\sigma_s/\sigma_t)\,x_t}{\alpha_s - (\sigma_s/\sigma_t)\,\alpha_t}.$$

It is a mean of the teacher's two predictions. Divided by $\sigma_s$, a step adds
$(\alpha_s/\sigma_s - \alpha_t/\sigma_t)\,\hat x_0$ to $x/\sigma$, and two steps add two such terms, so

$$\tilde x = (1 - w)\,\hat x_0(x_m, m) + w\,\hat x_0(x_t, t), \qquad
w = \frac{\alpha_m/\sigma_m - \alpha_t/\sigma_t}{\alpha_s/\sigma_s - \alpha_t/\sigma_t}. \qquad\blacksquare$$

The student is trained on $\tilde x$ at the times of its own steps, becomes the teacher, and the steps are halved again. The weight is
$\max(\mathrm{SNR}, 1)$: with that of $L_\text{simple}$ levels without signal would not count, and the first step begins at one.
""",
    ),
    Derivation(
        "few_steps.consistency",
        "Consistency: the same answer all along a path",
        "Song et al. 2023, definition 1 and theorem 2; Geng et al. 2024",
        r"""
Let $\alpha = 1$. The consistency function takes a point of a path of the flow to its clean end, so it is constant along paths, and
$f(x, 0) = x$. With the flow $dx/d\sigma = \mathbb{E}[\epsilon \mid x_\sigma]$,

$$0 = \frac{d}{d\sigma}f(x_\sigma, \sigma) = \partial_\sigma f + \nabla f\;\mathbb{E}[\epsilon \mid x_\sigma].$$

Training has no paths, only lines $x_t = x_0 + t\,\epsilon$ and, lower on the same line, $x_r = x_t - (t - r)\,\epsilon$. But in the
mean, given $x_t$,

$$\mathbb{E}\big[f(x_r, r) \mid x_t\big] = f(x_t, t) - (t - r)\big[\partial_t f + \nabla f\;\mathbb{E}[\epsilon \mid x_t]\big] + O\big((t - r)^2\big) = f(x_t, t) + O\big((t-r)^2\big).$$

So regress $f(x_t, t)$ on $f(x_r, r)$ with the latter held fixed (stop-gradient): the true $f$ is a solution up to
$O((t-r)^2)$ in each step down, and as $f$ at $t$ leans on $f$ at $r$ and so on down to $0$, up to $O(t - r)$ in all. $\blacksquare$ Without the
condition $f(x, 0) = x$ any constant would be a solution: it is built in, since $D = c_\text{skip}\,x + c_\text{out}F$ with
$c_\text{out}(0) = 0$.
""",
    ),
    Derivation(
        "few_steps.gaussian",
        "Denoiser and consistency function of Gaussian data",
        "Score-SDE, eq. 13, for N(m, v)",
        r"""
For data $N(m, v)$ and $x_\sigma = x_0 + \sigma\epsilon$ the flow keeps quantiles: $x_\sigma - m$ grows like the standard deviation
$\sqrt{v + \sigma^2}$. Hence

$$f(x, \sigma) = m + \sqrt{\frac{v}{v + \sigma^2}}\;(x - m), \qquad D(x, \sigma) = m + \frac{v}{v + \sigma^2}\;(x - m).$$

The denoiser, a conditional mean, contracts by the *square* of the factor: at much noise it says $m$ whatever $x$ is. Samples of
$f$ have the variance $v$, samples of $D$ have $v^2/(v + \sigma^2)$. $\blacksquare$

On the straight path $z_t = (1-t)x_0 + t\epsilon$ with $s_t^2 = (1-t)^2 v + t^2$ the flow from $t$ to $r$ is
$z_r = (1-r)\,m + \frac{s_r}{s_t}\big(z_t - (1-t)\,m\big)$, and the average velocity $(z_t - z_r)/(t - r)$.
""",
    ),
    Derivation(
        "few_steps.multistep",
        "More steps with a consistency function",
        "Song et al. 2023, algorithm 1",
        r"""
```text
Algorithm 1  Multistep consistency sampling
1: x = f(sigma_max z, sigma_max)
2: for sigma in falling noises:
3:    x = f(x + sigma z, sigma)      # z drawn anew
4: return x
```

If $x$ has the data's distribution, $x + \sigma z$ has $p_\sigma$, and an exact $f$ carries $p_\sigma$ back to the data's distribution:
with the true $f$ any number of steps samples the data. $\blacksquare$ With a learned one, each step replaces the error of the step before,
made at much noise, by that of $f$ at less, on inputs that carry the old one smoothed by $\sigma z$. The last $\sigma$ decides how much is kept.
""",
    ),
    Derivation(
        "few_steps.mean_flow",
        "The identity of mean flows",
        "Geng et al. 2025, eq. 3 to 10",
        r"""
The average velocity of a path from $r$ to $t$ is $u(z_t, r, t) = \frac{1}{t - r}\int_r^t v(z_\tau, \tau)\,d\tau$, so that one evaluation is a
step of any length, $z_r = z_t - (t - r)\,u(z_t, r, t)$. Multiply by $t - r$ and differentiate by $t$ along the path, with $r$ held:

$$u + (t - r)\,\frac{du}{dt} = v(z_t, t), \qquad \frac{du}{dt} = v\cdot\nabla_z u + \partial_t u.$$

No integral is left, and the derivative is one Jacobian-vector product of the network with the tangent $(v, 0, 1)$ in $(z, r, t)$. So train

$$\big\|\,u_\theta(z, r, t) - \mathrm{sg}\big[v - (t - r)\,(v\cdot\nabla_z u_\theta + \partial_t u_\theta)\big]\big\|^2$$

with $v = \epsilon - x_0$ of a single line, whose conditional mean is the marginal velocity, and in which the target is linear. $\blacksquare$
For $r = t$ it is flow matching. No teacher is needed, and none was trained before.
""",
    ),
)
