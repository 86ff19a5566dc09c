"""Reconstruction of an autoencoder: PSNR and Frechet distance (rFID) of held-out images, the floor of latent diffusion.

No model of its latents can make pictures that are nearer to the data (Rombach et al. 2022, table 8).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor

from sfumato.data import Images, open_source, to_float
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import FeatureNet, usual
from sfumato.models.autoencoder import Autoencoder
from sfumato.models.loading import load_autoencoder
from sfumato.runtime.folder import RunFolder

MOST = 2_000
"""Images that are reconstructed, at most, spread over the set."""


@dataclass(frozen=True)
class Reconstruction:
    """How near the reconstructions of images are to them.

    Attributes:
        count, on: how many images, of which set.
        psnr: peak signal-to-noise ratio in dB, of the mean squared error over all of them.
        mean, std: of the latents (their posterior means), by channel.
        frechet: the Frechet distance of reconstructions to the images; None without a feature net.
        distance: what it is called.
        codes, used, perplexity: of a codebook: its size, how many codes these images use, and exp(entropy) of their
            use; None without one.
    """

    count: int
    on: str
    psnr: float
    mean: tuple[float, ...]
    std: tuple[float, ...]
    frechet: float | None = None
    distance: str = ""
    codes: int | None = None
    used: int | None = None
    perplexity: float | None = None

    def lines(self) -> Iterator[str]:
        """What is printed."""
        yield f"Floor:   PSNR {self.psnr:.2f} dB on {self.count:,} images of {self.on}" + (
            "" if self.frechet is None else f", {self.distance} {self.frechet:.4g} (reconstructions to originals)"
        )
        yield f"Latents: deviation {', '.join(f'{value:.3g}' for value in self.std)} by channel"
        if self.codes:
            yield f"Codes:   {self.used:,} of {self.codes:,} used, perplexity {self.perplexity:.1f}"


def psnr(images: Tensor, others: Tensor) -> float:
    """Peak signal-to-noise ratio in dB of pixels (N, C, H, W) and others like them: of the mean squared error over all,
    where black and white are 2 apart."""
    pairs = zip(images.split(64), others.split(64), strict=True)
    squares = [(to_float(a).double() - to_float(b).double()).square().sum() for a, b in pairs]
    mean = float(torch.stack(squares).sum()) / images.numel()
    return 10 * math.log10(4 / mean) if mean else math.inf


def reconstruction(model: Autoencoder, images: Images, net: FeatureNet | None = None) -> Reconstruction:
    """Measure reconstructions of images through the means of their latents.

    Args:
        net: whose features are compared; by default the usual one of the images, if it is at hand.

    Raises: ValueError for images of another shape than the model's.
    """
    if images.shape != tuple(model.recipe.shape):
        raise ValueError(f"the autoencoder is of images {model.recipe.shape} (C, H, W), not {images.shape}")
    count = min(MOST, len(images))
    some = images.images[torch.arange(count) * len(images) // count]
    latents = model.encode(some)
    made = model.decode(latents)
    spread = latents.transpose(0, 1).flatten(1)
    found = Reconstruction(
        count, images.spec, psnr(some, made), tuple(spread.mean(1).tolist()), tuple(spread.std(1).tolist())
    )
    if net is None:
        try:
            net = usual(images.spec, images.shape, model.device)
        except ValueError:  # not installed
            return _with_codes(found, model, latents)
    distance = frechet_distance(statistics(net(made).pooled), statistics(net(some).pooled)) if count > 1 else None
    return _with_codes(replace(found, frechet=distance, distance=net.distance), model, latents)


def _with_codes(found: Reconstruction, model: Autoencoder, latents: Tensor) -> Reconstruction:
    """The same with the use of the codebook, if there is one."""
    book = model.net.codebook
    if book is None:
        return found
    with torch.inference_mode():
        chosen = torch.cat([book.indices(part.to(model.device)).flatten().cpu() for part in latents.split(64)])
    shares = chosen.bincount(minlength=len(book.weight)).double() / len(chosen)
    entropy = -float(torch.special.xlogy(shares, shares).sum())
    used = int((shares > 0).sum())
    return replace(found, codes=len(book.weight), used=used, perplexity=math.exp(entropy))


def store_reconstruction(run: Path, spec: str) -> list[str]:
    """Measure the autoencoder of a run on the images of a spec, record that in its metrics; returns the lines to print.

    Raises: ValueError where it is no such run, or the images do not fit.
    """
    model = load_autoencoder(run)
    found = reconstruction(model, open_source(spec))
    at = {name: model.about[name] for name in ("images", "step", "seconds")}
    RunFolder.open(run).append({"kind": "reconstruction", **at, **vars(found)})
    return list(found.lines())
