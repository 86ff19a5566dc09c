"""Ctrl-C and termination: as exceptions from the first instruction of a command on, or heard between two steps.

While a run trains, the first signal asks it to save and stop, and the second stops it at once.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
from collections.abc import Iterator
from types import FrameType
from typing import NoReturn


class Stopped(KeyboardInterrupt):
    """The end of a command by a signal; `signal` is its number."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.signal = number


def said(number: int) -> str:
    """What a command that a signal ends says of it."""
    return "sfumato: terminated" if number == signal.SIGTERM else "sfumato: stopped"


def leave(number: int, frame: FrameType | None = None) -> NoReturn:
    """End the process at once, with one line and the exit code of the signal: 130 for Ctrl-C, 143 for termination."""
    if "multiprocessing" in sys.modules:
        for child in sys.modules["multiprocessing"].active_children():
            child.terminate()
    with contextlib.suppress(OSError):
        os.write(2, f"{said(number)}\n".encode())
    os._exit(128 + number)


class Ending:
    """The first signal becomes `Stopped` while `unwinds` is set, so that what is open is closed. Else the process ends
    at once; so it does while modules are imported, where an exception can be swallowed or change its kind."""

    def __init__(self) -> None:
        self.signal = 0
        self.unwinds = False

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal or not self.unwinds or _importing(frame):
            leave(number)
        self.signal = number
        raise Stopped(number)


def _importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith("<frozen importlib"):
            return True
        frame = frame.f_back
    return False


HEARD = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def ending(program: bool) -> Iterator[Ending]:
    """Signals end what runs in the context, as `Ending` says (in the main thread; elsewhere nothing changes).

    Args:
        program: the process ends after the context, so that a signal that is still to come ends it at once; else the
            handlers of before come back.

    A signal that was ignored before, as Ctrl-C is in the background of a shell script, stays so.
    """
    handler = Ending()
    if threading.current_thread() is not threading.main_thread():
        yield handler
        return
    before = {number: signal.getsignal(number) for number in HEARD}
    ours = [number for number in HEARD if before[number] not in (signal.SIG_IGN, None)]
    for number in ours:
        signal.signal(number, handler)
    try:
        yield handler
    finally:
        for number in ours:
            signal.signal(number, leave if program else before[number])


class Interrupt:
    """The signal that arrived, or 0."""

    def __init__(self) -> None:
        self.signal = 0

    def __call__(self, number: int, frame: FrameType | None) -> None:
        if self.signal:
            raise Stopped(number)
        self.signal = number


@contextlib.contextmanager
def listening() -> Iterator[Interrupt]:
    """Listen to SIGINT and SIGTERM while the context lasts (in the main thread; elsewhere nothing arrives)."""
    interrupt = Interrupt()
    if threading.current_thread() is not threading.main_thread():
        yield interrupt
        return
    before = {number: signal.signal(number, interrupt) for number in HEARD}
    try:
        yield interrupt
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
