"""How a command ends that raises: one line and an exit code, whatever the exception.

Bad input, and a machine that is too small or lacks something, are known kinds, with the exit code 2. Anything else is
caught by a last net: exit code 1, and a line that names the private file with the traceback.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import sys

from sfumato.cli.streams import ReaderGone, silence
from sfumato.runtime.printable import printable
from sfumato.runtime.signals import said

USAGE, INTERNAL, GONE = 2, 1, 141
"""Exit codes: bad input; a fault of ours; the reader of the output has gone, as of a process that SIGPIPE ends."""

NET = "internal error"
"""The line of the last net begins so, and no other does: no known kind of bad input may end in it."""

LONGEST = 2_000
"""Letters of the line, about."""

NO_MEMORY = re.compile(r"out of memory|not enough memory|can't allocate memory|cannot allocate memory", re.IGNORECASE)
"""How torch says it, on every device: in a RuntimeError, whose subclasses differ from version to version."""


def end(error: BaseException) -> int:
    """Say in one line on standard error what ended a command; returns the exit code."""
    line, code = ended(error)
    try:
        sys.stdout.flush()
    except (OSError, ValueError, AttributeError):  # it was this that failed, or there is none
        silence()
    with contextlib.suppress(OSError, ValueError):
        if line:
            print(line, file=sys.stderr, flush=True)
    return code


def ended(error: BaseException) -> tuple[str, int]:
    """The line for standard error (empty where nothing is to be said) and the exit code of what ended a command."""
    if isinstance(error, KeyboardInterrupt):
        number = getattr(error, "signal", signal.SIGINT)
        return said(number), 128 + number
    if isinstance(error, ReaderGone):
        return "", GONE
    line = known(error)
    if line is not None:
        return f"sfumato: {line}", USAGE
    return f"sfumato: {NET}: {_named(error)}; {_kept(error)}", INTERNAL


def known(error: BaseException) -> str | None:
    """The one line of a kind that users meet; None for any other exception."""
    if isinstance(error, OSError) and error.strerror:
        return _one_line(f"{error.strerror}: {error.filename}" if error.filename else error.strerror)
    if isinstance(error, ModuleNotFoundError) and not (error.name or "sfumato").startswith("sfumato"):
        return f"the package {error.name} is missing here: pip install {error.name}"
    if isinstance(error, RecursionError):
        return "the input is nested too deeply"
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and NO_MEMORY.search(str(error))):
        what = _one_line(str(error))
        return f"not enough memory{f' ({what[:200]})' if what else ''}; a smaller --batch, size or number needs less"
    if isinstance(error, ValueError | OSError):
        return _one_line(str(error)) or _named(error)
    return None


def _named(error: BaseException) -> str:
    what = _one_line(str(error))
    return f"{type(error).__name__}: {what[:300]}" if what else type(error).__name__


def _one_line(text: str) -> str:
    """In one line that can be read: where a hostile value is quoted whole, its middle is left out."""
    line = printable(" ".join(text.split()))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 500]} [...] {line[-500:]}"


def _kept(error: BaseException) -> str:
    """Write the traceback into a file that this user alone can read; says where it is."""
    import tempfile
    import traceback

    text = "".join(traceback.format_exception(error))
    with contextlib.suppress(OSError):
        handle, path = tempfile.mkstemp(prefix="sfumato-", suffix=".txt")
        with os.fdopen(handle, "w", encoding="utf-8", errors="backslashreplace") as file:
            file.write(text)
        return f"please report it with {path}, which holds the traceback"
    return "its traceback could not be written"
