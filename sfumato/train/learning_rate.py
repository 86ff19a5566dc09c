"""The learning rate schedule, which follows from the training numbers and the share of the run that is done."""

from __future__ import annotations

import math

from sfumato.papers.training import TrainConfig


def learning_rate_at(progress: float, images: int, config: TrainConfig) -> float:
    """The learning rate of the step that begins after so many images, at this share of the run."""
    warmup = (images + config.batch) / config.warmup if config.warmup else 1.0
    warm = min(1.0, max(warmup, 10 * progress))
    cooled = 0.5 * (1 + math.cos(math.pi * progress)) if config.decay == "cosine" else 1.0
    return config.learning_rate * warm * cooled
