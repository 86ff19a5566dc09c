"""Lessons as files: HTML that works without a network, a Jupyter notebook, a PDF, or a static site of all of them."""

from __future__ import annotations

import html
import shutil
import time
from collections.abc import Callable
from pathlib import Path

from sfumato.data import pictures
from sfumato.learn.catalogue import CATALOGUE, REFERENCE, Lesson, Reference, code, lesson
from sfumato.learn.export import notebook, printed, still
from sfumato.learn.export.document import ASSETS, KATEX, page
from sfumato.learn.languages import tr
from sfumato.learn.syllabus import plan

PAGES: tuple[Lesson | Reference, ...] = (*CATALOGUE, *REFERENCE)
"""Everything that can be written."""
WHOLE = "all"
"""In place of a lesson's name: everything, as a site."""


def chosen(name: str) -> tuple[Lesson | Reference, ...]:
    """The pages of that name or number, all of them for `all`; ValueError for an unknown one."""
    if name == WHOLE:
        return PAGES
    return tuple(known for known in REFERENCE if known.name == name) or (lesson(name),)


Said = Callable[[str], None]
"""Is told of each file: its name, how long it took and how large it is."""


def silent(line: str) -> None:
    """Tell nobody."""


def write_html(pages: tuple[Lesson | Reference, ...], out: Path, said: Said = silent) -> list[Path]:
    """One page as one file that holds everything, several as a site with a catalogue."""
    if len(pages) == 1:
        return _each(pages, lambda known: _written(out / f"{known.name}.html", _page(known, {}, whole=True)), said)
    links = {"/": "index.html", **{f"/lesson/{known.name}/": f"{known.name}.html" for known in pages}}
    files = {file for known in pages if isinstance(known, Lesson) for file in known.code}
    links |= {f"/code/{file}": f"code/{file}.txt" for file in files}
    (out / ASSETS).mkdir(parents=True, exist_ok=True)
    for name in ("katex.min.js", "katex.min.css", "LICENSE"):
        shutil.copyfile(KATEX / name, out / ASSETS / name)
    shutil.copytree(KATEX / "fonts", out / ASSETS / "fonts", dirs_exist_ok=True)
    for file in sorted(files):
        _written(out / "code" / f"{file}.txt", code(file) or "")
    written = _each(pages, lambda known: _written(out / f"{known.name}.html", _page(known, links, whole=False)), said)
    return [_written(out / "index.html", _catalogue()), *written]


def write_ipynb(pages: tuple[Lesson | Reference, ...], out: Path, said: Said = silent) -> list[Path]:
    """A Jupyter notebook for each."""
    return _each(pages, lambda known: _written(out / f"{known.name}.ipynb", notebook.notebook(known.path)), said)


def write_pdf(pages: tuple[Lesson | Reference, ...], out: Path, said: Said = silent) -> list[Path]:
    """A PDF for each. ValueError where no browser is there to print it."""
    printed.need()
    out.mkdir(parents=True, exist_ok=True)

    def made(known: Lesson | Reference) -> Path:
        path = out / f"{known.name}.pdf"
        printed.pdf(_page(known, {}, whole=True), path)
        return path

    return _each(pages, made, said)


def _each(
    pages: tuple[Lesson | Reference, ...], made: Callable[[Lesson | Reference], Path], said: Said
) -> list[Path]:
    """The file of each page."""
    paths = []
    for known in pages:
        began = time.monotonic()
        paths.append(made(known))
        said(f"{paths[-1]}: {time.monotonic() - began:.0f} s, {paths[-1].stat().st_size / 1e6:.1f} MB")
    return paths


FORMATS: dict[str, Callable[..., list[Path]]] = {
    "html": write_html, "ipynb": write_ipynb, "pdf": write_pdf,
}  # fmt: skip
"""What lessons can be written as."""


def _page(known: Lesson | Reference, links: still.Links, whole: bool) -> str:
    parts = [still.relinked(part, links) for part in still.outputs(known.name)]
    return page(tr(known.title), parts, whole)


def _catalogue() -> str:
    """The first page of a site."""
    items = []
    for known in PAGES:
        planned = plan(known.name)
        number = f"{known.number}. " if isinstance(known, Lesson) else ""
        items.append(
            f'<li><a href="{known.name}.html">{number}{html.escape(tr(known.title))}</a>'
            f"<span>{html.escape(tr(known.about))}"
            f"{f' {planned.line}.' if planned else ''}</span></li>"
        )
    lead = tr(
        "Diffusion models, paper by paper, with the figures as they were computed when this site was written. Controls "
        "that compute, and exercises that are checked, are in `sfumato learn`."
    )
    lead = html.escape(lead).replace("`sfumato learn`", "<code>sfumato learn</code>")
    about = f"<h1>{tr('The learning path of sfumato')}</h1><p>{lead}</p>"
    return page(tr("sfumato: the learning path"), [f'{about}<ul class="sf-lessons">{"".join(items)}</ul>'], whole=False)


def _written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.write_text(path, text)
    return path
