"""Checkpoints: one safetensors file that holds a run as it stands, written whole or not at all, and its reader, which
takes the folders of split runs as well (`sharding`).

Tensors are named model/KEY, ema/RATE/KEY, optimizer/PARAMETER/KEY and times/KEY; one JSON text in the header carries
the recipe, the training numbers, the data and the progress. Nothing is ever unpickled.
"""

from __future__ import annotations

import contextlib
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor, nn

FORMAT = 1
KEY = "sfumato"
PARTS = ".parts"
"""The ending of a checkpoint that is a folder, which several processes wrote (`sharding`)."""
LARGEST_HEADER = 100_000_000  # bytes, as in the reference reader

DTYPES = {
    torch.float64: "F64", torch.float32: "F32", torch.float16: "F16", torch.bfloat16: "BF16", torch.int64: "I64",
    torch.int32: "I32", torch.int16: "I16", torch.int8: "I8", torch.uint8: "U8", torch.bool: "BOOL",
}  # fmt: skip


class CheckpointError(ValueError):
    """A file that cannot be used, in one clear line."""


# ---------------------------------------------------------------- writing


@contextlib.contextmanager
def naming(path: Path) -> Iterator[None]:
    """Errors of the system that say which file could not be written."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from error


@contextlib.contextmanager
def whole_file(path: Path) -> Iterator[IO[bytes]]:
    """A file to write that appears at `path` complete, or not at all: whatever was there before stays until then."""
    with naming(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    temporary = Path(name)
    try:
        with naming(path), os.fdopen(handle, "wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        temporary.chmod(0o644)
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    settle(path.parent)


def settle(folder: Path) -> None:
    """Return once the folder is on the disk: only then is a new name in it."""
    if os.name == "posix":
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


def described(about: Mapping[str, Any]) -> str:
    """The JSON text of a checkpoint: what it says of itself, with the format and the versions that wrote it."""
    import sfumato

    versions = {"sfumato": sfumato.__version__, "torch": torch.__version__}
    return json.dumps({"format": FORMAT, "versions": versions, **about})


def save(path: Path, tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> None:
    """Write tensors and a JSON text as one safetensors file.

    Raises:
        OSError: disk full, no permission; what was at `path` is untouched.
    """
    header: dict[str, Any] = {"__metadata__": {"format": "pt", KEY: described(about)}}
    names = sorted(tensors, key=lambda name: (-tensors[name].element_size(), name))  # so that each one is aligned
    end = 0
    for name in names:
        begin, end = end, end + tensors[name].numel() * tensors[name].element_size()
        header[name] = {
            "dtype": DTYPES[tensors[name].dtype], "shape": list(tensors[name].shape), "data_offsets": [begin, end],
        }  # fmt: skip
    encoded = json.dumps(header).encode()
    encoded += b" " * (-len(encoded) % 8)
    with whole_file(path) as file:
        file.write(len(encoded).to_bytes(8, "little") + encoded)
        for name in names:
            flat = tensors[name].detach().cpu().contiguous().reshape(-1)
            file.write(flat.view(torch.uint8).numpy().data)


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
        return tuple(name for name, prefix in prefixes.items() if any(key.startswith(prefix) for key in self.shapes))

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """The tensors below a prefix such as "model/", each in its own memory, without the prefix in their names."""
        from safetensors import SafetensorError, safe_open

        names = [name for name in self.shapes if name.startswith(prefix)]
        if self.in_parts:
            from sfumato.train import sharding

            return {name.removeprefix(prefix): v for name, v in sharding.tensors_of(self.path, names).items()}
        try:
            with safe_open(self.path, framework="pt") as file:
                return {name.removeprefix(prefix): file.get_tensor(name).clone() for name in names}
        except SafetensorError as error:
            raise CheckpointError(f"{self.path} is damaged: {error}") from None

    def load_weights(self, network: nn.Module, weights: str | None = None) -> str:
        """Put one set of weights into the network, which may be on the meta device; returns which.

        Args:
            weights: "online" or an EMA rate; the first EMA where None, or "online" where there is none.

        Raises:
            CheckpointError: no such set, or the network is of another architecture.
        """
        chosen = _choose(self, weights)
        prefix = "model/" if chosen == "online" else f"ema/{chosen}/"
        wanted = network.state_dict()
        self.check_fits({name: tuple(value.shape) for name, value in wanted.items()}, prefix)
        state = {name: value.to(wanted[name].dtype) for name, value in self.tensors(prefix).items()}
        network.load_state_dict(state, assign=any(value.is_meta for value in wanted.values()))
        return chosen

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


def _choose(saved: Checkpoint, wanted: str | None) -> str:
    held = saved.weights
    if not held:
        raise CheckpointError(f"{saved.path} holds no weights")
    if wanted is None:
        return next((name for name in held if name != "online"), "online")
    for name in held:
        if name == wanted or (_number(name) is not None and _number(name) == _number(wanted)):
            return name
    raise CheckpointError(f"{saved.path} holds no weights {wanted!r}; it holds {', '.join(held)}")


def _number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def read(path: str | Path) -> Checkpoint:
    """Open a checkpoint; its tensors are read later, on demand.

    Raises:
        OSError: no such file, no permission.
        CheckpointError: truncated, not safetensors nor a folder of parts, or not written by sfumato.
    """
    path = Path(path)
    if path.is_dir():
        from sfumato.train import sharding

        return sharding.read(path)
    header = _header(path)
    metadata = header.pop("__metadata__", None)
    if not isinstance(metadata, dict) or KEY not in metadata:
        raise CheckpointError(f"{path} is a safetensors file, but not a checkpoint of sfumato")
    try:
        about = json.loads(metadata[KEY])
        shapes = {name: tuple(entry["shape"]) for name, entry in header.items()}
    except (ValueError, TypeError, LookupError):
        raise CheckpointError(f"{path} is damaged: its header is no JSON text of sfumato") from None
    if about.get("format") != FORMAT:
        raise CheckpointError(f"{path} has format {about.get('format')}; this version of sfumato reads format {FORMAT}")
    return Checkpoint(path, about, shapes)


def _header(path: Path) -> dict[str, Any]:
    """The JSON header of a safetensors file whose tensors are all there."""
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        start = file.read(9)
        length = int.from_bytes(start[:8], "little")
        if size == 0:
            raise CheckpointError(f"{path} is empty")
        if size > 8 and (start[8:] != b"{" or length > LARGEST_HEADER):
            if start[:2] == b"PK" or start[:1] == b"\x80":
                raise CheckpointError(f"{path} is a pickle, which can carry code, so it was not opened")
            raise CheckpointError(f"{path} is not a safetensors file")
        file.seek(8)
        text = file.read(length) if size >= 8 + length else b""
    if len(text) < max(length, 1):
        raise CheckpointError(f"{path} is truncated: it ends inside its header, after {size:,} bytes")
    try:
        header = json.loads(text)
        end = max((entry["data_offsets"][1] for name, entry in header.items() if name != "__metadata__"), default=0)
    except (ValueError, TypeError, LookupError, AttributeError):
        raise CheckpointError(f"{path} is not a safetensors file: its header is no JSON text of tensors") from None
    if size < 8 + length + end:
        raise CheckpointError(f"{path} is truncated: {size:,} of {8 + length + end:,} bytes")
    return header


# ---------------------------------------------------------------- weights alone


def save_weights(path: Path, source: Checkpoint, weights: str | None = None, *, half: bool = False) -> None:
    """Write a light checkpoint that holds one set of weights and no optimiser, with the same reader.

    Args:
        weights: "online" or an EMA rate; the first EMA where None.
        half: store float16, which halves the file; they are float32 again once loaded.
    """
    chosen = _choose(source, weights)
    prefix = "model/" if chosen == "online" else f"ema/{chosen}/"
    tensors = {
        prefix + name: value.half() if half and value.is_floating_point() else value
        for name, value in source.tensors(prefix).items()
    }
    save(path, tensors, {name: value for name, value in source.about.items() if name not in ("format", "versions")})
