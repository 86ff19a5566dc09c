"""A page that is watched: what it asks of other machines, its errors, and what is cut off."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import pytest

CHROMIUM = shutil.which("chromium")
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")


@contextmanager
def chromium() -> Iterator[Any]:
    """The browser, without a window."""
    with pytest.importorskip("playwright.sync_api").sync_playwright() as driver:
        opened = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        yield opened
        opened.close()


class Watched:
    """A page, a new one unless one is given, that notes every request to another machine and every error."""

    def __init__(self, browser: Any, page: Any = None) -> None:
        self.outside: list[str] = []
        self.errors: list[str] = []
        self.page = page or browser.new_page(viewport={"width": 1280, "height": 900})
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

    def until(self, function: str, wanted: Any, seconds: float) -> None:
        """Waits until the function of the page returns true. (The driver's own wait needs eval, which pages forbid.)"""
        for _ in range(int(4 * seconds)):
            if self.page.evaluate(function, wanted):
                return
            self.page.wait_for_timeout(250)
        raise TimeoutError(f"{function} with {wanted!r}")

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
  return [...document.querySelectorAll(".output-area *, main *")].filter((e) => {
    const box = e.getBoundingClientRect();
    return box.width > 1 && box.height > 1 && box.right > width + 1 && !scrolls(e);
  }).slice(0, 5).map((e) => `${e.tagName}.${e.className}: ${e.textContent.slice(0, 60)}`);
}"""
"""Elements of the lesson that reach beyond the window and are in nothing that scrolls sideways."""
