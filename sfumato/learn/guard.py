"""Who may ask a local server, and what a browser may do with its answers.

Lessons run what is typed into them, so every request must bring the token and come from a page of this very server: the
cookie alone would be sent along by pages of any other port of this machine, since cookies know no ports.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
from collections.abc import Awaitable, Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote, urlsplit

Scope = dict[str, Any]
Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]

LONGEST_ADDRESS = 4096
LARGEST_BODY = 4 * 2**20
"""Bytes; what lessons send are answers and the state of their controls."""

HEADERS = {
    "x-frame-options": "DENY",
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cross-origin-opener-policy": "same-origin",
    "cross-origin-resource-policy": "same-origin",
}
"""Of every response, beside the policy of its content."""

POLICY = {
    "default-src": ("'none'",),
    "script-src": ("'self'",),
    "style-src": ("'self'",),
    "img-src": ("'self'", "data:"),
    "font-src": ("'self'",),
    "connect-src": ("'self'",),
    "worker-src": ("'self'",),
    "manifest-src": ("'self'",),
    "form-action": ("'none'",),
    "base-uri": ("'none'",),
    "frame-ancestors": ("'none'",),
}
"""The content security policy of every page; the scripts and styles that stand in it are allowed by their digests."""

FURTHER: dict[str, dict[str, tuple[str, ...]]] = {
    "lesson": {"style-src": ("'unsafe-inline'",), "font-src": ("data:",), "base-uri": ("'self'",)},
    "playground": {"script-src": ("'wasm-unsafe-eval'",)},
    "docs": {"style-src": ("'unsafe-inline'",)},
}
"""First part of the path -> what else its pages need."""

INLINE = re.compile(rb"<(script|style)\b([^>]*)>(.*?)</\1>", re.DOTALL | re.IGNORECASE)


def policy(path: str, page: bytes = b"") -> str:
    """The content security policy of a response.

    Args:
        path: of the request; a few parts of the server need more than the others.
        page: the HTML, if it is a page; its inline scripts and styles are allowed by their SHA-256.
    """
    further = FURTHER.get(path.strip("/").partition("/")[0], {})
    allowed = {name: list(sources) for name, sources in POLICY.items()}
    for name, more in further.items():
        allowed[name] = [*(source for source in allowed[name] if source != "'none'"), *more]
    for kind, attributes, text in INLINE.findall(page):
        listed = allowed[f"{kind.decode().lower()}-src"]
        if b"src=" not in attributes and "'unsafe-inline'" not in listed:  # digests would switch it off
            listed.append(f"'sha256-{base64.b64encode(hashlib.sha256(text).digest()).decode()}'")
    return "; ".join(f"{name} {' '.join(listed)}" for name, listed in allowed.items())


class Guarded:
    """Lets in whoever brings the token from the right place; everyone else gets 403, over HTTP and WebSocket alike.

    The token comes in the address once, which is then left for the same one without it, and afterwards in a cookie
    whose name holds the port. A request is refused where its Host is not this server's own, or where a browser says
    (Origin, Sec-Fetch-Site) that a page of another server made it; merely opening a page from a link is allowed.

    Args:
        app: the ASGI app behind it.
        token: what opens it.
        port: where it listens, on this machine.
        command: what printed the address with the token.
        behind: the address, with its path, under which a proxy shows this server, such as JupyterHub's; it is then one
            of this server's own.
    """

    def __init__(self, app: Any, token: str, port: int, command: str = "sfumato learn", behind: str = "") -> None:
        self.app, self.token, self.cookie, self.command = app, token.encode(), f"sfumato_token_{port}", command
        self.hosts = {f"{name}:{port}" for name in ("127.0.0.1", "localhost")}
        if port == 80:  # which browsers leave out
            self.hosts |= {"127.0.0.1", "localhost"}
        public = urlsplit(behind)
        self.origin = f"{public.scheme}://{public.netloc}".lower() if behind else ""
        self.root = public.path.rstrip("/")
        self.public = {public.netloc.lower()} if behind else set()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        query = scope.get("query_string", b"").decode("latin-1")
        inner = scope["path"]
        if self.root and f"{inner}/".startswith(f"{self.root}/"):
            inner = inner.removeprefix(self.root) or "/"
        if scope["type"] == "http":
            send = _Protected(inner, send, secret=any(_tokens(query)))
        status, reason = self._refusal(scope, query)
        if self.origin:
            scope = self._as_shown(scope, inner)
        if status:
            await _answer(scope, send, status, reason)
        elif scope["type"] == "http":
            await self._http(scope, query, receive, send)
        else:
            await self.app(scope, receive, send)

    def _as_shown(self, scope: Scope, inner: str) -> Scope:
        """A request as the proxy's visitor made it: pages that name their own address name that one."""
        name, secure = next(iter(self.public)), self.origin.startswith("https:")
        headers = [(key, value) for key, value in scope["headers"] if key.lower() != b"host"]
        kind = {"http": "https" if secure else "http", "websocket": "wss" if secure else "ws"}[scope["type"]]
        path = self.root + inner
        shown = {"path": path, "raw_path": quote(path).encode(), "root_path": self.root, "scheme": kind}
        return {**scope, **shown, "headers": [(b"host", name.encode()), *headers]}

    def _refusal(self, scope: Scope, query: str) -> tuple[int, str]:
        """Why a request is not let in, as HTTP status and one line; 0 where it is."""
        hosts, origins = _header(scope, b"host"), _header(scope, b"origin")
        if len(hosts) != 1 or hosts[0].lower() not in self.hosts | self.public:
            return 403, f"This server answers to http://{min(self.hosts)} alone."
        own = {f"http://{hosts[0].lower()}"} if hosts[0].lower() in self.hosts else set()
        if origins and (len(origins) != 1 or origins[0] not in own | ({self.origin} if self.origin else set())):
            return 403, "This server answers to its own pages alone."
        if not _opened(scope) and not set(_header(scope, b"sec-fetch-site")) <= {"same-origin", "none"}:
            return 403, "This server answers to its own pages alone."
        kept = [pair.partition("=") for line in _header(scope, b"cookie") for pair in line.split(";")]
        brought = [value for name, _, value in kept if name.strip() == self.cookie]
        brought += [unquote(value, "latin-1") for value in _tokens(query)]
        if not any(hmac.compare_digest(value.strip().encode(), self.token) for value in brought):
            return 403, f"Open the address that `{self.command}` printed: it carries the token."
        if len(scope["path"]) + len(query) > LONGEST_ADDRESS:
            return 414, "The address is too long."
        if any(part in (".", "..") or "\0" in part for part in re.split(r"[/\\]", scope["path"])):
            return 404, "No address leads out of a folder."
        return 0, ""

    async def _http(self, scope: Scope, query: str, receive: Receive, send: Send) -> None:
        if scope["method"] in ("GET", "HEAD") and any(_tokens(query)):
            await self._drop_token(scope, query, send)
            return
        body = await _read(receive)
        if body is None:
            await _answer(scope, send, 413, f"A request has at most {LARGEST_BODY} bytes.")
            return
        told = [{"type": "http.request", "body": body, "more_body": False}]

        async def replay() -> Message:
            return told.pop() if told else await receive()

        await self.app(scope, replay, send)

    async def _drop_token(self, scope: Scope, query: str, send: Send) -> None:
        """To the same address without the token, which from now on is in the cookie.

        A browser that another site sent here would keep a strict cookie back on a redirect too: it gets a page that
        goes there.
        """
        rest = "&".join(pair for pair in query.split("&") if not pair.startswith("token="))
        where = "/" + quote(scope["path"].lstrip("/")) + (f"?{quote(rest, safe=SAFE)}" if rest else "")
        sent = not set(_header(scope, b"sec-fetch-site")) <= {"same-origin", "none"}
        cookie = f"{self.cookie}={self.token.decode()}; Path={self.root}/; HttpOnly; SameSite=Strict"
        cookie += "; Secure" if self.origin.startswith("https:") else ""
        further = {"set-cookie": cookie, "cache-control": "no-store"}
        further |= {"refresh": f"0; url={where}"} if sent else {"location": where}
        await _answer(scope, send, 200 if sent else 302, "Opening the page.", further)


