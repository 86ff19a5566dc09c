"""Two languages at once in a real browser, and the switch between them, which keeps the place and what was chosen."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import watching

from sfumato.learn.catalogue import lesson
from sfumato.learn.languages import tr, using

pytest.importorskip("polib")
pytestmark = watching.needs_browser
SECONDS = 1000
"""In the milliseconds of the driver."""


def chinese(text: str) -> str:
    with using("zh"):
        return tr(text)


def test_two_tabs_in_two_languages_and_the_switch(address: str, browser: Any, progress: Path) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    first, second = watching.Watched(browser, context.new_page()), watching.Watched(browser, context.new_page())
    page, other = first.page, second.page
    page.goto(address)
    page.get_by_text("中文").click()
    page.get_by_role("heading", name=chinese("The learning path")).wait_for(timeout=30 * SECONDS)
    assert page.evaluate("document.documentElement.lang") == "zh-CN"
    page.get_by_text(chinese(lesson("spiral").title)).click()
    other.goto(address.partition("?")[0] + "lesson/spiral/?lang=en")
    check = "Check spiral.1"
    page.get_by_role("button", name=chinese("Check {key}").format(key="spiral.1")).wait_for(timeout=120 * SECONDS)
    other.get_by_role("button", name=check).wait_for(timeout=120 * SECONDS)
    for shown, tag, title in ((page, "zh-CN", chinese(lesson("spiral").title)), (other, "en", lesson("spiral").title)):
        assert shown.evaluate("document.documentElement.lang") == tag
        watching.Watched.until(first if shown is page else second, "title => document.title === title", title, 30)
        shown.get_by_role("heading", name=title).first.wait_for(timeout=60 * SECONDS)
    assert page.get_by_text("Choose first").count() == 0
    assert other.get_by_text(chinese("*Choose first; the figure follows.*").strip("*")).count() == 0

    # the answer's verdict is in the language of its page; what is chosen is kept over the switch, and the place too
    page.get_by_role("button", name=chinese("Check {key}").format(key="spiral.1")).click()
    page.get_by_text("0.7071").first.wait_for(timeout=60 * SECONDS)
    option = "on every turn that the line cuts"
    page.get_by_label(chinese(option)).click()
    page.get_by_text(chinese("Yes, on each, though not exactly as often as it should:")).wait_for(timeout=90 * SECONDS)
    for width in (390, 1280):
        first.fits(width, progress.with_name(f"spiral-zh-{width}.png"))
    page.set_viewport_size({"width": 1280, "height": 900})
    page.locator("a[data-language]").last.scroll_into_view_if_needed()
    page.locator("a[data-language]").last.click()
    page.get_by_role("button", name=check).wait_for(timeout=120 * SECONDS)
    assert page.url.endswith("?lang=en")
    assert page.get_by_label(option).is_checked()
    first.until("() => document.querySelectorAll('.sf-links')[1]?.getBoundingClientRect().top < innerHeight", None, 100)

    # links keep the language
    other.locator("a[data-language]").first.click()
    other.locator(".sf-links").first.get_by_text(chinese(lesson("ncsn").title)).wait_for(timeout=60 * SECONDS)
    other.locator(".sf-links").first.get_by_text(chinese(lesson("ncsn").title)).click()
    other.wait_for_url("**/lesson/ncsn/?lang=zh", timeout=60 * SECONDS)
    context.close()
    for watched in (first, second):
        assert not watched.outside
        assert not watched.errors


NEIGHBOUR = "a[href*='/lesson/noise/']"


@pytest.mark.parametrize("language", ["en", pytest.param("zh", marks=pytest.mark.slow)])
def test_a_link_in_a_tab_of_its_own_keeps_the_language(address: str, browser: Any, language: str) -> None:
    """By the middle button, from the menu, or copied; though another tab chose another language since."""
    context = browser.new_context(viewport={"width": 1280, "height": 900})
    watched = watching.Watched(browser, context.new_page())
    page, base = watched.page, address.partition("?")[0]
    page.goto(address)
    page.goto(f"{base}lesson/bits/{'' if language == 'en' else '?lang=zh'}")  # English is the default, and not named
    page.locator(NEIGHBOUR).nth(1).wait_for(timeout=120 * SECONDS)  # at the end
    other = context.new_page()
    other.goto(f"{base}?lang={'zh' if language == 'en' else 'en'}")  # which is remembered
    other.close()

    links = page.locator(NEIGHBOUR)
    links.first.click(button="right")
    assert links.first.get_attribute("href").endswith(f"/lesson/noise/?lang={language}")
    page.keyboard.press("Escape")
    links.last.focus()
    assert links.last.get_attribute("href").endswith(f"/lesson/noise/?lang={language}")
    for name in ("formulas", "glossary"):  # in Markdown
        link = page.locator(f"a[href*='/lesson/{name}/']").first
        link.hover()
        assert link.get_attribute("href").endswith(f"/lesson/{name}/?lang={language}")
    with context.expect_page() as opened:
        page.locator("a[href*='/lesson/formulas/']").first.click(button="middle")
    opened.value.wait_for_url(f"**/lesson/formulas/?lang={language}", timeout=60 * SECONDS)
    opened.value.wait_for_load_state()
    title = "All formulas" if language == "en" else chinese("All formulas")
    opened.value.get_by_role("heading", name=title).first.wait_for(timeout=60 * SECONDS)
    context.close()
    assert not watched.outside
    assert not watched.errors


@pytest.mark.parametrize("scheme", ["light", pytest.param("dark", marks=pytest.mark.slow)])
def test_shared_pages_fit_in_chinese(address: str, browser: Any, progress: Path, scheme: str) -> None:
    context = browser.new_context(viewport={"width": 1280, "height": 900}, color_scheme=scheme)
    watched = watching.Watched(browser, context.new_page())
    page, base = watched.page, address.partition("?")[0]
    page.goto(address)
    pages = {
        "": "The learning path", "playground/": "The playground", "lesson/formulas/": "All formulas",
        "lesson/glossary/": "All words",
    }  # fmt: skip
    for path, title in pages.items():
        page.goto(f"{base}{path}?lang=zh")
        page.get_by_role("heading", name=chinese(title)).first.wait_for(timeout=120 * SECONDS)
        assert page.evaluate("document.documentElement.lang") == "zh-CN"
        if path == "playground/":  # what its script writes
            page.locator("button[name=again]", has_text=chinese("New noise")).wait_for(timeout=30 * SECONDS)
            page.locator("option", has_text=chinese("all in turn")).wait_for(timeout=120 * SECONDS, state="attached")
        for width in (390, 1280):
            watched.fits(width, progress.with_name(f"{path.strip('/').replace('/', '-')}-zh-{scheme}-{width}.png"))
    context.close()
    assert not watched.outside
    assert not watched.errors
