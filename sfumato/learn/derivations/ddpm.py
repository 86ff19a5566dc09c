"""From the forward process to the simple loss (Ho et al. 2020, eq. 2 to 15, algorithms 1 and 2)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "ddpm.marginal",
        "Reparameterisation: noisy data of any level in one draw",
        "DDPM, eq. 2 and 4",
        r"""
One step is $x_t = \sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,z_t$ with $z_t \sim N(0, I)$. Suppose
$x_{t-1} = \alpha_{t-1}x_0 + \sigma_{t-1}\epsilon$. Then

$$x_t = \sqrt{1-\beta_t}\,\alpha_{t-1}\,x_0 + \sqrt{1-\beta_t}\,\sigma_{t-1}\,\epsilon + \sqrt{\beta_t}\,z_t.$$

Independent Gaussians add to a Gaussian whose variance is the sum, so $x_t = \alpha_t x_0 + \sigma_t\epsilon'$ with

$$\alpha_t = \alpha_{t-1}\sqrt{1-\beta_t}, \qquad \sigma_t^2 = (1-\beta_t)\,\sigma_{t-1}^2 + \beta_t.$$

From $\alpha_0 = 1$, $\sigma_0 = 0$ it follows by induction that

$$\alpha_t^2 = \prod_{i=1}^{t}(1-\beta_i) = \bar\alpha_t, \qquad \sigma_t^2 = 1 - \bar\alpha_t, \qquad q(x_t \mid x_0) = N(\alpha_t x_0,\ \sigma_t^2 I). \qquad\blacksquare$$

To write $x_t$ as a function of the data and of noise that does not depend on any parameter is called
*reparameterisation*: a mean over $x_t$ becomes a mean over $\epsilon$, and gradients pass through it. The same sum
from level $s$ to level $t$ gives

$$q(x_t \mid x_s) = N(\alpha_{t|s}\,x_s,\ \sigma_{t|s}^2 I), \qquad \alpha_{t|s} = \alpha_t/\alpha_s, \qquad \sigma_{t|s}^2 = \sigma_t^2 - \alpha_{t|s}^2\,\sigma_s^2,$$

with $\sigma_{t|t-1}^2 = \beta_t$.
""",
    ),
    Derivation(
        "ddpm.posterior",
        "The posterior of a step, by completing the square",
        "DDPM, eq. 6 and 7",
        r"""
For $s < t$ Bayes' rule reads $q(x_s \mid x_t, x_0) \propto q(x_t \mid x_s)\,q(x_s \mid x_0)$. As a function of $x_s$
the exponent is

$$-\frac{(x_t - \alpha_{t|s}\,x_s)^2}{2\,\sigma_{t|s}^2} - \frac{(x_s - \alpha_s x_0)^2}{2\,\sigma_s^2}
= -\frac12\Big(\frac{\alpha_{t|s}^2}{\sigma_{t|s}^2} + \frac{1}{\sigma_s^2}\Big)\,x_s^2 + \Big(\frac{\alpha_{t|s}\,x_t}{\sigma_{t|s}^2} + \frac{\alpha_s x_0}{\sigma_s^2}\Big)\,x_s + \dots$$

The first bracket is one over the variance, and $\alpha_{t|s}^2\sigma_s^2 + \sigma_{t|s}^2 = \sigma_t^2$; the variance
times the second bracket is the mean:

$$\tilde\beta = \frac{\sigma_{t|s}^2\,\sigma_s^2}{\sigma_t^2}, \qquad
\tilde\mu = \frac{\alpha_{t|s}\,\sigma_s^2}{\sigma_t^2}\,x_t + \frac{\alpha_s\,\sigma_{t|s}^2}{\sigma_t^2}\,x_0. \qquad\blacksquare$$

For neighbours this is eq. 7, with $\sigma_{t|s}^2 = \beta_t$ and $\alpha_{t|s}^2 = 1 - \beta_t$.
""",
    ),
    Derivation(
        "ddpm.bound",
        "The variational bound and its terms",
        "DDPM, eq. 3 and 5, appendix A",
        r"""
