"""The data card: what a set of images really holds, printed and saved before anything is trained on it."""

from __future__ import annotations

import hashlib
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

SMALL = 5_000


@dataclass(frozen=True)
class DataCard:
    """What was found. `mean` and `std` are per channel, in 0..255; `fingerprint` is over pixels and labels."""

    spec: str
    count: int
    shape: tuple[int, int, int]
    bits: str
    sizes: dict[str, int]
    classes: dict[str, int]
    corrupt: tuple[str, ...]
    notes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]
    licence: str
    fingerprint: str

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def __str__(self) -> str:
        channels, height, width = self.shape
        kind = {1: "grey", 3: "colour"}.get(channels, f"{channels} channels")
        lines = [f"data     {self.spec}: {self.count:,} images, {width}x{height} {kind}, {self.bits}"]
        if self.sizes:
            common = sorted(self.sizes.items(), key=lambda item: -item[1])
            shown = ", ".join(f"{size} ({n:,})" for size, n in common[:5])
            lines.append(f"sizes    {shown}{f' and {len(common) - 5} more' if len(common) > 5 else ''}")
        if self.classes:
            shown = ", ".join(f"{name} {n:,}" for name, n in list(self.classes.items())[:12])
            more = f", ... ({len(self.classes)} in all)" if len(self.classes) > 12 else ""
            lines.append(f"classes  {shown}{more}")
        mean, std = (" ".join(f"{v:.1f}" for v in values) for values in (self.mean, self.std))
        lines.append(f"pixels   mean {mean}, std {std} (of 0..255)")
        if self.corrupt:
            shown = ", ".join(self.corrupt[:5]) + (", ..." if len(self.corrupt) > 5 else "")
            lines.append(f"corrupt  {len(self.corrupt)} skipped: {shown}")
        lines += [f"note     {note}" for note in self.notes]
        if self.licence:
            lines.append(f"licence  {self.licence}")
        lines.append(f"sha256   {self.fingerprint}")
        return "\n".join(lines)


def make_card(
    spec: str,
    images: Tensor,
    labels: Tensor | None,
    classes: tuple[str, ...],
    *,
    bits: str = "8 bits a channel",
    sizes: dict[str, int] | None = None,
    corrupt: tuple[str, ...] = (),
    notes: tuple[str, ...] = (),
    licence: str = "",
) -> DataCard:
    """The card of images (N, C, H, W) uint8 and labels (N,)."""
    counts = torch.bincount(labels, minlength=len(classes)).tolist() if labels is not None else []
    if len(images) < SMALL:
        notes = (*notes, f"a small set: below {SMALL:,} images a long run memorises; look at nearest neighbours")
    mean, std = _moments(images)
    digest = hashlib.sha256()
    for block in images.split(4096):
        digest.update(block.contiguous().numpy())
    if labels is not None:
        digest.update(labels.numpy().tobytes())
    return DataCard(
        spec=spec, count=len(images), shape=(images.shape[1], images.shape[2], images.shape[3]), bits=bits,
        sizes=sizes or {}, classes=dict(zip(classes, counts, strict=True)) if counts else {}, corrupt=corrupt,
        notes=notes, mean=mean, std=std, licence=licence, fingerprint=digest.hexdigest(),
    )  # fmt: skip


def _moments(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Per-channel mean and standard deviation, in blocks so that memory stays small."""
    total = torch.zeros(2, images.shape[1], dtype=torch.float64)
    for block in images.split(4096):
        x = (block.double() + 1) * 127.5 if images.is_floating_point() else block.double()
        total += torch.stack([x.sum((0, 2, 3)), (x * x).sum((0, 2, 3))])
    mean, square = total / (images.numel() / images.shape[1])
    return tuple(round(v, 3) for v in mean.tolist()), tuple(
        round(v, 3) for v in (square - mean**2).clamp(min=0).sqrt().tolist()
    )
