"""The program of the lesson on DDPM (Ho et al. 2020): the forward process in closed form and the simple loss."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data import open_source, to_float, to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import block, near, normal, tensor

TASK = r"""Write what a DDPM is trained with (eq. 4 and eq. 14, algorithm 1), for pictures `x0` of any shape (N, ...):

- `noisy(x0, t, eps, betas)`: $x_t = \sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ with $\bar\alpha_t = \prod_{i \le t} (1-\beta_i)$. Here `t` (N,)
  holds whole numbers from 1 to T, one for each picture; `betas[0]` is $\beta_1$.
- `loss(model, x0, betas)`: draw a `t` for each picture, evenly from 1 to T, and noise; the mean squared difference between the noise and
  `model(x, t)`, a tensor with one number that can be differentiated.

The check multiplies the signal out, and asks your loss with models whose loss is known. Then your `noisy` covers real
pictures."""

STUB = '''def noisy(x0, t, eps, betas):
    """x0, eps (N, ...), t (N,) from 1 to T, betas (T,) -> (N, ...)"""
    ...


def loss(model, x0, betas):
    """model(x, t) -> noise; x0 (N, ...) -> one number"""
    ...
'''

SOLUTION = """def noisy(x0, t, eps, betas):
    alpha_bar = torch.cumprod(1 - betas, dim=0)[t - 1]
    alpha_bar = alpha_bar.reshape(-1, *[1] * (x0.ndim - 1))  # one number a picture
    return alpha_bar.sqrt() * x0 + (1 - alpha_bar).sqrt() * eps


def loss(model, x0, betas):
    t = torch.randint(1, len(betas) + 1, (len(x0),))
    eps = torch.randn_like(x0)
    x = noisy(x0, t, eps, betas)
    return ((eps - model(x, t)) ** 2).mean()
"""


def check(namespace: Namespace) -> None:
    """The closed form, multiplied out; and what the loss shows to models, and says of them."""
    noisy, loss = wanted(namespace, "noisy"), wanted(namespace, "loss")
    betas = torch.linspace(0.02, 0.3, 10)
    left = [math.prod(1 - float(beta) for beta in betas[:t]) for t in range(1, 11)]
    t = torch.tensor([1, 2, 5, 10])
    for shape in ((4, 3), (4, 1, 2, 2)):
        x0, eps = normal(0, *shape).float(), normal(1, *shape).float()
        found = tensor(noisy(x0, t, eps, betas), "noisy", shape)
        for i, level in enumerate(t.tolist()):
            signal, noise = math.sqrt(left[level - 1]), math.sqrt(1 - left[level - 1])
            expected = (signal * x0[i] + noise * eps[i]).double()
            assert torch.allclose(found[i], expected, atol=1e-5), tr(
                "at level {level} of 10 the factors of picture and noise are {signal:.4f} and {noise:.4f}, multiplied out "
                "from beta_1 on; yours differ. Each picture has a level of its own",
                level=level,
                signal=signal,
                noise=noise,
            )
    _check_loss(loss, betas, torch.tensor(left))


def _check_loss(loss: Any, betas: Tensor, left: Tensor) -> None:
    """Models whose loss is known: one that sees x0, one that says nothing, one that always says 1."""
    x0, seen = normal(2, 4000, 3, 2).float(), list[tuple[Tensor, Tensor]]()

    def oracle(x: Tensor, t: Tensor) -> Tensor:
        assert t.shape == (4000,), tr(
            "the model gets one level for each of the 4000 pictures, not {shape}", shape=tuple(t.shape)
        )
        assert not t.is_floating_point(), "levels are whole numbers"
        assert int(t.min()) >= 1, tr("levels go from 1 to 10, your smallest is {t}", t=int(t.min()))
        assert int(t.max()) <= 10, tr("levels go from 1 to 10, your largest is {t}", t=int(t.max()))
        seen.append((x, t))
        a = left.to(x.dtype)[t - 1].reshape(-1, 1, 1)
        return (x - a.sqrt() * x0.to(x.dtype)) / (1 - a).sqrt()

    value = tensor(loss(oracle, x0, betas), "loss")
    assert value.numel() == 1, tr("the loss is one number, not {shape}: take the mean", shape=tuple(value.shape))
    counts = torch.bincount(seen[0][1], minlength=11)[1:].float()
    assert near(counts, torch.full((10,), 400.0), 0.25), tr(
        "every level is drawn equally often, some 400 times of 4000; yours: {counts}", counts=[int(c) for c in counts]
    )
    assert float(value) < 1e-6, tr(
        "a model that knows the clean picture finds the noise exactly: its loss is 0, yours {value:.3g}. The target "
        "is the noise that made x_t",
        value=float(value),
    )
    for says in (0.0, 1.0):
        found = float(tensor(loss(lambda x, t, says=says: torch.full_like(x, says), x0, betas), "loss"))
        assert near(found, 1 + says**2, 0.06), tr(
            "a model that always says {says:g} is wrong by 1 + {says:g}^2 in the mean over numbers; yours says {found:.3f}",
            says=says,
            found=found,
        )
    network = nn.Linear(2, 2)
    asked = loss(lambda x, t: network(x.float()), x0, betas)
    assert isinstance(asked, Tensor), "the loss is a tensor, so that one can call backward()"
    assert asked.requires_grad, "the loss has lost its gradient: no detach, item or no_grad on its way from the model"


def figure(namespace: Namespace) -> Figure:
    """Six real pictures, noised by the answer."""
    betas = torch.linspace(1e-4, 0.02, 1000)
    x0 = to_float(open_source("emoji32:test").images[28:34])
    eps = normal(0, *x0.shape).float()
    levels = range(1, 1001, 37)
    film = [namespace["noisy"](x0, torch.full((6,), t), eps, betas) for t in levels]
    rows = torch.stack([block(to_uint8(torch.as_tensor(x).float())) for x in film])
    return figures.frames({"x_t, by your noisy": rows}, start=0.3)


PROGRAM = Exercise(
    "ddpm.program", "Forward noising and the simple loss", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "torch.cumprod(1 - betas, 0) is alpha-bar for t = 1, 2, ...; its entry for level t has the index t - 1.",
        "alpha-bar has shape (N,); to multiply pictures (N, C, H, W) it needs shape (N, 1, 1, 1), whatever their number of "
        "axes: reshape(-1, *[1] * (x0.ndim - 1)).",
        "t = torch.randint(1, len(betas) + 1, (len(x0),)); the upper end is left out. The loss compares eps with "
        "model(x, t), not with x0.",
    ),
)  # fmt: skip
