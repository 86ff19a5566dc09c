"""Where the results of a command go: one folder for each distinct request, the request beside them as JSON.

Arrays are written first, and as they are made, so that what is made from them can fail without losing them.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.cli.numbers import UsageError
from sfumato.version import __version__

if TYPE_CHECKING:
    from torch import Tensor, nn

REQUEST = "request.json"
NO_MATTER = ("target", "out", "batch", "processes", "animation", "cache", "device")
"""Options that do not change what is made of a request: who shares the work, and where things are."""
OURS = (
    "images.npz", "draws.npz", "grid.png", "clips.gif", "pairs.png", "rows.png", "triples.png", "draws.png", "mean.png",
    "deviation.png", "nearest.png", "trajectory.webp", "predictions.webp", "sample.json", "evaluation.json",
    "bound.json", "bound.png", "ode.json", "k.json",
)  # fmt: skip
"""Every file that commands write into such a folder."""


@dataclass(frozen=True)
class Asked:
    """A whole request.

    Attributes:
        command: such as "sample" or "edit inpaint".
        options: everything that was typed, or stands at its default.
        found: what the words stood for: hashes of weights and of images, the device, the arithmetic.
    """

    command: str
    options: Mapping[str, Any]
    found: Mapping[str, Any]

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits: others for another request, the same for the same one."""
        matter = {name: value for name, value in self.options.items() if name not in NO_MATTER}
        text = json.dumps([self.command, matter, self.found], sort_keys=True, default=str)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {**asdict(self), "digest": self.digest, "version": __version__}


def asked(command: str, parsed: Any, **found: Any) -> Asked:
    """The request of parsed options, a dataclass."""
    return Asked(command, dict(vars(parsed)), found)


def of_weights(network: nn.Module) -> str:
    """The sha256 of a network's weights, with their names."""
    import torch

    digest = hashlib.sha256()
    for name, value in network.state_dict().items():
        digest.update(f"{name} {value.dtype} {tuple(value.shape)}".encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def of_images(images: Tensor | None) -> str | None:
    """The sha256 of images, of their shape and every number; None of none."""
    if images is None:
        return None
    return hashlib.sha256(f"{tuple(images.shape)}".encode() + images.contiguous().numpy().tobytes()).hexdigest()


# ---------------------------------------------------------------- folders


def output_folder(target: str, kind: str, name: str) -> Path:
    """Where what is made from a TARGET goes: inside its run folder, or into KIND/ here for anything else."""
    path = Path(target)
    if (path / "config.json").is_file():
        return path / kind / name
    stem = path.stem if path.exists() else target
    return Path(kind) / f"{''.join(c if c.isalnum() or c in '._-' else '-' for c in stem).lstrip('.')}-{name}"


def writable(folder: Path) -> Path:
    """The folder, made where it is missing. UsageError where nothing can be written into it."""
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UsageError(f"no permission to write in {folder}")
    return folder


@contextlib.contextmanager
def place(folder: Path, request: Asked) -> Iterator[Path]:
    """A folder for the results of a request; what is in it of another request goes once `store` is called.

    It says so where the folder has results already, and is gone again where nothing came of the request.
    """
    from sfumato.runtime.files import sweep

    new = not folder.exists()
    writable(folder)
    sweep(folder)
    if before := _stored(folder):
        same = before.get("digest") == request.digest
        print(f"{folder} holds {'this very request' if same else 'another request'}; its files are replaced")
    try:
        yield folder
    except BaseException:
        if new:
            with contextlib.suppress(OSError):  # it is not empty, then
                folder.rmdir()
        raise


def store(folder: Path, request: Asked, files: Sequence[str]) -> None:
    """Write the request beside its arrays, and remove what another request left that `files` will not replace."""
    from sfumato.data import pictures

    before = _stored(folder) or {}
    there = [name for name in OURS if name in before.get("files", ())]
    if before.get("digest") == request.digest:
        files = list(dict.fromkeys([*files, *there]))
    for name in there:
        if name not in files:
            (folder / name).unlink(missing_ok=True)
    pictures.write_text(folder / REQUEST, json.dumps({**request.to_json(), "files": files}, indent=2, default=str))


def _stored(folder: Path) -> dict[str, Any] | None:
    """What the folder's request says; None where there is none, or it is something else."""
    try:
        found = json.loads((folder / REQUEST).read_text("utf-8"))
    except (OSError, ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) and isinstance(found.get("files"), list) else None


@contextlib.contextmanager
def beside(arrays: Path) -> Iterator[None]:
    """What is made from arrays that are written already: where it fails, the error says that they are there."""
    try:
        yield
    except (OSError, ValueError, MemoryError) as error:
        why = error.strerror if isinstance(error, OSError) and error.strerror else str(error) or "not enough memory"
        raise UsageError(f"{arrays} is written, but not what is made from it: {why}") from error
