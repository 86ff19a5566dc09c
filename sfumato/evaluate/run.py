"""One evaluation: samples against real images, by any measures, with the floor of real images at the same N.

A floor falls as 1/N, so it is taken at the N of the samples, from real images outside the reference if there are any.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.data import Images, pictures, to_float
from sfumato.evaluate.features import SHIPPED, FeatureNet
from sfumato.evaluate.measures import ALL, Measure, Metrics, lacking
from sfumato.evaluate.neighbours import Nearest, nearest
from sfumato.evaluate.nets import Features
from sfumato.evaluate.protocol import Metric, Protocol, Result
from sfumato.evaluate.samples import Samples, of_tensor
from sfumato.evaluate.sets import FeatureSet, from_features, measured, pooled
from sfumato.version import __version__

SEED = 0
"""Of the choice of real images for the floor."""
SMALLEST = 8
SIDE = 32
"""Pixels are compared at this size at most."""

Progress = Callable[[int], object]


def evaluate(
    samples: Samples | Tensor,
    reference: Images | FeatureSet,
    net: FeatureNet,
    *,
    measures: Sequence[Measure] | None = None,
    other: Images | None = None,
    training: Images | None = None,
    cache: Path | None = None,
    progress: Progress | None = None,
) -> Result:
    """Measure samples against a reference.

    Args:
        samples: pictures with a note of how they were made, or a bare (N, C, H, W), uint8 or uint16.
        reference: real images, or what is known of them from a file.
        net: whose features are compared.
        measures: by default all that net and reference allow.
        other: real images outside the reference, for the floor; without them it comes from halves of the reference.
        training: the images that the model saw, to look for copies of them.
        cache: a folder where statistics of real images are kept.
        progress: called with the number of images that the net has seen since the last call.

    Raises:
        ValueError: images that do not fit the net or one another, too few of them, or a measure that cannot be taken;
            all of it before the long work.
    """
    samples = samples if isinstance(samples, Samples) else of_tensor(samples)
    if samples.images.dtype != torch.uint8 or samples.images.ndim != 4:
        raise ValueError(f"samples are uint8 (N, C, H, W), not {samples.images.dtype} {tuple(samples.images.shape)}")
    count, *shape = samples.images.shape
    chosen = planned(count, tuple(shape), reference, net, measures=measures, other=other, training=training)
    sets: dict[str, FeatureSet] = {}

    def look(images: Images) -> FeatureSet:
        key = images.card.fingerprint
        if key not in sets:
            sets[key] = measured(images, net, cache, progress)
        return sets[key]

    real = reference if isinstance(reference, FeatureSet) else look(reference)
    features = net(samples.images, progress=progress)
    found = from_features(features, spec=samples.name, sha256=samples.sha256, net=net)
    metrics: Metrics = {}
    for measure in chosen:
        metrics |= measure(net, found, real)
    at_least = floor(count, reference, real, net, other, look)
    if at_least.samples is not None and at_least.real is not None:
        for measure in chosen:
            for name, metric in measure(net, at_least.samples, at_least.real).items():
                metrics[name] = replace(metrics[name], floor=metric.value)
    metrics |= _accuracy(samples, reference, net, found, real)
    near: Mapping[str, Nearest] = {}
    if training is not None:
        unseen = (s for s in (reference, other) if isinstance(s, Images) and not _same(s, training))
        held_out = next(((s.images, pooled(look(s))) for s in unseen), None)
        sets_of_images = (samples.images, features.pooled), (training.images, pooled(look(training)))
        copies, near = memorised(*sets_of_images, held_out)
        metrics |= copies
    return Result(metrics, _protocol(samples, real, net, at_least.about), near)


def _protocol(samples: Samples, real: FeatureSet, net: FeatureNet, floor: str) -> Protocol:
    return Protocol(
        samples=samples.name, count=len(samples.images), shape=tuple(samples.images.shape[1:]),
        samples_sha256=samples.sha256, how=samples.how, quantiser=samples.quantiser, net=net.name,
        net_sha256=net.sha256, resize=net.resize, reference=real.spec, reference_count=real.count,
        reference_sha256=real.sha256, floor=floor, version=__version__,
    )  # fmt: skip


# ---------------------------------------------------------------- before the work


def planned(
    count: int,
    shape: tuple[int, ...],
    reference: Images | FeatureSet,
    net: FeatureNet,
    *,
    measures: Sequence[Measure] | None = None,
    other: Images | None = None,
    training: Images | None = None,
) -> tuple[Measure, ...]:
    """The measures that `evaluate` takes of so many images of that shape (C, H, W); ValueError where it cannot."""
    if count < SMALLEST:
        raise ValueError(f"there are {count} images to measure; {SMALLEST} or more are needed")
    net.check(shape)
    for name, real in (("reference", reference), ("other real images", other), ("training images", training)):
        if isinstance(real, Images):
            if real.shape != shape:
                raise ValueError(f"the images to measure are {shape} (C, H, W); the {name}, {real.spec}, {real.shape}")
            if len(real) < SMALLEST:
                raise ValueError(f"the {name}, {real.spec}, hold {len(real)} images; {SMALLEST} or more are needed")
    if isinstance(reference, Images) and other is not None and _same(reference, other):
        raise ValueError(f"the floor compares the reference with other real images, and {other.spec} is the same set")
    known = reference if isinstance(reference, FeatureSet) else None
    probe = net(torch.zeros(2, *shape, dtype=torch.uint8))
    if known is not None:
        _check_statistics(known, net, probe)
    if measures is None:
        every = (make() for make in ALL)
        return tuple(measure for measure in every if not lacking(measure, net, probe, known))
    for measure in measures:
        if reason := lacking(measure, net, probe, known):
            raise ValueError(reason)
    return tuple(measures)


def _same(a: Images, b: Images) -> bool:
    return a.card.fingerprint == b.card.fingerprint


def _check_statistics(reference: FeatureSet, net: FeatureNet, probe: Features) -> None:
    """ValueError where a file of statistics was made with another net."""
    if reference.net_sha256 and reference.net_sha256 != net.sha256:
        raise ValueError(f"{reference.spec} was measured with another net, of sha256 {reference.net_sha256[:8]}")
    if len(reference.pooled.mean) != probe.pooled.shape[1]:
        raise ValueError(
            f"{reference.spec} has {len(reference.pooled.mean)} features and the net {net.name} {probe.pooled.shape[1]}"
        )
    if not reference.net_sha256 and net.distance != "FID":
        raise ValueError(
            f"{reference.spec} does not say its net, so it is taken for ADM's and needs the 2015 Inception"
        )


# ---------------------------------------------------------------- the floor


class Floor(NamedTuple):
    """Real images in the place of the samples, what they are held against, and both in words."""

    samples: FeatureSet | None
    real: FeatureSet | None
    about: str


def floor(
    n: int, reference: Images | FeatureSet, real: FeatureSet, net: FeatureNet, other: Images | None,
    look: Callable[[Images], FeatureSet],
) -> Floor:  # fmt: skip
    """N images of `other` against the reference; without `other`, half of the reference against the other half."""
    chance = torch.Generator().manual_seed(SEED)
    if other is not None:
        start, note = 0, ""
        if net.seen and other.spec == net.seen[0]:
            start = net.seen[1] if len(other) - net.seen[1] >= n else 0
            note = " that the net has not seen" if start else ", on which the net was trained"
        chosen = start + torch.randperm(len(other) - start, generator=chance)[:n]
        short = "" if len(chosen) == n else f" (no more are there for N {n:,})"
        about = f"{len(chosen):,} images of {other.spec}{note}, against the same reference{short}"
        return Floor(look(other.take(chosen)), real, about)
    if isinstance(reference, FeatureSet):
        return Floor(None, None, f"none: {real.spec} was given without images; give other real images for it")
    half = min(n, len(reference) // 2)
    order = torch.randperm(len(reference), generator=chance)
    a, b = (look(reference.take(order[i * half : (i + 1) * half])) for i in (0, 1))
    short = "" if half == n else f" (at N {half:,}, not {n:,})"
    return Floor(a, b, f"{half:,} images of {real.spec} against {half:,} others of it{short}")


# ---------------------------------------------------------------- classes and copies


def _accuracy(
    samples: Samples, reference: Images | FeatureSet, net: FeatureNet, found: FeatureSet, real: FeatureSet
) -> Metrics:
    """How often an in-domain net sees the class that was asked for; the floor is that of the reference's own labels."""
    if not isinstance(reference, Images) or reference.labels is None or samples.labels is None:
        return {}
    if net.name not in SHIPPED or len(samples.classes) != SHIPPED[net.name].classes:
        return {}
    ours, theirs = (
        float((side.features.logits.argmax(1) == labels).double().mean())
        for side, labels in ((found, samples.labels), (real, reference.labels))
        if side.features is not None and side.features.logits is not None
    )
    return {"class_accuracy": Metric("class accuracy", ours, "higher", floor=theirs)}


