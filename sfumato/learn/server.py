"""One local server for the learning path: a catalogue with progress, the lessons, a page of formulas and one of words,
the library's files that lessons link to, the playground and, where they were built, the docs; all behind a token.

Lessons run what the learner types, so it listens to this machine alone and asks every visitor for the token that was
printed when it started (a cookie remembers it); `guard` says who is let in.
"""

from __future__ import annotations

import contextlib
import errno
import html
import os
import secrets
import socket
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.learn import answering, languages, playground, progress, teacher
from sfumato.learn.catalogue import CATALOGUE, REFERENCE, code
from sfumato.learn.guard import Guarded
from sfumato.learn.languages import tr, web
from sfumato.learn.syllabus import plan

if TYPE_CHECKING:
    import uvicorn
    from starlette.requests import Request

LARGEST_MESSAGE = 2**20
"""Bytes of one message over a WebSocket; pages send none that are long."""
MOST_CONNECTIONS = 128
"""Open at once; to another a request is answered by 503, which bounds the memory of their bodies together."""
LESSONS = Path(__file__).parent / "lessons"
WIDGETS = Path(__file__).parent / "widgets"
FIGURES = ("scrubber", "frames")
"""Modules that draw the figure of an answer."""
SITE = Path(__file__).parents[2] / "build" / "site"
"""Where `make docs` puts the docs of a checkout."""


def listen(port: int) -> socket.socket:
    """A socket that listens on this machine alone, at the port; with 0, at any free one. ValueError where it cannot."""
    listener = socket.socket()
    if os.name == "posix":  # elsewhere it lets two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind(("127.0.0.1", port))
        listener.listen(128)
    except OSError as error:
        listener.close()
        reason = "is in use" if error.errno == errno.EADDRINUSE else f"cannot be opened ({error.strerror})"
        raise ValueError(f"port {port} {reason}; choose another with --port, or --port 0 for any") from None
    return listener


def settings(app: Any) -> uvicorn.Config:
    """How the app is served: nothing is believed of a proxy, no message is long, and connections are bounded."""
    import uvicorn

    return uvicorn.Config(
        app, http="h11", ws_max_size=LARGEST_MESSAGE, proxy_headers=False, server_header=False, log_level="warning",
        timeout_graceful_shutdown=2, limit_concurrency=MOST_CONNECTIONS,
    )  # fmt: skip


@contextlib.contextmanager
def redirect(address: str, title: str = "The learning path") -> Iterator[Path]:
    """A page that leads to the address and that its owner alone can read, removed at the end.

    A browser is opened with it, since every user of a machine can read the command lines of all programs.
    """
    handle, name = tempfile.mkstemp(prefix="sfumato-", suffix=".html")  # readable for the owner alone
    page = Path(name)
    try:
        where = html.escape(address)
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(
                f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>sfumato</title>'
                f'<meta http-equiv="refresh" content="0; url={where}"></head>'
                f'<body><a href="{where}">{html.escape(title)}</a></body></html>'
            )
        yield page
    finally:
        page.unlink(missing_ok=True)


def make_app(
    port: int, token: str | None = None, models: Sequence[str | Path] = (), teaching: bool = False, behind: str = ""
) -> tuple[Any, str]:
    """The whole server as an ASGI app, and the token that opens it.

    Args:
        port: where it will listen; requests to any other are refused.
        token: a random one where None.
        models: a learner's own runs or checkpoints, for the playground.
        teaching: serve the teacher's page, with every solution.
        behind: the address under which a proxy shows it.
    """
    import marimo
    from starlette.applications import Starlette
    from starlette.exceptions import HTTPException
    from starlette.responses import FileResponse, HTMLResponse, PlainTextResponse
    from starlette.routing import Mount, Route
    from starlette.staticfiles import StaticFiles

    def catalogue(request: Request) -> HTMLResponse:
        return HTMLResponse(catalogue_page(teaching))

    def file(request: Request) -> PlainTextResponse:
        text = code(request.path_params["path"])
        if text is None:
            raise HTTPException(404)
        return PlainTextResponse(text)

    def figure(request: Request) -> FileResponse:
        if request.path_params["name"] not in FIGURES:
            raise HTTPException(404)
        return FileResponse(WIDGETS / f"{request.path_params['name']}.js", media_type="text/javascript")

    with contextlib.chdir(LESSONS):  # whose pyproject.toml has marimo's settings
        builder = marimo.create_asgi_app(quiet=True, include_code=True)
    for known in CATALOGUE:
        builder = builder.with_app(path=f"/{known.name}", root=str(known.path))
    for page in REFERENCE:
        builder = builder.with_app(path=f"/{page.name}", root=str(page.path))
    routes = [
        Route("/", catalogue),
        Route("/code/{path:path}", file),
        Mount("/lesson", builder.build()),
        Mount("/answer", routes=answering.routes()),
        Route("/figure/{name}", figure),
        Mount("/playground", routes=playground.routes(playground.Shelf(models))),
    ]
    if teaching:
        routes.append(Route("/teacher", lambda request: HTMLResponse(teacher.page())))
    if SITE.is_dir():
        routes.append(Mount("/docs", StaticFiles(directory=SITE, html=True)))
    token = token or secrets.token_urlsafe(16)
    return Guarded(web.Speaking(Starlette(routes=routes), _is_page), token, port, behind=behind), token


