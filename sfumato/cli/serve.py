"""`sfumato serve`: one model behind a local web page and a JSON interface, for people who type no commands."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from sfumato.cli import local
from sfumato.cli.numbers import Count, Range
from sfumato.cli.parsing import loaded, parse


@dataclass(frozen=True)
class ServeArguments:
    """Open a page on this machine that samples, guides and inpaints with a model; scripts ask it by JSON."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="MODEL")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    batch: Count = 16
    """Pictures at a time; bounds the memory."""
    waiting: Annotated[int, Range(0, 1000)] = 8
    """Requests that may wait while one is made; another is refused."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    port: Annotated[int, Range(0, 65535)] = 2719
    """Where to listen, on this machine alone; 0 takes any free port."""
    browser: bool = True
    """Open a browser."""


def serve_command(arguments: list[str]) -> int:
    local.check(arguments, ServeArguments.port, "the server")
    parsed = parse(ServeArguments, arguments, "sfumato serve")
    local.need("the page needs", "starlette", "uvicorn")
    from sfumato.learn import server
    from sfumato.runtime import signals
    from sfumato.serve.app import make_app
    from sfumato.serve.jobs import Jobs
    from sfumato.serve.work import Served

    with server.listen(parsed.port) as listener:
        port = listener.getsockname()[1]
        served = Served(loaded(parsed.target, parsed.weights, parsed.device), parsed.target, parsed.batch)
        jobs = Jobs(parsed.waiting)
        app, token = make_app(served, jobs, port)
        address = f"http://127.0.0.1:{port}/?token={token}"
        try:
            local.run(app, listener, address, f"Pictures from {parsed.target}", parsed.browser, jobs.close)
        except signals.Stopped as stop:
            signals.leave(stop.signal)  # a step of a large network is not waited for
        jobs.wait(10)  # hung up: a thread amid a step would abort the process
    return 0
