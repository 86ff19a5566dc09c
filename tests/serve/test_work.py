"""What a served model makes is what the library makes of the same request; bad requests are refused before any work."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import pictures
from sfumato.inverse import Mask
from sfumato.models.restoration import restore
from sfumato.papers.presets import PRESETS
from sfumato.serve import wishes
from sfumato.serve.wishes import Inpaint, Sample
from sfumato.serve.work import Served
from tests.models.small import OF_2015, RECIPES, made

EDM = Served(made(RECIPES["edm"], ("a", "b", "c")), "edm/small", batch=2)


def coded(image: Any) -> str:
    return base64.b64encode(pictures.png_bytes(image)).decode()


def decoded(text: str) -> Any:
    return np.array(Image.open(io.BytesIO(base64.b64decode(text))))


GREY = coded(torch.arange(64, dtype=torch.uint8).reshape(1, 8, 8) * 4)
HOLE = torch.full((1, 8, 8), 255, dtype=torch.uint8)
HOLE[:, 2:6, 3:7] = 0
LABEL = torch.tensor([1])


def test_pictures_are_those_of_the_library() -> None:
    told: list[float] = []
    wish = Sample(n=5, steps=3, sampler="heun", seed=7, classes=("c", 0), scale=2.5)
    found = EDM.sampling(wish)(told.append)
    wanted = EDM.model.sample(5, steps=3, sampler="heun", seed=7, classes=["c", 0], scale=2.5)
    assert all((decoded(png) == image[0].numpy()).all() for png, image in zip(found["pictures"], wanted, strict=True))
    assert found["sheet"] == coded(pictures.grid(wanted))
    settings = {"n": 5, "steps": 3, "sampler": "heun", "seed": 7, "classes": list("cacac"), "scale": 2.5, "text": ()}
    assert found["settings"] == settings
    assert told == sorted(told)
    assert told[-1] == pytest.approx(1)
    assert len(told) == 3 * found["moves"]  # batches of two, two and one


def test_what_was_known_stays_and_the_rest_is_the_librarys() -> None:
    told: list[float] = []
    wish = Inpaint(f"data:image/png;base64,{GREY}", coded(HOLE), draws=3, steps=3, classes=("b",), scale=60)
    found = EDM.inpainting(wish)(told.append)
    drawn = np.stack([decoded(png) for png in found["pictures"]])
    known = HOLE[0].numpy() > 0
    assert (drawn[:, known] == decoded(GREY)[known]).all()
    assert (drawn[0] != drawn[1])[~known].any()
    assert told == sorted(told)
    assert 0 <= told[0] < told[-1] < 1
    assert found["settings"]["classes"] == ["b"]
    image = torch.from_numpy(decoded(GREY))[None, None]
    for guidance, same in (("classifier-free?scale=60", True), (None, False)):
        wanted = restore(EDM.model, image, Mask(HOLE[0] > 0), draws=3, steps=3, labels=LABEL, guidance=guidance)
        assert (found["pictures"] == [coded(one) for one in wanted.draws[0]]) == same


def test_what_it_says_of_itself_can_be_asked_for() -> None:
    about = EDM.about()
    assert json.loads(json.dumps(about)) == about
    assert about["classes"] == ["a", "b", "c"]
    assert (about["guided"], about["inpaints"]) == (True, True)
    for sampler in about["samplers"]:
        assert EDM.sampling(Sample(n=1, steps=2, sampler=sampler["name"]))(lambda share: None)["pictures"]
    assert wishes.read(Sample, json.dumps(about["defaults"]["sample"]).encode()) == Sample()


@pytest.mark.parametrize("name", ["ddpm", "VE", "ncsn"])
def test_unlabelled_models_have_neither_classes_nor_guidance(name: str) -> None:
    about = Served(made(RECIPES[name]), name).about()
    assert about["classes"] == []
    assert not about["guided"]
    for wish, words in [(Sample(scale=2, steps=2), "guidance needs"), (Sample(classes=("a",)), "without classes")]:
        with pytest.raises(ValueError, match=words):
            Served(made(RECIPES[name]), name).sampling(wish)
    fitting = {sampler["name"] for sampler in about["samplers"]}
    assert fitting >= {"auto", "own", "ddim"}
    assert ("euler-ode" in fitting) == (name == "VE")


def test_of_2015_only_its_own_sampler_is_offered() -> None:
    about = Served(made(OF_2015["bits"]), "bits").about()
    assert [sampler["name"] for sampler in about["samplers"]] == ["auto", "own"]
    assert not about["inpaints"]
    with pytest.raises(ValueError, match="cannot be filled in"):
        Served(made(OF_2015["bits"]), "bits").inpainting(Inpaint(GREY, GREY))


def test_an_upsampler_is_not_served() -> None:
    upsampler = next(preset.recipe for name, preset in PRESETS.items() if preset.recipe.conditioning.picture)

    class Stub:
        recipe = upsampler
        alone = type(EDM.model).alone

    with pytest.raises(ValueError, match="serving needs a model that makes pictures out of noise alone"):
        Served(Stub(), "upsampler")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("wish", "words"),
    [
        (Sample(n=1, steps=3, sampler="dimm"), "did you mean ddim"),
        (Sample(n=1, steps=3, sampler="heun?churn=40"), "unknown sampler"),
        (Sample(classes=("d",)), "unknown class 'd'; this model knows a, b, c"),
        (Sample(classes=(7,)), "unknown class 7"),
        (Inpaint(GREY, coded(torch.full((1, 8, 8), 255, dtype=torch.uint8))), "nothing to fill in"),
        (Inpaint("#", GREY), "the image is no base64 text"),
        (Inpaint("", GREY), "the image cannot be read"),
        (Inpaint(GREY, base64.b64encode(b"\x89PNG\r\n\x1a\nno").decode()), "the mask cannot be read"),
        (Inpaint(coded(torch.zeros(1, 9, 8, dtype=torch.uint8)), GREY), "8x9 pixels; pictures of this model have 8x8"),
        (Inpaint(GREY, coded(HOLE), classes=("e",)), "unknown class"),
    ],
)  # fmt: skip
def test_what_cannot_be_made_is_refused_before_any_work(wish: Any, words: str) -> None:
    ask = EDM.sampling if isinstance(wish, Sample) else EDM.inpainting
    with pytest.raises(ValueError, match=words.replace("?", r"\?")):
        ask(wish)


def test_a_large_picture_is_refused_before_it_is_decoded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A bomb: a few kilobytes that would be 200 megabytes."""
    buffer = io.BytesIO()
    Image.new("1", (16_000, 16_000)).save(buffer, "png")
    text = base64.b64encode(buffer.getvalue()).decode()
    monkeypatch.setattr(Image.Image, "convert", lambda *_: pytest.fail("it was decoded"))
    with pytest.raises(ValueError, match="has 16000x16000 pixels"):
        wishes.picture(text, "image", (1, 8, 8))


