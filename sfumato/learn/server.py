"""One local server for the learning path: a catalogue with progress, the lessons, the playground and, where they were
built, the docs; all behind a token.

Lessons run what the learner types, so it listens to this machine alone and asks every visitor for the token that was
printed when it started (a cookie remembers it).
"""

from __future__ import annotations

import html
import secrets
import socket
from collections.abc import Sequence
from http.cookies import SimpleCookie
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qs

from sfumato.learn import playground, progress
from sfumato.learn.catalogue import CATALOGUE

if TYPE_CHECKING:
    from starlette.requests import Request

COOKIE = "sfumato_token"
SITE = Path(__file__).parents[2] / "build" / "site"
"""Where `make docs` puts the docs of a checkout."""


def free_port(wanted: int) -> int:
    """The port, if nothing listens there; with 0, any free one. ValueError where it is taken."""
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", wanted))
        except OSError:
            raise ValueError(f"port {wanted} is in use; choose another with --port, or --port 0 for any") from None
        return int(probe.getsockname()[1])


def make_app(token: str | None = None, models: Sequence[str | Path] = ()) -> tuple[Any, str]:
    """The whole server as an ASGI app, and the token that opens it.

    Args:
        token: a random one where None.
        models: a learner's own runs or checkpoints, for the playground.
    """
    import marimo
    from starlette.applications import Starlette
    from starlette.responses import HTMLResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def catalogue(request: Request) -> HTMLResponse:
        return HTMLResponse(catalogue_page())

    builder = marimo.create_asgi_app(quiet=True, include_code=True)
    for known in CATALOGUE:
        builder = builder.with_app(path=f"/{known.name}", root=str(known.path))
    routes = [
        Route("/", catalogue),
        Mount("/lesson", builder.build()),
        Mount("/playground", routes=playground.routes(playground.Shelf(models))),
    ]
    if SITE.is_dir():
        routes.append(Mount("/docs", StaticFiles(directory=SITE, html=True)))
    app = Starlette(routes=routes)
    token = token or secrets.token_urlsafe(16)
    return Guarded(app, token), token


class Guarded:
    """Lets in whoever brings the token, in the address once and then in a cookie; 403 for everyone else."""

    def __init__(self, app: Any, token: str) -> None:
        self.app, self.token = app, token

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        if scope["type"] not in ("http", "websocket"):
            await self.app(scope, receive, send)
            return
        brought = parse_qs(scope.get("query_string", b"").decode()).get("token", [""])[0]
        cookies: SimpleCookie = SimpleCookie(dict(scope["headers"]).get(b"cookie", b"").decode())
        kept = cookies[COOKIE].value if COOKIE in cookies else ""
        if not any(secrets.compare_digest(found.encode(), self.token.encode()) for found in (brought, kept)):
            await self._refuse(scope, send)
            return

        async def with_cookie(message: dict[str, Any]) -> None:
            if message["type"] == "http.response.start" and brought:
                cookie = f"{COOKIE}={self.token}; Path=/; HttpOnly; SameSite=Strict"
                message = {**message, "headers": [*message.get("headers", []), (b"set-cookie", cookie.encode())]}
            await send(message)

        await self.app(scope, receive, with_cookie)

    @staticmethod
    async def _refuse(scope: dict[str, Any], send: Any) -> None:
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 4403})
            return
        body = b"Open the address that `sfumato learn` printed: it carries the token."
        await send({"type": "http.response.start", "status": 403, "headers": [(b"content-type", b"text/plain")]})
        await send({"type": "http.response.body", "body": body})


# ---------------------------------------------------------------- the catalogue page

STYLE = """
:root { --ink: #23282f; --soft: #6a7280; --paper: #faf9f7; --card: #fff; --line: #e4e1dc; --accent: #b4552d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e3de; --soft: #9aa0a8; --paper: #17191c; --card: #1f2226; --line: #33373d; --accent: #e08a5f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 17px/1.6 system-ui, sans-serif; }
main { max-width: 760px; margin: 0 auto; padding: 3rem 1.2rem 4rem; }
h1 { font: 600 2.1rem/1.2 Georgia, serif; margin: 0 0 .4rem; }
p.lead { color: var(--soft); margin: 0 0 2rem; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem; }
li a { display: grid; grid-template-columns: 2.4rem 1fr auto; gap: .8rem; align-items: baseline; padding: 1rem 1.2rem;
  color: inherit; text-decoration: none; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
li a:hover, li a:focus-visible { border-color: var(--accent); outline: none; }
li b { font: 600 1.1rem Georgia, serif; } li span { display: block; color: var(--soft); font-size: .95rem; }
li i { font: 600 1.3rem Georgia, serif; color: var(--accent); font-style: normal; }
li em { font-style: normal; font-size: .9rem; color: var(--soft); white-space: nowrap; }
"""


def catalogue_page() -> str:
    """The list of lessons, with what is solved."""
    solved = progress.solved()
    items = []
    for known in CATALOGUE:
        done = sum(exercise.key in solved for exercise in known.exercises)
        items.append(
            f'<li><a href="/lesson/{known.name}/"><i>{known.number}</i><div><b>{html.escape(known.title)}</b>'
            f"<span>{html.escape(known.about)}</span></div><em>{done} of {len(known.exercises)} solved</em></a></li>"
        )
    items.append(_further("/playground/", "Playground", "Every model that ships, and your own, in this browser."))
    if SITE.is_dir():
        items.append(_further("/docs/index.html", "Docs", "Guides, every paper's page and the whole API, with search."))
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sfumato: the learning path</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>'
        "<h1>The learning path</h1>"
        '<p class="lead">Diffusion models, paper by paper. Every figure is computed while you watch, by the library '
        f"itself. Progress is kept in {html.escape(str(progress.location()))}.</p><ol>{''.join(items)}</ol>"
        "</main></body></html>"
    )


def _further(address: str, title: str, about: str) -> str:
    """An entry that is no lesson."""
    return (
        f'<li><a href="{address}"><i>+</i><div><b>{html.escape(title)}</b>'
        f"<span>{html.escape(about)}</span></div></a></li>"
    )
