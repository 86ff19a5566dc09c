"""JSON files that others wrote: read within a bound, with or without a byte order mark; errors name the file and place.

A file holds one object, which is what configurations, cards and indexes are.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from sfumato.runtime.opening import read_bounded

LARGEST = 16 << 20
"""Bytes: far more than any configuration needs."""


def read_object(path: Path, error: type[ValueError] = ValueError, most: int = LARGEST) -> dict[str, Any]:
    """The object in a JSON file.

    Args:
        error: what to raise where it holds none.
        most: bytes that such a file can need.

    Raises:
        OSError: missing, no permission, no regular file, or larger than `most`.
    """
    return parsed(read_bounded(path, most), str(path), error)


def parsed(content: bytes, what: str, error: type[ValueError] = ValueError) -> dict[str, Any]:
    """The object in a JSON text; `what` names the text in errors."""
    try:
        found = json.loads(content.decode("utf-8-sig"))
    except json.JSONDecodeError as reason:
        place = f"line {reason.lineno}, column {reason.colno}"
        raise error(f"{what} is no JSON text: {reason.msg} ({place})" if content else f"{what} is empty") from None
    except UnicodeDecodeError as reason:
        raise error(f"{what} is no JSON text: byte {reason.start} is no UTF-8") from None
    except (RecursionError, ValueError):  # numbers of thousands of digits
        raise error(f"{what} is no JSON text to be read: nested too deeply, or with numbers too long") from None
    if not isinstance(found, dict):
        raise error(f"{what} holds no JSON object")
    return found