By Jensen's inequality, as for bits,

$$\mathbb{E}[-\log p(x_0)] \le \mathbb{E}_q\Big[-\log\frac{p(x_{0:T})}{q(x_{1:T} \mid x_0)}\Big]
= \mathbb{E}_q\Big[-\log p(x_T) - \sum_{t\ge1}\log\frac{p(x_{t-1} \mid x_t)}{q(x_t \mid x_{t-1})}\Big] = L.$$

For $t > 1$ the chain is Markov, so
$q(x_t \mid x_{t-1}) = q(x_t \mid x_{t-1}, x_0) = q(x_{t-1} \mid x_t, x_0)\,q(x_t \mid x_0)/q(x_{t-1} \mid x_0)$. The
ratios telescope to $q(x_T \mid x_0)/q(x_1 \mid x_0)$, and $q(x_1 \mid x_0)$ cancels with $t = 1$:

$$L = \mathbb{E}_q\Big[\underbrace{D_\text{KL}(q(x_T \mid x_0)\,\|\,p(x_T))}_{L_T}
{} + \sum_{t>1}\underbrace{D_\text{KL}(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t))}_{L_{t-1}}
\underbrace{-\log p(x_0 \mid x_1)}_{L_0}\Big]. \qquad\blacksquare$$

$L_T$ has no parameters. $L_0$ is a decoder: the Gaussian $N(\mu(x_1, 1), \Sigma_1)$ integrated over the cell of each
byte, $\pm1/255$ around it and to infinity at the ends (eq. 13), so that it is a probability, and bits can be counted.
""",
    ),
    Derivation(
        "ddpm.simple",
        "From the bound to the simple loss",
        "DDPM, eq. 8 to 12 and 14",
        r"""
Let the reverse step be $p(x_s \mid x_t) = N(\mu(x_t, t), \Sigma_t I)$ with a fixed $\Sigma_t$ (the paper's
$\sigma_t^2$), and $s = t - 1$. The KL of two Gaussians that differ in their means only, up to what does not depend on
$\mu$ (eq. 8):

$$L_{t-1} = \mathbb{E}_q\Big[\frac{1}{2\Sigma_t}\,\|\tilde\mu(x_t, x_0) - \mu(x_t, t)\|^2\Big] + C.$$

Put $x_0 = (x_t - \sigma_t\epsilon)/\alpha_t$ into $\tilde\mu$. With $\alpha_s/\alpha_t = 1/\sqrt{1-\beta_t}$ the
factors of $x_t$ sum to
$\big((1-\beta_t)\,\sigma_s^2 + \beta_t\big)/(\sigma_t^2\sqrt{1-\beta_t}) = 1/\sqrt{1-\beta_t}$ (eq. 9 and 10):

$$\tilde\mu = \frac{1}{\sqrt{1-\beta_t}}\Big(x_t - \frac{\beta_t}{\sigma_t}\,\epsilon\Big).$$

The network is given $x_t$, so only the noise is unknown: let $\mu$ be the same with $\epsilon_\theta(x_t, t)$ (eq.
11). The difference of the means is a factor times $\epsilon - \epsilon_\theta$ (eq. 12):

$$L_{t-1} - C = \mathbb{E}_{x_0, \epsilon}\Big[\frac{\beta_t^2}{2\,\Sigma_t\,(1-\beta_t)\,\sigma_t^2}\,\big\|\epsilon - \epsilon_\theta(\alpha_t x_0 + \sigma_t\epsilon,\ t)\big\|^2\Big].$$

With $\Sigma_t = \tilde\beta_t$ the weight is $\tfrac12\big(\mathrm{SNR}(s)/\mathrm{SNR}(t) - 1\big)$,
$\mathrm{SNR} = \alpha^2/\sigma^2$: large near clean data. Leave it out, draw $t$ evenly, and there is eq. 14:

$$L_\text{simple} = \mathbb{E}_{t, x_0, \epsilon}\,\big\|\epsilon - \epsilon_\theta(\alpha_t x_0 + \sigma_t\epsilon,\ t)\big\|^2. \qquad\blacksquare$$