def test_pictures_are_bounded_together(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sfumato.serve.work.MOST_PIXELS", 3 * 64)
    assert EDM.most == 3
    assert EDM.about()["defaults"]["sample"]["n"] == 3
    EDM.sampling(Sample(n=3, steps=2))
    with pytest.raises(ValueError, match="n is between 1 and 3 for pictures of this size, not 4"):
        EDM.sampling(Sample(n=4, steps=2))


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b"", "the request is empty"),
        (b"{", "no JSON text"),
        (b"[]", "holds no JSON object"),
        (b"null", "holds no JSON object"),
        (b"[" * 100_000, "nested too deeply"),
        (b'{"seed": ' + b"9" * 5000 + b"}", "numbers too long"),
        (b"\xff\xfe", "no UTF-8"),
        (b'{"n": 1, "step": 3}', "did you mean steps"),
        (b'{"n": "4"}', "n is a whole number"),
        (b'{"n": 4.0}', "n is a whole number"),
        (b'{"n": true}', "n is a whole number"),
        (b'{"n": 65}', "n is between 1 and 64"),
        (b'{"n": null}', "n is a whole number"),
        (b'{"steps": 0}', "steps is between 1 and 1,000"),
        (b'{"steps": 1e400}', "steps is"),
        (b'{"seed": -1}', "seed is between 0"),
        (b'{"scale": NaN}', "scale is between -100 and 100"),
        (b'{"scale": -Infinity}', "scale is between -100 and 100"),
        (b'{"classes": "bag"}', "classes is several values"),
        (b'{"classes": [1.5]}', "classes is several values"),
        (b'{"classes": [[]]}', "classes is several values"),
        (b'{"classes": [' + b"0," * 64 + b"0]}", "classes is 0 to 64 values"),
        (b'{"sampler": 3}', "sampler is a text"),
        (b'{"sampler": {"a": 1}}', "sampler is a text"),
    ],
)
def test_no_json_is_a_request_that_it_should_not_be(body: bytes, words: str) -> None:
    with pytest.raises(ValueError, match=words) as refused:
        wishes.read(Sample, body)
    assert "\n" not in str(refused.value)
    assert len(str(refused.value)) < 400


def test_a_request_needs_what_has_no_default() -> None:
    with pytest.raises(ValueError, match="the request needs image and mask"):
        wishes.read(Inpaint, b'{"draws": 2}')
    assert wishes.read(Sample, b"{}") == Sample()
