"""Score matching, sliced and denoising; Langevin dynamics and its stationary law (Song & Ermon 2019, eq. 1 to 6)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "ncsn.score_matching",
        "Score matching without the score",
        "NCSN, eq. 1; Hyvärinen 2005",
        r"""
The goal is $J(s) = \tfrac12\,\mathbb{E}_p\,\|s(x) - \nabla\log p(x)\|^2$, but $\nabla\log p$ is unknown. Multiply
out; only the mixed term needs it. With $p\,\nabla\log p = \nabla p$ and integration by parts ($p\,s$ vanishes far
away),

$$\mathbb{E}_p\,\langle s, \nabla\log p\rangle = \int \langle s(x), \nabla p(x)\rangle\,dx = -\int p(x)\,\nabla\!\cdot s(x)\,dx.$$

Therefore

$$J(s) = \mathbb{E}_p\Big[\operatorname{tr}\nabla s(x) + \tfrac12\,\|s(x)\|^2\Big] + \tfrac12\,\mathbb{E}_p\,\|\nabla\log p\|^2,$$

and the last term does not depend on $s$. $\blacksquare$ The trace costs one backward pass for each of $D$
coordinates: too much for pictures.
""",
    ),
    Derivation(
        "ncsn.sliced",
        "Sliced score matching",
        "NCSN, eq. 3; Song et al. 2019",
        r"""
Compare the two scores along random directions $v$ only, with $\mathbb{E}[vv^\top] = I$. For a fixed direction,
integrate by parts as before:

$$\tfrac12\,\mathbb{E}\,(v^\top s - v^\top\nabla\log p)^2 = \mathbb{E}\big[v^\top (\nabla s)\, v + \tfrac12\,(v^\top s)^2\big] + \text{const}.$$

In the mean over $v$ nothing is lost:
$\mathbb{E}[v^\top A\, v] = \operatorname{tr}(A\,\mathbb{E}[vv^\top]) = \operatorname{tr} A$ and
$\mathbb{E}(v^\top s)^2 = \|s\|^2$. So

$$\mathbb{E}_v\,\mathbb{E}_p\big[v^\top (\nabla s)\, v + \tfrac12\,\|s\|^2\big]$$

has the minimum of score matching, and $v^\top(\nabla s)\,v = v^\top \nabla(v^\top s)$ is one backward pass for any
$D$. $\blacksquare$
""",
    ),
    Derivation(
        "ncsn.denoising",
        "Denoising score matching is score matching of the noisy data",
        "NCSN, eq. 2 and 5; Vincent 2011",
        r"""
Let $q_\sigma(\tilde x) = \int p(x)\,q_\sigma(\tilde x \mid x)\,dx$ with
$q_\sigma(\tilde x \mid x) = N(\tilde x; x, \sigma^2 I)$. In
$\tfrac12\,\mathbb{E}_{q_\sigma}\|s(\tilde x) - \nabla\log q_\sigma(\tilde x)\|^2$ look at the mixed term:

$$\mathbb{E}_{q_\sigma}\langle s, \nabla\log q_\sigma\rangle = \int\! \langle s(\tilde x), \nabla q_\sigma(\tilde x)\rangle\, d\tilde x
= \iint\! p(x)\,\langle s(\tilde x), \nabla_{\tilde x}\, q_\sigma(\tilde x \mid x)\rangle\,dx\,d\tilde x
= \mathbb{E}_{p(x)\,q_\sigma(\tilde x \mid x)}\,\langle s, \nabla_{\tilde x}\log q_\sigma(\tilde x \mid x)\rangle.$$

The mixed terms of both losses agree, and so do $\tfrac12\,\mathbb{E}\|s\|^2$; the third terms do not depend on $s$.
So the two losses differ by a constant. With
$\nabla_{\tilde x}\log q_\sigma(\tilde x \mid x) = -(\tilde x - x)/\sigma^2$ this is eq. 5:

$$\ell(\sigma) = \tfrac12\,\mathbb{E}\,\Big\|s(\tilde x, \sigma) + \frac{\tilde x - x}{\sigma^2}\Big\|^2 = J_\sigma(s) + \text{const}. \qquad\blacksquare$$

