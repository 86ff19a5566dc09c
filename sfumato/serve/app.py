"""The web server of one model: its page, GET /api/model, POST /api/sample and POST /api/inpaint, behind `learn.guard`.

A request waits in the queue until its pictures are made; with `Accept: application/x-ndjson` it is answered by one JSON
line for each change on the way. Whoever closes the connection cancels the work.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import secrets
from collections.abc import AsyncGenerator, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.learn import playground
from sfumato.learn.guard import Guarded
from sfumato.runtime.printable import printable
from sfumato.serve import wishes
from sfumato.serve.jobs import Full, Job, Jobs, Work
from sfumato.serve.work import Served

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

log = logging.getLogger(__name__)

PAGE = Path(__file__).parent / "page"
LINES = "application/x-ndjson"
LONGEST = 500
"""Letters of an error, about."""
EVERY = 0.25
"""Seconds between two looks at whether somebody still waits, and between two lines of progress, about."""


def make_app(served: Served, jobs: Jobs, port: int, token: str | None = None) -> tuple[Any, str]:
    """The whole server as an ASGI app, and the token that opens it.

    Args:
        port: where it will listen; requests to any other are refused.
        token: a random one where None.
    """
    from starlette.applications import Starlette
    from starlette.responses import JSONResponse
    from starlette.routing import Route

    def page(request: Request) -> Response:
        return playground.served_file(PAGE, request.path_params.get("name", "serve.html"))

    def style(request: Request) -> Response:
        return playground.served_file(playground.HERE, "playground.css")

    def model(request: Request) -> Response:
        return JSONResponse(served.about())

    routes = [
        Route("/", page), Route("/playground.css", style), Route("/api/model", model),
        Route("/api/sample", _answering(jobs, wishes.Sample, served.sampling), methods=["POST"]),
        Route("/api/inpaint", _answering(jobs, wishes.Inpaint, served.inpainting), methods=["POST"]),
        Route("/{name}", page),
    ]  # fmt: skip
    token = token or secrets.token_urlsafe(16)
    return Guarded(Starlette(routes=routes), token, port, "sfumato serve"), token


def _answering(jobs: Jobs, kind: type[Any], checked: Callable[[Any], Work]) -> Callable[[Request], Any]:
    """The endpoint of one kind of request; `checked` makes its work, or raises ValueError."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, StreamingResponse

    async def endpoint(request: Request) -> Response:
        body = await request.body()
        changed, loop = asyncio.Event(), asyncio.get_running_loop()

        def told() -> None:
            with contextlib.suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(changed.set)

        try:
            work = await run_in_threadpool(lambda: checked(wishes.read(kind, body)))
            job = jobs.submit(work, told)
        except ValueError as error:
            return JSONResponse({"error": _said(error)}, 400)
        except Full:
            line = f"{jobs.most} requests wait already; try again later"
            return JSONResponse({"error": line}, 429, {"retry-after": "5"})
        states = _states(jobs, job, changed, request)
        if LINES in request.headers.get("accept", ""):
            return StreamingResponse((json.dumps(state) + "\n" async for state in states), media_type=LINES)
        async with contextlib.aclosing(states):
            *_, last = [{}, *[state async for state in states if state["state"] not in ("waiting", "running")]]
        return JSONResponse(last, 200 if job.state == "done" else _why(job)[0])

    return endpoint


async def _states(
    jobs: Jobs, job: Job, changed: asyncio.Event, request: Request
) -> AsyncGenerator[dict[str, Any], None]:
    """What becomes of a job, each time that it is new; the last says its end. Who stops listening cancels it."""
    before: dict[str, Any] = {}
    try:
        while not (job.ended or job.cancelled.is_set()):
            changed.clear()
            state = _state(jobs, job)
            if state["state"] in ("waiting", "running") and state != before:
                before = state
                yield state
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(changed.wait(), EVERY)
            if not job.ended and await request.is_disconnected():
                return
        if job.error and _why(job)[0] == 500:
            log.error("a request failed", exc_info=job.error)
        yield _state(jobs, job)
    finally:
        jobs.cancel(job)


def _state(jobs: Jobs, job: Job) -> dict[str, Any]:
    """How a job stands, as JSON."""
    if job.state == "done":
        return {"state": "done", **job.found}
    if job.state == "failed":
        return {"state": "failed", "error": _why(job)[1]}
    if job.state == "cancelled" or job.cancelled.is_set():
        return {"state": "cancelled", "error": "cancelled"}
    if job.state == "waiting":
        return {"state": "waiting", "ahead": jobs.ahead(job)}
    return {"state": "running", "share": round(job.share, 3)}


def _said(error: ValueError) -> str:
    """What an error says, in one line that is not long, whatever it quotes."""
    line = printable(" ".join(str(error).split()))
    return line if len(line) <= LONGEST else f"{line[:LONGEST]} ..."


def _why(job: Job) -> tuple[int, str]:
    """The HTTP status of a job that made no pictures, and the reason in one line."""
    error = job.error
    if error is None:
        return 503, "cancelled"
    if isinstance(error, ValueError):
        return 400, _said(error)
    if isinstance(error, MemoryError) or "memory" in str(error):  # as torch says it, in a RuntimeError
        return 503, "not enough memory; ask for fewer pictures, or start with a smaller --batch"
    return 500, f"internal error: {type(error).__name__}"
