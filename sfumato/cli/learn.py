"""`sfumato learn`: the learning path in the browser, offline."""

from __future__ import annotations

import contextlib
import importlib.util
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from sfumato.cli.parsing import UsageError, parse


@dataclass(frozen=True)
class LearnArguments:
    """Open the learning path, or one lesson of it, in the browser."""

    lesson: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[LESSON]")] = ""
    """A lesson by name or number, or playground; the catalogue by default."""
    models: tuple[Path, ...] = ()
    """Run folders or checkpoints of your own, for the playground."""
    port: int = 2718
    """Where to listen, on this machine alone; 0 takes any free port."""
    browser: bool = True
    """Open a browser."""


def learn_command(arguments: list[str]) -> int:
    parsed = parse(LearnArguments, arguments, "sfumato learn")
    missing = [name for name in ("marimo", "anywidget") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'the lessons need {" and ".join(missing)}: pip install "sfumato[learn]"')
    import webbrowser

    import uvicorn

    from sfumato.learn import catalogue, server
    from sfumato.models import load_model

    if not 0 <= parsed.port < 65536:
        raise UsageError(f"a port lies between 0 and 65535, not {parsed.port}")
    for path in parsed.models:
        load_model(path)
    where = "playground/" if parsed.lesson == "playground" else ""
    if parsed.lesson and not where:
        where = f"lesson/{catalogue.lesson(parsed.lesson).name}/"
    port = server.free_port(parsed.port)
    app, token = server.make_app(models=parsed.models)
    address = f"http://127.0.0.1:{port}/{where}?token={token}"
    print(f"The learning path:  {address}\nCtrl-C ends it.", flush=True)
    if parsed.browser and not webbrowser.open(address):
        print("No browser could be opened here; open the address above in one.", flush=True)
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.run(app, host="127.0.0.1", port=port, log_level="warning", timeout_graceful_shutdown=2)
    # Open lessons run in threads that neither end by themselves nor can be joined; what a learner did is on disk.
    print("Ended.", flush=True)
    os._exit(0)
