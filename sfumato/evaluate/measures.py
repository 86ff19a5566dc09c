"""The measures that an evaluation can take, each a frozen choice of constants that maps two sets to named numbers.

Their mathematics is in distances.py and neighbours.py; here they get their public names.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Protocol

from sfumato.evaluate import distances, neighbours
from sfumato.evaluate.features import FeatureNet
from sfumato.evaluate.neighbours import Distances, half_precision_distances, squared_distances
from sfumato.evaluate.nets import Features
from sfumato.evaluate.protocol import Metric
from sfumato.evaluate.sets import FeatureSet, pooled

Metrics = dict[str, Metric]


class Measure(Protocol):
    """(net, samples, reference) -> numbers.

    `needs` is the field of Features that it looks at; `images`, whether statistics of the reference are not enough.
    """

    needs: ClassVar[str]
    images: ClassVar[bool]

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics: ...


@dataclass(frozen=True)
class FrechetDistance:
    """FID, or FD-NET of another net."""

    needs: ClassVar[str] = "pooled"
    images: ClassVar[bool] = False

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        value = distances.frechet_distance(samples.pooled, reference.pooled)
        return {"frechet": Metric(net.distance, value, "lower")}


@dataclass(frozen=True)
class SpatialFrechetDistance:
    """sFID, or sFD-NET of another net."""

    needs: ClassVar[str] = "spatial"
    images: ClassVar[bool] = False

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        assert samples.spatial is not None
        assert reference.spatial is not None
        value = distances.frechet_distance(samples.spatial, reference.spatial)
        return {"spatial_frechet": Metric(f"s{net.distance}", value, "lower")}


@dataclass(frozen=True)
class KernelDistance:
    """KID, or KD-NET of another net, a thousandfold."""

    subsets: int = 100
    size: int = 1000
    seed: int = 0
    needs: ClassVar[str] = "pooled"
    images: ClassVar[bool] = True

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        a, b = pooled(samples), pooled(reference)
        found = distances.kernel_distance(a, b, subsets=self.subsets, size=self.size, seed=self.seed)
        note = f"{self.subsets} subsets of {min(self.size, len(a) // 2, len(b) // 2)}"
        label = f"{net.distance.replace('FID', 'KID').replace('FD-', 'KD-')} x1000"
        return {"kernel": Metric(label, 1000 * found.value, "lower", 1000 * found.deviation, note=note)}


@dataclass(frozen=True)
class InceptionScore:
    """The Inception score, by the classes that the net knows.

    Attributes:
        splits: equal parts.
        size: instead, parts of so many images, the last one short, as in ADM (5000).
    """

    splits: int = 10
    size: int | None = None
    needs: ClassVar[str] = "logits"
    images: ClassVar[bool] = False

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        assert samples.features is not None
        assert samples.features.logits is not None
        found = distances.inception_score(
            samples.features.logits.double().softmax(1), splits=self.splits, size=self.size
        )
        label = "IS" if net.distance == "FID" else f"IS-{net.distance.removeprefix('FD-')}"
        note = f"{self.splits} splits" if self.size is None else f"splits of {self.size}"
        return {"inception_score": Metric(label, found.value, "higher", found.deviation, note=note)}


@dataclass(frozen=True)
class PrecisionRecall:
    """Precision and recall; `distances=half_precision_distances` gives the numbers of ADM's evaluator."""

    k: int = 3
    distances: Distances = squared_distances
    needs: ClassVar[str] = "pooled"
    images: ClassVar[bool] = True

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        found = neighbours.precision_recall(pooled(reference), pooled(samples), k=self.k, distances=self.distances)
        note = f"k {self.k}{', half-precision distances' if self.distances is half_precision_distances else ''}"
        values = {"precision": found.precision, "recall": found.recall}
        return {name: Metric(name, value, "higher", note=note) for name, value in values.items()}


@dataclass(frozen=True)
class DensityCoverage:
    """Density and coverage."""

    k: int = 5
    needs: ClassVar[str] = "pooled"
    images: ClassVar[bool] = True

    def __call__(self, net: FeatureNet, samples: FeatureSet, reference: FeatureSet) -> Metrics:
        found = neighbours.density_coverage(pooled(reference), pooled(samples), k=self.k)
        values = {"density": found.density, "coverage": found.coverage}
        return {name: Metric(name, value, "higher", note=f"k {self.k}") for name, value in values.items()}


ALL: tuple[Callable[[], Measure], ...] = (
    FrechetDistance, SpatialFrechetDistance, KernelDistance, InceptionScore, PrecisionRecall, DensityCoverage,
)  # fmt: skip
"""Every measure, with its usual constants when called."""


def lacking(measure: Measure, net: FeatureNet, probe: Features, reference: FeatureSet | None) -> str | None:
    """What a measure needs that the net, or a reference of statistics alone, does not have; None where all is there.

    Args:
        probe: the features of an image or two.
        reference: None while it is still to be measured, from images.
    """
    name = type(measure).__name__
    if getattr(probe, measure.needs) is None:
        return f"{name} needs {measure.needs} features, which the net {net.name} does not give"
    if reference is not None and measure.images and reference.features is None:
        return f"{name} needs the reference's images; {reference.spec} holds statistics alone"
    if reference is not None and measure.needs == "spatial" and reference.spatial is None:
        return f"{name} needs spatial statistics, which {reference.spec} does not hold"
    return None
