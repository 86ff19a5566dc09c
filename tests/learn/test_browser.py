"""Every lesson in a real browser: nothing from any other machine, no error, nothing clipped, exercises that work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import watching

from sfumato.learn.catalogue import CATALOGUE, Lesson

pytestmark = watching.needs_browser
SECONDS = 1000
"""In the milliseconds of the driver."""


@pytest.mark.parametrize("lesson", CATALOGUE, ids=lambda lesson: lesson.name)
def test_a_lesson(address: str, browser: Any, progress: Path, lesson: Lesson) -> None:
    watched = watching.Watched(browser)
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
