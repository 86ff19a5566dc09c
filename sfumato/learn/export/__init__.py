"""Lessons as files: HTML that works without a network, a Jupyter notebook, a PDF, or a static site of all of them.

In several languages a page is one file in each, side by side: NAME.html in the first, NAME.zh.html in Chinese, with a
switch in both that leads to the same place of the other.
"""

from __future__ import annotations

import html
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from sfumato.data import pictures
from sfumato.learn.catalogue import CATALOGUE, REFERENCE, Lesson, Reference, code, lesson
from sfumato.learn.export import notebook, printed, still
from sfumato.learn.export.document import ASSETS, KATEX, page
from sfumato.learn.languages import language, tr, using
from sfumato.learn.syllabus import plan

Page = Lesson | Reference
Pages = tuple[Page, ...]
PAGES: Pages = (*CATALOGUE, *REFERENCE)
"""Everything that can be written."""
WHOLE = "all"
"""In place of a lesson's name: everything, as a site."""


def chosen(name: str) -> Pages:
    """The pages of that name or number, all of them for `all`; ValueError for an unknown one."""
    if name == WHOLE:
        return PAGES
    return tuple(known for known in REFERENCE if known.name == name) or (lesson(name),)


Said = Callable[[str], None]
"""Is told of each file: its name, how long it took and how large it is."""


def silent(line: str) -> None:
    """Tell nobody."""


def _write(text: str, path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pictures.write_text(path, text)
    return path


def write_html(pages: Pages, out: Path, said: Said = silent, spoken: Sequence[str] = ()) -> list[Path]:
    """One page as one file that holds everything, several as a site with a catalogue.

    Args:
        pages: what is written.
        out: the folder for it.
        said: is told of each file.
        spoken: the languages, each in files of its own; the one that is set (`using`) where none is given.
    """
    spoken = _languages(spoken)
    if len(pages) == 1:
        return _each(pages, "html", out, said, spoken, lambda known: _page(known, {}, True, spoken))
    files = sorted({file for known in pages if isinstance(known, Lesson) for file in known.code})
    (out / ASSETS).mkdir(parents=True, exist_ok=True)
    for name in ("katex.min.js", "katex.min.css", "LICENSE"):
        shutil.copyfile(KATEX / name, out / ASSETS / name)
    shutil.copytree(KATEX / "fonts", out / ASSETS / "fonts", dirs_exist_ok=True)
    for file in files:
        _write(code(file) or "", out / "code" / f"{file}.txt")

    def made(known: Page) -> str:
        links = {"/": file_of("index", spoken)} | {f"/code/{file}": f"code/{file}.txt" for file in files}
        links |= {f"/lesson/{other.name}/": file_of(other.name, spoken) for other in pages}
        return _page(known, links, False, spoken)

    written = _each(pages, "html", out, said, spoken, made)
    for name in reversed(spoken):
        with using(name):
            written.insert(0, _write(_catalogue(pages, spoken), out / file_of("index", spoken)))
    return written


def write_ipynb(pages: Pages, out: Path, said: Said = silent, spoken: Sequence[str] = ()) -> list[Path]:
    """A Jupyter notebook for each page and language."""
    return _each(pages, "ipynb", out, said, _languages(spoken), lambda known: notebook.notebook(known.path))


def write_pdf(pages: Pages, out: Path, said: Said = silent, spoken: Sequence[str] = ()) -> list[Path]:
    """A PDF for each page and language. ValueError where no browser is there to print it."""
    printed.need()
    out.mkdir(parents=True, exist_ok=True)
    return _each(pages, "pdf", out, said, _languages(spoken), lambda known: _page(known, {}, True), printed.pdf)


def file_of(name: str, spoken: Sequence[str], kind: str = "html", asked: str = "") -> str:
    """The file of a page in a language, by default the set one: NAME.KIND in the first, else NAME.LANGUAGE.KIND."""
    asked = asked or language()
    return f"{name}.{kind}" if asked == spoken[0] else f"{name}.{asked}.{kind}"


def _languages(spoken: Sequence[str]) -> tuple[str, ...]:
    return tuple(spoken) or (language(),)


def _each(
    pages: Pages, kind: str, out: Path, said: Said, spoken: tuple[str, ...],
    made: Callable[[Page], str], write: Callable[[str, Path], object] = _write,
) -> list[Path]:  # fmt: skip
    """The files of each page, which `made` makes in the language that is set."""
    paths = []
    for known in pages:
        for name in spoken:
            began = time.monotonic()
            with using(name):
                path = out / file_of(known.name, spoken, kind)
                write(made(known), path)
            paths.append(path)
            said(f"{path}: {time.monotonic() - began:.0f} s, {path.stat().st_size / 1e6:.1f} MB")
    return paths


FORMATS: dict[str, Callable[..., list[Path]]] = {
    "html": write_html, "ipynb": write_ipynb, "pdf": write_pdf,
}  # fmt: skip
"""What lessons can be written as."""


def _page(known: Page, links: still.Links, whole: bool, spoken: Sequence[str] = ()) -> str:
    parts = [still.relinked(part, links) for part in still.outputs(known.name)]
    return page(tr(known.title), parts, whole, _addresses(known.name, spoken))


def _addresses(name: str, spoken: Sequence[str]) -> dict[str, str]:
    """Language -> the file of a page in it; nothing where there is no other."""
    return {asked: file_of(name, spoken, asked=asked) for asked in spoken} if len(spoken) > 1 else {}


def _catalogue(pages: Pages, spoken: Sequence[str]) -> str:
    """The first page of a site."""
    items = []
    for known in pages:
        planned = plan(known.name)
        number = f"{known.number}. " if isinstance(known, Lesson) else ""
        items.append(
            f'<li><a href="{file_of(known.name, spoken)}">{number}{html.escape(tr(known.title))}</a>'
            f"<span>{html.escape(tr(known.about))}</span>{f'<span>{planned.line}</span>' if planned else ''}</li>"
        )
    lead = tr(
        "Diffusion models, paper by paper, with the figures as they were computed when this site was written. Controls "
        "that compute, and exercises that are checked, are in `sfumato learn`."
    )
    lead = html.escape(lead).replace("`sfumato learn`", "<code>sfumato learn</code>")
    about = f"<h1>{tr('The learning path of sfumato')}</h1><p>{lead}</p>"
    parts = [f'{about}<ul class="sf-lessons">{"".join(items)}</ul>']
    return page(tr("sfumato: the learning path"), parts, False, _addresses("index", spoken))
