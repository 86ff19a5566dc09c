"""The spaces that a diffusion can work in: pixels, as they are or rescaled, bits, and the latents of an autoencoder."""

from __future__ import annotations

from sfumato.spaces.base import FIRST_IMAGES, Bits, Measured, Pixels, Space, Standardised, UnitPixels
from sfumato.spaces.latents import Latents

SPACES: dict[str, type[Space]] = {
    "pixels": Pixels,
    "measured": Measured,
    "unit-pixels": UnitPixels,
    "standardised": Standardised,
    "bits": Bits,
    "latents": Latents,
}
"""Every space by the name under which a checkpoint keeps it."""

__all__ = [
    "FIRST_IMAGES", "SPACES", "Bits", "Latents", "Measured", "Pixels", "Space", "Standardised", "UnitPixels",
]  # fmt: skip
