"""Names of parametrized tests that are the same in every process."""

from __future__ import annotations

import re


def named(options: object) -> str:
    """The options in words, functions without their address in memory."""
    return re.sub(r" at 0x[0-9a-f]+", "", str(options))
