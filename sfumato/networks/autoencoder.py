"""Convolutional autoencoders of images: the first stage of latent diffusion (Rombach et al. 2022, section 3.1).

Encoder and decoder are VQGAN's (Esser et al. 2021, appendix A, table 7): residual blocks with group norm and SiLU, one
self-attention at the lowest resolution. The latents are either a Gaussian (KL) or near the codes of a codebook (VQ).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Channels, Embedded, Few, Multipliers, Share, refuse
from sfumato.networks.blocks import Attention, GroupNorm, ResBlock, norm_act
from sfumato.networks.fir import Down, Up

Draw = Callable[[Tensor], Tensor]
"""A tensor -> Gaussian noise like it."""

LOG_VARIANCE = (-30.0, 20.0)
"""Log variances of the posterior are held inside this range."""


class Coded(NamedTuple):
    """What an autoencoder makes of images x (B, C, H, W).

    Attributes:
        image: the reconstruction, like x.
        penalty: (B,), the KL divergence of the latents to N(0, 1), in nats an image; or the codebook loss and, as
            `commitment`, that of the encoder, each the mean square an element.
        commitment: (B,); zeros without a codebook.
    """

    image: Tensor
    penalty: Tensor
    commitment: Tensor


def kl_divergence(mean: Tensor, log_variance: Tensor) -> Tensor:
    """KL(N(mean, exp(log_variance)) || N(0, 1)) in nats, summed over all but the first axis: (B,)."""
    each = mean.square() + log_variance.exp() - 1 - log_variance
    return each.flatten(1).sum(1) / 2


class Codebook(nn.Module):
    """Vector quantisation (van den Oord et al. 2017, section 3.1): each pixel becomes the nearest of K codes.

    Args:
        codes: K.
        channels: of a code.
    """

    def __init__(self, codes: int, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.empty(codes, channels).uniform_(-1 / codes, 1 / codes))

    def indices(self, z: Tensor) -> Tensor:
        """z (B, C, h, w) -> the number of the nearest code at each place, (B, h, w)."""
        flat = z.movedim(1, -1).float()
        codes = self.weight.float()
        distance = codes.square().sum(1) - 2 * flat @ codes.T  # |z|^2 is the same for all codes
        return distance.argmin(-1)

    def forward(self, z: Tensor) -> Tensor:
        """z (B, C, h, w) -> the nearest codes, like z; the gradient goes to these codes alone."""
        return F.embedding(self.indices(z), self.weight).movedim(-1, 1)


def straight_through(z: Tensor, quantised: Tensor) -> Tensor:
    """The quantised values, whose gradient passes to z unchanged (van den Oord et al. 2017, section 3.2)."""
    return z + (quantised - z).detach()


class Stack(nn.Sequential):
    """Layers one after the other, of which residual blocks have no embedding."""

    def forward(self, x: Tensor) -> Tensor:
        for layer in self:
            x = layer(x, None) if isinstance(layer, ResBlock) else layer(x)
        return x


class End(nn.Module):
    """Group norm, SiLU and a 3x3 convolution."""

    def __init__(self, channels: int, outputs: int) -> None:
        super().__init__()
        self.norm = GroupNorm(channels)
        self.conv = nn.Conv2d(channels, outputs, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(norm_act(self.norm, x))


class AutoencoderNet(nn.Module):
    """An autoencoder with Gaussian latents, or with a codebook where it has `codes`.

    Args:
        in_channels: of the images.
        latent: channels of the latents.
        widths: channels of each level; between two of them the sides are halved.
        blocks: residual blocks a level; the decoder has one more.
        codes: of the codebook; 0 for Gaussian latents.
        dropout: inside the residual blocks.
        patch: the network sees images whose patches of so many pixels a side are folded into channels.
    """

    def __init__(
        self, in_channels: int, latent: int, widths: tuple[int, ...], blocks: int, codes: int, dropout: float,
        patch: int = 1,
    ) -> None:  # fmt: skip
        super().__init__()
        self.in_channels, self.patch, self.factor = in_channels, patch, patch * 2 ** (len(widths) - 1)
        moments, pixels = latent if codes else 2 * latent, in_channels * patch**2

        def block(before: int, after: int) -> ResBlock:
            return ResBlock(before, after, None, dropout=dropout)

        def middle(width: int) -> list[nn.Module]:
            return [block(width, width), Attention(width), block(width, width)]

        down: list[nn.Module] = [nn.Conv2d(pixels, widths[0], 3, padding=1)]
        for i, (before, width) in enumerate(zip((widths[0], *widths), widths, strict=False)):
            down += [Down(before, before)] if i else []
            down += [block(before if j == 0 else width, width) for j in range(blocks)]
        up: list[nn.Module] = [nn.Conv2d(latent, widths[-1], 3, padding=1), *middle(widths[-1])]
        for i, (before, width) in enumerate(zip((widths[-1], *widths[::-1]), widths[::-1], strict=False)):
            up += [Up(before, before)] if i else []
            up += [block(before if j == 0 else width, width) for j in range(blocks + 1)]
        self.encoder = Stack(*down, *middle(widths[-1]), End(widths[-1], moments), nn.Conv2d(moments, moments, 1))
        self.codebook = Codebook(codes, latent) if codes else None
        self.decoder = Stack(nn.Conv2d(latent, latent, 1), *up, End(widths[0], pixels))

    def moments(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) -> what `latents` are drawn from, float32: mean and log variance, (B, 2 latent, h, w); of
        a codebook the latents themselves. ValueError for images of another number of channels or other sides."""
        if x.shape[1] != self.in_channels or any(side % self.factor for side in x.shape[2:]):
            size = " x ".join(map(str, x.shape[1:]))
            raise ValueError(
                f"the autoencoder takes images of {self.in_channels} channels whose sides are multiples of "
                f"{self.factor}, not {size}"
            )
        return self.encoder(F.pixel_unshuffle(x, self.patch)).float()

    def latents(self, moments: Tensor, noise: Draw | None = None) -> Tensor:
        """Latents (B, latent, h, w) of moments: drawn from the posterior, or its mean without noise."""
        if self.codebook is not None:
            return moments
        mean, log_variance = moments.chunk(2, dim=1)
        return mean if noise is None else mean + (log_variance.clamp(*LOG_VARIANCE) / 2).exp() * noise(mean)

    def decode(self, z: Tensor) -> Tensor:
        """Latents (B, latent, h, w), quantised first where there is a codebook -> images (B, C, H, W)."""
        return self.images(z if self.codebook is None else self.codebook(z))

    def images(self, z: Tensor) -> Tensor:
        """What the decoder makes of latents, or of codes."""
        return F.pixel_shuffle(self.decoder(z), self.patch)

    def forward(self, x: Tensor, noise: Draw | None = None) -> Coded:
        """Images (B, C, H, W) in [-1, 1] -> their reconstruction and penalties. ValueError as `moments`."""
        if isinstance(noise, Tensor):
            raise ValueError("an autoencoder is given no noise level, so it is no network of a diffusion model")
        moments = self.moments(x)
        z = self.latents(moments, noise)
        if self.codebook is None:
            mean, log_variance = moments.chunk(2, dim=1)
            penalty = kl_divergence(mean, log_variance.clamp(*LOG_VARIANCE))
            return Coded(self.images(z), penalty, torch.zeros_like(penalty))
        quantised = self.codebook(z)
        codes, commitment = (
            (a - b).square().flatten(1).mean(1) for a, b in ((quantised, z.detach()), (z, quantised.detach()))
        )
        return Coded(self.images(straight_through(z, quantised)), codes, commitment)