A network of unlimited size has the same optimum under any weights, $\epsilon_\theta = \mathbb{E}[\epsilon \mid x_t]$;
weights say where a limited one errs.
""",
    ),
    Derivation(
        "ddpm.algorithms",
        "Algorithms 1 and 2",
        "DDPM",
        r"""
```text
Algorithm 1  Training
1: repeat
2:    x_0 ~ q(x_0)
3:    t ~ Uniform({1, ..., T})
4:    eps ~ N(0, I)
5:    take a gradient step on || eps - eps_theta(alpha_t x_0 + sigma_t eps, t) ||^2
6: until converged
```

```text
Algorithm 2  Sampling
1: x_T ~ N(0, I)
2: for t = T, ..., 1:
3:    z ~ N(0, I) if t > 1, else z = 0
4:    x_{t-1} = (x_t - beta_t / sigma_t * eps_theta(x_t, t)) / sqrt(1 - beta_t) + sqrt(Sigma_t) z
5: return x_0
```

Line 4 is $\tilde\mu$ at the predicted $\hat x_0$ (eq. 15), plus noise. Two choices of $\Sigma_t$ are the ends of what
is possible (section 3.2): $\tilde\beta_t$ is right for data that are one point, $\beta_t$ for data that are
$N(0, I)$. The lesson on Improved DDPM derives this.
""",
    ),
    Derivation(
        "ddpm.rate",
        "Rate and distortion: the bound as a progressive code",
        "DDPM, section 4.3, algorithms 3 and 4; Guo, Shamai and Verdu 2005",
        r"""
A sample of $q$ can be sent to someone who knows $p$ with about $D_\text{KL}(q\,\|\,p)$ nats. So send $x_T$, then
$x_{T-1}$ given $x_T$, and so on. Once $x_t$ has arrived, the partial sum of the bound has been spent, the *rate*; the
receiver shows $\hat x_0(x_t)$ (eq. 15), with some *distortion*:

$$R_t = L_T + \sum_{u > t} L_{u-1}, \qquad D_t = \mathbb{E}\,\|x_0 - \hat x_0(x_t)\|^2.$$

With $\Sigma = \tilde\beta$ the share of a step from $t$ to $s$ is
$\tfrac12\big(\mathrm{SNR}(s)/\mathrm{SNR}(t) - 1\big)\|\epsilon - \hat\epsilon\|^2$ (the fold on the simple loss),
and $\|\epsilon - \hat\epsilon\|^2 = \mathrm{SNR}(t)\,\|x_0 - \hat x_0\|^2$. So

$$L_{t-1} = \tfrac12\,\big(\mathrm{SNR}(s) - \mathrm{SNR}(t)\big)\,D_t, \qquad R = \frac12\int_0^{\mathrm{SNR}(t)} D(\rho)\,d\rho \quad\text{for small steps}:$$

the rate is half the area under the distortion, and the distortion is twice the slope of the rate. A step takes $D$ at
its noisy end, where it is largest, so fewer steps cost more bits. For the best denoiser the integral is the mutual
information of $x_0$ and $x_t$. $\blacksquare$

**How good a code is it?** Let the data be Gaussian with variances $v_i$. Then $D = \sum_i v_i/(1 + \rho v_i)$ and
$R = \tfrac12\sum_i\log(1 + \rho v_i)$. If all $n$ variances are equal, $D = n v\,e^{-2R/n}$, which no code can
better. If not, the best code leaves out every direction of less variance than some $\theta$ (*reverse water-filling*,
$D = \sum_i\min(v_i, \theta)$, $R = \tfrac12\sum_i\max(0, \log(v_i/\theta))$), while noise of one size tells a little
about each of them: the same distortion costs more.

