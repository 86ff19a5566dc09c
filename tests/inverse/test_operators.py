"""Every operator: its transpose is the adjoint, its inverse solves, and it says what does not fit."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import inverse
from sfumato.inverse import OPERATORS, Bicubic, Blur, Channels, Function, Grey, Linear, Mask, MeanPool, Operator

SHAPE = (3, 8, 12)
KNOWN = torch.rand(8, 12, generator=torch.Generator().manual_seed(0)) < 0.4
ALL: dict[str, Operator] = {
    "mask": Mask(KNOWN),
    "mask a channel": Mask(KNOWN.expand(3, 8, 12) & torch.tensor([True, False, True])[:, None, None]),
    "mask a picture": Mask(torch.stack([KNOWN, ~KNOWN])[:, None]),
    "channels": Channels((0, 2)),
    "grey": Grey(),
    "mean-pool": MeanPool(4),
    "bicubic": Bicubic(2),
    "blur": Blur(0.7),
    "strong blur": Blur(2.0),
}


def pictures(shape: tuple[int, ...] = SHAPE) -> Tensor:
    return torch.randn(2, *shape, dtype=torch.float64)


def of(operator: Operator) -> Tensor:
    """Something in the range of an operator."""
    return operator(pictures())


@pytest.mark.parametrize("name", ALL)
def test_the_transpose_is_the_adjoint(name: str) -> None:
    operator, x = ALL[name], pictures()
    y = torch.randn_like(of(operator))
    assert operator.check(SHAPE) == tuple(y.shape[1:])
    assert float((operator(x) * y).sum()) == pytest.approx(float((x * operator.transpose(y)).sum()))
    assert operator.transpose(y).shape == x.shape


@pytest.mark.parametrize("name", ALL)
def test_the_inverse_solves(name: str) -> None:
    operator = ALL[name]
    y = of(operator)
    noise, gain = torch.tensor([0.3, 0.1], dtype=torch.float64).reshape(2, 1, 1, 1), 2.0
    v = operator.solve(y, noise, gain)
    assert torch.allclose(noise * v + gain * operator(operator.transpose(v)), y)
    assert torch.allclose(operator.solve(y, 0.3, gain)[0], v[0])


@pytest.mark.parametrize("name", ALL)
def test_the_pseudo_inverse_agrees_with_what_was_seen_and_is_the_smallest(name: str) -> None:
    operator, x = ALL[name], pictures()
    back = operator.pinv(operator(x))
    if operator.stable:
        assert torch.allclose(operator(back), operator(x))
        assert float(((x - back) * back).sum()) == pytest.approx(0, abs=1e-9)
    assert float(back.norm()) <= float(x.norm())
    assert bool(operator.pinv(torch.zeros_like(operator(x))).isfinite().all())


def test_shrinking_is_what_torch_does_and_blurs_keep_the_mean() -> None:
    x = pictures()
    assert torch.allclose(MeanPool(2)(x), torch.nn.functional.avg_pool2d(x, 2))
    small = torch.nn.functional.interpolate(x, (4, 6), mode="bicubic", antialias=True)
    assert torch.allclose(Bicubic(2)(x), small)
    for operator in (Blur(1.0), Bicubic(2), MeanPool(2)):
        assert torch.allclose(operator(torch.ones_like(x)), torch.ones(()).double())
    shifted = Blur(1.5)(x.roll((3, 5), (2, 3)))
    assert torch.allclose(shifted, Blur(1.5)(x).roll((3, 5), (2, 3)))


def test_a_linear_function_finds_its_transpose() -> None:
    operator, x = Linear(lambda x: x.cumsum(2)[:, :2] * 3, SHAPE), pictures()
    y = torch.randn_like(operator(x))
    assert float((operator(x) * y).sum()) == pytest.approx(float((x * operator.transpose(y)).sum()))


def test_masks_of_a_batch_are_divided() -> None:
    masks = torch.rand(5, 1, 8, 12) < 0.5
    part = Mask(masks).part([3, 1], 5)
    assert isinstance(part, Mask)
    assert torch.equal(part.known, masks[[3, 1]])
    assert Mask(KNOWN).part([3], 5).known is KNOWN  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="5 masks do not fit 3"):
        Mask(masks).part([0], 3)


@pytest.mark.parametrize(
    ("operator", "shape", "words"),
    [
        (Mask(KNOWN), (1, 8, 8), "mask of"),
        (Mask(KNOWN[None, None, None]), (1, 8, 12), "mask of"),
        (Channels((3,)), SHAPE, "channels"),
        (Grey(), (1, 8, 8), "grey of 3"),
        (MeanPool(5), SHAPE, "MeanPool by 5"),
        (Bicubic(8), SHAPE, "Bicubic by 8"),
        (Blur(1.0), (8,), "Blur"),
        (Function(lambda x: x @ torch.ones(5, 5)), SHAPE, "does not fit"),
    ],
)
def test_what_does_not_fit_is_said(operator: Operator, shape: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        operator.check(shape)


def test_specs() -> None:
    assert inverse.operator("blur?std=1.5") == Blur(1.5)
    assert inverse.operator("channels?known=0,2") == Channels((0, 2))
    assert {inverse.operator(name) for name in OPERATORS} == {MeanPool(), Bicubic(), Blur(), Grey(), Channels()}
    for wrong, said in {
        "blurr": "did you mean blur",
        "mean-pool?factor=1": "2 or more",
        "blur?std=0": "above 0",
    }.items():
        with pytest.raises(ValueError, match=said):
            inverse.operator(wrong)
    with pytest.raises(ValueError, match="true or false"):
        Mask(torch.ones(3))
