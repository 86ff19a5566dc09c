"""The exercises of the lesson on latents, cascades, ControlNet and DiT (Rombach et al. 2022, Peebles & Xie 2023)."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_scaled(namespace: dict[str, Any]) -> None:
    scaled = wanted(namespace, "scaled")
    z = 5.3 * torch.randn(500, 4, 3, 3, generator=torch.Generator().manual_seed(0)) + 2
    for factor in (1.0, 0.1):
        found = scaled(factor * z)
        assert tuple(found.shape) == tuple(z.shape), "the latents keep their shape"
        mean, std = found.mean((0, 2, 3)), found.std((0, 2, 3))
        assert float(mean.abs().max()) < 0.02, tr(
            "each channel should have mean 0; yours have up to {mean:.2f}", mean=float(mean.abs().max())
        )
        assert float((std - 1).abs().max()) < 0.02, tr(
            "each channel should have deviation 1 whatever the autoencoder's is; yours have {least:.2f} to {most:.2f}",
            least=float(std.min()),
            most=float(std.max()),
        )
    uneven = torch.cat([z[:, :2], 20 * z[:, 2:]], dim=1)
    spread = scaled(uneven).std((0, 2, 3))
    assert float((spread - 1).abs().max()) < 0.02, "channels differ: measure each by itself"


def _check_patches(namespace: dict[str, Any]) -> None:
    patches = wanted(namespace, "patches")
    x = torch.arange(2 * 3 * 4 * 6, dtype=torch.float64).reshape(2, 3, 4, 6)
    found = patches(x, 2)
    assert tuple(found.shape) == (2, 6, 12), tr(
        "4x6 pixels of 3 channels make 6 tokens of 12 numbers, (2, 6, 12); yours are {shape}", shape=tuple(found.shape)
    )
    for row in range(2):
        for column in range(3):
            expected = x[:, :, 2 * row : 2 * row + 2, 2 * column : 2 * column + 2].flatten(1).sort(1).values
            token = found[:, 3 * row + column].sort(1).values
            assert torch.equal(token, expected), tr(
                "token {token} should hold the pixels of one patch, row {row} and column {column}; yours mixes others in",
                token=3 * row + column,
                row=row,
                column=column,
            )


def _check_control(namespace: dict[str, Any]) -> None:
    controlled = wanted(namespace, "controlled")
    frozen, copy = torch.nn.Linear(3, 3), torch.nn.Linear(3, 3)
    layer = namespace.get("zero_layer")
    assert callable(layer), "define a function called zero_layer too: it makes the joining layer"
    zero = layer(3)
    x, c = torch.randn(5, 3), torch.randn(5, 3)
    before = frozen(x).detach()
    found = controlled(frozen, copy, zero, x, c)
    assert torch.equal(found.detach(), before), "at first the output must be the frozen network's own, to the last bit"
    found.square().sum().backward()
    gradient = zero.weight.grad
    assert gradient is not None, "the joining layer has no gradient: it must be used"
    assert float(gradient.abs().max()) > 0, (
        "the joining layer's weights have gradient 0, so nothing will ever be learned: its input must not be 0"
    )
    with torch.no_grad():
        zero.weight -= 0.1 * gradient
    assert not torch.equal(controlled(frozen, copy, zero, x, c), controlled(frozen, copy, zero, x, c + 1)), (
        "after a step the output must depend on the condition c"
    )


EXERCISES = (
    Exercise(
        "latents.1",
        "The scale of latents",
        r"""`z` (N, C, h, w) are latents of many pictures. Give them back with mean 0 and standard deviation 1 in each channel, as a noise schedule expects
them.""",
        "def scaled(z):\n    return 0.18215 * z\n",
        "def scaled(z):\n    return (z - z.mean((0, 2, 3), keepdim=True)) / z.std((0, 2, 3), keepdim=True)\n",
        _check_scaled,
        hints=("Mean and deviation over pictures and places, (0, 2, 3), with keepdim=True.",),
    ),
    Exercise(
        "latents.2",
        "Patches",
        r"""Cut pictures `x` (B, C, H, W) into patches of `p` by `p`: (B, N, p p C), row by row. One patch must be one token.""",
        "def patches(x, p):\n    B, C, H, W = x.shape\n    return x.reshape(B, (H // p) * (W // p), p * p * C)\n",
        "def patches(x, p):\n    B, C, H, W = x.shape\n    x = x.reshape(B, C, H // p, p, W // p, p)\n"
        "    return x.permute(0, 2, 4, 3, 5, 1).reshape(B, (H // p) * (W // p), p * p * C)\n",
        _check_patches,
        hints=(
            "Split each side in two, (B, C, H/p, p, W/p, p), bring the two numbers of the patch together, then flatten.",
        ),
    ),
    Exercise(
        "latents.3",
        "A planted bug: zero times zero",
        r"""A control beside a frozen layer. At first it must change nothing, and it must be able to learn. As it stands it never learns. Mend it.""",
        """def zero_layer(width):
    layer = torch.nn.Linear(width, width)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def controlled(frozen, copy, zero, x, c):
    return frozen(x) + zero(zero(copy(x + c)))
""",
        """def zero_layer(width):
    layer = torch.nn.Linear(width, width)
    torch.nn.init.zeros_(layer.weight)
    torch.nn.init.zeros_(layer.bias)
    return layer


def controlled(frozen, copy, zero, x, c):
    return frozen(x) + zero(copy(x + c))
""",
        _check_control,
        hints=("The gradient of a layer's weights is the gradient of its output times its input.",),
    ),
)
