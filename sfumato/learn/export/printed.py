"""A page as a PDF, printed by Chromium through Playwright, with everything folded open and without a network."""

from __future__ import annotations

import importlib.util
import shutil
import tempfile
from pathlib import Path
from typing import Any

MISSING = (
    "a PDF is printed by Chromium through Playwright: pip install playwright, and chromium (Debian: apt install "
    "chromium; elsewhere: playwright install chromium)"
)


def need() -> None:
    """ValueError that says what to install, where Playwright is missing."""
    if importlib.util.find_spec("playwright") is None:
        raise ValueError(MISSING)


def pdf(page: str, path: Path) -> None:
    """Print a page that holds everything itself. ValueError where there is no Chromium."""
    from playwright.sync_api import Error, sync_playwright

    with sync_playwright() as driver, tempfile.TemporaryDirectory(prefix="sfumato-") as folder:
        source = Path(folder) / "page.html"
        source.write_text(page, encoding="utf-8")
        try:
            browser = driver.chromium.launch(executable_path=_chromium(), args=["--no-sandbox"])
        except Error as error:
            raise ValueError(f"{MISSING} ({str(error).splitlines()[0]})") from None
        try:
            _print(browser, source.as_uri(), path)
        finally:
            browser.close()


def _print(browser: Any, address: str, path: Path) -> None:
    shown = browser.new_page(color_scheme="light")
    shown.goto(address)
    shown.evaluate("document.querySelectorAll('details').forEach((e) => { e.open = true; })")
    shown.evaluate("document.fonts.ready")
    shown.pdf(path=str(path), format="A4", margin={"top": "18mm", "bottom": "18mm", "left": "18mm", "right": "18mm"})


def _chromium() -> str | None:
    """The system's Chromium; None for the one that Playwright installed."""
    return shutil.which("chromium") or shutil.which("google-chrome")
