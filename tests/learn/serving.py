"""A server as people start it: another process, ended by Ctrl-C."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.cookiejar import CookieJar
from pathlib import Path
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener


@contextmanager
def served(progress: Path, *options: str, browser: bool = False, **environment: str) -> Iterator[str]:
    """Runs `sfumato learn` on a free port and yields its address with the token; it must end at one Ctrl-C."""
    opens = "--browser" if browser else "--no-browser"
    with started("learn", opens, *options, code=0, SFUMATO_PROGRESS=str(progress), **environment) as (address, _):
        yield address


@contextmanager
def started(*words: str, code: int, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs a command on a free port; yields its address with the token, and the process, which ends at one Ctrl-C."""
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "sfumato", *words, "--port", "0"]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            assert "http://127.0.0.1:" in said
            yield said.split()[-1], server
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == code
        finally:
            server.kill()


def visitor() -> OpenerDirector:
    """Keeps cookies, as a browser does; the address with the token lets it in."""
    return build_opener(HTTPCookieProcessor(CookieJar()))
