"""What other pages and programs may try on the learning server: every route, from elsewhere, with the cookie or not.

The attacker is a page of another port of this machine, to which browsers send the cookie too, or of a name that was
made to mean this machine (DNS rebinding); the real server runs in a thread, and requests are written by hand.
"""

from __future__ import annotations

import asyncio
import contextlib
import http.client
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attacking import TOKEN, ask, cookie, elsewhere, running

from sfumato.learn import guard, playground, server

for needed in ("marimo", "anywidget"):
    pytest.importorskip(needed)

PLAYGROUND = ("/playground/", "/playground/models", "/playground/worker.js", "/playground/runtime/ort.wasm.min.mjs")
LESSONS = ("/lesson/ddim/", "/lesson/ddim/favicon.ico", "/lesson/ddim/api/status", "/lesson/noise/health")
ROUTES = ("/", *PLAYGROUND, *LESSONS, "/docs/index.html", "/docs/missing.html", "/nowhere")
SOCKET = "/lesson/ddim/ws?session_id=attack&kiosk=false"


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    site = tmp_path_factory.mktemp("site")
    (site / "index.html").write_text("<!doctype html><title>docs</title><script>let a = 1;</script>")
    (site.parent / "secret.txt").write_text("secret")
    with pytest.MonkeyPatch.context() as patch, server.listen(0) as listener:
        patch.setattr(server, "SITE", site)
        patch.setattr(playground.Shelf, "folder", lambda self, number: site)
        patch.setenv("SFUMATO_PROGRESS", str(site / "progress.json"))
        number = listener.getsockname()[1]
        app, _ = server.make_app(number, token=TOKEN)
        with running(app, listener):
            yield number


def upgrade(port: int, path: str = SOCKET, **headers: str | None) -> int:
    """The status of a WebSocket's opening: 101 where it is let in."""
    asked = {"Upgrade": "websocket", "Connection": "Upgrade", "Sec-WebSocket-Version": "13",
             "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ=="}  # fmt: skip
    given = {"Host": f"127.0.0.1:{port}", **asked, **{name.replace("_", "-"): value for name, value in headers.items()}}
    lines = [f"GET {path} HTTP/1.1", *(f"{name}: {value}" for name, value in given.items() if value is not None)]
    with socket.create_connection(("127.0.0.1", port), timeout=30) as wire:
        wire.sendall(("\r\n".join(lines) + "\r\n\r\n").encode("latin-1"))
        return int(wire.recv(4096).split()[1])


# ---------------------------------------------------------------- who is let in


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_answers_to_another_origin_host_or_port(port: int, route: str) -> None:
    for headers in elsewhere(port):
        for token in ({}, {"Cookie": cookie(port)}):
            for address in (route, f"{route}?token={TOKEN}"):
                status, answered, body = ask(port, address, **headers, **token)
                assert (status, "set-cookie" in answered) == (403, False), (headers, token, address)
                assert TOKEN.encode() not in body


def test_no_socket_opens_to_another_origin_host_or_port(port: int) -> None:
    """The attack that ran code: a page of another port opened the socket of a lesson, and filled in an exercise."""
    own = f"http://127.0.0.1:{port}"
    for headers in elsewhere(port):
        assert upgrade(port, **headers) == 403, headers
        assert upgrade(port, Cookie=cookie(port), **headers) == 403, headers
        assert upgrade(port, f"{SOCKET}&token={TOKEN}", **headers) == 403, headers
    for kept in (None, "", f"{cookie(port)}x", f"sfumato_token={TOKEN}", f"sfumato_token_1={TOKEN}"):
        assert upgrade(port, Cookie=kept, Origin=own) == 403, kept


def test_its_own_pages_reach_the_socket(port: int) -> None:
    reached = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        reached.append(scope["path"])

    for headers, times in [
        ({"Cookie": cookie(port), "Origin": f"http://127.0.0.1:{port}", "Sec_Fetch_Site": "same-origin"}, 1),
        ({"Cookie": cookie(port)}, 1),  # no browser
        *((dict(found, Cookie=cookie(port)), 0) for found in elsewhere(port)),
    ]:
        reached.clear()
        asyncio.run(asgi(guard.Guarded(app, TOKEN, port), port, SOCKET, headers))
        assert len(reached) == times, headers


async def asgi(app: Any, port: int, path: str, headers: dict[str, str | None]) -> None:
    """Opens a WebSocket in this process."""
    given = {"Host": f"127.0.0.1:{port}", **headers}
    coded = [(k.replace("_", "-").lower().encode(), v.encode()) for k, v in given.items() if v is not None]
    where, _, query = path.partition("?")

    async def send(message: dict[str, Any]) -> None:
        assert message == {"type": "websocket.close", "code": 4403}

    await app({"type": "websocket", "path": where, "query_string": query.encode(), "headers": coded}, None, send)


