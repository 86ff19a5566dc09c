"""The learning rate schedule, which follows from the training numbers and the share of the run that is done."""

from __future__ import annotations

import math

from sfumato.papers.training import TrainConfig


def learning_rate_at(progress: float, images: int, config: TrainConfig) -> float:
    """The learning rate of the step that begins after so many images, at this share of the run."""
    warmup = (images + config.batch) / config.warmup if config.warmup else 1.0
    warm = min(1.0, max(warmup, 10 * progress))
    return config.learning_rate * warm * _cooled(progress, images, config)


def _cooled(progress: float, images: int, config: TrainConfig) -> float:
    """What is left of the peak."""
    if config.decay == "inverse-sqrt":  # Karras et al. 2024, eq. 67
        past = 10 * progress if config.decay_after is None else images / config.decay_after
        return 1 / math.sqrt(max(past, 1.0))
    return 0.5 * (1 + math.cos(math.pi * progress)) if config.decay == "cosine" else 1.0
