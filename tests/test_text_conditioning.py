"""Text conditioning: features of captions, what is hidden, unknown words, JSON, a model from end to end."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

import sfumato
from sfumato import papers
from sfumato.cli import main
from sfumato.conditioning import Augmented, Labels, Text, Together
from sfumato.conditioning.text import NORM, counted, parted
from sfumato.core.randomness import ImageNoise
from sfumato.data import open_source
from sfumato.data.described import described
from sfumato.fitting import fit_to_data
from sfumato.models import Model
from sfumato.models.guidance import Given, Guidance, NegativeClass
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM

NETWORK = HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=(), dropout=0.0)
TEXT = Text(0.25, words=("red", "heart", "blue"))


def captioned(root: Path, n: int = 24) -> str:
    """Light and dark pictures with .txt files beside them."""
    root.mkdir(parents=True)
    for i in range(n):
        dark = i % 2
        Image.new("L", (8, 8), 20 if dark else 230).save(root / f"{i:02}.png")
        (root / f"{i:02}.txt").write_text("A dark square" if dark else "a light square")
    return f"folder:{root}?channels=1"


def cosine(one: str, other: str) -> float:
    a, b = TEXT.written([one, other]).float()
    return float(torch.cosine_similarity(a, b, dim=0))


def test_features_are_a_bag_of_words_and_of_their_parts() -> None:
    a, b = parted("A red heart"), parted("heart, RED a")
    assert counted(a, 512) == counted(b, 512), "neither order, case nor signs between words"
    both = [x + y for x, y in zip(counted(["red"], 512), counted(["heart"], 512), strict=True)]
    assert counted(["red", "heart"], 512) == tuple(both), "a sum of words"
    assert cosine("heart", "hearts") > 0.4 > abs(cosine("heart", "zebra")) + 0.1
    assert counted(["heart"], 512) == counted(["heart"], 512)
    told = TEXT.told(TEXT.written(["a red heart with eyes", "cat"]))["numbers"]
    torch.testing.assert_close(told.norm(dim=1), torch.full((2,), NORM))


def test_captions_are_hidden_image_by_image() -> None:
    a, x = TEXT.written(["red heart"] * 4000), torch.zeros(4000, 1, 8, 8)
    seen = TEXT.training(x, {"attributes": a}, ImageNoise(0, range(4000)))["numbers"]
    hidden = (seen == 0).all(1)
    assert float(hidden.double().mean()) == pytest.approx(0.25, abs=0.03)
    torch.testing.assert_close(seen[~hidden], TEXT.told(a[: int((~hidden).sum())])["numbers"])
    assert not Text().training(x[:1], {"attributes": Text().written([""])}, torch.randn_like)["numbers"].any()


def test_words_that_are_new_and_texts_that_are_none() -> None:
    assert TEXT.strange("a RED hart heart") == {"a": "", "hart": "heart"}
    for words, said in (("  ?! ", "a word at least"), ("word " * 65, "at most 64 words"), ("x" * 65, "64 letters")):
        with pytest.raises(ValueError, match=said):
            TEXT.row(words)
    with pytest.raises(ValueError, match="needs its own text"):
        Text(0.0).told(None)
    with pytest.raises(ValueError, match="--text"):
        TEXT.hidden({})


def test_a_recipe_takes_its_words_from_the_data_and_goes_through_json(tmp_path: Path) -> None:
    images = open_source(captioned(tmp_path / "set"))
    recipe = fit_to_data(DDPM((1, 8, 8), NETWORK, Text(0.2, 64)), images)
    assert recipe.conditioning.words == ("a", "square", "dark", "light")
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe
    assert fit_to_data(recipe, images) == recipe
    both = Together((Labels(3, 0.1), Augmented(), Text(0.2, 64)))
    assert (both.numbers, both.reads, len(both.numbered())) == (73, True, 73)
    fitted = fit_to_data(DDPM((1, 8, 8), NETWORK, Together((Augmented(), Text(0.2, 64)))), images).conditioning
    assert fitted.strange("dork") == {"dork": "dark"}
    held = described(fitted, images)
    assert held.attributes is not None
    assert torch.equal(held.attributes.values, fitted.written(images.texts or ()))
    with pytest.raises(ValueError, match="data have no captions"):
        fit_to_data(DDPM((1, 8, 8), NETWORK, Text()), open_source("digits"))


def test_guidance_exaggerates_a_text() -> None:
    recipe = DDPM((1, 8, 8), NETWORK, TEXT)
    model = Model(recipe, recipe.model().eval())
    with torch.no_grad():
        for p in model.network.parameters():
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(p.numel())))
    x, t = torch.randn(2, 1, 8, 8), torch.tensor(500)

    def eps(text: str | None, guidance: Guidance | None = None) -> torch.Tensor:
        given = Given(attributes=None if text is None else model.described(None, [text], 2))
        return (guidance or Guidance(scale=1.0)).unclipped(model, model.network, given)(x, t).eps

    free, plain, other = eps(None), eps("red heart"), eps("blue")
    assert not torch.allclose(free, plain, atol=1e-5)
    torch.testing.assert_close(eps("red heart", Guidance(scale=2.0)), 2 * plain - free, atol=1e-4, rtol=1e-4)
    negative = NegativeClass(scale=2.0, negative="blue")
    torch.testing.assert_close(eps("red heart", negative), 2 * plain - other, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="ask by a text"):
        model.sample(1, steps=1, attributes=["red"])
    plain_model = Model(replace(recipe, conditioning=Augmented()), model.network)
    with pytest.raises(ValueError, match="without captions"):
        plain_model.sample(1, steps=1, text=["red"])


@pytest.mark.slow
def test_training_on_captions_and_asking_by_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Dark and light are asked for and come; a word is new and is said; what is no text is refused in one line."""
    model = sfumato.fit(
        captioned(tmp_path / "set"), "ddpm/digits", out=tmp_path / "run", images=2000, batch=16, threads=1, quiet=True,
        preview_images=2, profiles=(), validation_images=0,
        recipe={"conditioning": "text?features=64", "network": "ddpm-unet?channels=32&multipliers=1,2&blocks=1"},
    )  # fmt: skip
    made = model.sample(8, text=["a dark square", "a light square"]).float().flatten(1).mean(1)
    assert float(made[1::2].mean()) > float(made[::2].mean()) + 60
    ask = ["sample", str(tmp_path / "run"), "-n", "2", "--steps", "2", "--out", str(tmp_path / "made")]
    assert main([*ask, "--text", "a darkly lit square", "light", "--scale", "1.5"]) == 0
    said = capsys.readouterr().out
    assert "'darkly' is in no caption of training" in said
    assert "(nearest: dark)" in said
    for words, why in (("...", "a word at least"), ("word " * 70, "at most 64 words")):
        assert main([*ask[:-1], str(tmp_path / "none"), "--text", words]) == 2
        assert why in capsys.readouterr().err
        assert not (tmp_path / "none").exists()
