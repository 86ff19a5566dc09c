"""The page of a served model in a real browser: sampled, guided, painted over, saved; nothing clipped or outside."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tests.learn import serving, watching

pytestmark = watching.needs_browser

HERE = "document.querySelectorAll"
MADE = f"n => {HERE}('.pictures[data-of=sample] img').length === n"
FILLED = f"n => {HERE}('.pictures[data-of=inpaint] img').length === n"
SOURCES = "(kind) => [...document.querySelectorAll(`.pictures[data-of=${kind}] img`)].map((image) => image.src)"


@pytest.fixture(scope="module")
def address() -> Iterator[str]:
    for needed in ("starlette", "uvicorn"):
        pytest.importorskip(needed)
    with serving.started("serve", "edm/fashion-labels", "--no-browser", code=130) as (found, _):
        yield found


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with watching.chromium() as opened:
        yield opened


def sampled(watched: watching.Watched, n: int, steps: int) -> list[str]:
    """The addresses of the pictures of one request."""
    page = watched.page
    page.get_by_role("spinbutton", name="Pictures").fill(str(n))
    page.locator("form[name=sample] [name=steps]").fill(str(steps))
    page.evaluate(f"{HERE}('.pictures[data-of=sample]')[0].replaceChildren()")
    page.locator("form[name=sample] button[type=submit]").click()
    watched.until(MADE, n, seconds=120)
    return list(page.evaluate(SOURCES, "sample"))


def pixels(address: str) -> Any:
    return np.array(Image.open(io.BytesIO(base64.b64decode(address.partition(",")[2]))))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_the_page_samples_fills_in_and_saves(address: str, browser: Any, tmp_path: Path, scheme: str) -> None:
    watched = watching.Watched(browser)
    page = watched.page
    page.emulate_media(color_scheme=scheme)
    page.goto(address)
    page.get_by_role("heading", name="Pictures from edm/fashion-labels").wait_for()
    page.get_by_text("Choose, then sample.").wait_for()
    assert "token" not in page.evaluate("document.cookie + location.href")

    page.locator("form[name=sample] [name=label]").select_option("bag")
    first = sampled(watched, 6, 4)
    page.locator("form[name=sample] [name=scale]").focus()
    page.keyboard.press("End")
    assert page.locator("form[name=sample] output").inner_text() == "5"
    assert sampled(watched, 6, 4) != first  # guided
    page.keyboard.press("Home")
    assert page.get_by_role("img", name="picture 1, bag").count() == 1
    with page.expect_download() as saved:
        page.get_by_text("Save all as one picture").first.click()
    assert saved.value.suggested_filename == "edm-fashion-labels-sample-seed0.png"
    assert Image.open(saved.value.path()).size[0] > 3 * 28

    page.locator(".pictures[data-of=sample] button").nth(2).click()
    brush = page.locator("canvas.brush")
    assert page.locator("form[name=inpaint] [name=label]").input_value() == "bag"
    brush.focus()
    for key in ("Space", "ArrowUp", "ArrowUp", "Space"):
        page.keyboard.press(key)
    by_keys = page.locator("figcaption").inner_text()
    assert not by_keys.startswith("0 %")
    box = brush.bounding_box()
    page.mouse.move(box["x"] + 0.3 * box["width"], box["y"] + 0.4 * box["height"])
    page.mouse.down()
    page.mouse.move(box["x"] + 0.7 * box["width"], box["y"] + 0.6 * box["height"])
    page.mouse.up()
    assert page.locator("figcaption").inner_text() != by_keys
    page.locator("form[name=inpaint] [name=steps]").fill("4")
    page.get_by_label("Answers").fill("3")
    page.locator("form[name=inpaint] button[type=submit]").click()
    watched.until(FILLED, 3, seconds=120)
    before, after = pixels(page.evaluate(SOURCES, "sample")[2]), pixels(page.evaluate(SOURCES, "inpaint")[0])
    changed = (before != after).mean()
    assert 0 < changed < 0.6
    assert (before[:4] == after[:4]).all()  # nothing was painted there
    for width in (390, 1280):
        watched.fits(width, tmp_path / f"serve-{scheme}-{width}.png")
    page.close()
    assert not watched.outside
    assert not watched.errors


def test_what_is_wrong_is_said_and_a_long_request_is_cancelled(address: str, browser: Any, tmp_path: Path) -> None:
    watched = watching.Watched(browser)
    page = watched.page
    page.goto(address)
    page.get_by_text("Choose, then sample.").wait_for()
    page.locator("form[name=inpaint] button[type=submit]").click()
    page.get_by_text("Choose a picture first.").wait_for()
    (tmp_path / "no.png").write_bytes(b"no picture")
    page.get_by_label("Your own picture").set_input_files(tmp_path / "no.png")
    page.get_by_text("no.png is no picture that this browser can read.").wait_for()
    Image.new("RGB", (300, 200), (200, 30, 30)).save(tmp_path / "own.png")
    page.get_by_label("Your own picture").set_input_files(tmp_path / "own.png")
    page.get_by_text("own.png is under the brush, cut to 28x28 pixels.").wait_for()
    page.locator("form[name=inpaint] button[type=submit]").click()
    page.get_by_text("Paint over what shall be made anew first.").wait_for()
    page.get_by_role("spinbutton", name="Pictures").fill("64")
    page.locator("form[name=sample] [name=steps]").fill("1000")
    page.locator("form[name=sample] button[type=submit]").click()
    page.get_by_text("% done").wait_for(timeout=60_000)
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Cancelled.").wait_for()
    assert len(sampled(watched, 2, 2)) == 2  # and nothing is left in its way
    page.close()
    assert not watched.errors