def test_no_answer_to_an_exercise_comes_from_elsewhere(port: int) -> None:
    for path in ("/lesson/ddim/api/kernel/set_ui_element_value", "/lesson/ddim/api/kernel/instantiate"):
        for headers in elsewhere(port):
            sent = {"Content_Type": "text/plain", "Marimo_Session_Id": "attack", "Cookie": cookie(port), **headers}
            assert ask(port, path, "POST", b"{}", **sent)[0] == 403, headers
        preflight = {"Access_Control_Request_Method": "POST", "Access_Control_Request_Headers": "marimo-session-id"}
        answer = ask(port, path, "OPTIONS", Origin="http://127.0.0.1:8888", Cookie=cookie(port), **preflight)
        assert answer[0] == 403
        assert not [name for name in answer[1] if name.startswith("access-control-")]


@pytest.mark.parametrize("route", ROUTES)
def test_no_route_answers_without_the_token(port: int, route: str) -> None:
    wrong = ("", "?token=", "?token=wrong", f"?token={TOKEN}x", f"?Token={TOKEN}", "?token=%ff%00", f"?{TOKEN}")
    for query in wrong:
        status, headers, body = ask(port, route + query)
        assert status == 403
        assert "set-cookie" not in headers
        assert body == b"Open the address that `sfumato learn` printed: it carries the token."
    name = f"sfumato_token_{port}"
    for kept in (f"{name}=", f"{name}=wrong", f"x{cookie(port)}", "\xff; =;;\x7f", f"a={TOKEN}"):
        assert ask(port, route, Cookie=kept)[0] == 403


def test_its_own_pages_are_let_in(port: int) -> None:
    for route in ("/", "/playground/", "/playground/models", "/lesson/ddim/", "/docs/"):
        for name in ("127.0.0.1", "localhost", "LocalHost"):
            host = f"{name}:{port}"
            assert ask(port, route, Host=host, Cookie=f"other=1; {cookie(port)}")[0] == 200
            origin = {"Origin": f"http://{host.lower()}", "Sec_Fetch_Site": "same-origin"}
            status, headers, _ = ask(port, route, Host=host, Cookie=cookie(port), **origin)
            assert status == 200
            assert not [name for name in headers if name.startswith("access-control-")]
    opened = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    assert ask(port, "/", Cookie=cookie(port), **opened)[0] == 200  # a link, or a bookmark
    assert ask(port, "/", "POST", b"", Cookie=cookie(port), **opened)[0] == 403


# ---------------------------------------------------------------- the token


def test_the_token_leaves_the_address_and_goes_into_a_strict_cookie(port: int) -> None:
    status, headers, body = ask(port, f"/lesson/ddim/?a=1&token={TOKEN}&b=%41")
    assert (status, headers["location"]) == (302, "/lesson/ddim/?a=1&b=%41")
    assert headers["set-cookie"] == f"{cookie(port)}; Path=/; HttpOnly; SameSite=Strict"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["cache-control"] == "no-store"
    assert TOKEN.encode() not in body
    assert ask(port, headers["location"], Cookie=headers["set-cookie"].partition(";")[0])[0] == 200
    assert ask(port, f"/?token={TOKEN}")[1]["location"] == "/"
    wrong = ask(port, "/?token=wrong", Cookie=cookie(port))  # one who is in already
    assert (wrong[0], wrong[1]["location"]) == (302, "/")


def test_a_browser_that_a_file_sends_here_gets_a_page_that_goes_on(port: int) -> None:
    """It would not send a strict cookie after a redirect that another site began."""
    opened = {"Sec_Fetch_Site": "cross-site", "Sec_Fetch_Mode": "navigate", "Sec_Fetch_Dest": "document"}
    status, headers, body = ask(port, f"/playground/?token={TOKEN}", **opened)
    assert (status, headers["refresh"]) == (200, "0; url=/playground/")
    assert headers["set-cookie"].startswith(cookie(port))
    assert headers["referrer-policy"] == "no-referrer"
    assert TOKEN.encode() not in body


@pytest.mark.parametrize("path", ["//evil.example/", "///evil.example", "/\\evil.example", "/%0d%0aX-Header:%201"])
def test_nobody_is_redirected_to_another_server(port: int, path: str) -> None:
    where = ask(port, f"{path}?token={TOKEN}")[1]["location"]
    assert where.startswith("/")
    assert not where.startswith(("//", "/\\"))
    assert "\r" not in where


def test_the_token_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(guard.hmac, "compare_digest", lambda a, b: asked.append((a, b)) or False)
    guarded = guard.Guarded(None, TOKEN, 1)
    headers = [(b"host", b"127.0.0.1:1"), (b"cookie", cookie(1).encode())]
    scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
    assert guarded._refusal(scope, f"token={TOKEN}")[0] == 403
    assert asked == [(TOKEN.encode(), TOKEN.encode())] * 2


def test_port_80_is_left_out_of_names() -> None:
    guarded = guard.Guarded(None, TOKEN, 80)
    for host, status in (("localhost", 0), ("127.0.0.1:80", 0), ("evil.example", 403)):
        headers = [(b"host", host.encode()), (b"origin", f"http://{host}".encode())]
        scope = {"type": "http", "method": "GET", "path": "/", "headers": headers}
        assert guarded._refusal(scope, f"token={TOKEN}")[0] == status


