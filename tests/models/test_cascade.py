"""Cascades: toys with a known answer, noise on the input put and told alike, seeds, files, what does not fit."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.conditioning import Labels, LowRes, Picture, Together
from sfumato.core.randomness import ImageNoise
from sfumato.models import Cascade, Model, load_cascade, load_model
from sfumato.models.cascade import is_cascade
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from tests.models.small import made

GREY = 0.6
"""Of the toy's images, which are this or its negative everywhere."""
UNET = HoUNet(channels=64, multipliers=(1,), blocks=1, attention=(), dropout=0.0)
TWICE = Picture("mean-pool?factor=2", noise=0.5)
NAMES = ("a", "b", "c")


class Sign(nn.Module):
    """x0 is 0.6 or -0.6 everywhere, by the sign of the mean of x_t."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return (GREY * x.mean((1, 2, 3), keepdim=True).sign()).expand_as(x)


class Enlarged(Sign):
    """x0 is the picture without its noise, enlarged: the picture's mean over the root of what is left of its signal."""

    seen: ClassVar[list[Tensor]] = []

    def forward(self, x: Tensor, t: Tensor, low_res: Tensor | None = None) -> Tensor:
        assert low_res is not None
        self.seen.append(low_res)
        level = low_res[:, 1:, :1, :1]
        return (low_res[:, :1].mean((2, 3), keepdim=True) / (1 - level.square()).sqrt()).expand_as(x)


def toy() -> tuple[Cascade, Enlarged]:
    recipe = DDPM((1, 8, 8), UNET, prediction="x0", betas="cosine", steps=50)
    up = Enlarged().eval()
    up.seen.clear()
    base = Model(recipe, Sign().eval())
    return Cascade((base, Model(replace(recipe, shape=(1, 16, 16), conditioning=TWICE), up))), up


def small(classes: int = 3, shape: tuple[int, ...] = (1, 4, 4)) -> Cascade:
    recipe = DDPM(shape, UNET, Labels(classes, 0.1), prediction="v", betas="cosine", steps=20)
    twice = replace(recipe, shape=(shape[0], 8, 8), conditioning=Together((Labels(classes, 0.1), TWICE)))
    return Cascade((made(recipe, NAMES), made(twice, NAMES)))


def test_the_picture_is_what_the_base_drew() -> None:
    cascade, up = toy()
    stages: list[Tensor] = []
    images = cascade.sample(16, steps=5, sampler="ddim", precision="float32", stages=stages)
    assert images.shape == (16, 1, 16, 16)
    assert {*stages[0].flatten().tolist()} == {round(127.5 - 127.5 * GREY), round(127.5 + 127.5 * GREY)}
    assert torch.equal(images, F.interpolate(stages[0].float(), 16).byte())
    assert cascade.levels == (0.0,)
    assert len(up.seen) == 5
    assert all(not seen[:, 1].any() for seen in up.seen)


def test_noise_on_the_input_is_put_and_told_alike() -> None:
    cascade, up = toy()
    stages: list[Tensor] = []
    noisy = cascade.with_levels([0.3])
    images = noisy.sample(200, steps=3, sampler="ddim", precision="float32", batch=200, stages=stages)
    assert noisy.levels == (0.3,)
    for seen in up.seen:
        assert torch.equal(seen, up.seen[0])  # every step sees the same noise
    assert torch.equal(up.seen[0][:, 1], torch.full((200, 8, 8), 0.3))
    put = up.seen[0][:, 0] - (1 - 0.3**2) ** 0.5 * (stages[0][:, 0].float() / 127.5 - 1)
    assert float(put.std()) == pytest.approx(0.3, rel=0.03)
    assert float(put.mean()) == pytest.approx(0, abs=0.01)
    drawn = images.float() / 127.5 - 1
    assert torch.equal(drawn[:, 0, 0, 0].sign(), (stages[0][:, 0, 0, 0].float() - 127.5).sign())
    assert float(drawn.abs().mean()) == pytest.approx(GREY, abs=0.01)  # the mean of 64 noisy numbers
    assert float(drawn[:, 0, 0, 0].abs().std()) == pytest.approx(0.3 / 8 / (1 - 0.3**2) ** 0.5, rel=0.2)


def test_training_noise_of_that_level_is_the_noise_of_sampling() -> None:
    """Both are sqrt(1 - s^2) c + s n with the level s beside it; where known pixels are marked the mark stays."""
    x = 2 * torch.rand(4, 1, 8, 8, generator=torch.Generator().manual_seed(0)) - 1
    conditioning = Picture("mask", noise=0.5, level=0.4)
    noise = ImageNoise(0, range(4))
    picture = conditioning.made(x, noise)
    assert picture is not None
    given = conditioning.inputs(picture=conditioning.noised(picture, noise))["low_res"]
    known = given[:, 1:2]
    assert torch.equal(known, (picture[:, 1:] > 0).float())
    assert torch.equal(given[:, 2:], torch.full_like(known, 0.4))
    assert not given[:, :1][known == 0].any()
    assert Picture("mask", noise=0.5).noised(picture, noise) is picture


