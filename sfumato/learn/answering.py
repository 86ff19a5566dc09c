"""What the pages ask of the server about answers: what is kept of one, keep it, judge it, start over.

A page that is left, or whose learner presses Stop, drops its request: the answer's process is ended then.
"""

from __future__ import annotations

import asyncio
import json
import threading
from typing import TYPE_CHECKING, Any

from sfumato.learn import kept, progress
from sfumato.learn.catalogue import exercise
from sfumato.learn.exercises import TRIES, Exercise
from sfumato.learn.languages import tr
from sfumato.learn.workshop import WORKSHOP, Verdict

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response
    from starlette.routing import Route


def state(asked: Exercise) -> dict[str, Any]:
    """An exercise as its page shows it: the code, what it started from, hints, and the solution once it may be seen."""
    code, tries = kept.get(asked.lesson, "code", asked.key), kept.get(asked.lesson, "tries", asked.key)
    tries = tries if isinstance(tries, int) else 0
    seen = asked.done or tries >= TRIES
    return {
        "code": code if isinstance(code, str) else asked.stub,
        "stub": asked.stub,
        "solved": asked.done,
        "tries": tries,
        "hints": [tr(hint) for hint in asked.hints],
        "solution": asked.solution if seen else None,
        "needed": TRIES,
    }


def note(asked: Exercise, code: str, verdict: Verdict) -> str:
    """Keep what follows from a verdict; a sentence where that failed."""
    try:
        kept.put(asked.lesson, "code", asked.key, code)
        if verdict.right:
            progress.record(asked.key, asked.version)
        elif verdict.judged and code.strip() != asked.stub.strip():
            tries = kept.get(asked.lesson, "tries", asked.key)
            kept.put(asked.lesson, "tries", asked.key, (tries if isinstance(tries, int) else 0) + 1)
    except OSError as error:
        return "\n" + tr("(It could not be noted in {path}: {error}.)", path=progress.location(), error=error.strerror)
    return ""


async def judged(request: Request, asked: Exercise, code: str) -> dict[str, Any]:
    """Judge an answer for as long as somebody waits for it."""
    stop = threading.Event()
    work = asyncio.create_task(asyncio.to_thread(WORKSHOP.judge, asked, code, stop))
    left = asyncio.create_task(_left(request))
    try:
        await asyncio.wait({work, left}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        left.cancel()
        if not work.done():
            stop.set()
    verdict = await work
    words = verdict.words + await asyncio.to_thread(note, asked, code, verdict)
    return {"right": verdict.right, "words": words, "printed": verdict.printed, "figure": verdict.figure}


async def _left(request: Request) -> None:
    """Returns once the page has dropped its request."""
    while (await request.receive())["type"] != "http.disconnect":
        pass


async def answer(request: Request) -> Response:
    """GET what is kept, PUT code, POST code to be judged, DELETE to start over; all give back the state."""
    from starlette.exceptions import HTTPException
    from starlette.responses import Response

    try:
        asked = exercise(request.path_params["key"])
    except ValueError:
        raise HTTPException(404) from None
    said: dict[str, Any] = {}
    try:
        if request.method in ("PUT", "POST"):
            code = _code(await request.json())
            if request.method == "POST":
                said = await judged(request, asked, code)
            else:
                await asyncio.to_thread(kept.put, asked.lesson, "code", asked.key, code)
        elif request.method == "DELETE":
            await asyncio.to_thread(kept.put, asked.lesson, "code", asked.key, None)
        else:
            await asyncio.to_thread(WORKSHOP.warm)
    except ValueError as error:
        raise HTTPException(400, str(error)) from None
    except OSError as error:
        path = kept.location(asked.lesson)
        raise HTTPException(507, tr("{path} cannot be written: {error}", path=path, error=error.strerror)) from None
    body = json.dumps({**state(asked), **said})  # in ASCII: what an answer prints may be half of a surrogate pair
    return Response(body, media_type="application/json", headers={"cache-control": "no-store"})


def _code(body: Any) -> str:
    """The code in what a page sent; ValueError where there is none, or too much."""
    code = body.get("code") if isinstance(body, dict) else None
    if not isinstance(code, str):
        raise ValueError("send the code of an answer")
    if len(code) > kept.LONGEST:
        raise ValueError(f"an answer has at most {kept.LONGEST} characters")
    return code.encode(errors="replace").decode()  # without halves of surrogate pairs, which no page can be sent


def routes() -> list[Route]:
    """Of the server."""
    from starlette.routing import Route

    return [Route("/{key}", answer, methods=["GET", "PUT", "POST", "DELETE"])]