The minimum is the score of $q_\sigma$, not of the data; the two agree only as $\sigma \to 0$. That is the point of
many levels: where data lie on a thin surface (the *manifold hypothesis*), their own score is not defined away from
it, while that of $q_\sigma$ is defined everywhere.
""",
    ),
    Derivation(
        "ncsn.weights",
        "All levels in one loss, and why each weighs sigma squared",
        "NCSN, eq. 6 and section 4.2",
        r"""
$$\mathcal{L} = \frac1L\sum_{i=1}^{L} \lambda(\sigma_i)\,\ell(\sigma_i).$$

With $\tilde x = x + \sigma\epsilon$ the target of $\ell(\sigma)$ is $-\epsilon/\sigma$, of size $\sqrt{D}/\sigma$:
the smallest level would drown the others. With $\lambda(\sigma) = \sigma^2$, and the score read as a predicted noise,
$s = -\hat\epsilon/\sigma$,

$$\sigma^2\,\ell(\sigma) = \tfrac12\,\mathbb{E}\,\|\sigma s(\tilde x, \sigma) + \epsilon\|^2 = \tfrac12\,\mathbb{E}\,\|\epsilon - \hat\epsilon\|^2,$$

which has the same size at every level. $\blacksquare$ It is DDPM's simple loss, a year before DDPM.
""",
    ),
    Derivation(
        "ncsn.langevin",
        "Langevin dynamics leaves the density as it is",
        "NCSN, eq. 4 and algorithm 1; Welling and Teh 2011",
        r"""
A step of size $d$ is $x \leftarrow x + d\,\nabla\log p(x) + \sqrt{2d}\,z$ (eq. 4 with $\epsilon = 2d$). For $d \to 0$
it is the SDE $dx = \nabla\log p\,dt + \sqrt2\,dw$. The density $\rho_t$ of its points follows the Fokker-Planck
equation

$$\partial_t\rho = -\nabla\!\cdot(\rho\,\nabla\log p) + \Delta\rho = \nabla\!\cdot\Big(\rho\,\nabla\log\frac{\rho}{p}\Big).$$

For $\rho = p$ the right side is 0: $p$ is stationary. From any other density it comes nearer,

$$\frac{d}{dt}\,D_\text{KL}(\rho_t\|p) = -\mathbb{E}_{\rho_t}\Big\|\nabla\log\frac{\rho_t}{p}\Big\|^2 \le 0. \qquad\blacksquare$$

How fast is another matter: between two far modes both sides are nearly 0, so the shares stay wrong for very long.
Hence annealing.

Finite steps leave an error. For $p = N(0, \tau^2)$ the variance after a step is $(1 - d/\tau^2)^2\,v + 2d$, whose
fixed point is $v = \tau^2/(1 - d/2\tau^2)$: a little too large, in proportion to $d$. The paper's algorithm 1:

```text
for i = 1, ..., L:                       # sigma_1 > ... > sigma_L
    a = eps * sigma_i^2 / sigma_L^2
    for t = 1, ..., T:
        z ~ N(0, I)
        x = x + a / 2 * s(x, sigma_i) + sqrt(a) * z
return x
```
""",
    ),
    Derivation(
        "ncsn.normalisation",
        "A scale and a shift a level: conditional instance normalisation",
        "NCSN, appendix A.1; Dumoulin et al. 2017",
        r"""
NCSN's network is a RefineNet: a U-Net's idea from segmentation, with dilated convolutions (taps that lie apart) where
others shrink the picture. Told is only the number $i$ of the level, through its normalisation. With $\mu_k, s_k$ the
mean and standard deviation of channel $k$ over the places of one picture,

$$z_k = \gamma[i, k]\,\frac{x_k - \mu_k}{s_k} + \beta[i, k]$$

has a row of parameters $\gamma, \beta$ for each level. But the mean of every channel is gone, $z(x + c) = z(x)$ for
any constant $c$ on a channel: with it the network loses the overall brightness and colour, and the authors saw
colours shift. So they hand the means on,

$$z_k = \gamma[i, k]\,\Big(\frac{x_k - \mu_k}{s_k} + \alpha[i, k]\,\frac{\mu_k - m}{v}\Big) + \beta[i, k],$$

with $m, v$ the mean and standard deviation of the $\mu_k$ over the channels (as in their code; the paper has $\alpha$
outside the bracket). A constant that is the same on all channels is still subtracted; how the channels differ is
kept. $\blacksquare$ A table of parameters can only serve the levels that it was trained on: NCSNv2's technique 3 does
without.
""",
    ),
)
