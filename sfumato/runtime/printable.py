"""Text from files on its way to a terminal: names, classes and licences in which nothing can act on the terminal.

Control characters could move the cursor, change colours, retitle the window or reorder what is read.
"""

from __future__ import annotations

import re

_ACTING = (
    "\x00-\x1f\x7f-\x9f"  # C0 with escape, delete, C1
    "\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff"  # separators of lines, and what reorders text
    "\ud800-\udfff"  # bytes of a file name that are no UTF-8
)
_FOUND = {keep: re.compile(f"(?![{keep}])[{_ACTING}]" if keep else f"[{_ACTING}]") for keep in ("", "\n\t", "\r\n\t")}


def printable(text: str, keep: str = "") -> str:
    r"""The text with every character that acts on a terminal written as an escape: `\x1b[31m`, `\u202e`.

    Args:
        keep: which of line feed, tab and carriage return stay as they are: "", "\n\t" or "\r\n\t".

    Letters of any script, emoji and what joins them stay.
    """
    return _FOUND[keep].sub(_escaped, text)


def _escaped(found: re.Match[str]) -> str:
    code = ord(found[0])
    if 0xDC80 <= code <= 0xDCFF:  # a byte of a file name, as Python carries it
        code -= 0xDC00
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
