"""The magnitude-preserving U-Net of EDM2 (Karras et al. 2024, "Analyzing and improving the training dynamics of
diffusion models"), configuration G: table 6 and figure 21.

Training it keeps its weights' rows at one length after every update (`magnitude.normalise`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Factors, Few, Multipliers, Share
from sfumato.networks.blocks import count_heads
from sfumato.networks.magnitude import Directions, Fourier, MPBlock, mp_cat, mp_silu, mp_sum
from sfumato.networks.skeleton import check_labels
from sfumato.networks.tokens import check_sides, refuse_numbers


class MagnitudeUNet(nn.Module):
    """EDM2's network from noisy images of RMS 1 and a number for the noise level to images of the same size.

    Args:
        channels, outputs: of the images; labels, picture: what it is given besides.
        options: the configuration.
    """

    def __init__(self, channels: int, outputs: int, given: Embedded, options: MPUNet) -> None:
        super().__init__()
        self.channels, self.labels, self.picture = channels, given.labels, given.picture
        widths = [options.channels * multiplier for multiplier in options.multipliers]
        emb = max(widths)
        self.multiple = 2 ** (len(widths) - 1)
        if unused := set(options.attention) - {2**i for i in range(len(widths))}:
            raise ValueError(f"no level is smaller by the attention factors {sorted(unused)}")

        def block(inputs: int, width: int, factor: int = 0, resample: str = "", decoder: bool = False) -> MPBlock:
            head = min(options.head_channels, width)
            heads = count_heads(width, 1, head) if factor in options.attention else 0
            return MPBlock(
                inputs, width, emb, decoder=decoder, resample=resample, heads=heads, dropout=options.dropout,
            )  # fmt: skip

        self.fourier, self.emb_noise = Fourier(options.channels, options.bandwidth), Directions(options.channels, emb)
        self.emb_label = Directions(given.labels, emb) if given.labels else None
        self.conv_in = Directions(channels + given.picture + 1, widths[0], 3)
        skips, width = [widths[0]], widths[0]
        self.down, self.up = nn.ModuleList(), nn.ModuleList()
        for i, out in enumerate(widths):
            if i:
                self.down.append(block(width, width, resample="down"))
                skips.append(width)
            for _ in range(options.blocks):
                self.down.append(block(width, out, 2**i))
                skips.append(out)
                width = out
        bottom = options.attention[0] if options.attention else 0  # the middle attends where any level does
        self.up.append(block(width, width, bottom, decoder=True))
        self.up.append(block(width, width, decoder=True))
        self.joined = [False, False]
        for i, out in reversed(list(enumerate(widths))):
            if i < len(widths) - 1:
                self.up.append(block(width, width, resample="up", decoder=True))
                self.joined.append(False)
            for _ in range(options.blocks + 1):
                self.up.append(block(width + skips.pop(), out, 2**i, decoder=True))
                self.joined.append(True)
                width = out
        self.conv_out, self.out_gain = Directions(width, outputs, 3), nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """One evaluation.

        Args:
            x: (B, C, H, W) images, best of RMS 1.
            t: (B,) the number that stands for the noise level.
            y: (B,) labels, where the network has classes.
            low_res: (B, C', h, w), where it is given a further picture; enlarged bilinearly to x's size.

        Returns: (B, outputs, H, W) in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        self.check(x, t, y, low_res)
        dtype = self.conv_in.weight.dtype
        emb = self.emb_noise(self.fourier(t))
        if self.emb_label is not None and y is not None:
            one = F.one_hot(y, self.labels).to(dtype) * math.sqrt(self.labels)
            emb = mp_sum(emb, self.emb_label(one), 0.5)
        emb = mp_silu(emb)
        parts = [x.to(dtype), torch.ones_like(x[:, :1], dtype=dtype)]  # the constant channel stands for biases
        if low_res is not None:
            parts.append(F.interpolate(low_res.to(dtype), x.shape[2:], mode="bilinear"))
        h = self.conv_in(torch.cat(parts, dim=1))
        skips = [h]
        for block in self.down:
            h = block(h, emb)
            skips.append(h)
        for block, joined in zip(self.up, self.joined, strict=True):
            h = block(mp_cat(h, skips.pop()) if joined else h, emb)
        drawn: Tensor = self.conv_out(h, self.out_gain)
        return drawn.to(x.dtype)

    def check(self, x: Tensor, t: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        """Raise ValueError unless the inputs fit the network."""
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"x is (B, {self.channels}, H, W) for this network, not {tuple(x.shape)}")
        check_sides(x.shape[2], x.shape[3], self.multiple, levels(self.multiple))
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")
        check_labels(y, self.labels or None, x.shape[0])
        if (low_res is None) == (self.picture > 0):
            raise ValueError("this network needs low_res" if low_res is None else "this network takes no low_res")
        if low_res is not None and (low_res.ndim != 4 or low_res.shape[:2] != (x.shape[0], self.picture)):
            raise ValueError(f"low_res is ({len(x)}, {self.picture}, h, w), not {tuple(low_res.shape)}")


def levels(multiple: int) -> str:
    """What an image does not fit, for errors."""
    return f"a U-Net down to 1/{multiple} of the resolution"


@dataclass(frozen=True)
class MPUNet(Backbone):
    """EDM2's magnitude-preserving U-Net (Karras et al. 2024, table 6); the defaults are S: 280 million parameters.

    XS, M, L, XL and XXL have channels 128, 256, 320, 384 and 448. Made for `edm`, which gives it ln(sigma) / 4.
    """

    channels: Channels = 192
    """Width of the U-Net's first level."""
    multipliers: Multipliers = (1, 2, 3, 4)
    """Width of each level, in multiples of `channels`."""
    blocks: Few = 3
    """Residual blocks a level."""
    attention: Factors = (4, 8)
    """Downsampling factors with self-attention (16x16 of 64x64 is factor 4)."""
    head_channels: Annotated[int, Range(1, 16_384)] = 64
    """Channels of an attention head, or the layer's, where that is narrower."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks; the paper's L to XXL have 0.1."""
    bandwidth: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Deviation of the frequencies of the noise level's embedding: 1 for ln(sigma) / 4, about 0.01 for recipes that
    give the number of one of a thousand levels."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> MagnitudeUNet:
        refuse_numbers("EDM2's network", given)
        multiple = 2 ** (len(self.multipliers) - 1)
        check_sides(shape[1], shape[2], multiple, levels(multiple))
        return MagnitudeUNet(shape[0], outputs, given, self)
