"""`sfumato learn`: the learning path in the browser, offline."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli import course, local
from sfumato.cli.numbers import Range, UsageError
from sfumato.cli.parsing import parse


@dataclass(frozen=True)
class LearnArguments:
    """Open the learning path, or one lesson of it, in the browser."""

    lesson: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[LESSON]")] = ""
    """A lesson by name or number, or playground; the catalogue by default."""
    models: tuple[Path, ...] = ()
    """Run folders or checkpoints of your own, for the playground."""
    port: Annotated[int, Range(0, 65535)] = 2718
    """Where to listen, on this machine alone; 0 takes any free port."""
    learner: str = ""
    """Keep progress apart for this learner: several can share one account, each with an address of their own."""
    behind: str = ""
    """The whole address under which a proxy on this machine shows it, e.g. JupyterHub's."""
    language: course.Language = ""
    """The language of pages that name none, and of what --export writes; pages have a switch. English by default.
    all: what --export writes is in every language, side by side."""
    export: course.Export = ""
    """Write this lesson as a file that needs no server (all: a site of all lessons), and end."""
    to: course.Format = "html"
    """What to write: a page that works offline, a Jupyter notebook, or a PDF."""
    out: Path = Path("lessons")
    """The folder for what --export or --read writes."""
    new_class: Path | None = None
    """Write a key for a class into this file, and end."""
    hand_in: Path | None = None
    """Write what is solved into this file, signed with the class's key, and end."""
    name: str = ""
    """Your name in what you hand in."""
    class_key: Path | None = None
    """The file with the class's key, for --hand-in and --read."""
    read: Path | None = None
    """Read a folder of files that were handed in, write class.csv into --out, and end."""
    judge: bool = False
    """With --read: run every answer again instead of believing the file."""
    teacher: bool = False
    """Serve the teacher's page too: hours, goals, notes for class and every solution."""
    browser: bool = True
    """Open a browser."""


def learn_command(arguments: list[str]) -> int:
    local.check(arguments, LearnArguments.port, "lessons run what is typed into them, so the server")
    parsed = parse(LearnArguments, arguments, "sfumato learn")
    if parsed.learner:
        course.learner(parsed.learner)
    if parsed.language == course.EVERY and not parsed.export:
        raise UsageError("--language all is for --export; pages that are served have a switch")
    course.speak(parsed.language)
    course.check_language()
    course.check_proxy(parsed.behind)
    if parsed.new_class:
        return course.new_class(parsed.new_class)
    if parsed.hand_in:
        return course.hand_in(parsed.hand_in, parsed.name, parsed.class_key)
    if parsed.read:
        return course.read(parsed.read, parsed.class_key, parsed.judge, parsed.out)
    local.need("the lessons need", "marimo", "anywidget", "polib")
    if parsed.export:
        return course.export(parsed.export, parsed.to, parsed.out, parsed.language)
    from sfumato.learn import catalogue, server
    from sfumato.models import load_model

    for path in parsed.models:
        load_model(path)
    where = "playground/" if parsed.lesson == "playground" else ""
    if parsed.lesson and not where:
        where = f"lesson/{catalogue.lesson(parsed.lesson).name}/"
    with server.listen(parsed.port) as listener, contextlib.suppress(KeyboardInterrupt):
        port = listener.getsockname()[1]
        app, token = server.make_app(
            port, os.environ.get(course.TOKEN), models=parsed.models, teaching=parsed.teacher, behind=parsed.behind
        )
        base = parsed.behind.rstrip("/") or f"http://127.0.0.1:{port}"
        address = f"{base}/{where}?token={token}"
        local.run(app, listener, address, "The learning path", parsed.browser)
    # Open lessons run in threads that neither end by themselves nor can be joined; what a learner did is on disk.
    print("Ended.", flush=True)
    os._exit(0)