def memorised(
    samples: tuple[Tensor, Tensor], training: tuple[Tensor, Tensor], held_out: tuple[Tensor, Tensor] | None = None
) -> tuple[Metrics, dict[str, Nearest]]:
    """Search the training images for copies, by pixels and by features.

    Args:
        samples, training, held_out: images uint8 (N, C, H, W) with their features (N, D); the floors are of the last.

    Returns:
        The share of copies and the median distance to the nearest image, in each of the two ways; and the nearest.
    """
    metrics: Metrics = {}
    near = {}
    for i, space in enumerate(("pixels", "features")):
        ours, theirs, real = (
            None if s is None else thumbnails(s[0]) if i == 0 else s[1] for s in (samples, training, held_out)
        )
        assert ours is not None
        assert theirs is not None
        found = near[space] = nearest(ours, theirs)
        floor = None if real is None else nearest(real, theirs)
        metrics[f"copies_{space}"] = Metric(
            f"copies by {space}", _copies(found), "lower", floor=None if floor is None else _copies(floor),
            note="a third as far as the next",
        )  # fmt: skip
        metrics[f"nearest_{space}"] = Metric(
            f"to the nearest by {space}", _median(found), floor=None if floor is None else _median(floor),
            note="median RMS" + ", pixels in [-1, 1]" * (i == 0),
        )  # fmt: skip
    return metrics, near


