"""The report of a likelihood: a figure for each image, its unit and standard error, and what it was measured on."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from sfumato.data.sources import Images
from sfumato.models.model import Model

REAL = "real numbers in [-1, 1]: a density, and no bits of a decoder"
"""What the protocol says of data without grey levels."""


@dataclass(frozen=True)
class Report:
    """How likely a set of images is under a model, by one estimator.

    Attributes:
        method: "variational bound", "K (2015)" or "probability flow".
        unit: "bits/dim", or "nats/dim" of real numbers, minus their log density; of K "bits/pixel", all colours
            together, or "bits" for points and sequences.
        values: (repeats, n) of each image, in that unit.
        bits_per_dim: what the mean is in bits/dim; None where the data are no grey levels.
        protocol: data, their fingerprint, number of images, levels or solver, seed, weights.
        details: what else the estimator says, plain values.
    """

    method: str
    unit: str
    values: Tensor
    bits_per_dim: float | None
    protocol: dict[str, Any]
    details: dict[str, Any] = field(default_factory=dict)

    @property
    def total(self) -> float:
        """The mean over images and repeats; bits/dim are better where low, K where high."""
        return float(self.values.double().mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over images: which ones they are, and the randomness of their estimates."""
        each = self.values.double().mean(0)
        return float(each.std() / len(each) ** 0.5) if len(each) > 1 else float("nan")

    @property
    def estimate_error(self) -> float:
        """Of the mean for these very images, by the randomness of their estimates. Needs two repeats or more."""
        repeats, n = self.values.shape
        return float((self.values.double().var(0).mean() / (repeats * n)).sqrt()) if repeats > 1 else float("nan")

    def __str__(self) -> str:
        return f"{self.method} {self.total:.4f} +- {self.standard_error:.4f} {self.unit}"

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        known = {"method": self.method, "unit": self.unit, "total": self.total, "standard_error": self.standard_error}
        errors = {"estimate_error": self.estimate_error} if len(self.values) > 1 else {}
        return {**known, **errors, "bits_per_dim": self.bits_per_dim, "protocol": self.protocol, **self.details}


def protocol_of(model: Model, images: Images, count: int, seed: int, **more: Any) -> dict[str, Any]:
    """What every report says about its measurement."""
    return {
        "data": images.spec, "fingerprint": images.card.fingerprint, "images": count, "seed": seed,
        "weights": model.about.get("weights"), **more,
    }  # fmt: skip


def means(values: Tensor) -> list[float]:
    """The mean of each column, (n, K) -> K numbers for a file."""
    return [round(value, 7) for value in values.double().mean(0).tolist()]
