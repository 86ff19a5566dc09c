"""U-ViT of simple diffusion (Hoogeboom, Heek & Salimans 2023, section 3.4): a U-Net with a transformer at the bottom.

The upper levels are convolutions with one block's skip each, narrow since they cost the most; all depth is in the
transformer. Its blocks are DiT's (adaLN-Zero) here, where the paper's have no gate.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Length, Range
from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Few, Heads, Share
from sfumato.networks.blocks import GroupNorm, Pointwise, ResBlock, norm_act, zeroed
from sfumato.networks.tokens import (
    MLP,
    Block,
    Conditioned,
    Depth,
    Patch,
    Sizes,
    Width,
    check_sides,
    positions,
    refuse_numbers,
)

Levels = Annotated[tuple[Annotated[int, Range(1, 256)], ...], Length(1, 11)]


class UTransformer(Conditioned):
    """U-ViT from noisy images and a number for the noise level to images of the same size.

    Args:
        sizes: of its images and conditions.
        options: the configuration.
    """

    def __init__(self, sizes: Sizes, options: UViT) -> None:
        emb, self.factor, self.patch = 4 * options.channels, options.factor, options.patch
        super().__init__(sizes, emb, self.factor, what(self.factor))
        widths = [options.channels * multiplier for multiplier in options.multipliers]
        width, self.width = options.width, options.width
        self.conv_in = nn.Conv2d((sizes.channels + sizes.picture) * self.patch**2, widths[0], 3, padding=1)
        self.down, self.narrow = nn.ModuleList(), nn.ModuleList()
        self.up, self.widen = nn.ModuleList(), nn.ModuleList()
        for out, below in zip(widths, [*widths[1:], width], strict=True):
            for _ in range(options.blocks):
                self.down.append(ResBlock(out, out, emb, scale_shift=True))
                self.up.append(ResBlock(2 * out, out, emb, scale_shift=True))
            self.narrow.append(Pointwise(out, below))
            self.widen.append(Pointwise(below, out))
        self.middle = nn.ModuleList([
            Block(width, options.heads, MLP(width, 4 * width, options.dropout), emb=emb) for _ in range(options.depth)
        ])  # fmt: skip
        self.blocks = options.blocks
        self.norm_out = GroupNorm(widths[0])
        self.conv_out = zeroed(nn.Conv2d(widths[0], sizes.outputs * self.patch**2, 3, padding=1))

    def evaluate(self, image: Tensor, emb: Tensor, label: Tensor | None) -> Tensor:
        active = F.silu(emb)
        h = self.conv_in(F.pixel_unshuffle(image, self.patch) if self.patch > 1 else image)
        skips: list[Tensor] = []
        for i, narrow in enumerate(self.narrow):
            for block in list(self.down)[i * self.blocks : (i + 1) * self.blocks]:
                h = block(h, active)
                skips.append(h)
            h = narrow(F.avg_pool2d(h, 2))
        h = self.attend(h, active)
        for i, widen in reversed(list(enumerate(self.widen))):
            h = F.interpolate(widen(h), scale_factor=2.0, mode="nearest")
            for block in list(self.up)[i * self.blocks : (i + 1) * self.blocks]:
                h = block(torch.cat([h, skips.pop()], dim=1), active)
        h = self.conv_out(norm_act(self.norm_out, h))
        return F.pixel_shuffle(h, self.patch) if self.patch > 1 else h

    def attend(self, h: Tensor, emb: Tensor) -> Tensor:
        """The transformer at the lowest level: h (B, width, rows, columns) -> the same shape."""
        rows, columns = h.shape[2:]
        places = positions(rows, columns, self.width, h.device)
        tokens = h.flatten(2).transpose(1, 2) + places.to(h.dtype)
        for block in self.middle:
            tokens = block(tokens, emb)
        return tokens.transpose(1, 2).reshape(h.shape)


def what(factor: int) -> str:
    """What an image is cut into, for errors."""
    return f"a transformer at 1/{factor} of the resolution"


@dataclass(frozen=True)
class UViT(Backbone):
    """The U-ViT of simple diffusion (Hoogeboom et al. 2023): convolutions above, a transformer at the lowest level.

    The defaults have the paper's transformer, 36 blocks at 16x16 for 128x128 pixels, two billion parameters; the widths
    of the convolutions are ours. For 28x28: channels 32, multipliers (1, 2), blocks 1, width 192, depth 4, 6 heads.
    """

    channels: Channels = 128
    """Width of the first level."""
    multipliers: Levels = (1, 2, 4)
    """Widths of the levels of convolutions in multiples of `channels`; each is followed by a halving."""
    blocks: Few = 3
    """Residual blocks a level, down and up."""
    width: Width = 2048
    """Channels of a token of the transformer, a multiple of 4."""
    depth: Depth = 36
    """Transformer blocks."""
    heads: Heads = 16
    """Attention heads, which divide the width."""
    dropout: Share = 0.0
    """Dropout inside the transformer's feed-forward layers; the paper has none above (section 3.3)."""
    patch: Patch = 1
    """Side of the patches that are folded into channels first, for large images."""

    @property
    def factor(self) -> int:
        """By what the transformer's grid is smaller than the image."""
        return int(self.patch * 2 ** len(self.multipliers))

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> UTransformer:
        refuse_numbers("U-ViT", given)
        if self.width % 4:
            raise ValueError(f"width is a multiple of 4, since positions have four parts, not {self.width}")
        check_sides(shape[1], shape[2], self.factor, what(self.factor))
        return UTransformer(Sizes(shape[0], outputs, given.labels, given.picture), self)
