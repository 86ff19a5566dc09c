"""Files of torch.save, looked through before torch opens them: whole, nothing packed, and a pickle of tensors alone.

What torch writes is never compressed, so a member that is would only unpack to more than the file could need.
"""

from __future__ import annotations

import io
import struct
import zipfile
from typing import IO

import torch

from sfumato.runtime.opening import stored_bytes
from sfumato.runtime.pickles import LARGEST, names_in

MAGIC = b"\x80\x02\x8a\x0al\xfc\x9cF\xf9 j\xa8P\x19."
"""How a file from before torch 1.6 begins: a pickle of a number. Four more pickles follow, then the tensors' bytes."""
DIRECTORY = 16 << 20
"""Bytes of a zip file's directory: room for 150,000 tensors."""
NUMPY = ("numpy.dtype", "numpy.ndarray") + tuple(
    f"numpy.{core}.multiarray.{name}" for core in ("core", "_core") for name in ("scalar", "_reconstruct")
)
"""Names under which numpy pickles numbers: training states hold a learning rate as one (score_sde_pytorch)."""
ALLOWED = frozenset({
    "collections.OrderedDict", "collections.Counter", "builtins.set", "builtins.complex", "_codecs.encode",
    "torch.Size", "torch.device", "torch.nn.parameter.Parameter", "torch.serialization._get_layout",
    "torch._utils._rebuild_tensor", "torch._utils._rebuild_tensor_v2", "torch._utils._rebuild_tensor_v3",
    "torch._utils._rebuild_parameter", "torch._utils._rebuild_parameter_with_state", *NUMPY,
    *(str(value) for value in vars(torch).values() if isinstance(value, torch.dtype)),
    *(f"torch.{kind.__name__}" for kind in torch._storage_classes if "yped" not in kind.__name__),
})  # fmt: skip
"""What tensors are made of. torch would allow more, some of which takes as much memory as it is told to."""


class UnsafeError(ValueError):
    """A pickle that asks for something else than tensors."""


def check(file: IO[bytes]) -> None:
    """Look a file of torch.save through, whose position is 0 again afterwards.

    Raises:
        UnsafeError: its pickle asks for something else than tensors and plain values.
        ValueError: damaged, packed, larger than it can need, or no file of torch.save.
    """
    start = file.read(len(MAGIC))
    file.seek(0)
    if start[:2] == b"PK":
        _zipped(file)
    elif start[:1] == b"\x80":
        head = io.BytesIO(file.read(LARGEST))
        asked = names_in(head) - ALLOWED
        if asked or start != MAGIC:
            raise UnsafeError(_which(asked))
        _pickled(head, 4)
    else:  # a web page or a pointer to a large file, saved under this name
        raise ValueError("it begins otherwise" if start else "it is empty")
    file.seek(0)


def _zipped(file: IO[bytes]) -> None:
    """A zip file, as torch has written since 1.6: its members whole and as they are, one of them the pickle."""
    size = _check_directory(file)
    try:
        with zipfile.ZipFile(file) as archive:
            members = archive.infolist()
            if any(m.compress_type != zipfile.ZIP_STORED or m.file_size != m.compress_size for m in members):
                raise ValueError("its members are packed, which torch.save never does")
            if sum(m.file_size for m in members) > size or len({m.filename for m in members}) < len(members):
                raise ValueError("its members lie over each other")
            pickles = [m for m in members if m.filename.endswith("/data.pkl")]
            if len(pickles) != 1 or pickles[0].file_size > LARGEST:
                raise ValueError("its pickle is too large for tensors" if pickles else "it has no pickle of tensors")
            _pickled(io.BytesIO(archive.read(pickles[0])), 1)
    except (zipfile.BadZipFile, struct.error, NotImplementedError, RuntimeError, EOFError) as error:
        raise ValueError(f"its directory is damaged ({' '.join(str(error).split())[:80]})") from None


def _check_directory(file: IO[bytes]) -> int:
    """The size of a zip file that ends in a directory that is not too large. ValueError for any other."""
    size = file.seek(0, io.SEEK_END)
    file.seek(max(0, size - 98))
    end = file.read()
    if len(end) < 22 or end[-22:-18] != b"PK\x05\x06":
        raise ValueError("it is truncated, or something follows it")
    directory = int.from_bytes(end[-10:-6], "little")
    if directory == 0xFFFFFFFF and len(end) == 98 and end[:4] == b"PK\x06\x06":
        directory = int.from_bytes(end[40:48], "little")
    if directory > DIRECTORY:
        raise ValueError("its directory is larger than any network needs")
    file.seek(0)
    return size


def check_stored(file: IO[bytes]) -> None:
    """ValueError where a large file is mostly holes: what it holds was never written."""
    size = file.seek(0, io.SEEK_END)
    file.seek(0)
    if size > 64 << 20 and stored_bytes(file) < size // 8:
        raise ValueError(f"it is sparse: {stored_bytes(file):,} of {size:,} bytes are on the disk")


def _pickled(stream: IO[bytes], count: int) -> None:
    for _ in range(count):
        if asked := names_in(stream) - ALLOWED:
            raise UnsafeError(_which(asked))


def _which(asked: set[str]) -> str:
    return f" (it names {min(asked)})" if asked else ""
