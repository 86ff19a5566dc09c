"""Every lesson in a real browser: nothing from any other machine, no error, nothing clipped, exercises that work."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest
import serving

from sfumato.learn.catalogue import CATALOGUE, Lesson

CHROMIUM = shutil.which("chromium")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
SECONDS = 1000
"""In the milliseconds of the driver."""


@pytest.fixture(scope="module")
def progress(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("learner") / "progress.json"


@pytest.fixture(scope="module")
def address(progress: Path) -> Iterator[str]:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    with serving.served(progress) as found:
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield opened
        opened.close()


class Watched:
    """A page that notes every request to another machine and every error."""

    def __init__(self, browser: Any) -> None:
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page = browser.new_page(viewport={"width": 1280, "height": 900})
        self.page.route("**/*", self._route)
        self.page.on("console", lambda m: self.errors.append(m.text) if m.type == "error" else None)
        self.page.on("pageerror", lambda e: self.errors.append(str(e)))

    def _route(self, route: Any) -> None:
        host = urlparse(route.request.url).hostname
        if host in (None, "127.0.0.1"):
            route.continue_()
        else:
            self.outside.append(route.request.url)
            route.abort()

    def fits(self, width: int, picture: Path) -> None:
        """Nothing is cut off in a window of that width, but what scrolls by itself; the whole page is photographed."""
        self.page.set_viewport_size({"width": width, "height": 900})
        self.page.wait_for_timeout(300)
        height = self.page.evaluate("Math.max(...[...document.querySelectorAll('*')].map((e) => e.scrollHeight))")
        self.page.set_viewport_size({"width": width, "height": min(height, 14_000)})
        self.page.evaluate("document.querySelectorAll('*').forEach((e) => { e.scrollTop = 0; })")
        self.page.wait_for_timeout(300)
        self.page.screenshot(path=str(picture))
        assert self.page.evaluate(CUT_OFF, width) == []


CUT_OFF = """(width) => {
  const scrolls = (e) => e && (/(auto|scroll)/.test(getComputedStyle(e).overflowX) && e.scrollWidth > e.clientWidth
    && e.getBoundingClientRect().right <= width + 1 || scrolls(e.parentElement));
  return [...document.querySelectorAll(".output-area *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > width + 1 && !scrolls(e);
  }).slice(0, 5).map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 60)}`);
}"""
"""Elements of the lesson that reach beyond the window and are in nothing that scrolls sideways."""


@pytest.mark.parametrize("lesson", CATALOGUE, ids=lambda lesson: lesson.name)
def test_a_lesson(address: str, browser: Any, progress: Path, lesson: Lesson) -> None:
    watched = Watched(browser)
    page = watched.page
    page.goto(address)
    page.get_by_text(lesson.title).click()
    first = lesson.exercises[0]
    button = page.get_by_role("button", name=f"Check {first.key}")
    button.wait_for(timeout=120 * SECONDS)
    page.locator(".katex").first.wait_for(timeout=30 * SECONDS)  # mathematics is rendered
    page.get_by_text("Choose first").first.wait_for(timeout=60 * SECONDS)
    waiting = page.get_by_text("Choose first").count()
    page.get_by_role("radio").first.click()
    page.wait_for_function(
        "n => (document.body.innerText.match(/Choose first/g) || []).length < n", arg=waiting, timeout=90 * SECONDS
    )
    bars = page.locator(".sf-bar:visible")
    if bars.count():
        caption = bars.first.locator("xpath=..").locator("figcaption").first
        before = caption.inner_text()
        bars.first.locator("input").focus()
        for key in ("Home", "End"):
            page.keyboard.press(key)
            if caption.inner_text() != before:
                break
        assert caption.inner_text() != before
    button.click()
    hint = first.judge(first.stub)[1]
    page.get_by_text(hint[:24]).first.wait_for(timeout=60 * SECONDS)
    page.locator(".cm-content").first.click()
    page.keyboard.press("Control+A")
    page.keyboard.press("Delete")
    page.keyboard.insert_text(first.solution)
    page.wait_for_timeout(1500)
    button.click()
    page.get_by_text("Right.").first.wait_for(timeout=60 * SECONDS)
    for width in (390, 1280):
        watched.fits(width, progress.with_name(f"{lesson.name}-{width}.png"))
    page.close()
    assert not watched.outside
    assert not watched.errors
    assert first.key in json.loads(progress.read_text())
