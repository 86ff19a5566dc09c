"""Which weights of a checkpoint are taken: a set that it stores, or a power-function average of any length, rebuilt
from the snapshots of its run (post-hoc EMA: Karras et al. 2024, EDM2, section 3.2).
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.core.profiles import LONGEST, Profile, coefficients, rebuilt_error
from sfumato.runtime import checkpoint
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError, halved
from sfumato.runtime.folder import RunFolder

MOST_WRONG = 0.1
"""The largest L1 error of a rebuilt profile, out of 2."""
BEST = "best"
"""The length of the least distance or loss on the curve that was measured at the end of the run."""


NOTHING: Mapping[str, Any] = MappingProxyType({})


class Part(NamedTuple):
    """Tensors of a file below a prefix, times a number."""

    source: Checkpoint
    prefix: str
    times: float = 1.0


@dataclass(frozen=True)
class Weights:
    """A set of weights, not yet read: what it is called, and the sum that it is."""

    name: str
    parts: tuple[Part, ...]

    def check_fits(self, wanted: Mapping[str, tuple[int, ...]]) -> None:
        """CheckpointError unless all parts have exactly these names and shapes."""
        for part in self.parts:
            part.source.check_fits(wanted, part.prefix)

    def tensors(self) -> dict[str, Tensor]:
        """The weights by their names in the network; sums are taken in float64.

        Buffers that are no numbers of floating point are those of the first part, the newest, as is what all parts hold
        alike, each to its own precision (snapshots are float16): what was not trained, such as an autoencoder or the
        weights beside a control, has no average but itself.
        """
        first, *others = self.parts
        if not others and first.times == 1:
            return first.source.tensors(first.prefix)
        held = first.source.tensors(first.prefix)
        made = {name: value.double() * first.times for name, value in held.items() if value.is_floating_point()}
        constant = {*held} if others else set()
        for part in others:
            for name, value in part.source.tensors(part.prefix).items():
                if name in constant and not torch.equal(value, held[name].to(value.dtype)):
                    constant.discard(name)
                if name in made:
                    made[name].add_(value.double(), alpha=part.times)
        return {name: value if name in constant or name not in made else made[name].float()
                for name, value in held.items()}  # fmt: skip


def choose(saved: Checkpoint, weights: str | float | None = None) -> Weights:
    """A set of weights of a checkpoint, stored or rebuilt.

    Args:
        weights: "online" or an EMA rate that is stored; else a relative length sigma_rel, or "best" for the one of the
            least distance or loss that was measured. The first EMA where None, or "online" where there is none.

    Raises: CheckpointError: no such set, a length that the snapshots do not give, or damaged snapshots.
    """
    held, wanted = saved.weights, None if weights is None else str(weights)
    if not held:
        raise CheckpointError(f"{saved.path} holds no weights")
    if wanted is None:
        return _stored(saved, next((name for name in held if name != "online"), "online"))
    number = _number(wanted)
    for name in held:
        if name == wanted or (number is not None and _number(name) == number):
            return _stored(saved, name)
    if not saved.profiles or (number is None and wanted != BEST) or not 0 < (number or 0.1) < 1:
        more = f", and averages of a length sigma_rel up to {LONGEST}" if saved.profiles else ""
        raise CheckpointError(f"{saved.path} holds no weights {wanted!r}; it holds {', '.join(held)}{more}")
    return rebuilt(saved, best_length(saved) if number is None else number)


def load_weights(saved: Checkpoint, network: nn.Module, weights: str | float | None = None) -> str:
    """Put one set of weights (see `choose`) into the network, which may be on the meta device; returns which.

    Raises: CheckpointError: no such set, or the network is of another architecture.
    """
    chosen = choose(saved, weights)
    wanted = network.state_dict()
    chosen.check_fits({name: tuple(value.shape) for name, value in wanted.items()})
    state = {name: value.to(wanted[name].dtype) for name, value in chosen.tensors().items()}
    network.load_state_dict(state, assign=any(value.is_meta for value in wanted.values()))
    return chosen.name


def save_weights(
    path: Path, source: Checkpoint, weights: str | float | None = None, *, half: bool = False,
    said: Mapping[str, Any] = NOTHING,
) -> None:  # fmt: skip
    """Write a light checkpoint that holds one set of weights and no optimiser, with the same reader.

    Args:
        weights: which, see `choose`; a rebuilt average is stored as the one set of the file, under "online".
        half: store float16, which halves the file; they are float32 again once loaded.
        said: what the file says of itself besides.

    Raises:
        ValueError: no such weights, or some that float16 cannot hold.
    """
    chosen = choose(source, weights)
    stored = chosen.name in source.weights
    prefix = chosen.parts[0].prefix if stored else "model/"
    tensors = {prefix + name: halved(name, value) if half else value for name, value in chosen.tensors().items()}
    left_out = ("format", "versions", "profiles")
    about = {name: value for name, value in source.about.items() if name not in left_out} | dict(said)
    checkpoint.save(path, tensors, about if stored else {**about, "ema": [], "origin": {"weights": chosen.name}})


def _stored(saved: Checkpoint, name: str) -> Weights:
    return Weights(name, (Part(saved, "model/" if name == "online" else f"ema/{name}/"),))


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


# ---------------------------------------------------------------- any length


def rebuilt(saved: Checkpoint, length: float) -> Weights:
    """The power-function average of relative length sigma_rel at the checkpoint's time, by least squares of profiles.

    CheckpointError where the snapshots do not give it to an L1 error of 0.1, in one line that says what they give.
    """
    parts, stored, wanted = *basis(saved), Profile(saved.progress.get("images", 0), length)
    if length > LONGEST or rebuilt_error(stored, wanted) > MOST_WRONG:
        spans = " and ".join(f"{a:g} to {b:g}" if a < b else f"{a:g}" for a, b in reach(stored, wanted.t))
        raise CheckpointError(
            f"{saved.path} gives no average of length sigma_rel {length:g}; "
            f"its {len(parts)} stored averages give {spans}"
        )
    found = [part._replace(times=x) for part, x in zip(parts, coefficients(stored, wanted).tolist(), strict=True) if x]
    return Weights(f"sigma_rel {length:g}", tuple(found))


def basis(saved: Checkpoint) -> tuple[list[Part], list[Profile]]:
    """The power-function averages of a checkpoint and of the snapshots of its run that are older, the newest first."""
    files, time = [saved], saved.progress.get("images", 0)
    for path in snapshots(saved):
        if int(path.stem) < time:
            files.append(checkpoint.read(path))
    parts, stored = [], []
    for file in files:
        images = file.progress.get("images", 0)
        for name in file.profiles:
            length = _number(name)
            if length is None or not 0 < length <= LONGEST or not 0 < images <= time:
                raise CheckpointError(f"{file.path} is damaged: it holds the profile {name!r} after {images:,} images")
            parts.append(Part(file, f"profile/{name}/"))
            stored.append(Profile(images, length))
    return parts, stored


def snapshots(saved: Checkpoint) -> list[Path]:
    """The snapshots of the run in whose folder a checkpoint lies, the newest first; none for a file of its own."""
    return [] if saved.path.parent.name != "checkpoints" else RunFolder(saved.path.parent.parent).snapshots()


def reach(stored: Sequence[Profile], t: float, step: float = 0.005) -> list[tuple[float, float]]:
    """From which to which lengths stored averages give a profile at time t to an L1 error of 0.1, by steps."""
    grid = sorted({*(round(i * step, 9) for i in range(2, round(LONGEST / step) + 1)), *(p.sigma_rel for p in stored)})
    spans: list[tuple[float, float]] = []
    within = False
    for length in grid:
        if rebuilt_error(stored, Profile(t, length), points=4_000) <= MOST_WRONG:
            spans = [*spans[:-1], (spans[-1][0], length)] if within else [*spans, (length, length)]
            within = True
        else:
            within = False
    return spans


def best_length(saved: Checkpoint) -> float:
    """The length of the least distance (`fd`), or else the least validation loss, of those measured at this checkpoint.

    Of several measurements the newest counts, since others may be of other pictures. CheckpointError where none are.
    """
    found: dict[str, list[tuple[float, float]]] = {"fd": [], "loss": []}
    records = RunFolder(saved.path.parent.parent).metrics("lengths") if saved.path.parent.name == "checkpoints" else []
    for record in records:
        if record["images"] == saved.progress.get("images"):
            for measure, pairs in found.items():
                found[measure] = _pairs(record.get(measure, ()), record.get("lengths", ())) or pairs
    for pairs in found.values():
        if pairs:
            return min(pairs)[1]
    raise CheckpointError(f"{saved.path} has no best length: none were measured at it; give one, such as 0.1")


def _pairs(values: Iterable[object], lengths: Iterable[object]) -> list[tuple[float, float]]:
    """Measurements with their lengths, as far as both are finite numbers."""
    try:
        pairs = [(float(str(value)), float(str(length))) for value, length in zip(values, lengths, strict=True)]
    except (TypeError, ValueError):
        return []
    return [pair for pair in pairs if all(map(math.isfinite, pair))]


def fingerprint(tensors: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights, by key."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        digest.update(name.encode())
        value = tensors[name].detach().cpu().contiguous().reshape(-1)
        digest.update(value.view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()