def _is_page(path: str) -> bool:
    """Whether a path is that of a page that is there in every language."""
    names = {f"/lesson/{known.name}/" for known in (*CATALOGUE, *REFERENCE)}
    return path in names or path in ("/", "/teacher", "/playground/")


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
:lang(zh) body { font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC",
  "WenQuanYi Micro Hei", sans-serif; }
nav { text-align: right; font-size: .95rem; } nav a { color: var(--accent); }
p.lead { color: var(--soft); margin: 0 0 2rem; }
ol { list-style: none; margin: 0; padding: 0; display: grid; gap: .8rem; }
li a { display: grid; grid-template-columns: 2.4rem 1fr auto; gap: .8rem; align-items: baseline; padding: 1rem 1.2rem;
  color: inherit; text-decoration: none; background: var(--card); border: 1px solid var(--line); border-radius: 12px; }
li a:hover, li a:focus-visible { border-color: var(--accent); outline: none; }
li b { font: 600 1.1rem Georgia, serif; } li span { display: block; color: var(--soft); font-size: .95rem; }
li i { font: 600 1.3rem Georgia, serif; color: var(--accent); font-style: normal; }
li small { display: block; }
li em { font-style: normal; font-size: .9rem; color: var(--soft); white-space: nowrap; }
@media (max-width: 32rem) { li a { grid-template-columns: 2.4rem 1fr; } li em { grid-column: 2; } }
"""


LEAD = (
    "Diffusion models, paper by paper. Every figure is computed while you watch, by the library itself. Progress is "
    "kept in {path}."
)


def catalogue_page(teaching: bool = False) -> str:
    """The list of lessons, with hours, difficulty and what is solved; with a link for teachers where that is served."""
    solved = progress.solved()
    items = []
    for known in CATALOGUE:
        done = sum(task.key in solved for task in known.tasks)
        planned = plan(known.name)
        hours = f"<small>{planned.line}</small>" if planned else ""
        items.append(
            f'<li><a href="lesson/{known.name}/{web.suffix()}"><i>{known.number}</i>'
            f"<div><b>{html.escape(tr(known.title))}</b><span>{html.escape(tr(known.about))}{hours}</span></div>"
            f"<em>{tr('{done} of {all} solved', done=done, all=len(known.tasks))}</em></a></li>"
        )
    items += [_further(f"lesson/{page.name}/", tr(page.title), tr(page.about)) for page in REFERENCE]
    items.append(
        _further("playground/", tr("Playground"), tr("Every model that ships, and your own, in this browser."))
    )
    if teaching:
        items.append(_further("teacher", tr("For teachers"), tr("Hours, goals, notes for class, and every solution.")))
    if SITE.is_dir():
        about = tr("Guides, every paper's page and the whole API, with search.")
        items.append(_further("docs/index.html", tr("Docs"), about))
    return (
        f'<!doctype html><html lang="{web.tag()}"><head><meta charset="utf-8">'
        f"<title>{tr('sfumato: the learning path')}</title>"
        '<link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>'
        f"<nav>{web.switch()}</nav><h1>{tr('The learning path')}</h1>"
        f'<p class="lead">{html.escape(tr(LEAD, path=progress.location()))}</p>{_set_aside()}'
        f"<ol>{''.join(items)}</ol>"
        "</main></body></html>"
    )


def _set_aside() -> str:
    """A line about each damaged file, until it is removed or mended."""
    words = [
        tr("A damaged file was set aside as {path}: what it held is not counted.", path=path)
        for path in progress.damaged()
    ]
    words += [
        tr("The translations in {path} cannot be read, and are shown in English; install sfumato again.", path=path)
        for path in languages.damaged(languages.language())
    ]
    return "".join(f'<p role="alert">{html.escape(line)}</p>' for line in words)


def _further(address: str, title: str, about: str) -> str:
    """An entry that is no lesson."""
    return (
        f'<li><a href="{address}{web.suffix()}"><i>+</i><div><b>{html.escape(title)}</b>'
        f"<span>{html.escape(about)}</span></div></a></li>"
    )
