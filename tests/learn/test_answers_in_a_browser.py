"""An exercise in a real browser: loops, ends, prints and errors come back as words, and what is typed is kept."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import watching

from sfumato.learn import kept
from sfumato.learn.catalogue import exercise

pytestmark = watching.needs_browser
SECONDS = 1000
SIGMA = exercise("ddim.1")


@pytest.fixture(scope="module")
def watched(address: str, browser: Any) -> watching.Watched:
    found = watching.Watched(browser)
    found.page.goto(address)
    found.page.get_by_text("DDIM: the same pictures").click()
    found.page.get_by_role("button", name="Check ddim.1").wait_for(timeout=120 * SECONDS)
    return found


def answer(page: Any, code: str, words: str) -> None:
    """Type it, check it, wait for the words."""
    page.get_by_label("your code for ddim.1").fill(code)
    page.get_by_role("button", name="Check ddim.1").click()
    page.get_by_text(words).first.wait_for(timeout=60 * SECONDS)


def test_whatever_is_typed_has_an_answer(watched: watching.Watched) -> None:
    page = watched.page
    answer(page, "import os\nos._exit(0)", "ended its process with code 0")
    answer(page, "import sys\nsys.exit()", "line 2: SystemExit")
    answer(page, "def sigma(eta, a, b)\n    return", "line 1: SyntaxError: expected ':'")
    answer(page, "print('<b>seen</b>', 41 + 1)", "<b>seen</b> 42")
    answer(page, "raise ValueError('<i>*as it is*</i>')", "line 1: ValueError: <i>*as it is*</i>")
    assert page.locator(".sf-solution:visible").count() == 1  # after three tries
    answer(page, SIGMA.solution, "Right.")
    assert not watched.errors


def test_a_loop_is_stopped_while_all_else_works(watched: watching.Watched) -> None:
    page = watched.page
    page.get_by_label("your code for ddim.1").fill("while True:\n    pass")
    page.get_by_role("button", name="Check ddim.1").click()
    stop = page.get_by_role("button", name="Stop", exact=True)
    stop.wait_for(timeout=10 * SECONDS)
    page.get_by_text("Choose first").first.wait_for(timeout=60 * SECONDS)
    page.get_by_role("radio").first.click()  # another cell of the lesson
    watched.until("() => !document.body.innerText.includes('Choose first')", None, seconds=60)
    stop.click()
    page.get_by_text("Stopped.").wait_for(timeout=10 * SECONDS)
    page.get_by_role("button", name="Check ddim.1").wait_for(timeout=10 * SECONDS)
    answer(page, SIGMA.solution, "Right.")
    assert not watched.errors


def test_keys_indent_leave_and_check(watched: watching.Watched) -> None:
    page = watched.page
    code = page.get_by_label("your code for ddim.1")
    code.fill("")
    code.focus()
    for key in ("x", " ", "=", " ", "1", ":", "Enter", "y", "Enter", "Tab", "z"):
        page.keyboard.press(key)
    assert code.input_value() == "x = 1:\n    y\n        z"
    page.keyboard.press("Escape")
    page.keyboard.press("Tab")
    assert code.evaluate("e => e.getRootNode().activeElement.className") == "sf-check"
    assert code.input_value().endswith("z")
    code.fill(SIGMA.solution)
    page.keyboard.press("Control+Enter")
    page.get_by_text("Right.").first.wait_for(timeout=60 * SECONDS)


def test_a_refresh_keeps_code_and_guess_and_start_over_forgets(watched: watching.Watched) -> None:
    page = watched.page
    code = page.get_by_label("your code for ddim.1")
    code.fill("# mine, not checked yet\nx = 1 < 2")
    page.reload()  # at once
    code = page.get_by_label("your code for ddim.1")
    code.wait_for(timeout=120 * SECONDS)
    for _ in range(100):
        if code.input_value():
            break
        page.wait_for_timeout(100)
    assert code.input_value() == "# mine, not checked yet\nx = 1 < 2"
    assert page.get_by_role("radio").first.is_checked()
    page.get_by_role("button", name="Start over").first.click()
    page.get_by_text("Back to the start").wait_for(timeout=10 * SECONDS)
    assert code.input_value() == SIGMA.stub
    page.keyboard.press("Control+Z")
    assert code.input_value() == "# mine, not checked yet\nx = 1 < 2"
    assert not watched.errors
    assert not watched.outside


def test_what_is_judged_of_a_card_is_kept(
    watched: watching.Watched, progress: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SFUMATO_PROGRESS", str(progress))
    page, question = watched.page, "Which eta is DDPM's sampler?"
    card = page.get_by_role("button", name=question)
    card.click()
    page.get_by_text("Before you opened it:").wait_for(timeout=20 * SECONDS)
    page.get_by_role("radio", name="I knew it").click()
    for _ in range(200):
        if kept.get("ddim", "quiz", question):
            break
        page.wait_for_timeout(100)
    assert kept.get("ddim", "quiz", question) == "knew"
    page.reload()
    page.get_by_role("button", name=f"{question} · I knew it").click(timeout=120 * SECONDS)
    page.get_by_text("Before you opened it:").wait_for(timeout=20 * SECONDS)
    assert page.get_by_role("radio", name="I knew it").is_checked()
    assert not watched.errors


def test_a_program_is_drawn_below_its_code(watched: watching.Watched) -> None:
    page, program = watched.page, exercise("noise.program")
    page.goto(page.url.replace("ddim", "noise"))
    code = page.get_by_label("your code for noise.program")
    code.wait_for(timeout=120 * SECONDS)
    page.get_by_role("button", name="Hint 1 of 3").click()
    page.get_by_text(program.hints[0][:40]).wait_for(timeout=5 * SECONDS)
    code.fill(program.solution)
    page.get_by_role("button", name="Check noise.program").click()
    page.locator("canvas[aria-label^='your sampler']").wait_for(timeout=90 * SECONDS)
    assert page.locator(".sf-solution:visible").count() == 1
    assert not watched.errors
    assert not watched.outside
