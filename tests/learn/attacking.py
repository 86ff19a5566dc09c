"""Requests written by hand to a server that runs in a thread: what pages of other servers cause, and who is let in."""

from __future__ import annotations

import contextlib
import http.client
import threading
import time
from collections.abc import Iterator
from socket import socket
from typing import Any

from sfumato.learn import server

TOKEN = "a-token-for-tests"


@contextlib.contextmanager
def running(app: Any, listener: socket) -> Iterator[None]:
    """The app answers at the socket, in a thread, while the context lasts."""
    import uvicorn

    running = uvicorn.Server(server.settings(app))
    thread = threading.Thread(target=running.run, kwargs={"sockets": [listener]}, daemon=True)
    thread.start()
    while not running.started:
        time.sleep(0.05)
    yield
    running.should_exit = running.force_exit = True
    thread.join(10)


Answer = tuple[int, dict[str, str], bytes]


def ask(port: int, path: str, method: str = "GET", body: Any = None, **headers: str | None) -> Answer:
    """A request with exactly these headers; `Host` is right unless it is given, None leaves one out."""
    given = {"Host": f"127.0.0.1:{port}", **{name.replace("_", "-"): value for name, value in headers.items()}}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
        for name, value in given.items():
            if value is not None:
                connection.putheader(name, value)
        if body is not None:
            connection.putheader("Content-Length", str(len(body)))
        connection.endheaders(body)
        answer = connection.getresponse()
        try:
            content = answer.read()
        except http.client.IncompleteRead as cut:
            content = cut.partial
        return answer.status, {name.lower(): value for name, value in answer.getheaders()}, content


def cookie(port: int) -> str:
    return f"sfumato_token_{port}={TOKEN}"


def elsewhere(port: int) -> list[dict[str, str | None]]:
    """Headers of requests that pages of other servers cause, or that reach this one by another name."""
    own = f"127.0.0.1:{port}"
    origins = ["http://evil.example", "http://127.0.0.1:8888", f"https://{own}", "http://127.0.0.1", "null", "",
               f"http://localhost:{port}", f"http://{own}.evil.example", f"http://{own}/", f"http://[::1]:{port}",
               f"http://evil.example@{own}", "file://"]  # fmt: skip
    hosts = ["evil.example", f"evil.example:{port}", "127.0.0.1:8888", "127.0.0.1", "localhost", f"127.0.0.1.:{port}",
             f"127.0.0.1:{port}.evil.example", f"127.0.0.2:{port}", f"0.0.0.0:{port}", f"[::1]:{port}", ""]  # fmt: skip
    fetched: list[dict[str, str | None]] = [
        {"Sec_Fetch_Site": site, "Sec_Fetch_Mode": mode, "Sec_Fetch_Dest": to}
        for site in ("same-site", "cross-site", "a-new-word")
        for mode, to in [("no-cors", "script"), ("no-cors", "image"), ("cors", "empty"), ("navigate", "iframe"),
                         ("websocket", "empty")]
    ]  # fmt: skip
    return [*({"Origin": origin} for origin in origins), *({"Host": host} for host in hosts), *fetched,
            *({"Host": host, "Origin": f"http://{host}"} for host in hosts)]  # fmt: skip
