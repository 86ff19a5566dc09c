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
from sfumato.learn.languages import using

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


@pytest.mark.parametrize("width", [390, 1280])
def test_the_switch_of_a_file_keeps_the_place(browser: Any, text: str, tmp_path: Path, width: int) -> None:
    """Between the same titles, as far from one to the next, with the same parts folded open; there and back."""
    made = figures.scrubber({"a run": torch.rand(5, 20, 2)})
    figure = still.figure(made["module"], made["traits"])
    for language, words in (("en", 300), ("zh", 130)):
        folds = "".join(still.folded(f"fold {n}", f"<p>{'word ' * words}</p>{FORMULAS}") for n in range(4))
        parts = [f"<h2>Part {n}</h2><p>{'word ' * words}</p>{figure}{folds}" for n in range(3)]
        with using(language):
            page = document.page("a lesson", parts, addresses={"en": "page.html", "zh": "page.zh.html"})
        (tmp_path / ("page.html" if language == "en" else "page.zh.html")).write_text(page, encoding="utf-8")
    watched = watching.Watched(browser)
    page = watched.page
    page.set_viewport_size({"width": width, "height": 900})

    def switch() -> None:
        box = page.locator("a[data-language]").bounding_box()
        assert box["y"] < 40  # in sight, wherever one is
        with page.expect_navigation(wait_until="load"):
            page.mouse.click(box["x"] + 5, box["y"] + 5)
        page.wait_for_timeout(300)

    page.goto((tmp_path / "page.html").as_uri())
    page.locator("canvas").first.wait_for(timeout=20_000)
    page.locator("summary").nth(5).click()
    page.evaluate("scrollTo({ top: 0 })")
    page.evaluate(f"{FOLD}; const box = fold.getBoundingClientRect(); scrollTo(0, box.top + box.height / 2 - 60)")
    start = page.evaluate("scrollY")
    assert start > 900
    switch()
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    assert page.evaluate("[...document.querySelectorAll('details')].map((e) => e.open)").index(True) == 5
    box = page.evaluate(f"{FOLD}; fold.getBoundingClientRect().toJSON()")
    assert page.evaluate("scrollY") < start - 200  # the same place is not the same number of pixels
    assert abs(60 - box["top"] - box["height"] / 2) < 30
    switch()
    assert page.evaluate("document.documentElement.lang") == "en"
    assert abs(page.evaluate("scrollY") - start) < 3
    page.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = false; })")
    page.evaluate("scrollTo(0, 0)")
    switch()
    assert page.evaluate("scrollY") == 0
    assert page.locator("details[open]").count() == 0
    page.close()
    assert not watched.outside
    assert not watched.errors


FOLD = "const fold = document.querySelectorAll('details')[5]"


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
