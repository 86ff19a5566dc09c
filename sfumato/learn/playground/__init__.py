"""The playground: models as ONNX graphs, run in the page; the server only hands out files.

A model's graphs are written when somebody first opens it, ten seconds to a minute of work, and kept in the user's
cache under the digest of its weights.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.learn import languages
from sfumato.learn.languages import tr, web
from sfumato.shapes import only_images
from sfumato.version import __version__

if TYPE_CHECKING:
    from starlette.requests import Request
    from starlette.responses import Response

HERE = Path(__file__).parent
KINDS = {".html": "text/html", ".js": "text/javascript", ".mjs": "text/javascript", ".css": "text/css",
         ".wasm": "application/wasm", ".json": "application/json", ".onnx": "application/octet-stream"}  # fmt: skip

OWN = "your own"


def cache() -> Path:
    """Where exported graphs lie: below $XDG_CACHE_HOME/sfumato."""
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sfumato" / "playground"


class Shelf:
    """The models that can be played with: those that ship and make pictures, and a learner's own.

    Args:
        own: run folders or checkpoints, which come first.
    """

    def __init__(self, own: Sequence[str | Path] = ()) -> None:
        from sfumato.models import shipped
        from sfumato.papers.presets import about

        known = {name: path for name, path in shipped().items() if not name.startswith("adm_classifier/")}
        self.targets = [str(path) for path in own] + list(known)
        self.titles = {str(path): OWN for path in own} | {name: about(name) for name in known}
        self._lock = threading.Lock()

    def folder(self, number: int) -> Path:
        """The graphs of a model, written now if they are not there yet. ValueError where that cannot be done."""
        from sfumato.convert import onnx
        from sfumato.models import load_model

        target = self.targets[number]
        with self._lock:  # two pages may ask at once
            model = load_model(target)
            only_images(model.recipe.shape, "the playground", "sfumato sample draws them")
            digest = hashlib.sha256(f"{__version__} {onnx.FORMAT} {model.recipe}".encode())
            for value in model.network.state_dict().values():
                digest.update(value.contiguous().numpy().tobytes())
            folder = cache() / digest.hexdigest()[:16]
            if not folder.exists():
                onnx.export(model.recipe, model.network, folder, classes=model.classes)
        return folder


def routes(shelf: Shelf) -> list[Any]:
    """/, /models, /model/NUMBER/FILE and the files of the page and its runtime."""
    from starlette.concurrency import run_in_threadpool
    from starlette.responses import JSONResponse, PlainTextResponse
    from starlette.routing import Route

    folders: dict[int, Path] = {}

    def models(request: Request) -> Response:
        return JSONResponse([{"name": target, "about": tr(shelf.titles[target])} for target in shelf.targets])

    async def model(request: Request) -> Response:
        number, name = request.path_params["number"], request.path_params["name"]
        if number >= len(shelf.targets):
            return PlainTextResponse("no such model", 404)
        if number not in folders:
            try:
                folders[number] = await run_in_threadpool(shelf.folder, number)
            except ValueError as reason:
                return PlainTextResponse(str(reason), 409)
        return served_file(folders[number], name)

    def page(request: Request) -> Response:
        from starlette.responses import HTMLResponse

        text = (HERE / "playground.html").read_text(encoding="utf-8")
        return HTMLResponse(web.page(text, languages.of_file(languages.language(), "playground/playground.js")))

    def file(request: Request) -> Response:
        return served_file(HERE, request.path_params["name"])

    def runtime(request: Request) -> Response:
        return served_file(HERE / "runtime", request.path_params["name"])

    return [
        Route("/", page), Route("/models", models), Route("/model/{number:int}/{name}", model),
        Route("/runtime/{name}", runtime), Route("/{name}", file),
    ]  # fmt: skip


def served_file(folder: Path, name: str) -> Response:
    """A file of the folder, of a kind that pages ask for; what lies there compressed is sent so."""
    from starlette.responses import FileResponse, PlainTextResponse

    kind = KINDS.get(Path(name).suffix)
    there = {path.name: path for path in folder.iterdir() if path.is_file()}  # so that no name leads anywhere else
    if kind and name in there:
        return FileResponse(there[name], media_type=kind)
    if kind and f"{name}.gz" in there:
        return FileResponse(there[f"{name}.gz"], media_type=kind, headers={"content-encoding": "gzip"})
    return PlainTextResponse("no such file", 404)
