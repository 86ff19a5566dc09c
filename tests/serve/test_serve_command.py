"""`sfumato serve` says what is wrong in one line, and ends at once at Ctrl-C, whatever it is doing."""

from __future__ import annotations

import json
import signal
import socket
import time
import urllib.request
from urllib.error import HTTPError

import pytest

from sfumato.cli import main
from tests.learn import serving

for needed in ("starlette", "uvicorn"):
    pytest.importorskip(needed)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        for arguments, words in [
            (["edm/fashion-labels", "--port", port], f"port {port} is in use; choose another with --port"),
            ([], "MODEL"),
            (["edm/fashion-label", "--port", "0"], "edm/fashion-label"),
            (["adm_classifier/fashion", "--port", "0"], "classifier"),
            (["edm/fashion-labels", "--port", "65536"], "between 0 and 65,535"),
            (["edm/fashion-labels", "--batch", "0"], "--batch is between 1"),
            (["edm/fashion-labels", "--host", "0.0.0.0"], "listens on 127.0.0.1 alone"),
        ]:
            assert main(["serve", *arguments]) == 2
            said = capsys.readouterr().err
            assert words in said
            assert said.count("\n") == 1
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["serve", "edm/fashion-labels"]) == 2
    assert 'pip install "sfumato[learn]"' in capsys.readouterr().err


def test_ctrl_c_ends_it_while_it_samples() -> None:
    """One line and exit code 130; a request that is open is answered that it was cancelled."""
    with serving.started("serve", "edm/fashion-labels", "--no-browser", code=130) as (address, server):
        base, _, token = address.partition("/?token=")
        for refused in (f"{base}/api/model", f"{base}/api/model?token=wrong"):
            with pytest.raises(HTTPError, match="403"):
                urllib.request.urlopen(refused)
        body, headers = b'{"n": 64, "steps": 1000}', {"Accept": "application/x-ndjson"}
        request = urllib.request.Request(f"{base}/api/sample?token={token}", body, headers)
        with urllib.request.urlopen(request, timeout=60) as stream:
            while b'"share": 0.0' not in stream.readline():
                pass
            began = time.monotonic()
            server.send_signal(signal.SIGINT)
            assert server.wait(30) == 130
            assert time.monotonic() - began < 5
            assert json.loads(stream.read().splitlines()[-1]) == {"state": "cancelled", "error": "cancelled"}
