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

LONG = ("ddpm", "latents", "inverse", "iddpm", "flow", "ddim")
"""Lessons whose cells compute longest: by default they run in the browser alone, and others without it alone."""


@contextmanager
def served(progress: Path, *options: str, browser: bool = False, **environment: str) -> Iterator[str]:
    """Runs `sfumato learn` on a free port and yields its address with the token; it must end at one Ctrl-C."""
    opens = "--browser" if browser else "--no-browser"
    with started("learn", opens, *options, code=0, SFUMATO_PROGRESS=str(progress), **environment) as (address, _):
        yield address


@contextmanager
def started(*words: str, code: int, **environment: str) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """Runs a command on a free port; yields its address with the token, and the process, which ends at one Ctrl-C."""
    with _running(words, 0, code, environment) as (address, server):
        assert "http://127.0.0.1:" in address
        yield address, server


@contextmanager
def started_at(port: int, *words: str, code: int, **environment: str) -> Iterator[str]:
    """Runs a command on that port; yields the address that it prints, whatever that is."""
    with _running(words, port, code, environment) as (address, _):
        yield address


@contextmanager
def _running(
    words: tuple[str, ...], port: int, code: int, environment: dict[str, str]
) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    command = [sys.executable, "-m", "sfumato", *words, "--port", str(port)]
    with subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            yield server.stdout.readline().split()[-1], server
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == code
        finally:
            server.kill()


def visitor() -> OpenerDirector:
    """Keeps cookies, as a browser does; the address with the token lets it in."""
    return build_opener(HTTPCookieProcessor(CookieJar()))
