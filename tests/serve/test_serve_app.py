"""The server of a model: its answers are those of the library whoever else asks, and it lives on whatever is sent."""

from __future__ import annotations

import base64
import http.client
import json
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.data import pictures
from sfumato.learn import guard, server
from sfumato.serve.app import LINES, make_app
from sfumato.serve.jobs import Jobs, Tell, Work
from sfumato.serve.work import Served
from tests.learn.attacking import TOKEN, ask, cookie, elsewhere, running
from tests.models.small import RECIPES, made

for needed in ("starlette", "uvicorn"):
    pytest.importorskip(needed)

ROUTES = ("/", "/serve.js", "/brush.js", "/serve.css", "/playground.css", "/api/model", "/api/sample", "/nowhere")
INSTEAD: dict[str, Work] = {}
"""Work that is done instead of inpainting, under "work"."""


class Switched(Served):
    """A model whose inpainting tests exchange."""

    def inpainting(self, wish: Any) -> Work:
        return INSTEAD.get("work") or super().inpainting(wish)


SMALL = Switched(made(RECIPES["edm"], ("a", "b", "c")), "edm/small", batch=4)
PNG = base64.b64encode(pictures.png_bytes(torch.zeros(1, 8, 8, dtype=torch.uint8))).decode()


@pytest.fixture(scope="module")
def jobs() -> Jobs:
    return Jobs(most=3)


@pytest.fixture(scope="module")
def port(jobs: Jobs) -> Iterator[int]:
    with server.listen(0) as listener:
        number = listener.getsockname()[1]
        app, _ = make_app(SMALL, jobs, number, token=TOKEN)
        with running(app, listener):
            yield number
    jobs.close()


def post(port: int, path: str, body: bytes, **headers: str | None) -> tuple[int, Any]:
    """The status of a request with the cookie, and its JSON."""
    status, answered, content = ask(port, path, "POST", body, **{"Cookie": cookie(port), **headers})
    return status, json.loads(content) if answered["content-type"] == "application/json" else content


def alive(port: int) -> None:
    """It still samples."""
    status, found = post(port, "/api/sample", b'{"n": 1, "steps": 2}')
    assert (status, found["state"]) == (200, "done")


