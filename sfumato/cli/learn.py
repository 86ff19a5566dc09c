"""`sfumato learn`: the learning path in the browser, offline."""

from __future__ import annotations

import contextlib
import importlib.util
import os
import signal
import threading
from dataclasses import dataclass
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Annotated

import tyro

from sfumato.cli.numbers import Range
from sfumato.cli.parsing import UsageError, parse


@dataclass(frozen=True)
class LearnArguments:
    """Open the learning path, or one lesson of it, in the browser."""

    lesson: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[LESSON]")] = ""
    """A lesson by name or number, or playground; the catalogue by default."""
    models: tuple[Path, ...] = ()
    """Run folders or checkpoints of your own, for the playground."""
    port: Annotated[int, Range(0, 65535)] = 2718
    """Where to listen, on this machine alone; 0 takes any free port."""
    browser: bool = True
    """Open a browser."""


def learn_command(arguments: list[str]) -> int:
    if any(word.partition("=")[0] == "--host" for word in arguments):
        raise UsageError(
            "there is no --host: lessons run what is typed into them, so the server listens on 127.0.0.1 alone; from "
            "another machine: ssh -L 2718:127.0.0.1:2718 THIS_MACHINE, then open the printed address there"
        )
    parsed = parse(LearnArguments, arguments, "sfumato learn")
    missing = [name for name in ("marimo", "anywidget") if importlib.util.find_spec(name) is None]
    if missing:
        raise UsageError(f'the lessons need {" and ".join(missing)}: pip install "sfumato[learn]"')
    from sfumato.learn import catalogue, server
    from sfumato.models import load_model

    for path in parsed.models:
        load_model(path)
    where = "playground/" if parsed.lesson == "playground" else ""
    if parsed.lesson and not where:
        where = f"lesson/{catalogue.lesson(parsed.lesson).name}/"
    with server.listen(parsed.port) as listener:
        _serve(listener, where, parsed)
    # Open lessons run in threads that neither end by themselves nor can be joined; what a learner did is on disk.
    print("Ended.", flush=True)
    os._exit(0)


def _serve(listener: socket, where: str, parsed: LearnArguments) -> None:
    """Answer at the socket until Ctrl-C, termination or the end of the terminal."""
    import uvicorn

    from sfumato.learn import server

    port = listener.getsockname()[1]
    app, token = server.make_app(port, models=parsed.models)
    address = f"http://127.0.0.1:{port}/{where}?token={token}"
    serving = uvicorn.Server(server.settings(app))

    def end(number: int, frame: FrameType | None) -> None:
        serving.should_exit = True

    with contextlib.ExitStack() as open_until_the_end, contextlib.suppress(KeyboardInterrupt):
        hangup = getattr(signal, "SIGHUP", None)
        if hangup and signal.getsignal(hangup) == signal.SIG_DFL:  # not under nohup
            signal.signal(hangup, end)
        print(f"The learning path:  {address}\nCtrl-C ends it.", flush=True)
        if parsed.browser:
            page = open_until_the_end.enter_context(server.redirect(address))
            threading.Thread(target=_open, args=(page,), daemon=True).start()  # a browser in the terminal stays
        serving.run(sockets=[listener])


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        print("No browser could be opened here; open the address above in one.", flush=True)
