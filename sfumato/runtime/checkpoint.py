"""Checkpoints: one safetensors file that holds a run as it stands, written whole or not at all, and its reader, which
takes the folders of sharded runs as well (`parts`).

Tensors are named model/KEY, ema/RATE/KEY, profile/LENGTH/KEY, optimizer/PARAMETER/KEY and times/KEY; one JSON text in
the header carries the recipe, the training numbers, the data and the progress. Nothing is ever unpickled; checksums are
verified, and weights are finite.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.runtime import parts, tensor_file
from sfumato.runtime.json_file import parsed
from sfumato.runtime.tensor_file import CheckpointError
from sfumato.version import __version__

__all__ = ["PARTS", "Checkpoint", "CheckpointError", "halved", "read", "save", "save_parts"]

FORMAT = 1
KEY = "sfumato"
WEIGHTS = ("model/", "ema/", "profile/")
"""What the names of weights begin with; they are finite, which a run's losses need not be."""
PARTS = ".parts"
"""The ending of a checkpoint that is a folder, which several processes wrote."""


# ---------------------------------------------------------------- writing


def described(about: Mapping[str, Any]) -> str:
    """The JSON text of a checkpoint: what it says of itself, with the format and the versions that wrote it."""
    versions = {"sfumato": __version__, "torch": torch.__version__}
    return json.dumps({"format": FORMAT, "versions": versions, **about})


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON text as one safetensors file.

    Raises:
        OSError: disk full, no permission; what was at `path` is untouched.
    """
    tensor_file.write(path, tensors, {KEY: described(about)})


def save_parts(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write the same as a folder, of which each process writes what it holds; all call this together.

    Raises:
        OSError: disk full, no permission; other checkpoints are untouched.
    """
    parts.write(path, tensors, described(about))


# ---------------------------------------------------------------- reading


@dataclass(frozen=True)
class Checkpoint:
    """An opened checkpoint: what it says about itself, and its tensors on demand.

    Attributes:
        path: the file, or the folder of parts.
        about: what it says of itself.
        shapes: of every tensor, by name.
    """

    path: Path
    about: dict[str, Any]
    shapes: dict[str, tuple[int, ...]]

    @property
    def in_parts(self) -> bool:
        """Whether it is a folder that several processes wrote (`sharding`)."""
        return self.path.is_dir()

    @property
    def recipe(self) -> dict[str, Any]:
        """The recipe, as plain values."""
        return self.about["recipe"]

    @property
    def train(self) -> dict[str, Any]:
        """The training numbers, as plain values."""
        return self.about.get("train", {})

    @property
    def data(self) -> dict[str, Any]:
        """spec, shape, classes and fingerprint of the training images."""
        return self.about.get("data", {})

    @property
    def progress(self) -> dict[str, Any]:
        """images, step, seconds, skipped."""
        return self.about.get("progress", {})

    @property
    def weights(self) -> tuple[str, ...]:
        """The sets of weights it holds: "online" and EMA rates, in the order of the run."""
        prefixes = {"online": "model/"} | {str(rate): f"ema/{rate}/" for rate in self.about.get("ema", ())}
        return self._held(prefixes)

    @property
    def profiles(self) -> tuple[str, ...]:
        """The lengths sigma_rel of the power-function averages that it holds."""
        return self._held({length: f"profile/{length}/" for length in self.about.get("profiles", ())})

    def _held(self, prefixes: Mapping[str, str]) -> tuple[str, ...]:
        """The names below whose prefix there are tensors."""
        return tuple(name for name, prefix in prefixes.items() if any(key.startswith(prefix) for key in self.shapes))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix such as "model/", each in its own memory, without the prefix in their names.

        CheckpointError where they are damaged, or weights hold NaN or infinite values.
        """
        names = [name for name in self.shapes if name.startswith(prefix)]
        found = (parts if self.in_parts else tensor_file).tensors_of(self.path, names)
        for name, value in found.items():
            if name.startswith(WEIGHTS) and not tensor_file.is_finite(value):
                raise CheckpointError(f"{self.path} cannot be used: {name} holds NaN or infinite values")
        return {name.removeprefix(prefix): value for name, value in found.items()}

    def check_fits(self, wanted: Mapping[str, tuple[int, ...]], prefix: str = "model/") -> None:
        """Raise CheckpointError unless the tensors below a prefix have exactly these names and shapes."""
        found = {name.removeprefix(prefix): shape for name, shape in self.shapes.items() if name.startswith(prefix)}
        differing = [name for name in {**wanted, **found} if wanted.get(name) != found.get(name)]
        if differing:
            listed = "; ".join(
                f"{name} is {found.get(name, 'absent')} in the file, {wanted.get(name, 'absent')} in the network"
                for name in differing[:5]
            )
            more = f"; and {len(differing) - 5} more" if len(differing) > 5 else ""
            raise CheckpointError(f"{self.path} holds another architecture: {listed}{more}")


def read(path: str | Path) -> Checkpoint:
    """Open a checkpoint; its tensors are read later, on demand.

    Raises:
        OSError: no such file, no permission.
        CheckpointError: truncated, not safetensors nor a folder of parts, or not written by sfumato.
    """
    path = Path(path)
    if path.is_dir():
        about, shapes = parts.read_index(path)
    else:
        metadata, shapes = tensor_file.read_header(path)
        if KEY not in metadata:
            raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of sfumato")
        about = parsed(metadata[KEY].encode(), f"{path} is damaged: its description", CheckpointError)
    if about.get("format") != FORMAT:
        shown = str(about.get("format"))[:40]
        raise CheckpointError(f"{path} has format {shown}; this version of sfumato reads format {FORMAT}")
    _check_about(path, about)
    return Checkpoint(path, about, shapes)


def is_ours(path: Path) -> bool:
    """Whether a safetensors file says that it is a checkpoint of sfumato. CheckpointError where it is none at all."""
    return KEY in tensor_file.read_header(path)[0]


def _check_about(path: Path, about: Mapping[str, Any]) -> None:
    """CheckpointError unless a checkpoint describes itself by values of the kinds that are written."""
    kinds = {"recipe": dict, "train": dict, "data": dict, "progress": dict, "ema": list, "profiles": list}
    for name, kind in kinds.items():
        if not isinstance(about.get(name, kind()), kind):
            raise CheckpointError(f"{path} is damaged: {name} in its description is {about[name]!r:.100}")
    if "recipe" not in about:
        raise CheckpointError(f"{path} is damaged: its description holds no recipe")
    for name, value in about.get("progress", {}).items():
        if type(value) not in (int, float) or not math.isfinite(value) or value < 0:
            raise CheckpointError(f"{path} is damaged: {name} in its progress is {value!r:.100}")
    texts = {name: about.get(name, []) for name in ("ema", "profiles")}
    texts["classes"] = about.get("data", {}).get("classes", [])
    for name, values in texts.items():
        if not isinstance(values, list) or not all(isinstance(value, str) for value in values):
            raise CheckpointError(f"{path} is damaged: {name} in its description is no list of names")


def halved(name: str, value: Tensor) -> Tensor:
    """A tensor in float16, where it is of floating point. ValueError where it holds a value that float16 cannot."""
    if not value.is_floating_point():
        return value
    half = value.half()
    if not tensor_file.is_finite(half):
        raise ValueError(f"{name} holds values beyond float16's 65504, so it is stored in full: leave half out")
    return half
