"""The languages of the learning path: `tr` translates a message into the language of the page that asks, by gettext's
catalogues LANGUAGE/*.po, in which the English text is its own key.

A page's language stands in its address, `?lang=zh` (`languages.web`); an export, a test and the process in which
answers run set it with `using`; otherwise it is $SFUMATO_LANGUAGE, or English. `scripts/messages.py` keeps the
catalogues.
"""

from __future__ import annotations

import contextlib
import functools
import os
import sys
import textwrap
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path
from typing import Any

LANGUAGES = {"en": "English", "zh": "中文"}
"""Language -> its name in itself. The first is the one that the texts are written in."""
TAGS = {"en": "en", "zh": "zh-CN"}
"""Language -> the value of an element's attribute `lang`."""
SOURCE = "en"
"""The language of the texts in the code."""
SETTING = "SFUMATO_LANGUAGE"
"""Environment variable: the language where a page names none."""
CATALOGUES = Path(__file__).parent
_using: ContextVar[str | None] = ContextVar("language", default=None)


def known(name: str | None) -> str | None:
    """The language of that name; None where there is none."""
    return name if name in LANGUAGES else None


def default() -> str:
    """The language where a page names none."""
    return known(os.environ.get(SETTING)) or SOURCE


def named() -> str | None:
    """The language that whoever asks has named: by `using`, or in the address of the page whose notebook is running."""
    return _using.get() or known(_of_notebook())


def language() -> str:
    """The language of whoever asks: the one that is named, else the default."""
    return named() or default()


@contextlib.contextmanager
def using(name: str) -> Iterator[None]:
    """While this is open, messages are in that language, in this thread or task. ValueError for an unknown one."""
    if name not in LANGUAGES:
        raise ValueError(f"no language is called {name!r}; there are: {', '.join(LANGUAGES)}")
    token = _using.set(name)
    try:
        yield
    finally:
        _using.reset(token)


def tr(text: str, **values: Any) -> str:
    """A message in the language of the page; without a translation it stays English.

    A text that begins with a line break is taken without its indentation and the blank lines around it. With values a
    message is a format string, `tr("{n:,} images", n=count)`, so that braces which mean themselves are doubled; without
    them it is taken as it is.
    """
    key = normal(text)
    asked = language()
    found = key if asked == SOURCE else messages(asked).get(key, key)
    if not values:
        return found
    try:
        return found.format(**values)
    except (LookupError, ValueError, AttributeError):  # of a damaged translation
        return key.format(**values)


@functools.lru_cache(maxsize=4096)
def normal(text: str) -> str:
    """A text as catalogues hold it: one that begins with a line break without its indentation and what surrounds it."""
    return textwrap.dedent(text).strip() if text.startswith("\n") else text


@functools.cache
def messages(name: str) -> dict[str, str]:
    """Every translated message of a language."""
    return {entry.msgid: entry.msgstr for entry in entries(name) if entry.translated()}


@functools.cache
def of_file(name: str, file: str) -> dict[str, str]:
    """The translated messages that a file of `sfumato/learn` holds, for a script in a page. Empty in English."""
    if name == SOURCE:
        return {}
    return {
        entry.msgid: entry.msgstr
        for entry in entries(name)
        if entry.translated() and any(place == file for place, _ in entry.occurrences)
    }


@functools.cache
def entries(name: str) -> tuple[Any, ...]:
    """All entries of the catalogues of a language that can be read."""
    return tuple(entry for path in _files(name) for entry in _read(path))


def damaged(name: str) -> list[Path]:
    """The catalogues of a language that cannot be read; what they hold is shown in English."""
    return [] if name == SOURCE else [path for path in _files(name) if not _read(path)]


def _files(name: str) -> list[Path]:
    return sorted((CATALOGUES / name).glob("*.po"))


@functools.cache
def _read(path: Path) -> tuple[Any, ...]:
    """The entries of one catalogue; none where it is damaged."""
    import polib

    try:
        return tuple(polib.pofile(str(path)))
    except (OSError, ValueError, LookupError):  # syntax, bytes that are no text, an unknown charset
        return ()


def _of_notebook() -> str | None:
    """What the address of a page says whose notebook runs in this thread."""
    marimo = sys.modules.get("marimo")
    if marimo is None or not marimo.running_in_notebook():
        return None
    found = marimo.query_params().get("lang")
    return found[-1] if isinstance(found, list) else found
