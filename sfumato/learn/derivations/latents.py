"""Latents, cascades, ControlNet and DiT: what each changes, and what stays as it was (2021 to 2023)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "latents.linear",
        "How good a linear first stage can be",
        "Rombach et al. 2022, section 3.1; principal components",
        r"""
An autoencoder maps a picture to a few numbers and back, $x \approx D(E(x))$, and the diffusion model learns the distribution of $z = E(x)$.
What it loses is lost for good: the reconstruction error is a floor for every sample.

Let both be linear, with $k$ orthonormal rows $W$: $z = W(x - m)$, $\hat x = m + W^\top z$. The mean squared error is

$$\mathbb{E}\,\|x - \hat x\|^2 = \operatorname{tr}\Sigma - \operatorname{tr}(W\Sigma W^\top) \ge \sum_{i > k}\lambda_i,$$

$\lambda_i$ the eigenvalues of the covariance $\Sigma$ in falling order, with equality for the first $k$ eigenvectors. $\blacksquare$ Deep
encoders can do better at the same $k$, and are trained with a perceptual or adversarial loss, since the eye forgives other errors than the square.

**Scale.** $z$ is divided by its standard deviation before the diffusion model sees it: every noise schedule is made for data of about unit
variance. (0.18215 in Stable Diffusion is one over that of one autoencoder.)
""",
    ),
    Derivation(
        "latents.shrinking",
        "Shrinking a noisy picture takes noise away",
        "Ho et al. 2022, section 4; Hoogeboom et al. 2023, section 3.1",
        r"""
Take means over $k \times k$ pixels of $x_t = \alpha x_0 + \sigma\epsilon$. The mean of $k^2$ independent normal numbers has the standard
deviation $1/k$, so the small picture is

$$\alpha\,(Ax_0) + \frac{\sigma}{k}\,\epsilon', \qquad \epsilon' \sim N(0, I):$$

a noisy small picture whose $\sigma/\alpha$ is $k$ times less, as $\log\mathrm{SNR}$ is $2\log k$ more. $\blacksquare$ Large pictures keep their
coarse content at noise that would hide a small one, so their schedules are shifted by $k$; and in a cascade the large model only has to
draw what the small picture does not say.

**Conditioning augmentation.** The upsampler is trained on real small pictures, and given generated ones. Noise on its input, of a level that
it is told, makes the two alike: two distributions differ less after the same noise is added to both.
""",
    ),
    Derivation(
        "latents.zero",
        "ControlNet: why convolutions of zeros learn",
        "Zhang et al. 2023, section 3.1 and appendix",
        r"""
A frozen network $F(x)$, a trainable copy's features $G(x, c)$ of the condition $c$, and a 1x1 convolution $Z$ with weights $w$ and bias $b$:

$$y = F(x) + w\,G(x, c) + b, \qquad w = 0,\ b = 0 \text{ at first.}$$

At the first step $y = F(x)$ exactly: nothing that was learned is harmed. The gradients of a loss $L$ are

$$\frac{\partial L}{\partial w} = \frac{\partial L}{\partial y}\,G(x, c) \ne 0, \qquad \frac{\partial L}{\partial G} = w^\top\frac{\partial L}{\partial y} = 0.$$

So the zero convolution learns at once, since its *input* is not zero; the copy has no gradient in the first step, and has one from the second
on. $\blacksquare$ Were $G$ zero as well, nothing would ever move.
""",
    ),
    Derivation(
        "latents.adaln",
        "DiT: adaLN-Zero begins as the identity",
        "Peebles & Xie 2023, section 3.2",
        r"""
A picture is cut into $N = (H/p)(W/p)$ patches, each a token of $p^2C$ numbers. A block computes from the embedding of $t$ and $y$ six vectors,
$\gamma_1, \beta_1, g_1, \gamma_2, \beta_2, g_2$, and

$$h \leftarrow h + g_1 \odot \mathrm{Attn}\big((1 + \gamma_1)\odot\mathrm{LN}(h) + \beta_1\big), \qquad
h \leftarrow h + g_2 \odot \mathrm{MLP}\big((1 + \gamma_2)\odot\mathrm{LN}(h) + \beta_2\big).$$

The layer that makes the six begins at zero, so both $g$ are 0 and every block is the identity, whatever the depth. The last layer begins at zero
too: the network returns 0. $\blacksquare$ It is the zero convolution's idea again.

**Cost.** Attention compares all pairs: $O(N^2)$, so halving $p$ makes it 16 times dearer; all the rest is $O(N)$. Latents of an
eighth of the sides have $64$ times fewer pixels: that is how both go together.
""",
    ),
)