Where the noise is small beside the data, both agree: $D \approx n/\rho$, and every halving of the root mean square
error costs one bit a value, seen or not. So most bits describe what nobody sees. On CIFAR-10 the paper's model spends
1.78 bits/dim until the error is 0.95 of 255, and 1.97 on what is left.
""",
    ),
    Derivation(
        "ddpm.embedding",
        "The level as an input: sinusoids",
        "DDPM, appendix B; Vaswani et al. 2017",
        r"""
The network must know the level. A single number between 1 and 1000 is a poor input: levels 3 and 4, and 300 and 600,
should both be told apart. So $t$ becomes $2n$ numbers (and two dense layers follow),

$$e(t) = \big(\sin\omega_1 t, \dots, \sin\omega_n t,\ \cos\omega_1 t, \dots, \cos\omega_n t\big),$$

with $\omega_i$ falling geometrically from 1 to about $10^{-4}$. By the addition theorem

$$\|e(t)\|^2 = n, \qquad e(t)^\top e(s) = \sum_{i=1}^n\cos\omega_i(t - s).$$

All levels have the same length, and their similarity depends on the difference alone. A shift by $d$ turns each pair
$(\sin\omega_i t, \cos\omega_i t)$ by the angle $\omega_i d$: a linear map that does not depend on $t$. With many
frequencies the sum becomes an integral over $\log\omega$, and for $1 \ll |t - s| \ll 10^4$

$$\frac1n\,e(t)^\top e(s) \approx \frac{1}{\ln 10^4}\int_{10^{-4}}^{1}\!\cos(\omega\,|t-s|)\,\frac{d\omega}{\omega} \approx 1 - \frac{\ln|t - s| + 0.577}{\ln 10^4}.$$

It falls with the *logarithm* of the distance: from 5 to 10 levels as much as from 250 to 500.
$\blacksquare$ (Codes differ in whether the last frequency is $10^{-4}$ or just above, and whether sines or cosines
come first: a trained network works with its own only.)
""",
    ),
    Derivation(
        "ddpm.network",
        "The U-Net: what skips, residual sums and attention are for",
        "DDPM, appendix B; Ronneberger et al. 2015; Vaswani et al. 2017",
        r"""
A U-Net halves the sides of its feature maps several times on the way down, doubles them again on the way up, and
joins to each map on the way up the map of the same size from the way down (*skip connections*).

**Why skips.** Suppose the network saw nothing but the means of $x_t$ over $k \times k$ pixels. Of the noise it then
knows the block means $\bar\epsilon$ at best, which have the share $1/k^2$ of its variance; the rest is independent of
them. So even for a picture that is known

$$\min_{\hat\epsilon}\ \tfrac1D\,\mathbb{E}\,\|\epsilon - \hat\epsilon\|^2 = 1 - \frac{1}{k^2},$$

for $k = 8$ more than 0.98 of what it is without any prediction. Noise has detail at full resolution, so full
resolution has to reach the output. **Why go down at all.** In those same means the picture's own means stand $k$
times more clearly above the noise, $\sigma/k$ instead of $\sigma$: what is coarse is seen there first, and each place
sees all others.

**Residual sums.** A block is $h \leftarrow h + F(h)$. If $F(h)$ has unit variance and is uncorrelated with $h$, the
variance is $1 + n$ after $n$ blocks; with $(h + F)/\sqrt2$, as in NCSN++, it stays 1. DDPM's networks start with the
last convolution of every $F$ at (nearly) zero: blocks are the identity, the output is 0, and the simple loss starts
at $\tfrac1D\mathbb{E}\|\epsilon\|^2 = 1$.

**Attention** lets every place at 16x16 take a weighted mean over all of them,

$$\operatorname{Attn}(h) = \operatorname{softmax}\!\Big(\frac{QK^\top}{\sqrt d}\Big)V, \qquad Q, K, V \text{ linear in the normalised } h.$$

For $q, k$ with independent entries of unit variance $q^\top k$ has the variance $d$; over $\sqrt d$ it has 1, so that
the softmax starts out neither flat nor all on one place. All pairs are compared: 65,536 for 16x16, sixteen times as
many for 32x32, and so it is used at low resolution only. $\blacksquare$
""",
    ),
)
