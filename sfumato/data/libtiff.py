"""What libtiff says of damaged files: Pillow lets it print that, and takes the picture that came out for a whole one.

Here it is counted instead, thread by thread, so that such a file is one that cannot be read. Where the library cannot
be found (it is looked for on Linux), it prints as it does.
"""

from __future__ import annotations

import ctypes
import threading
from functools import cache
from pathlib import Path
from typing import Any

_said = threading.local()

_HANDLER = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
"""void (const char *module, const char *format, va_list)."""


def forget() -> None:
    """Count from 0 in this thread."""
    _listening()
    _said.errors = 0


def errors() -> int:
    """How often libtiff reported an error in this thread since `forget`."""
    found: int = getattr(_said, "errors", 0)
    return found


@_HANDLER
def _heard(*_: object) -> None:
    _said.errors = errors() + 1


@cache
def _listening() -> Any:
    """Once in a process: libtiff reports its errors here, and its warnings to nobody."""
    try:
        from PIL import _imaging  # noqa: F401  # loads it

        lines = Path("/proc/self/maps").read_text().splitlines()
        path = next(line.split(maxsplit=5)[5] for line in lines if "/libtiff" in line)
        library = ctypes.CDLL(path)
        library.TIFFSetErrorHandler(_heard)
        library.TIFFSetWarningHandler(None)
    except (ImportError, OSError, StopIteration, AttributeError, IndexError):
        return None
    return library
