"""Every lesson in a real browser: nothing from any other machine, no error, nothing clipped, exercises that work."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import serving
import watching

from sfumato.learn import server
from sfumato.learn.catalogue import CATALOGUE, Lesson
from sfumato.learn.workshop import WORKSHOP

pytestmark = watching.needs_browser
FIRST = CATALOGUE[0].name
SECONDS = 1000
"""In the milliseconds of the driver."""

REDRAW = """(slider) => {
  const began = performance.now();
  for (let i = 0; i < 20; i += 1) {
    slider.value = 50 * i;
    slider.dispatchEvent(new Event("input"));
  }
  return (performance.now() - began) / 20;
}"""
"""The milliseconds from a moved slider to the drawn figure."""


@pytest.mark.parametrize(
    "lesson",
    [
        pytest.param(known, id=known.name, marks=() if known.name in (FIRST, *serving.LONG) else pytest.mark.slow)
        for known in CATALOGUE
    ],
)
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
    watched.until("n => (document.body.innerText.match(/Choose first/g) || []).length < n", waiting, seconds=90)
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
        assert bars.first.locator("input").evaluate(REDRAW) < 50  # milliseconds: nobody is asked
    button.click()
    hint = WORKSHOP.judge(first, first.stub).words
    page.get_by_text(hint[:24]).first.wait_for(timeout=60 * SECONDS)
    page.get_by_label(f"your code for {first.key}").fill(first.solution)
    button.click()
    page.get_by_text("Right.").first.wait_for(timeout=60 * SECONDS)
    for width in (390, 1280):
        watched.fits(width, progress.with_name(f"{lesson.name}-{width}.png"))
    page.close()
    assert not watched.outside
    assert not watched.errors
    assert first.key in json.loads(progress.read_text())


def test_a_private_page_leads_in_and_the_token_is_told_to_nobody(address: str, browser: Any) -> None:
    """As the command opens a browser: its strict cookie has to survive that another place sent it here."""
    watched = watching.Watched(browser)
    page = watched.page
    with server.redirect(f"{address}&more=1") as private:
        page.goto(private.as_uri())
        page.get_by_text("The learning path").last.wait_for(timeout=30 * SECONDS)
        page.wait_for_url("**/?more=1")
    assert page.evaluate("document.referrer") == ""
    page.get_by_text("Your first picture").click()
    page.get_by_role("heading", name="Your first picture").wait_for(timeout=120 * SECONDS)
    assert "token" not in page.evaluate("document.cookie + document.referrer + location.href")
    page.close()
    assert not watched.outside
    assert not watched.errors


def test_derivations_unfold_typeset_and_links_lead_on(address: str, browser: Any, progress: Path) -> None:
    """In the dark, as the system is: derivations, a link from a formula to its derivation, and the next lesson."""
    watched = watching.Watched(browser)
    page = watched.page
    page.emulate_media(color_scheme="dark")
    page.goto(address)
    page.get_by_text("All formulas").click()
    page.locator(".katex").nth(60).wait_for(timeout=120 * SECONDS)
    assert page.locator(".katex-error").count() == 0
    page.locator("a[href='/lesson/ddim/#ddim-ode']").first.click()
    folded = page.locator("details.sf-derivation")
    folded.last.wait_for(timeout=120 * SECONDS)
    assert folded.count() == 4
    page.locator("#ddim-ode[open]").wait_for(timeout=30 * SECONDS)
    for n in range(3):
        folded.nth(n).locator("summary").click()
    folded.first.locator(".katex").nth(5).wait_for(timeout=30 * SECONDS)
    assert page.locator(".katex-error").count() == 0
    shade = "getComputedStyle(document.body).backgroundColor.match(/[0-9.]+/g).slice(0, 3).map(Number)"
    assert max(page.evaluate(shade)) < 60
    for width in (390, 1280):
        watched.fits(width, progress.with_name(f"derived-{width}.png"))
    page.locator(".sf-links").last.get_by_text("Improved DDPM").click()
    page.get_by_role("heading", name="Improved DDPM: how to spend the noise").wait_for(timeout=120 * SECONDS)
    page.close()
    assert not watched.outside
    assert not watched.errors


def test_a_schedule_is_drawn_with_keys(address: str, browser: Any) -> None:
    """The picture drowns otherwise at once, and the table follows."""
    watched = watching.Watched(browser)
    page = watched.page
    page.goto(address)
    page.get_by_text("Improved DDPM: how to spend the noise").click()
    handle = page.locator(".sf-schedule circle").nth(9)
    handle.wait_for(timeout=120 * SECONDS)
    row = page.locator("tr", has_text="yours")
    row.wait_for(timeout=60 * SECONDS)
    before, caption = row.inner_text(), page.locator(".sf-schedule figcaption").nth(7)
    drowned = caption.inner_text()
    handle.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("ArrowDown")
    assert caption.inner_text() != drowned
    watched.until(
        "old => [...document.querySelectorAll('tr')].some((r) => r.innerText.includes('yours') && r.innerText !== old)",
        before, seconds=60,
    )  # fmt: skip
    page.close()
    assert not watched.errors


def test_what_the_brush_covers_is_filled_in(address: str, browser: Any) -> None:
    watched = watching.Watched(browser)
    page = watched.page
    page.goto(address)
    page.get_by_text("Numbers instead of bits").click()
    canvas = page.locator(".sf-brush canvas")
    canvas.wait_for(timeout=120 * SECONDS)
    filled = page.locator("canvas[aria-label='three ways to fill it in']").last
    filled.wait_for(timeout=120 * SECONDS)
    before, share = filled.evaluate("c => c.toDataURL()"), page.locator(".sf-brush p").inner_text()
    canvas.focus()
    for _ in range(9):
        page.keyboard.press("ArrowUp")
    page.keyboard.press("Space")
    assert page.locator(".sf-brush p").inner_text() != share
    for _ in range(240):
        page.wait_for_timeout(500)
        if filled.is_visible() and filled.evaluate("c => c.toDataURL()") != before:
            break
    assert filled.evaluate("c => c.toDataURL()") != before
    page.close()
    assert not watched.errors
