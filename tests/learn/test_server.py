"""The server lets in only who brings the token, says what is wrong, and ends when it is told to."""

from __future__ import annotations

import socket
import time
from pathlib import Path
from urllib.error import HTTPError, URLError
from urllib.request import urlopen

import pytest
import serving

from sfumato.cli import main


def opened(address: str) -> str:
    """The page, once the server is up."""
    for _ in range(600):
        try:
            return str(urlopen(address).read().decode())
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


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("marimo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, words in [
            (["learn", "--port", str(port)], "is in use"),
            (["learn", "alchemy"], "no lesson is called 'alchemy'"),
            (["learn", "--port", "-1"], "between 0 and 65535"),
        ]:
            assert main(arguments) == 2
            assert words in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["learn"]) == 2
    assert 'pip install "sfumato[learn]"' in capsys.readouterr().err