SAFE = "!$&'()*+,;=:@/?%-._~"
"""Characters that a query keeps as they are."""


class _Protected:
    """A `send` that adds the headers of the house; a page is held until the policy knows what is in it.

    Args:
        path: of the request.
        send: of the server.
        secret: the address holds the token, so that it is told to nobody, pages of this server included.
    """

    def __init__(self, path: str, send: Send, secret: bool) -> None:
        self.path, self.send = path, send
        self.headers = {**HEADERS, **({"referrer-policy": "no-referrer"} if secret else {})}
        self.start: Message | None = None
        self.page = b""

    async def __call__(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            given = [(name.lower(), value) for name, value in message.get("headers", [])]
            self.start = {**message, "headers": given}
            if not dict(given).get(b"content-type", b"").startswith(b"text/html"):
                await self._begin()
        elif message["type"] == "http.response.body" and self.start is not None:
            self.page += message.get("body", b"")
            if not message.get("more_body", False):
                await self._begin(self.page)
                await self.send({"type": "http.response.body", "body": self.page})
        else:
            await self.send(message)

    async def _begin(self, page: bytes | None = None) -> None:
        ours = {**self.headers, "content-security-policy": policy(self.path, page or b"")}
        if page is not None:
            ours["cache-control"] = "no-store"  # a stored page would keep the policy of an older one
        assert self.start is not None
        theirs = [(name, value) for name, value in self.start["headers"]
                  if name.decode() not in ours and not name.startswith(b"access-control-")]  # fmt: skip
        mine = [(name.encode(), value.encode()) for name, value in ours.items()]
        message, self.start = {**self.start, "headers": theirs + mine}, None
        await self.send(message)


def _header(scope: Scope, name: bytes) -> list[str]:
    """Every value of a header."""
    return [value.decode("latin-1") for key, value in scope["headers"] if key.lower() == name]


def _tokens(query: str) -> Iterable[str]:
    return [pair.removeprefix("token=") for pair in query.split("&") if pair.startswith("token=")]


def _opened(scope: Scope) -> bool:
    """Whether a browser opens a page in a window of its own, which a link may do wherever it stands."""
    by = (_header(scope, b"sec-fetch-mode"), _header(scope, b"sec-fetch-dest"))
    return scope["type"] == "http" and scope["method"] in ("GET", "HEAD") and by == (["navigate"], ["document"])


async def _read(receive: Receive) -> bytes | None:
    """The body of a request; None where it is too large, or ends early."""
    body = b""
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        body += message.get("body", b"")
        if len(body) > LARGEST_BODY:
            return None
        if not message.get("more_body", False):
            return body


async def _answer(scope: Scope, send: Send, status: int, line: str, further: dict[str, str] | None = None) -> None:
    """One line of text; to a WebSocket that is not opened a server says 403 by itself."""
    if scope["type"] == "websocket":
        await send({"type": "websocket.close", "code": 4403})
        return
    headers = {"content-type": "text/plain; charset=utf-8", **(further or {})}
    coded = [(name.encode(), value.encode()) for name, value in headers.items()]
    await send({"type": "http.response.start", "status": status, "headers": coded})
    await send({"type": "http.response.body", "body": line.encode()})
