"""Presets of the autoencoders of latent diffusion (Rombach et al. 2022, table 8 and appendix G; f is their factor).

The published ones were trained on OpenImages, with perceptual and adversarial losses that are left out here, so that
their figures, FID and PSNR of reconstructions of ImageNet's validation images at 256x256, are not to be expected.
"""

from __future__ import annotations

from dataclasses import replace

from sfumato.networks.autoencoder import ConvAutoencoder
from sfumato.papers.autoencoder import ImageAutoencoder
from sfumato.papers.presets.preset import DIGITS, FASHION, Preset, long, short
from sfumato.papers.training import TrainConfig

TINY = ConvAutoencoder(16, (1, 2), blocks=1, latent=2)
CLOTHES = ConvAutoencoder(16, (1, 2, 2), blocks=1, latent=4)
F8 = ConvAutoencoder(48, (1, 2), blocks=1, latent=8, patch=4)
F4 = ConvAutoencoder(64, (1,), blocks=1, latent=4, patch=4)
VQ4 = replace(F4, latent=3, codes=512)
SIDE = (3, 128, 128)
OPEN = "folder:openimages?size=256"


def small(shape: tuple[int, ...], network: ConvAutoencoder, gradient: float = 1.0) -> ImageAutoencoder:
    """For short runs."""
    return ImageAutoencoder(shape, network, gradient=gradient)


def paper(multipliers: tuple[int, ...], latent: int, codes: int = 0) -> ImageAutoencoder:
    """Of table 8, for 256x256."""
    return ImageAutoencoder(network=ConvAutoencoder(128, multipliers, 2, latent, codes))


def plain(steps: int) -> TrainConfig:
    """The published number of steps."""
    return replace(long(steps, 12, 5.4e-5), betas=(0.5, 0.9))


EMOJI = short(40.0, batch=8, ema=(0.999,), validation_images=64)
SMALL = {
    # name               recipe                        data        training    what it is
    "digits":      Preset(small(DIGITS.shape, TINY),     "digits",   short(1.0), "8x8 to 2x4x4, for tests"),
    "fashion":     Preset(small(FASHION.shape, CLOTHES), "fashion",  short(8.0), "28x28 to 4x7x7"),
    "emoji128":    Preset(small(SIDE, F8, 0.5),          "emoji128", EMOJI,      "128x128 to 8x16x16"),
    "emoji128-f4": Preset(small(SIDE, F4, 0.5),          "emoji128", EMOJI,      "128x128 to 4x32x32"),
    "emoji128-vq": Preset(small(SIDE, VQ4, 0.5),         "emoji128", EMOJI,      "128x128 to 3x32x32, codebook of 512"),
}  # fmt: skip
PUBLISHED = {
    # name              recipe                       data    training        size and published result
    "openimages-kl-f4": Preset(paper((1, 2, 4), 3),       OPEN, plain(176_991), "55.3M: FID 0.27, PSNR 27.53"),
    "openimages-kl-f8": Preset(paper((1, 2, 4, 4), 4),    OPEN, plain(246_803), "83.7M: FID 0.90, PSNR 24.19"),
    "openimages-vq-f4": Preset(paper((1, 2, 4), 3, 8192), OPEN, plain(533_066), "55.3M: FID 0.58, PSNR 27.43"),
}  # fmt: skip