# ---------------------------------------------------------------- what a browser may do with an answer


def test_every_response_carries_the_policy(port: int) -> None:
    wanted = {"x-frame-options": "DENY", "x-content-type-options": "nosniff", "referrer-policy": "same-origin",
              "cross-origin-opener-policy": "same-origin", "cross-origin-resource-policy": "same-origin"}  # fmt: skip
    seen = set()
    for route in (*ROUTES, "/lesson/ddim", "/lesson/ddim/assets/none.js", "/playground/model/99/about.json", "/docs"):
        for kept in (None, cookie(port)):
            for method in ("GET", "HEAD", "POST", "DELETE"):
                status, headers, _ = ask(port, route, method, Cookie=kept)
                seen.add(status)
                assert {name: headers.get(name) for name in wanted} == wanted, (route, method, status)
                policy = headers["content-security-policy"]
                assert "default-src 'none'; script-src 'self'" in policy
                assert "frame-ancestors 'none'" in policy
                assert "'unsafe-eval'" not in policy
                assert "*" not in policy
                assert "'unsafe-inline'" not in policy.partition("script-src")[2].partition(";")[0]
                assert "server" not in headers
    assert {200, 403, 404, 405} <= seen


def test_scripts_of_a_page_are_allowed_by_their_digests() -> None:
    page = b'<script src="a.js"></script><script type="module">let a = 1;</script><style>p { margin: 0; }</style>'
    assert "script-src 'self' 'sha256-xY6QKfH9PRsQnLz56nj6MBwiK5oHg+im1Jkpdp1x/Ck='" in guard.policy("/x", page)
    assert guard.policy("/x", page).count("sha256-") == 2
    assert guard.policy("/lesson/ddim/", page).count("sha256-") == 1  # styles are free there, which digests would undo
    assert "base-uri 'self';" in guard.policy("/lesson/ddim/")
    assert "'wasm-unsafe-eval'" in guard.policy("/playground/worker.js")
    assert "'wasm-unsafe-eval'" not in guard.policy("/playgrounds")


# ---------------------------------------------------------------- paths and sizes


def climbing() -> Iterator[str]:
    """Addresses that would lead out of the folder of each static route."""
    lesson = [f"/lesson/ddim/{folder}" for folder in ("", "assets/", "public/", "@file/", "@file/5-")]
    for route in ("/docs/", "/playground/", "/playground/runtime/", "/playground/model/0/", *lesson):
        for up in ("../", "..%2f", "%2e%2e/", "%2e%2e%2f", "..%5c", "....//", "..%00/", "..%252f", "/"):
            for target in ("secret.txt", "server.py", "etc/passwd"):
                yield f"{route}{up * 8}{target}"
                yield f"{route}{up}{target}"
    for name in ("/etc/passwd", "../server.py", "..%2fserver.py"):
        yield f"/lesson/ddim/?file={name}"
        yield f"/lesson/ddim/api/export/html?file={name}"


def test_no_address_leads_out_of_the_folders(port: int) -> None:
    for path in climbing():
        status, _, body = ask(port, path, Cookie=cookie(port))
        assert status < 500, path
        assert not [word for word in (b"secret", b"root:", b"def listen") if word in body], path


def test_strange_addresses_are_answered_without_a_fault(port: int) -> None:
    for path in (
        f"/playground/{'a' * 300}.js", f"/playground/model/{'9' * 4000}/about.json", "/playground/a%00b.js",
        "/playground/model/-1/about.json", "/playground/%ff%fe.js", "/playground/CON.js", "/playground/.html",
    ):  # fmt: skip
        assert ask(port, path, Cookie=cookie(port))[0] == 404, path[:80]
    assert ask(port, f"/{'a' * 5000}", Cookie=cookie(port))[0] == 414
    assert ask(port, f"/?{'a' * 5000}", Cookie=cookie(port))[0] == 414
    with contextlib.suppress(ConnectionError):  # it is refused while it is being sent
        assert ask(port, "/", Cookie="a" * 100_000)[0] in (400, 403, 431)
    assert ask(port, "/", Cookie=cookie(port))[0] == 200


def test_a_request_has_a_bounded_size(port: int) -> None:
    path = "/lesson/ddim/api/kernel/instantiate"
    assert ask(port, path, "POST", b"x" * (guard.LARGEST_BODY + 1), Cookie=cookie(port))[0] == 413
    assert ask(port, path, "POST", b"x", Cookie=cookie(port))[0] not in (403, 413)
    assert ask(port, path, "POST", b"x" * 1000)[0] == 403  # refused before it is read
    chunks = (b"x" * 2**20 for _ in range(6))
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    with contextlib.closing(connection):
        connection.request("POST", path, chunks, {"Cookie": cookie(port)}, encode_chunked=True)
        assert connection.getresponse().status == 413


def test_one_port_has_one_server(tmp_path: Path) -> None:
    with server.listen(0) as first:
        number = first.getsockname()[1]
        assert first.getsockname()[0] == "127.0.0.1"
        with pytest.raises(ValueError, match=f"port {number} is in use; choose another"):
            server.listen(number)
