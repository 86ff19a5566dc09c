"""The server lets in only who brings the token, says what is wrong, and ends when it is told to."""

from __future__ import annotations

import json
import os
import re
import socket
import sys
import time
from pathlib import Path
from urllib.error import HTTPError, URLError

import pytest
import serving

from sfumato.cli import main


def opened(address: str) -> str:
    """The page, once the server is up."""
    for _ in range(600):
        try:
            return str(serving.visitor().open(address).read().decode())
        except HTTPError:
            raise
        except URLError:
            time.sleep(0.1)
    raise TimeoutError(address)


def test_only_who_brings_the_token_comes_in(tmp_path: Path) -> None:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    with serving.served(tmp_path / "progress.json") as address:
        assert "The learning path" in opened(address)
        base = address.partition("?")[0]
        for refused in (base, f"{base}?token=wrong", f"{base}lesson/ddim/"):
            with pytest.raises(HTTPError, match="403"):
                opened(refused)
        inside = serving.visitor()
        inside.open(address)
        assert "probability-flow ODE" in inside.open(f"{base}code/core/ode.py").read().decode()
        for nowhere in ("code/learn/guard.py", "code/core/%2e%2e/learn/guard.py", "code/"):
            with pytest.raises(HTTPError, match="404"):
                inside.open(base + nowhere)
        page = inside.open(f"{base}lesson/formulas/").read().decode()
        assert "All formulas" in page
        assert re.search(r'"theme": ?"system"', page)  # of lessons/pyproject.toml


def test_a_browser_is_opened_with_a_private_page(tmp_path: Path) -> None:
    """Every user of a machine can read command lines; the page, which is gone afterwards, is its owner's alone."""
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    noted = tmp_path / "noted.json"
    program = tmp_path / "browser"
    program.write_text(
        f"#!{sys.executable}\nimport json, os, pathlib, sys, urllib.parse\n"
        "page = urllib.parse.urlparse(sys.argv[1]).path\n"
        "text = pathlib.Path(page).read_text()\n"
        "seen = [sys.argv[1:], page, oct(os.stat(page).st_mode & 0o777), text]\n"
        f"path = pathlib.Path({str(noted)!r})\n"
        "path.with_suffix('.part').write_text(json.dumps(seen))\n"
        "path.with_suffix('.part').rename(path)\n"
    )
    program.chmod(0o755)
    before = os.umask(0)
    try:
        with serving.served(tmp_path / "progress.json", browser=True, BROWSER=str(program)) as address:
            for _ in range(300):
                if noted.exists():
                    break
                time.sleep(0.1)
            arguments, page, mode, text = json.loads(noted.read_text())
            token = address.partition("token=")[2]
            assert len(token) > 20
            assert token not in " ".join(arguments)
            assert f"url={address}" in text
            assert mode == "0o600"
            assert Path(page).exists()
    finally:
        os.umask(before)
    assert not Path(page).exists()


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("marimo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, words in [
            (["learn", "--port", str(port)], "is in use"),
            (["learn", "alchemy"], "no lesson is called 'alchemy'"),
            (["learn", "--port", "-1"], "between 0 and 65,535"),
            (["learn", "--port", "65536"], "between 0 and 65,535"),
            (["learn", "--port", "eighty"], "--port"),
            (["learn", "--host", "0.0.0.0"], "listens on 127.0.0.1 alone"),
            (["learn", "--host=192.168.0.1"], "listens on 127.0.0.1 alone"),
        ]:
            assert main(arguments) == 2
            said = capsys.readouterr().err
            assert words in said
            assert said.count("\n") == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["learn"]) == 2
    assert 'pip install "sfumato[learn]"' in capsys.readouterr().err
