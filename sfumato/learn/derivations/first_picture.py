"""Ancestral sampling: why drawing step after step draws from the model (Ho et al. 2020, eq. 1)."""

from __future__ import annotations

from sfumato.learn.derivations import Derivation

DERIVATIONS = (
    Derivation(
        "first_picture.chain",
        "Why drawing step after step draws from the model",
        "DDPM, eq. 1; DPM, section 2.2",
        r"""
The model is a Markov chain from noise to data. Its joint density, and the density of what it makes, are

$$p(x_{0:T}) = p(x_T)\prod_{t=1}^{T} p(x_{t-1} \mid x_t), \qquad p(x_0) = \int p(x_{0:T})\,dx_{1:T}.$$

Draw $x_T$ from the first factor, then each $x_{t-1}$ from its own. By the product rule the whole sequence is one draw
of the joint; to look at $x_0$ alone is to integrate the others out. No density is evaluated on the way. This is
*ancestral sampling*:

```text
x_T ~ N(0, I)
for t = T, ..., 1:  x_{t-1} ~ p(x_{t-1} | x_t)
return x_0
```

Is $p(x_0)$ the distribution of the data? If every factor were the true $q(x_{t-1} \mid x_t)$ of the forward process,
then by induction from $t = T$ down,

$$\int q(x_{t-1} \mid x_t)\, q(x_t)\, dx_t = q(x_{t-1}).$$

An example with all of it in closed form: data $N(0, c^2)$ and $x_t = a\,x_{t-1} + b\,\epsilon$, so that the variances
follow $v_t = a^2 v_{t-1} + b^2$. Bayes' rule gives
$q(x_{t-1} \mid x_t) = N\big(\tfrac{a v_{t-1}}{v_t} x_t,\ \tfrac{b^2 v_{t-1}}{v_t}\big)$. The reverse step takes the
variance $v_t$ to

$$\frac{a^2 v_{t-1}^2}{v_t^2}\, v_t + \frac{b^2 v_{t-1}}{v_t} = \frac{v_{t-1}\,(a^2 v_{t-1} + b^2)}{v_t} = v_{t-1}. \qquad\blacksquare$$

Two errors are left in practice: the factors are learned, and the chain starts from $N(0, I)$ instead of $q(x_T)$.
""",
    ),
)
