"""Several learners on one machine: a server, token and progress each, also behind a proxy under a path of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlsplit

import pytest
import serving
import watching

from sfumato.cli import main
from sfumato.learn.guard import Guarded

TOKEN = "a-token-of-this-test"
PUBLIC = "https://hub.example/user/ada/sfumato"


def asked(
    path: str, host: str = "hub.example", behind: str = PUBLIC, **headers: str
) -> tuple[int, dict[str, str], dict[str, Any]]:
    """A GET to a guarded app: (status, headers, what the app saw)."""
    import asyncio

    seen: dict[str, Any] = {}
    sent: list[dict[str, Any]] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.update(scope)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": b""})

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: dict[str, Any]) -> None:
        sent.append(message)

    where, _, query = path.partition("?")
    given = [(b"host", host.encode())] + [(k.replace("_", "-").encode(), v.encode()) for k, v in headers.items()]
    scope = {"type": "http", "method": "GET", "path": where, "query_string": query.encode(), "headers": given}
    asyncio.run(Guarded(app, TOKEN, 1234, behind=behind)(scope, receive, send))
    return sent[0]["status"], {k.decode(): v.decode() for k, v in sent[0]["headers"]}, seen


@pytest.mark.parametrize("prefix", ["/user/ada/sfumato", ""], ids=["whole path", "path without its beginning"])
@pytest.mark.parametrize("host", ["hub.example", "127.0.0.1:1234"])
def test_a_proxys_requests_are_let_in_and_seen_as_its_visitor_made_them(prefix: str, host: str) -> None:
    cookie = f"sfumato_token_1234={TOKEN}"
    status, _, seen = asked(f"{prefix}/lesson/ddim/", host, cookie=cookie, origin="https://hub.example")
    assert status == 200
    assert (seen["path"], seen["root_path"]) == ("/user/ada/sfumato/lesson/ddim/", "/user/ada/sfumato")
    assert seen["scheme"] == "https"
    assert dict(seen["headers"])[b"host"] == b"hub.example"


def test_everybody_else_stays_outside() -> None:
    cookie = f"sfumato_token_1234={TOKEN}"
    assert asked("/user/ada/sfumato/", cookie=cookie, origin="https://evil.example")[0] == 403
    assert asked("/user/ada/sfumato/", cookie=cookie, origin="http://hub.example")[0] == 403
    assert asked("/user/ada/sfumato/", host="evil.example", cookie=cookie)[0] == 403
    assert asked("/user/ada/sfumato/")[0] == 403  # no token
    assert asked("/", behind="", cookie=cookie)[0] == 403  # no proxy was named


def test_the_cookie_is_for_that_path_and_for_https_alone() -> None:
    status, headers, _ = asked(f"/user/ada/sfumato/lesson/ddim/?token={TOKEN}")
    assert (status, headers["location"]) == (302, "/user/ada/sfumato/lesson/ddim/")
    assert "Path=/user/ada/sfumato/;" in headers["set-cookie"]
    assert headers["set-cookie"].endswith("; Secure")


def test_wrong_addresses_and_tokens_are_one_line(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for address in ("hub.example/x", "https://hub.example/?a", "https://a b/"):
        assert main(["learn", "--behind", address]) == 2
        assert "--behind is a whole address" in capsys.readouterr().err
    monkeypatch.setenv("SFUMATO_TOKEN", "short")
    assert main(["learn", "--no-browser"]) == 2
    assert "SFUMATO_TOKEN" in capsys.readouterr().err


def test_learners_have_a_token_and_progress_each(tmp_path: Path) -> None:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    base = tmp_path / "progress.json"
    with contextlib.ExitStack() as open_:
        ada, ben = (open_.enter_context(serving.served(base, "--learner", name)) for name in ("ada", "ben"))
        pages = {}
        for name, address in (("ada", ada), ("ben", ben)):
            pages[name] = serving.visitor().open(address).read().decode()
        token = ada.partition("token=")[2]
        with pytest.raises(HTTPError) as refused:
            serving.visitor().open(ben.partition("token=")[0] + f"token={token}")
    assert str(tmp_path / "learners" / "ada" / "progress.json") in pages["ada"]
    assert str(tmp_path / "learners" / "ben" / "progress.json") in pages["ben"]
    assert refused.value.code == 403


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[int]:
    """A server behind a proxy of that name; the port where it listens."""
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    import socket

    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = int(free.getsockname()[1])
    words = ("learn", "--no-browser", "--behind", "http://hub.example/user/ada/sfumato")
    given = {"SFUMATO_PROGRESS": str(tmp_path / "progress.json"), "SFUMATO_TOKEN": TOKEN}
    with serving.started_at(port, *words, code=0, **given) as address:
        assert address == f"http://hub.example/user/ada/sfumato/?token={TOKEN}"
        yield port


@watching.needs_browser
def test_a_lesson_behind_a_proxy_in_a_browser(hub: int) -> None:
    """The name leads to the server itself, with the whole path, as jupyter-server-proxy's absolute addresses do."""
    driver = pytest.importorskip("playwright.sync_api")
    with driver.sync_playwright() as api:
        browser = api.chromium.launch(
            executable_path=watching.CHROMIUM,
            args=["--no-sandbox", f"--host-resolver-rules=MAP hub.example:80 127.0.0.1:{hub}"],
        )
        page = browser.new_page()
        asked_for: list[str] = []
        page.on("request", lambda request: asked_for.append(request.url))
        page.goto(f"http://hub.example/user/ada/sfumato/?token={TOKEN}")
        page.get_by_text("DDIM: the same pictures").click()
        page.get_by_role("button", name="Check ddim.1").click(timeout=120_000)
        page.get_by_text("with eta 1 this is").first.wait_for(timeout=60_000)
        page.locator(".sf-links").first.get_by_text("All lessons").click()
        page.get_by_role("heading", name="The learning path").wait_for(timeout=30_000)
        browser.close()
    paths = [urlsplit(url).path for url in asked_for if url.startswith("http")]
    assert all(path.startswith("/user/ada/sfumato/") for path in paths), paths
