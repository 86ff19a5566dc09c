"""`sfumato learn`: the learning path in the browser, offline."""

from __future__ import annotations

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli import local
from sfumato.cli.numbers import Range
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
    teacher: bool = False
    """Serve the teacher's page too: hours, goals, notes for class and every solution."""
    browser: bool = True
    """Open a browser."""


def learn_command(arguments: list[str]) -> int:
    local.check(arguments, LearnArguments.port, "lessons run what is typed into them, so the server")
    parsed = parse(LearnArguments, arguments, "sfumato learn")
    local.need("the lessons need", "marimo", "anywidget")
    from sfumato.learn import catalogue, server
    from sfumato.models import load_model

    for path in parsed.models:
        load_model(path)
    where = "playground/" if parsed.lesson == "playground" else ""
    if parsed.lesson and not where:
        where = f"lesson/{catalogue.lesson(parsed.lesson).name}/"
    with server.listen(parsed.port) as listener, contextlib.suppress(KeyboardInterrupt):
        port = listener.getsockname()[1]
        app, token = server.make_app(port, models=parsed.models, teaching=parsed.teacher)
        address = f"http://127.0.0.1:{port}/{where}?token={token}"
        local.run(app, listener, address, "The learning path", parsed.browser)
    # Open lessons run in threads that neither end by themselves nor can be joined; what a learner did is on disk.
    print("Ended.", flush=True)
    os._exit(0)
