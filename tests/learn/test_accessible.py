"""Accessibility: axe-core (Deque, MPL 2.0; `make axe` puts it into build/axe) finds nothing serious on any page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import watching

from sfumato.learn import teacher
from sfumato.learn.catalogue import CATALOGUE, REFERENCE
from sfumato.learn.export import document
from sfumato.learn.languages import using

AXE = Path(__file__).parents[2] / "build" / "axe" / "axe.min.js"
pytestmark = [watching.needs_browser, pytest.mark.skipif(not AXE.is_file(), reason="axe-core is not here: make axe")]
SERIOUS = """async () => (await axe.run()).violations
  .filter((v) => ["serious", "critical"].includes(v.impact))
  .map((v) => `${v.id}: ${v.nodes.slice(0, 3).map((n) => n.html.slice(0, 160)).join(" | ")}`)"""


def serious(page: Any) -> list[str]:
    """What axe calls serious or critical on a page."""
    page.evaluate(AXE.read_text(encoding="utf-8"))
    found: list[str] = page.evaluate(SERIOUS)
    return found


def test_axe_finds_what_is_wrong(browser: Any) -> None:
    page = browser.new_page()
    page.set_content("<html lang='en'><title>x</title><button></button><p style='color: #ccc'>pale</p></html>")
    assert {line.partition(":")[0] for line in serious(page)} == {"button-name", "color-contrast"}
    page.close()


@pytest.mark.parametrize("language", ["en", "zh"])
@pytest.mark.parametrize("dark", [False, True], ids=["light", "dark"])
def test_pages_without_a_kernel(address: str, browser: Any, dark: bool, language: str) -> None:
    page = browser.new_page(color_scheme="dark" if dark else "light")
    page.goto(f"{address}&lang={language}")
    page.get_by_role("heading", level=1).wait_for()
    assert serious(page) == []
    page.goto(f"{address.partition('?')[0]}playground/?lang={language}")
    page.wait_for_timeout(1000)
    assert serious(page) == []
    parts = [
        "<h1>x</h1><p>a <a href='https://arxiv.org'>link</a></p><details open><summary>s</summary>t</details>",
        '<p><span class="sf-tex">x^2</span></p><pre class="codehilite"><span class="k">def</span></pre>',
    ]
    with using(language):
        taught = teacher.page()
        exported = document.page("a lesson", parts, addresses={"en": "a.html", "zh": "a.zh.html"})
    for text in (taught, exported):
        page.set_content(text)
        assert serious(page) == []
    page.close()


@pytest.mark.slow
@pytest.mark.parametrize("name", [known.name for known in (*CATALOGUE, *REFERENCE)])
def test_a_lesson(address: str, browser: Any, name: str) -> None:
    page = browser.new_page(viewport={"width": 1280, "height": 900})
    page.goto(address)
    page.goto(f"{address.partition('?')[0]}lesson/{name}/")
    whole = ".sf-links >> nth=1" if name in {known.name for known in CATALOGUE} else "table >> nth=-1"
    page.locator(whole).wait_for(timeout=180_000)
    page.wait_for_timeout(1000)
    assert serious(page) == []
    page.close()