@dataclass(frozen=True)
class ConvAutoencoder(Backbone):
    """The convolutional autoencoder of latent diffusion; by default with Gaussian latents at a quarter of the sides."""

    channels: Channels = 128
    """Width of the first level."""
    multipliers: Multipliers = (1, 2, 4)
    """Width of each level, in multiples of `channels`; n levels make the sides 2^(n - 1) times smaller."""
    blocks: Few = 2
    """Residual blocks a level; the decoder has one more."""
    latent: Annotated[int, Range(1, 256)] = 3
    """Channels of the latents."""
    codes: Annotated[int, Range(0, 1 << 20)] = 0
    """Codes of the codebook; 0 for Gaussian latents."""
    dropout: Share = 0.0
    """Dropout inside the residual blocks."""
    patch: Annotated[int, Range(1, 16)] = 1
    """Pixels a side that are folded into channels before the first level, and unfolded after the last: no layer works
    at the full resolution, so that a small network is several times faster. 1 in the paper."""

    @property
    def factor(self) -> int:
        """By what the sides of latents are smaller."""
        return int(self.patch * 2 ** (len(self.multipliers) - 1))

    def latents(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of latents of images (C, H, W). ValueError where a side is no multiple of `factor`."""
        if any(side % self.factor for side in shape[1:]):
            sides = " x ".join(map(str, shape[1:]))
            raise ValueError(f"an autoencoder with f = {self.factor} needs sides that it divides, not {sides}")
        return (self.latent, *(side // self.factor for side in shape[1:]))

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> AutoencoderNet:
        """The autoencoder of images of this shape, which it returns."""
        refuse("an autoencoder", given, outputs, shape[0])
        self.latents(shape)
        widths = tuple(self.channels * multiplier for multiplier in self.multipliers)
        return AutoencoderNet(shape[0], self.latent, widths, self.blocks, self.codes, self.dropout, self.patch)
