"""The image beside the U-Net: NCSN++'s progressive growing (Song et al. 2021, appendix H), skip or residual.

Each layer takes what came beside and the features at its resolution, and returns both anew.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

from sfumato.networks.blocks import Act, GroupNorm, Pointwise, convolution, norm_act, zeroed
from sfumato.networks.fir import Down, Up

Norm = Callable[[int], GroupNorm]
Fir = Sequence[float] | None


class Draw(nn.Module):
    """conv(act(norm(h))): (B, C, ...) features -> (B, out_channels, ...), mostly an image."""

    def __init__(self, channels: int, out_channels: int, act: Act, norm: Norm, dims: int = 2) -> None:
        super().__init__()
        self.act = act
        self.norm = norm(channels)
        self.conv = convolution(dims, channels, out_channels, padding=1)

    def forward(self, h: Tensor) -> Tensor:
        return self.conv(norm_act(self.norm, h, self.act))


class InputSkip(nn.Module):
    """Input skip: the image itself, made smaller, is added to each stage's features through a 1x1 convolution."""

    def __init__(self, image: int, channels: int, fir: Fir, scale: float | None, dims: int = 2) -> None:
        super().__init__()
        self.beside, self.width = image, channels  # channels of what goes on beside, and inside
        self.down = Down(image, image, False, fir)
        self.mix = Pointwise(image, channels)

    def forward(self, image: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image of the stage above and this stage's features -> both for this stage."""
        image = self.down(image)
        return image, self.join(self.mix(image), h)

    def join(self, mixed: Tensor, h: Tensor) -> Tensor:
        return mixed + h


class InputConcat(InputSkip):
    """Input skip that is concatenated with the features, not added."""

    def __init__(self, image: int, channels: int, fir: Fir, scale: float | None, dims: int = 2) -> None:
        super().__init__(image, channels, fir, scale, dims)
        self.width = 2 * channels

    def join(self, mixed: Tensor, h: Tensor) -> Tensor:
        return torch.cat([mixed, h], dim=1)


class InputResidual(nn.Module):
    """Input residual: what came from the stage above, made smaller by a convolution, is added to the features."""

    def __init__(self, above: int, channels: int, fir: Fir, scale: float | None, dims: int = 2) -> None:
        super().__init__()
        self.beside, self.width, self.scale = channels, channels, scale or 1.0
        self.down = Down(above, channels, True, fir, dims=dims)

    def forward(self, above: Tensor, h: Tensor) -> tuple[Tensor, Tensor]:
        """What came from above and this stage's features -> their sum, to go on beside and inside."""
        h = (self.down(above) + h) * self.scale
        return h, h


class OutputSkip(nn.Module):
    """Output skip: each stage draws a part of the image, and all parts, made larger, are summed."""

    def __init__(
        self, below: int | None, channels: int, image: int, fir: Fir, scale: float | None, act: Act, norm: Norm,
        dims: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.up = Up(image, image, False, fir)
        self.draw = Draw(channels, image, act, norm, dims)
        zeroed(self.draw.conv)

    def forward(self, image: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        """The image so far, if any, and this stage's features -> the image with this stage's part, and the features."""
        part = self.draw(h)
        return part if image is None else self.up(image) + part, h


class OutputResidual(nn.Module):
    """Output residual: what came from below, made larger by a convolution, is added; the lowest stage draws it."""

    def __init__(
        self, below: int | None, channels: int, image: int, fir: Fir, scale: float | None, act: Act, norm: Norm,
        dims: int = 2,
    ) -> None:  # fmt: skip
        super().__init__()
        self.scale = scale or 1.0
        self.layer = (
            Draw(channels, channels, act, norm, dims) if below is None else Up(below, channels, True, fir, dims)
        )

    def forward(self, below: Tensor | None, h: Tensor) -> tuple[Tensor, Tensor]:
        """What came from below, if any, and this stage's features -> what goes on beside and inside."""
        if below is None:
            return self.layer(h), h
        h = (self.layer(below) + h) * self.scale
        return h, h
