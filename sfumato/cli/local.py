"""Running a local server until Ctrl-C, termination or the end of the terminal: `sfumato learn`, `sfumato serve`."""

from __future__ import annotations

import contextlib
import importlib.util
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from socket import socket
from types import FrameType
from typing import Any

from sfumato.cli.numbers import UsageError


def check(arguments: list[str], port: int, why: str) -> None:
    """UsageError for --host, which a server on this machine alone has not; `why` says why it listens so."""
    if any(word.partition("=")[0] == "--host" for word in arguments):
        raise UsageError(
            f"there is no --host: {why} listens on 127.0.0.1 alone; from another machine: "
            f"ssh -L {port}:127.0.0.1:{port} THIS_MACHINE, then open the printed address there"
        )


def need(what: str, *modules: str) -> None:
    """UsageError that names the modules which are not installed, and the extra that brings them."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        raise UsageError(f'{what} {" and ".join(missing)}: pip install "sfumato[learn]"')


def run(
    app: Any, listener: socket, address: str, title: str, browser: bool, ended: Callable[[], None] = lambda: None
) -> None:
    """Answer at the socket. KeyboardInterrupt where a signal ended it, once what is open is closed.

    Args:
        app: the ASGI app.
        address: with the token; it is printed after the title.
        browser: open it in one.
        ended: called at the first signal, before open requests are waited for.
    """
    import uvicorn

    from sfumato.learn import server

    serving = uvicorn.Server(server.settings(app))
    heard = serving.handle_exit

    def end(number: int, frame: FrameType | None) -> None:
        ended()
        heard(number, frame)

    serving.handle_exit = end  # type: ignore[method-assign, assignment]

    def hang_up(number: int, frame: FrameType | None) -> None:
        ended()
        serving.should_exit = True

    with contextlib.ExitStack() as open_until_the_end:
        hangup = getattr(signal, "SIGHUP", None)
        if hangup and signal.getsignal(hangup) == signal.SIG_DFL:  # not under nohup
            signal.signal(hangup, hang_up)
        print(f"{title}:  {address}\nCtrl-C ends it.", flush=True)
        if browser:
            page = open_until_the_end.enter_context(server.redirect(address, title))
            threading.Thread(target=_open, args=(page,), daemon=True).start()  # a browser in the terminal stays
        serving.run(sockets=[listener])


def _open(page: Path) -> None:
    import webbrowser

    if not webbrowser.open(page.as_uri()):
        print("No browser could be opened here; open the address above in one.", flush=True)
