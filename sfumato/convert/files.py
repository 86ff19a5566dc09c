"""Foreign checkpoint files, opened without running anything in them: PyTorch's, and safetensors.

Which of several sets of weights is taken, `averages` says; what network they are, `facts` and `scores` say.
"""

from __future__ import annotations

import os
import pickle
import re
from pathlib import Path
from typing import Any

import torch

from sfumato.convert.averages import Chosen, choose
from sfumato.convert.state import ForeignError as ForeignError
from sfumato.convert.state import check_honest
from sfumato.runtime import archives, tensor_file
from sfumato.runtime.opening import open_regular


class _Nothing:
    """What a numpy number in an optimiser's state becomes: it keeps nothing, and nobody reads it."""

    def __init__(self, *parts: object) -> None: ...

    def __setstate__(self, state: object) -> None: ...


def is_torch_file(path: Path) -> bool:
    """Whether a file begins as those of torch.save do. OSError where it is missing or no regular file."""
    with open_regular(path) as file:
        start = file.read(2)
    return start == b"PK" or start[:1] == b"\x80"


def read_state(path: str | Path) -> Chosen:
    """The weights in a file of torch.save or of safetensors, in words which of several were taken, and what they are.

    Nothing is unpickled that could run code, and nothing is packed. Known wrappers: see `averages.choose`. The average
    is taken where there is one, and what it leaves out (tables of noise levels, frozen weights) from the network.

    Raises:
        OSError: no such file, or no regular one.
        ForeignError: damaged, a pickle with code, no weights, several of them, or an average that is not of these
            weights.
    """
    path = Path(path)
    held = _opened(path)
    try:
        chosen = choose(held)
        check_honest(chosen.state, path.stat().st_size)
    except ValueError as error:
        raise ForeignError(f"{path} {error}") from None
    return chosen


def _opened(path: Path) -> Any:
    """What a file holds, by the unpickler that builds tensors and plain values only, or by safetensors."""
    with open_regular(path) as file:
        start = file.read(9)
        if start[8:] == b"{" and start[:2] != b"PK":
            try:
                return tensor_file.tensors_of(path, list(tensor_file.read_header(path)[1]))
            except tensor_file.CheckpointError as error:
                raise ForeignError(str(error)) from None
        file.seek(0)
        try:
            archives.check_stored(file)
            archives.check(file)
        except archives.UnsafeError as error:
            raise ForeignError(f"{path} is a pickle that could run code, so it was not opened{error}") from None
        except ValueError as error:
            raise ForeignError(f"{path} is damaged or no PyTorch file: {error}") from None
    try:
        with torch.serialization.safe_globals([(_Nothing, name) for name in archives.NUMPY]):
            return torch.load(path, map_location="cpu", weights_only=True, mmap=start[:2] == b"PK")
    except (MemoryError, KeyboardInterrupt):
        raise
    except pickle.UnpicklingError as error:
        named = re.search(r"GLOBAL (\S+)", str(error))
        what = f" (it names {named[1]})" if named else ""
        raise ForeignError(f"{path} is a pickle that could run code, so it was not opened{what}") from None
    except Exception as error:  # whatever torch raises for contents that do not fit together
        if isinstance(error, OSError) and not os.access(path, os.R_OK):
            raise
        reason = " ".join(str(error).split())[:120]
        raise ForeignError(f"{path} is damaged or no PyTorch file: {reason or type(error).__name__}") from None
