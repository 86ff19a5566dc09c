"""An exported lesson opened from disk asks nobody for anything, typesets its formulas and moves; also as a PDF."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("marimo")
pytest.importorskip("anywidget")

import torch
import watching

from sfumato.learn import export, figures
from sfumato.learn.export import document, printed, still

pytestmark = watching.needs_browser
FORMULAS = '<p><span class="sf-tex">x_t</span></p><div class="sf-tex">\\frac{a}{b}</div>'


@pytest.fixture
def text() -> str:
    made = figures.scrubber({"a run": torch.rand(5, 20, 2)})
    return document.page("a lesson", ["<h1>A lesson</h1>", FORMULAS, still.figure(made["module"], made["traits"])])


def test_a_page_from_disk_asks_nobody_and_moves(browser: Any, text: str, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_text(text, encoding="utf-8")
    watched = watching.Watched(browser)
    page = watched.page
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((tmp_path / "page.html").as_uri())
    page.locator("canvas").wait_for(timeout=20_000)
    assert page.locator(".katex").count() == 2
    assert page.locator(".katex-error").count() == 0
    caption = page.locator("figcaption")
    before = caption.inner_text()
    page.locator("input").focus()
    page.keyboard.press("Home")
    assert caption.inner_text() != before
    page.evaluate("fetch('https://example.org').catch(() => {})")  # its policy forbids it
    page.close()
    assert [url for url in asked if not url.startswith(("file:", "data:"))] == []
    assert not watched.outside
    assert all("Content Security Policy" in line for line in watched.errors)


def test_a_page_is_printed(text: str, tmp_path: Path) -> None:
    """In a thread of its own: the other tests' driver runs in this one."""
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(1) as pool:
        pool.submit(printed.pdf, text, tmp_path / "page.pdf").result()
    content = (tmp_path / "page.pdf").read_bytes()
    assert content.startswith(b"%PDF-")
    assert b"KaTeX" in content  # its fonts are embedded


def test_without_playwright_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match="pip install playwright"):
        export.FORMATS["pdf"](export.chosen("formulas"), tmp_path / "out")
    assert not (tmp_path / "out").exists()
