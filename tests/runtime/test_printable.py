"""Text that cannot act on a terminal."""

from __future__ import annotations

import pytest

from sfumato.runtime.printable import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("\x1b[2J\x07name\x7f", r"\x1b[2J\x07name\x7f"),
        ("two\nlines\r\t", r"two\x0alines\x0d\x09"),
        ("\x9b31m", r"\x9b31m"),
        ("exe\u202egnp.\u2066a\u2028", r"exe\u202egnp.\u2066a\u2028"),
        ("\udcff.png", r"\xff.png"),
        ("Smileys & Emotion, Flüsse, 猫, \U0001f468\u200d\U0001f469\u200d\U0001f467", None),
    ],
)
def test_what_acts_is_written_out(text: str, shown: str | None) -> None:
    assert printable(text) == (text if shown is None else shown)


def test_what_is_kept() -> None:
    assert printable("a\n\tb\r\x1b", "\n\t") == "a\n\tb\\x0d\\x1b"
    assert printable("a\rb\n\x1b", "\r\n\t") == "a\rb\n\\x1b"
