"""The five techniques of NCSNv2 and the propositions behind them (Song & Ermon 2020)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "ncsnv2.first",
        "Technique 1: the first noise is the largest distance",
        "NCSNv2, proposition 1",
        r"""
Take the $N$ data points $x^{(i)}$ with noise $\sigma_1$: a mixture of $p^{(i)} = N(x^{(i)}, \sigma_1^2 I)$. Its score
is $\sum_i r^{(i)}\,\nabla\log p^{(i)}$ with the responsibilities $r^{(i)} = p^{(i)}/\sum_k p^{(k)}$. A point near
$x^{(i)}$ can be drawn to $x^{(j)}$ only if $r^{(j)}$ is not negligible there. From
$r^{(j)} \le p^{(j)}/(p^{(i)} + p^{(j)})$, and since $ab/(a+b) \le \tfrac12\sqrt{ab}$,

$$\mathbb{E}_{p^{(i)}}[r^{(j)}] \le \int \frac{p^{(i)}p^{(j)}}{p^{(i)} + p^{(j)}}\,dx \le \frac12\int\!\sqrt{p^{(i)}p^{(j)}}\,dx
= \frac12\exp\Big(-\frac{\|x^{(i)} - x^{(j)}\|^2}{8\,\sigma_1^2}\Big).$$

The last integral is that of two Gaussians of equal width. With $\sigma_1$ the largest distance the bound is at least
$\tfrac12 e^{-1/8} = 0.44$ for every pair; with a tenth of it, it is $\tfrac12 e^{-12.5}$. $\blacksquare$
""",
    ),
    Derivation(
        "ncsnv2.ratio",
        "Technique 2: neighbouring levels overlap",
        "NCSNv2, proposition 2",
        r"""
Let $x \sim N(0, \sigma^2 I)$ in $D$ dimensions and $r = \|x\|$. In polar coordinates
$p(r) \propto r^{D-1} e^{-r^2/2\sigma^2}$. Its logarithm has its maximum at $r^2 = (D-1)\,\sigma^2$, with second
derivative $-(D-1)/r^2 - 1/\sigma^2 = -2/\sigma^2$. For large $D$ it is therefore nearly Gaussian:

$$r - \sqrt{D}\,\sigma \ \to\ N(0,\ \sigma^2/2).$$

Points of level $i-1$ have radii about $\sqrt D\,\gamma\sigma_i$ with deviation $\gamma\sigma_i/\sqrt2$. Take their
shell with three deviations to either side, and ask which share $C$ of level $i$'s points lies in it. In units of
$\sigma_i/\sqrt2$ the shell's middle is $\sqrt{2D}\,(\gamma - 1)$ away and it reaches $3\gamma$ to each side:

$$C = \Phi\big(\sqrt{2D}(\gamma-1) + 3\gamma\big) - \Phi\big(\sqrt{2D}(\gamma-1) - 3\gamma\big).$$

Technique 2 asks for $C \approx 0.5$, an empirical choice. Half is reached where the shell's inner edge meets level
$i$'s own radius, $\sqrt{2D}\,(\gamma - 1) = 3\gamma$: the ratio falls to 1 like $1 + 3/\sqrt{2D}$, so larger pictures
need more levels. $\blacksquare$
""",
    ),
    Derivation(
        "ncsnv2.conditioning",
        "Technique 3: divide by the level instead of embedding it",
        "NCSNv2, section 3.3",
        r"""
Under noise $\sigma$ the score is $-\mathbb{E}[\epsilon \mid x]/\sigma$ (Tweedie), and $\|\epsilon\| \approx \sqrt D$.
So its norm falls as $1/\sigma$ whatever the data are, and what is left is of the same size at every level. The
network without a level as input, $F(x)$, is put to use as

$$s(x, \sigma) = \frac{F(x)}{\sigma}, \qquad F(x) \approx -\mathbb{E}[\epsilon \mid x],$$

and reads the level off the picture itself. That works for any number of levels, where a table of learned parameters
for each level would not.
""",
    ),
    Derivation(
        "ncsnv2.step",
        "Technique 4: the step size from a recursion of variances",
        "NCSNv2, proposition 3 and algorithm 1",
        r"""
Let the data be one point at 0, so that level $i$'s score is $-x/\sigma_i^2$. With step
$\alpha_i = \epsilon\,\sigma_i^2/\sigma_L^2$ and $r = \epsilon/\sigma_L^2$,

$$x \leftarrow x - \alpha_i\frac{x}{\sigma_i^2} + \sqrt{2\alpha_i}\,z = (1 - r)\,x + \sqrt{2r}\,\sigma_i z
\quad\Rightarrow\quad V \leftarrow (1-r)^2\,V + 2r, \qquad V = \frac{s^2}{\sigma_i^2}.$$

It starts at $V_0 = \gamma^2$, the noise of the level before. A linear recursion with the fixed point
$V^* = 2r/(1 - (1-r)^2) = 2/(2 - r)$:

$$V_T = (1-r)^{2T}\,(\gamma^2 - V^*) + V^*. \qquad\blacksquare$$

It is the same at every level. Technique 4 chooses $\epsilon$ so that $V_T$ is as near to 1 as it can be for the $T$
that one can afford.

```text
for i = 1, ..., L:
    a = eps * sigma_i^2 / sigma_L^2
    for t = 1, ..., T:
        z ~ N(0, I)
        x = x + a * s(x, sigma_i) + sqrt(2 * a) * z
return x + sigma_L^2 * s(x, sigma_L)     # the last step only denoises
```

The last line is Tweedie's formula: what the steps leave is noise of $\sigma_L$, and the mean given $x$ is without it.
""",
    ),
    Derivation(
        "ncsnv2.average",
        "Technique 5: an average of the weights",
        "NCSNv2, technique 5",
        r"""
$$\theta' \leftarrow m\,\theta' + (1-m)\,\theta_i \quad\Rightarrow\quad \theta'_n = m^n\,\theta'_0 + (1-m)\sum_{i=1}^{n} m^{n-i}\,\theta_i.$$

The weights sum to one; a parameter counts $1/(1-m)$ steps long, with $m = 0.999$ a thousand. If the $\theta_i$
scatter independently with variance $V$ around a mean, the average scatters with

$$(1-m)^2\,V\sum_{k\ge0} m^{2k} = \frac{1-m}{1+m}\,V,$$

a two-thousandth of it. The paper found that this removes the shifts of colour from one checkpoint to the next.
""",
    ),
)