def test_images_depend_on_seed_and_number_alone() -> None:
    cascade = small().with_levels([0.2])
    options: Any = {"steps": 3, "precision": "float32"}
    whole = cascade.sample(5, seed=7, batch=5, **options)
    torch.testing.assert_close(cascade.sample(5, seed=7, batch=2, **options), whole, atol=1, rtol=0)
    torch.testing.assert_close(cascade.sample(3, seed=7, **options), whole[:3], atol=1, rtol=0)
    assert not torch.equal(cascade.sample(5, seed=8, **options), whole)
    base = cascade.stages[0].sample(5, seed=7, batch=5, **options)
    stages: list[Tensor] = []
    cascade.sample(5, seed=7, batch=5, stages=stages, **options)
    assert torch.equal(stages[0], base)
    assert torch.equal(stages[1], whole)


def test_labels_and_guidance_of_each_stage() -> None:
    cascade = small()
    options: Any = {"steps": 3, "precision": "float32"}
    scales: tuple[Any, ...] = (1.0, 3.0, (3.0, 1.0), (1.0, 3.0))
    drawn = {scale: cascade.sample(4, classes=["b"], scale=scale, **options) for scale in scales}
    assert len({image.numpy().tobytes() for image in drawn.values()}) == 4
    assert torch.equal(cascade.sample(4, classes=torch.ones(4, dtype=torch.long), **options), drawn[1.0])
    assert not torch.equal(cascade.sample(4, classes=["c"], **options), drawn[1.0])
    for wrong, words in ((torch.ones(3, dtype=torch.long), "4 pictures need"), (torch.full((4,), 3), "3 is none")):
        stages: list[Tensor] = []
        with pytest.raises(ValueError, match=words):
            cascade.sample(4, classes=wrong, stages=stages, **options)
        assert not stages


def test_a_cascade_comes_back_from_its_folder(tmp_path: Path) -> None:
    cascade = replace(small().with_levels([0.25]), about={"measured": {"n": 3}})
    cascade.save(tmp_path / "both")
    assert is_cascade(tmp_path / "both")
    again = load_cascade(tmp_path / "both")
    assert again.levels == (0.25,)
    assert again.classes == NAMES
    assert again.about == cascade.about
    assert again.shape == (1, 8, 8)
    assert torch.equal(again.sample(3, steps=2), cascade.sample(3, steps=2))
    with pytest.raises(ValueError, match="is a cascade of several models"):
        load_model(tmp_path / "both")
    with pytest.raises(OSError, match="not empty"):
        cascade.save(tmp_path / "both")


@pytest.mark.parametrize("said", [
    {}, {"format": 2, "stages": []}, {"format": 1, "stages": ["../x.safetensors", "y"]}, {"format": 1, "stages": [3]},
    {"format": 1, "stages": ["a.safetensors"], "about": 3},
])  # fmt: skip
def test_a_damaged_file_is_one_line(said: Any, tmp_path: Path) -> None:
    (tmp_path / "cascade.json").write_text(json.dumps(said))
    with pytest.raises(ValueError, match="damaged") as caught:
        load_cascade(tmp_path)
    assert "\n" not in str(caught.value)


def test_what_does_not_fit_is_refused_before_any_work() -> None:
    cascade = small()
    base, up = cascade.stages
    with pytest.raises(ValueError, match="enlarges images of 1x4x4, and the stage before it makes 1x8x8"):
        Cascade((made(DDPM((1, 8, 8), UNET)), up))
    with pytest.raises(ValueError, match="out of noise alone"):
        Cascade((up, up))
    with pytest.raises(ValueError, match="an upsampler is a model"):
        Cascade((base, base))
    with pytest.raises(ValueError, match="with others or none"):
        Cascade((made(DDPM((1, 4, 4), UNET)), up))
    with pytest.raises(ValueError, match="a model and an upsampler"):
        Cascade((base,))
    with pytest.raises(ValueError, match=r"at most that of training, 0.5, not 0.6"):
        cascade.with_levels([0.6])
    with pytest.raises(ValueError, match="there are 1 upsamplers"):
        cascade.with_levels([0.1, 0.1])
    with pytest.raises(ValueError, match="there are 2 stages"):
        cascade.sample(1, scale=[1, 2, 3])
    with pytest.raises(ValueError, match="at least 1"):
        cascade.sample(0)
    low = made(DDPM((1, 8, 8), UNET, LowRes(4)))
    plain = Cascade((made(DDPM((1, 4, 4), UNET)), low))
    assert plain.sample(2, steps=2).shape == (2, 1, 8, 8)
    assert plain.with_levels([0.0]).levels == (0.0,)
    with pytest.raises(ValueError, match="trained with it"):
        plain.with_levels([0.1])
