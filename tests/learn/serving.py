"""The server as a learner starts it: another process, ended by Ctrl-C."""

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
    environment = {**os.environ, "SFUMATO_PROGRESS": str(progress), "OMP_NUM_THREADS": "1", **environment}
    opens = "--browser" if browser else "--no-browser"
    command = [sys.executable, "-m", "sfumato", "learn", "--port", "0", opens, *options]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = server.stdout.readline()
            assert "http://127.0.0.1:" in said
            yield said.split()[-1]
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 0
        finally:
            server.kill()


def visitor() -> OpenerDirector:
    """Keeps cookies, as a browser does; the address with the token lets it in."""
    return build_opener(HTTPCookieProcessor(CookieJar()))
