"""Validation: the loss by noise level on fixed images, levels and noise, and the colours of preview pictures.

The training loss alone says little, since its noise is mostly which levels were drawn; by level it falls to the end.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.diffusion import Loss
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.times import TrainingTimes, low_discrepancy
from sfumato.data.loader import to_float
from sfumato.data.sources import Images
from sfumato.runtime.precision import autocast
from sfumato.train.batches import VALIDATION
from sfumato.train.session import Session

BINS = 8


@dataclass(frozen=True)
class Validation:
    """Validation on fixed images with a fixed seed: every network is measured on the same.

    Attributes:
        loss, times: of the diffusion.
        labelled: hand the labels to the network as y.
        count: how many images.
    """

    loss: Loss
    times: TrainingTimes
    images: Images
    labelled: bool
    count: int
    seed: int
    device: torch.device
    precision: str
    batch: int = 64

    def loss_by_level(self, network: nn.Module) -> list[float]:
        """The mean loss in each of BINS equal shares of the training levels, from clean to noisy for most recipes."""
        n = min(self.count, len(self.images.images)) // BINS * BINS or BINS
        keys = torch.arange(n)
        chosen = keys * len(self.images.images) // n  # spread over the whole set
        bins = keys % BINS
        t, _ = self.times.draw((bins + low_discrepancy(keys // BINS, 0.5)) / BINS)
        losses = []
        with evaluating(network), torch.inference_mode(), autocast(self.device, self.precision):
            for part in keys.split(self.batch):
                x0 = to_float(self.images.images[chosen[part]].to(self.device))
                given: dict[str, Any] = {**self.images.given(chosen[part], self.labelled, self.device)}
                noise = ImageNoise(mix(self.seed, VALIDATION), part.tolist())
                losses.append(self.loss(network, x0, t[part], noise, **given).float().cpu())
        total = torch.zeros(BINS).index_add_(0, bins, torch.cat(losses))
        return (total / (n // BINS)).tolist()


def validation_of(session: Session) -> Validation:
    """The validation of a run."""
    settings = session.settings
    return Validation(
        session.diffusion.loss, session.diffusion.times, session.validation, session.labelled,
        settings.validation_images, settings.seed, session.accelerator.device, session.precision,
    )  # fmt: skip


@contextlib.contextmanager
def evaluating(network: nn.Module) -> Iterator[None]:
    """The network in evaluation mode, and back in training mode afterwards."""
    network.eval()
    try:
        yield
    finally:
        network.train()


def colours(images: Tensor) -> dict[str, list[float]]:
    """Mean and standard deviation per channel of uint8 images (N, C, H, W), in 0..255, and of floats in [-1, 1]."""
    x = images.transpose(0, 1).flatten(1).float()
    x = (x + 1) * 127.5 if images.is_floating_point() else x
    return {"mean": [round(v, 2) for v in x.mean(1).tolist()], "std": [round(v, 2) for v in x.std(1).tolist()]}
