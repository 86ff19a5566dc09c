"""The playground: a model of one's own is sampled in the page as in torch, and nobody else is asked."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.error import HTTPError
from urllib.request import urlopen

import pytest
import serving
import torch
import watching

from sfumato.conditioning import Labels
from sfumato.core.sampling import trajectory
from sfumato.learn.playground import Shelf, served_file
from sfumato.models import Model, load_model
from sfumato.networks.unet import ADMUNet
from sfumato.papers.adm import ADM
from sfumato.samplers import DDIM

for needed in ("onnx", "onnxscript", "marimo"):
    pytest.importorskip(needed)
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
    pytest.skip("older torch cannot write every network as ONNX", allow_module_level=True)

pytestmark = watching.needs_browser
NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
STATES = """async () => {
  const { states, noises } = await playground.sample();
  return { x: states.map((state) => [...state.x]), noises: noises.map((noise) => [...noise]) };
}"""


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model with labels and guidance; its weights are random."""
    torch.manual_seed(0)
    unet = ADMUNet(channels=8, multipliers=(1, 2), blocks=1, attention=(2,), head_channels=8)
    recipe = ADM((1, 8, 8), unet, Labels(10, 0.1))
    network = recipe.model().eval().requires_grad_(False)
    for parameter in network.parameters():
        if not bool(parameter.any()):
            parameter.normal_(std=0.1)
    path = tmp_path_factory.mktemp("own") / "own.safetensors"
    Model(recipe, network, NAMES).save(path)
    return path


@pytest.fixture(scope="module")
def playground(own: Path) -> Iterator[str]:
    options = ("playground", "--models", str(own))
    with serving.served(own.with_name("progress.json"), *options, XDG_CACHE_HOME=str(own.parent)) as found:
        yield found


def arrived(watched: watching.Watched, steps: int) -> None:
    at = "text => document.querySelector('[name=at]').textContent === text"
    watched.until(at, f"step {steps} of {steps}", seconds=120)


def test_pictures_emerge_as_in_torch(playground: str, own: Path, browser: Any, tmp_path: Path) -> None:
    watched = watching.Watched(browser)
    page = watched.page
    page.goto(playground)
    arrived(watched, 20)  # it begins by itself, with the first model
    assert page.locator("[name=model] option").all_inner_texts()[0] == str(own)
    assert "ddpm/emoji32" in page.locator("[name=model] option").all_inner_texts()
    assert page.locator("[name=label] option").all_inner_texts()[:3] == ["all in turn", "zero", "one"]

    page.locator("[name=sampler]").select_option("ddim")
    page.locator("[name=steps]").select_option("20")
    arrived(watched, 20)
    found = page.evaluate(STATES)
    model = load_model(own)
    noise = torch.tensor(found["noises"][0]).reshape(4, 1, 8, 8)
    assert abs(float(noise.mean())) < 0.2
    assert abs(float(noise.std()) - 1) < 0.15
    x = model.diffusion.prior(noise.shape).sample(lambda like: noise)
    moves = DDIM().plan(model.diffusion.gaussian, model.denoiser(torch.arange(4)), 20)
    with torch.no_grad():
        states = [x, *(state for state, _ in trajectory(x, moves))]
    assert len(found["x"]) == 21
    for theirs, ours in zip(found["x"], states, strict=True):
        torch.testing.assert_close(torch.tensor(theirs).reshape(ours.shape), ours, rtol=0, atol=1e-4)

    page.locator("[name=time]").focus()  # the trajectory is scrubbed with keys, and without the model
    before = page.locator("canvas").first.evaluate("c => c.toDataURL()")
    page.keyboard.press("Home")
    assert page.locator("[name=at]").inner_text() == "step 0 of 20"
    assert page.locator("canvas").first.evaluate("c => c.toDataURL()") != before

    page.locator("[name=sampler]").select_option("ancestral")
    page.locator("[name=steps]").select_option("5")
    page.locator("[name=label]").select_option(label="seven")
    page.locator("[name=count]").select_option("9")
    page.locator("[name=scale]").focus()
    page.keyboard.press("End")
    page.get_by_role("button", name="New noise").click()
    arrived(watched, 5)
    assert page.locator(".grid[data-view=x] canvas").count() == 9
    for width in (390, 1280):
        watched.fits(width, tmp_path / f"playground-{width}.png")
    page.close()
    assert not watched.outside
    assert not watched.errors


def test_a_shelf_says_what_it_cannot_do(playground: str, own: Path) -> None:
    base, visitor = playground.partition("?")[0], serving.visitor()
    visitor.open(playground)
    for path in ("model/99/about.json", "model/0/none.onnx", "nothing.html", "runtime/none.wasm"):
        with pytest.raises(HTTPError, match="404"):
            visitor.open(f"{base}{path}")
    with pytest.raises(HTTPError, match="403"):
        urlopen(f"{base}models")
    assert served_file(own.parent, "own.safetensors").status_code == 404  # only what a page needs
    assert not any(target.startswith("adm_classifier/") for target in Shelf().targets)
