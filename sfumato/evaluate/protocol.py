"""A result that cannot be read without its protocol: which net, which reference, how many images, how they were made.

Beside each number stands the floor, the same measure between real images at the same N.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from sfumato.data import pictures
from sfumato.evaluate.neighbours import Nearest

FORMAT = 1


@dataclass(frozen=True)
class Metric:
    """One number.

    Attributes:
        label: its public name, which tells an FID from a Frechet distance of another net.
        value: the number.
        better: "lower" or "higher"; empty where neither is.
        deviation: over its subsets or splits, where it has them.
        floor: of real images at the same N.
        note: its constants.
    """

    label: str
    value: float
    better: Literal["lower", "higher", ""] = ""
    deviation: float | None = None
    floor: float | None = None
    note: str = ""


@dataclass(frozen=True)
class Protocol:
    """What makes numbers comparable: two results may be set side by side where all but `samples` and `how` agree.

    Attributes:
        samples, count, shape, samples_sha256: what was measured, N, (C, H, W), and the hash of its pixels.
        how: sampler, steps, network_evaluations, seed, weights, ...; empty for pictures from files.
        quantiser: how numbers became bytes.
        net, net_sha256, resize: the feature net, and how images reach its size.
        reference, reference_count, reference_sha256: the real images (count 0 where a file of statistics is silent).
        floor: between which real images the floors were measured.
        version: of sfumato.
    """

    samples: str
    count: int
    shape: tuple[int, ...]
    samples_sha256: str
    how: Mapping[str, Any]
    quantiser: str
    net: str
    net_sha256: str
    resize: str
    reference: str
    reference_count: int
    reference_sha256: str
    floor: str
    version: str


@dataclass(frozen=True)
class Result:
    """Numbers with their protocol.

    Attributes:
        metrics: by a short name that is the same for every net: frechet, kernel, precision, ...
        protocol: how they came about.
        nearest: of each sample among the training images, by pixels and by features; not part of the JSON text.
    """

    metrics: Mapping[str, Metric]
    protocol: Protocol
    nearest: Mapping[str, Nearest] = field(default_factory=dict, compare=False, repr=False)

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        metrics = {name: asdict(metric) for name, metric in self.metrics.items()}
        return {"format": FORMAT, "metrics": metrics, "protocol": asdict(self.protocol)}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Result:
        """The result that `to_json` gave these values of. ValueError where they are none."""
        try:
            if values["format"] != FORMAT:
                raise ValueError(
                    f"a result of format {values['format']}; this version of sfumato reads format {FORMAT}"
                )
            protocol = Protocol(**{**values["protocol"], "shape": tuple(values["protocol"]["shape"])})
            return cls({name: Metric(**metric) for name, metric in values["metrics"].items()}, protocol)
        except (KeyError, TypeError):
            raise ValueError("these values are no result of sfumato evaluate") from None

    def save(self, path: str | Path) -> None:
        """Write it as JSON, complete or not at all."""
        pictures.write_text(path, json.dumps(self.to_json(), indent=2) + "\n")

    @classmethod
    def read(cls, path: str | Path) -> Result:
        """The result in a file. ValueError where it holds something else."""
        try:
            return cls.from_json(json.loads(Path(path).read_text("utf-8")))
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None

    def __str__(self) -> str:
        p = self.protocol
        channels, height, width = p.shape
        how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in p.how.items())
        lines = [
            f"samples    {p.samples}: {p.count:,} images of {width}x{height}, {channels} channel{'s' * (channels > 1)}",
            *([f"made by    {how}"] if how else []),
            f"quantiser  {p.quantiser}",
            f"net        {p.net}, sha256 {p.net_sha256[:8] or 'unknown'}, resize: {p.resize}",
            f"reference  {p.reference}: {f'{p.reference_count:,} images' if p.reference_count else 'statistics'}, "
            f"sha256 {p.reference_sha256[:8]}",
            f"floor      {p.floor}",
            "",
        ]
        return "\n".join([*lines, *_table(self.metrics)])


def _table(metrics: Mapping[str, Metric]) -> list[str]:
    """One line a metric, in columns."""
    rows = [("", "value", "deviation", "real v real", "")]
    for metric in metrics.values():
        better = f"{metric.better} is better" if metric.better else ""
        numbers = ("" if n is None else _short(n) for n in (metric.value, metric.deviation, metric.floor))
        rows.append((metric.label, *numbers, ", ".join(filter(None, (better, metric.note)))))  # type: ignore[arg-type]
    widths = [max(len(row[i]) for row in rows) for i in range(4)]
    return [
        "  ".join([f"{row[0]:<{widths[0]}}", *(f"{row[i]:>{widths[i]}}" for i in (1, 2, 3)), row[4]]).rstrip()
        for row in rows
    ]


def _short(number: float) -> str:
    """Four digits that count."""
    text = f"{number:.4f}" if abs(number) < 10 else f"{number:.2f}"
    return text.removeprefix("-") if float(text) == 0 else text