def _copies(found: Nearest) -> float:
    return float(found.copies.double().mean())


def _median(found: Nearest) -> float:
    return float(found.distance[:, 0].median())


def thumbnails(images: Tensor) -> Tensor:
    """The pixels (N, C h w) in [-1, 1] of uint8 images, shrunk by areas to 32 at most."""
    if max(images.shape[-2:]) <= SIDE:
        return to_float(images).flatten(1)
    parts = [F.interpolate(to_float(part), (SIDE, SIDE), mode="area") for part in images.split(1000)]
    return torch.cat(parts).flatten(1)


def memorisation_sheet(
    samples: Tensor, training: Tensor, near: Mapping[str, Nearest], count: int = 12,
    show: pictures.View | None = None,
) -> Tensor:  # fmt: skip
    """One picture, uint8 (C, H', W'): the samples nearest to a training image, above those images.

    Args:
        samples, training: (N, C, H, W) and (M, C, H, W) of any depth.
        near: by "pixels" and by "features", as `evaluate` found it; two rows each.
        show: what is shown of many channels and of deeper pictures, see `pictures.View`.
    """
    rows = []
    for found in near.values():
        closest = (found.distance[:, 0] / found.distance[:, 1].clamp(min=1e-12)).argsort()[:count]
        rows += [pictures.visible(part, show) for part in (samples[closest], training[found.places[closest, 0]])]
    return pictures.grid(torch.cat(rows), columns=min(count, len(samples)))
