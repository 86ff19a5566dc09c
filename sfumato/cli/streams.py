"""Standard output and error while a command runs: nothing that is printed acts on the terminal, whatever its source.

A reader that goes away, as `head` does, ends the command quietly.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
from collections.abc import Iterator
from typing import Any

from sfumato.runtime.printable import printable

MOVES = "\x1b[A"
"""One line up: progress bars need it."""

MINUS_ZERO = re.compile(r"(?<![\w.-])-(?=0(?:\.0+)?(?![\w.]))")
"""The sign of a zero, as rounding leaves it."""


class ReaderGone(Exception):
    """Whoever read the output has gone away."""


class Plain:
    """A text stream on its way to a terminal.

    Attributes:
        raw: the stream below.
        progress: bars of progress are drawn on it, which go back to the beginning of a line, and up.
    """

    def __init__(self, raw: Any, progress: bool = False) -> None:
        self.raw = raw
        self.progress = progress

    def write(self, text: str) -> int:
        """Write text without anything that acts, and with an escape for each letter that the encoding lacks.

        A number that rounds to zero loses its sign: -0.0000 is 0.0000.
        """
        text = MINUS_ZERO.sub("", text)
        if self.progress:
            shown = MOVES.join(printable(part, "\r\n\t") for part in text.split(MOVES))
        else:
            shown = printable(text, "\n\t")
        encoding = getattr(self.raw, "encoding", None) or "utf-8"
        with _reader():
            self.raw.write(shown.encode(encoding, "backslashreplace").decode(encoding))
        return len(text)

    def writelines(self, lines: Any) -> None:
        """Write each of the lines."""
        for line in lines:
            self.write(line)

    def flush(self) -> None:
        """Bring what was written on its way."""
        with _reader():
            self.raw.flush()

    def __getattr__(self, name: str) -> Any:
        return getattr(self.raw, name)


@contextlib.contextmanager
def _reader() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise ReaderGone from None


@contextlib.contextmanager
def plain() -> Iterator[None]:
    """Both standard streams are `Plain` while the context lasts, and what was printed is on its way at its end."""
    before = sys.stdout, sys.stderr
    if before[0] is not None:  # a program without a terminal, or one whose output is closed, has none
        sys.stdout = Plain(before[0])
    if before[1] is not None:
        sys.stderr = Plain(before[1], progress=True)
    try:
        try:
            yield
        finally:
            if sys.stdout is not None:
                sys.stdout.flush()
    finally:
        sys.stdout, sys.stderr = before


@contextlib.contextmanager
def unfiltered() -> Iterator[None]:
    """Standard output as it was, for what colours its own words, such as a help page."""
    stream: Any = sys.stdout
    with contextlib.redirect_stdout(stream.raw if isinstance(stream, Plain) else stream):
        yield


def silence() -> None:
    """Standard output leads nowhere from here on, so that its end says nothing at the end of the process."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