class Held:
    """Makes sampling wait until it is let go; what is asked meanwhile is in the queue."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.begun, self.open = threading.Event(), threading.Event()
        self.left = 0

        def work(tell: Tell) -> dict[str, Any]:
            self.begun.set()
            try:
                while not self.open.wait(0.01):
                    tell(0.5)
            finally:
                self.left += 1
            return {"held": True}

        patch.setitem(INSTEAD, "work", work)


HOLD = json.dumps({"image": PNG, "mask": PNG}).encode()


# ---------------------------------------------------------------- answers


def test_requests_at_once_give_the_same_pictures_as_one_by_one(port: int) -> None:
    asked = [(0, "a", "heun"), (1, "b", "ddim"), (0, "c", "ancestral"), (5, "a", "auto")]
    bodies = [
        json.dumps({"n": 3, "steps": 6, "seed": seed, "classes": [label], "sampler": sampler}).encode()
        for seed, label, sampler in asked
    ]
    alone = [post(port, "/api/sample", body)[1]["pictures"] for body in bodies]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(lambda body: post(port, "/api/sample", body), bodies))
    assert [status for status, _ in together] == [200] * 4
    assert [found["pictures"] for _, found in together] == alone
    assert len({str(pictures) for pictures in alone}) == 4


def test_lines_of_progress_end_in_the_pictures(port: int) -> None:
    body = b'{"n": 8, "steps": 9, "sampler": "heun"}'
    status, lines = post(port, "/api/sample", body, Accept=LINES)
    states = [json.loads(line) for line in lines.decode().splitlines()]
    shares = [state["share"] for state in states if state["state"] == "running"]
    assert status == 200
    assert shares == sorted(shares)
    assert states[-1]["pictures"] == post(port, "/api/sample", body)[1]["pictures"]


def test_it_says_what_the_model_is(port: int) -> None:
    status, _, content = ask(port, "/api/model", Cookie=cookie(port))
    assert status == 200
    assert json.loads(content) == SMALL.about()


def test_the_lines_of_the_docs_run(port: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = (Path(__file__).parents[2] / "docs" / "serve.md").read_text("utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    given = f"http://127.0.0.1:{port}/?token={TOKEN}"
    assert "http://127.0.0.1:2719/?token=TOKEN" in code
    code = code.replace("http://127.0.0.1:2719/?token=TOKEN", given).replace('"steps": 20', '"steps": 2')
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "docs/serve.md", "exec"), {})
    assert (tmp_path / "sheet.png").read_bytes().startswith(b"\x89PNG")
    (body,) = re.findall(r"^curl .*(\{.*\})", text, re.MULTILINE)
    status, found = post(port, f"/api/sample?token={TOKEN}", body.replace("bag", "b").encode(), Cookie=None)
    assert (status, found["settings"]["classes"]) == (200, ["b"] * 4)


# ---------------------------------------------------------------- the queue


def test_more_than_may_wait_are_refused_and_the_rest_is_made(
    port: int, jobs: Jobs, monkeypatch: pytest.MonkeyPatch
) -> None:
    held, body = Held(monkeypatch), b'{"n": 2, "steps": 3}'
    alone = post(port, "/api/sample", body)[1]["pictures"]
    with ThreadPoolExecutor(8) as pool:
        first = pool.submit(post, port, "/api/inpaint", HOLD)
        held.begun.wait(10)
        rest = [pool.submit(post, port, "/api/sample", body) for _ in range(6)]
        for _ in range(500):
            if sum(asked.done() for asked in rest) == 3:
                break
            time.sleep(0.02)
        refused = [asked.result() for asked in rest if asked.done()]
        held.open.set()
        assert first.result() == (200, {"state": "done", "held": True})
        answers = [asked.result() for asked in rest]
    assert refused == [(429, {"error": "3 requests wait already; try again later"})] * 3
    assert [found["pictures"] for status, found in answers if status == 200] == [alone] * 3
    assert jobs.most == 3


@pytest.mark.parametrize("accept", ["application/json", LINES])
def test_whoever_hangs_up_cancels_the_work(port: int, monkeypatch: pytest.MonkeyPatch, accept: str) -> None:
    held = Held(monkeypatch)
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/api/inpaint", HOLD, {"Cookie": cookie(port), "Accept": accept})
    held.begun.wait(10)
    if accept == LINES:
        assert json.loads(connection.getresponse().readline())["state"] in ("waiting", "running")
    connection.close()
    alive(port)  # which waits for its turn
    assert held.left == 1
    assert not held.open.is_set()


def test_a_fault_of_ours_is_a_line_and_the_next_request_is_made(
    port: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    for error, status, words in [
        (KeyError("wrong"), 500, "internal error: KeyError"),
        (MemoryError(), 503, "not enough memory"),
        (RuntimeError("CUDA out of memory"), 503, "not enough memory"),
        (ValueError("2 of 4 pictures came out as nan"), 400, "came out as nan"),
    ]:

        def work(tell: Tell, error: Exception = error) -> None:
            raise error

        monkeypatch.setitem(INSTEAD, "work", work)
        found, answer = post(port, "/api/inpaint", HOLD)
        assert (found, answer["state"]) == (status, "failed")
        assert words in answer["error"]
        alive(port)
    assert [record.exc_info[0] for record in caplog.records if record.name == "sfumato.serve.app"] == [KeyError]


# ---------------------------------------------------------------- who is let in, and what is sent


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_answers_to_another_place_or_without_the_token(port: int, route: str) -> None:
    method, body = ("POST", b"{}") if route == "/api/sample" else ("GET", None)
    for headers in elsewhere(port):
        for token in ({}, {"Cookie": cookie(port)}):
            for address in (route, f"{route}?token={TOKEN}"):
                assert ask(port, address, method, body, **headers, **token)[0] == 403, (headers, address)
    for query in ("", "?token=", "?token=wrong", f"?token={TOKEN}x"):
        status, headers, content = ask(port, route + query, method, body)
        assert (status, "set-cookie" in headers) == (403, False)
        assert content == b"Open the address that `sfumato serve` printed: it carries the token."


def test_every_answer_has_the_policy_of_the_house(port: int) -> None:
    seen = set()
    for route in ROUTES:
        for method in ("GET", "HEAD", "POST", "DELETE"):
            status, headers, _ = ask(port, route, method, b"" if method == "POST" else None, Cookie=cookie(port))
            seen.add(status)
            assert guard.HEADERS.items() <= headers.items()
            policy = headers["content-security-policy"]
            assert policy.startswith("default-src 'none'; script-src 'self'; style-src 'self';")
            assert "unsafe" not in policy
    assert seen == {200, 400, 404, 405}


def test_no_address_leads_out_of_the_folder(port: int) -> None:
    for path in ("/../app.py", "/..%2fapp.py", "/%2e%2e/app.py", "/..%5capp.py", "/app.py", "/page/serve.html",
                 "/.html", f"/{'a' * 300}.js", "/a%00b.js", "/%ff%fe.js", "//etc/passwd"):  # fmt: skip
        assert ask(port, path, Cookie=cookie(port))[0] == 404, path


HOSTILE = {
    "empty": b"", "no JSON": b"\x00" * 100, "deep": b"[" * 200_000, "long number": b'{"n": ' + b"9" * 10_000 + b"}",
    "no object": b"3", "no UTF-8": b'{"sampler": "\xff"}', "unknown field": b'{"__class__": 1}',
    "many": b'{"n": 1000000}', "a list": b'{"n": [1]}', "nan": b'{"scale": NaN}', "sampler": b'{"sampler": "../ddim"}',
    "options": b'{"sampler": "predictor-corrector?corrections=10000"}', "class": b'{"classes": ["\\u0000"]}',
    "negative": b'{"classes": [-1]}', "surrogate": b'{"sampler": "\\ud800"}', "steps": b'{"steps": 1e9}',
    "picture": b'{"image": "AAAA", "mask": "AAAA"}', "not base64": b'{"image": "\\u20ac", "mask": "="}',
    "a path": b'{"image": "/etc/passwd", "mask": "file:///etc/passwd"}',
    "an address": b'{"image": "http://a/", "mask": ""}',
    "white": json.dumps({"image": PNG, "mask": base64.b64encode(pictures.png_bytes(
        torch.full((1, 8, 8), 255, dtype=torch.uint8))).decode()}).encode(),
    "other size": json.dumps({"image": base64.b64encode(pictures.png_bytes(
        torch.zeros(1, 9, 9, dtype=torch.uint8))).decode(), "mask": PNG}).encode(),
    "numbers": b'{"image": 3, "mask": null}',
    "half": json.dumps({"image": PNG[: len(PNG) // 8 * 4], "mask": PNG}).encode(),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_whatever_is_sent_is_refused_in_one_line_and_the_server_lives_on(port: int, name: str) -> None:
    """No path or address is opened, nothing is computed, and the answer is short."""
    paths = ("/api/sample", "/api/inpaint")
    for path in paths:
        status, answer = post(port, path, HOSTILE[name])
        if (path, name) == ("/api/sample", "empty"):
            assert answer["error"] == "the request is empty"
        assert status == 400, answer
        assert set(answer) == {"error"}
        assert "\n" not in answer["error"]
        assert len(answer["error"]) < 600
    alive(port)


def test_a_request_has_a_bounded_size(port: int) -> None:
    large = b'{"image": "' + b"A" * guard.LARGEST_BODY + b'"}'
    assert post(port, "/api/inpaint", large)[0] == 413
    assert ask(port, "/api/sample", "GET", Cookie=cookie(port))[0] == 405
    alive(port)


def test_many_slow_and_broken_connections_do_no_harm(port: int) -> None:
    import socket

    open_ones = []
    for sent in (b"", b"GET / HTTP/1.1\r\nHost:", b"\x16\x03\x01\x02\x00", b"POST /api/sample HTTP/1.1\r\n" * 50) * 10:
        wire = socket.create_connection(("127.0.0.1", port), timeout=30)
        wire.sendall(sent)
        open_ones.append(wire)
    alive(port)
    open_ones += [socket.create_connection(("127.0.0.1", port), timeout=30) for _ in range(server.MOST_CONNECTIONS)]
    assert ask(port, "/api/model", Cookie=cookie(port))[0] == 503
    for wire in open_ones:
        wire.close()
    for _ in range(100):
        if ask(port, "/api/model", Cookie=cookie(port))[0] == 200:
            break
        time.sleep(0.05)
    alive(port)
