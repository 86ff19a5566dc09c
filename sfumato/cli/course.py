"""What `sfumato learn` does besides serving: lessons as files, progress to hand in, a class's progress as a table."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sfumato.cli.numbers import UsageError

TOKEN = "SFUMATO_TOKEN"
"""Environment variable: the token that opens the server, where another program must know it; a random one without."""
Export = Annotated[str, tyro.conf.arg(metavar="LESSON")]
Format = Literal["html", "ipynb", "pdf"]
Language = Literal["", "en", "zh", "all"]
EVERY = "all"
"""In place of a language: what is exported is written in each."""


def learner(name: str) -> None:
    """Keep progress apart for a learner of that name, in this process and those that it starts."""
    from sfumato.learn import progress

    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise UsageError(f"--learner is a short name of letters, digits, _, - and ., not {name!r}")
    os.environ["SFUMATO_PROGRESS"] = str(progress.location().parent / "learners" / name / "progress.json")


def speak(language: Language) -> None:
    """Pages that name no language are in this one, in this process and those that it starts; `all` changes nothing."""
    from sfumato.learn import languages

    if language and language != EVERY:
        os.environ[languages.SETTING] = language


def check_language() -> None:
    """UsageError where the environment asks for a language that there is none of."""
    from sfumato.learn import languages

    name = os.environ.get(languages.SETTING)
    if name and not languages.known(name):
        raise UsageError(f"{languages.SETTING} is one of {', '.join(languages.LANGUAGES)}, not {name!r}")


def check_proxy(address: str) -> None:
    """UsageError for an address of a proxy that is none, and for a token that is easily guessed."""
    if address and not re.fullmatch(r"https?://[A-Za-z0-9.-]+(:\d+)?(/[A-Za-z0-9_.~@%-]+)*/?", address):
        raise UsageError(f"--behind is a whole address such as https://hub.example/user/ada/sfumato, not {address!r}")
    token = os.environ.get(TOKEN)
    if token is not None and not re.fullmatch(r"[A-Za-z0-9_-]{16,}", token):
        raise UsageError(f"{TOKEN} has at least 16 letters, digits, _ and -")


def export(lesson: str, kind: Format, out: Path, language: Language = "") -> int:
    """Write a lesson, or all of them, as files into a folder."""
    from sfumato.learn import export as exporting
    from sfumato.learn import languages
    from sfumato.learn.export import printed

    pages = exporting.chosen(lesson)
    if out.exists() and not out.is_dir():
        raise UsageError(f"--out is a folder; {out} is a file")
    if kind == "pdf":
        printed.need()
    if len(pages) > 1 and kind != "ipynb":
        times = "in each language" if language == EVERY else "once"
        print(f"{len(pages)} pages; each lesson is run {times}, which takes minutes")
    spoken = tuple(languages.LANGUAGES) if language == EVERY else ()
    written = exporting.FORMATS[kind](pages, out, lambda line: print(line, flush=True), spoken)
    if len(written) > 1:
        print(f"{len(written)} files in {out}; begin with {written[0].name}")
    return 0


def hand_in(path: Path, name: str, key: Path | None) -> int:
    """Write signed progress."""
    from sfumato.learn import handed

    count = handed.hand_in(path, name, handed.key_of(_given(key)))
    print(f"{path}: {count} of {len(handed.tasks())} tasks, signed as {name}")
    return 0


def read(folder: Path, key: Path | None, judge: bool, out: Path) -> int:
    """A class's progress as CSV."""
    from sfumato.data import pictures
    from sfumato.learn import handed

    if not folder.is_dir():
        raise UsageError(f"--read is a folder of files that were handed in; {folder} is none")
    secret = handed.key_of(_given(key))
    found = [handed.read(path, secret) for path in sorted(folder.glob("*.json"))]
    if not found:
        raise UsageError(f"no .json file lies in {folder}")
    path = out / "class.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.write_text(path, handed.table(found, judge))
    valid = sum(one.signature == "valid" for one in found)
    files = "1 file" if len(found) == 1 else f"{len(found)} files"
    print(f"{path}: {files}, {valid} with a valid signature" + (", judged again" if judge else ""))
    return 0


def new_class(path: Path) -> int:
    """Write a key for a class."""
    from sfumato.learn import handed

    handed.new_key(path)
    print(f"{path}: give it to the learners of one class; they hand in with --class-key {path.name}")
    return 0


def _given(key: Path | None) -> Path:
    if key is None:
        raise UsageError("give the class's key: --class-key FILE (a teacher makes one with --new-class FILE)")
    if not key.is_file():
        raise UsageError(f"--class-key: there is no file {key}")
    return key
