"""How much memory a set of pictures may take, looked at before it is taken: what is free, and what is really stored.

Files of a few bytes can claim gigabytes. Pictures seldom shrink to a hundredth of their size, so a set that is large
must be stored at more than that, or it is refused.
"""

from __future__ import annotations

import threading

from sfumato.data.spec import DataError, UnfitError
from sfumato.runtime.opening import free_memory

FREELY = 3 * 2**28
"""Bytes that any set may take, however few are stored: those of the largest picture in colour."""

DENSEST = 200
"""So many bytes of a set beyond that may come of one that is stored."""

MOST_CLASSES = 2**16
"""Class numbers are below this: the largest label set in use (ImageNet-21k) has a third of it."""


def gigabytes(count: float) -> str:
    """1.2 GB, or megabytes where it is less than one."""
    return f"{count / 1e9:.1f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


def is_hollow(length: int, stored: int) -> bool:
    """Whether a file of this length is nearly all holes, so that there is nothing in it to read."""
    return length > 2**26 and length > DENSEST * stored


class Room:
    """What a set has come to while it is read, by several threads.

    Args:
        what: the set, for messages.
    """

    def __init__(self, what: str) -> None:
        self.what, self.free, self.lock = what, free_memory(), threading.Lock()
        self.held = self.decoded = self.stored = 0

    def add(self, *, decoded: int = 0, stored: int = 0, held: int = 0) -> None:
        """Something more: bytes once decoded, bytes where it is stored, and bytes that stay in memory.

        Raises:
            UnfitError: the set takes more than half of what was free, or far more than is stored.
        """
        with self.lock:
            self.decoded, self.stored, self.held = self.decoded + decoded, self.stored + stored, self.held + held
        if self.decoded > FREELY and self.decoded > DENSEST * self.stored:
            raise UnfitError(
                f"{self.what}: {gigabytes(self.stored)} of files expand to {gigabytes(self.decoded)} or more, which no "
                "real pictures do; leave out those that are very large and empty"
            )
        if self.held > self.free // 2:
            raise UnfitError(
                f"{self.what} takes {gigabytes(self.held)} of memory or more, and {gigabytes(self.free)} are free; "
                "choose a smaller ?size=, or ?limit=N, or prepare it once (sfumato prepare SPEC OUT)"
            )


def check_labels(what: str, largest: int, smallest: int = 0) -> None:
    """Refuse numbers of classes that nobody can mean. DataError names the set and the number."""
    if smallest < 0 or largest >= MOST_CLASSES:
        wrong = smallest if smallest < 0 else largest
        raise DataError(f"{what}: classes are numbered from 0 to {MOST_CLASSES - 1:,} at most, and one is {wrong:,}")


def check_enlarged(what: str, before: int, after: int) -> None:
    """Refuse to enlarge a set of pictures to more than `FREELY` bytes: there is nothing more to see in them."""
    if after > max(before, FREELY):
        raise DataError(
            f"{what} would be enlarged from {gigabytes(before)} to {gigabytes(after)}; choose a smaller ?size="
        )
