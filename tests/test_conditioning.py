"""Conditionings: what they ask of the network, give it in training and in sampling, hide for guidance, and refuse."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.conditioning import CONDITIONINGS, Conditioning, Labels, LowRes, Picture, Together, Unconditional
from sfumato.core.randomness import ImageNoise
from sfumato.networks.backbone import Embedded

BOTH = Together((Labels(3, 0.25), LowRes(4)))
T = Embedded(levels=100)


def images(n: int) -> Tensor:
    return torch.rand(n, 2, 8, 8, generator=torch.Generator().manual_seed(0)) * 2 - 1


@pytest.mark.parametrize(("conditioning", "expected"), [
    (Unconditional(), T),
    (Labels(3), Embedded(labels=3, levels=100)),
    (Labels(3, 0.1), Embedded(labels=4, levels=100)),  # one more, the null label
    (LowRes(4), Embedded(picture=2, levels=100)),
    (BOTH, Embedded(labels=4, picture=2, levels=100)),
])  # fmt: skip
def test_what_the_network_embeds(conditioning: Conditioning, expected: Embedded) -> None:
    assert conditioning.embedded((2, 8, 8), T) == expected


def test_facts_of_each() -> None:
    facts = [(c.classes, c.dropout, c.picture) for c in (Unconditional(), Labels(3, 0.25), LowRes(4), BOTH)]
    assert facts == [(0, 0.0, 0), (3, 0.25, 0), (0, 0.0, 4), (3, 0.25, 4)]
    assert set(CONDITIONINGS) == {
        "none",
        "labels",
        "attributes",
        "low-res",
        "augmented",
        "picture",
        "self",
        "text",
        "together",
    }


def test_training_gives_labels_some_of_which_are_hidden_image_by_image() -> None:
    y, x = torch.arange(4000) % 3, images(1).expand(4000, -1, -1, -1)
    assert torch.equal(Labels(3).training(x, {"y": y}, torch.randn_like)["y"], y)
    seen = Labels(3, 0.25).training(x, {"y": y}, ImageNoise(0, range(4000)))["y"]
    hidden = seen == 3
    assert float(hidden.double().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(seen[~hidden], y[~hidden])
    alone = Labels(3, 0.25).training(x[:1], {"y": y[7:8]}, ImageNoise(0, [7]))["y"]
    assert torch.equal(alone, seen[7:8])
    assert Unconditional().training(x, {"y": y}, torch.randn_like) == {}
    assert Labels(0).training(x, {}, torch.randn_like) == {}


def test_training_gives_the_mean_over_areas_or_the_picture_at_hand() -> None:
    x = images(3)
    small = LowRes(4).training(x, {}, torch.randn_like)["low_res"]
    assert torch.allclose(small, x.reshape(3, 2, 4, 2, 4, 2).mean((3, 5)), atol=1e-6)
    assert LowRes(4).training(x, {"low_res": -small}, torch.randn_like)["low_res"] is not small
    both = BOTH.training(x, {"y": torch.tensor([0, 1, 2])}, torch.randn_like)
    assert set(both) == {"y", "low_res"}


def test_a_request_needs_what_the_network_needs() -> None:
    y, small = torch.tensor([0, 2]), images(2)[..., :4, :4]
    assert set(BOTH.inputs(y, small)) == {"y", "low_res"}
    assert Unconditional().inputs(y, small) == {}
    with pytest.raises(ValueError, match="each picture needs its label"):
        BOTH.inputs(None, small)
    with pytest.raises(ValueError, match="needs some: give low_res"):
        BOTH.inputs(y)


def test_guidance_hides_the_labels_and_nothing_else() -> None:
    y, small = torch.tensor([0, 2]), images(2)[..., :4, :4]
    hidden = BOTH.hidden(BOTH.inputs(y, small))
    assert hidden["y"].tolist() == [3, 3]
    assert hidden["low_res"] is small
    for conditioning in (Unconditional(), Labels(3), LowRes(4), Together((Labels(3), LowRes(4)))):
        with pytest.raises(ValueError, match="label dropout"):
            conditioning.hidden({"y": y})


def test_fitted_to_a_data_set() -> None:
    assert Labels(10, 0.1).fitted(3, labelled=True) == Labels(3, 0.1)
    assert Labels(10).fitted(0, labelled=False) == Unconditional()
    assert Unconditional().fitted(3, labelled=True) == Unconditional()
    assert Together((Labels(), LowRes(4))).fitted(5, labelled=True) == Together((Labels(5), LowRes(4)))


def test_several_are_told_apart_and_have_the_noise_of_their_picture() -> None:
    noisy = Picture("mean-pool?factor=2", noise=0.5, level=0.25)
    both = Together((Labels(3), noisy))
    assert both.each == (Labels(3), noisy)
    assert (both.noise, both.level) == (noisy.noise, noisy.level) == (0.5, 0.25)
    assert both.with_level(0.125).level == 0.125
    for alone in (noisy, *(kind() for kind in CONDITIONINGS.values() if kind is not Together)):
        assert alone.each == (alone,)
    assert (BOTH.noise, BOTH.level, Labels(3).noise, Labels(3).level) == (0, 0, 0, 0)


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="enlarges"):
        LowRes(8).embedded((1, 8, 8), T)
    with pytest.raises(ValueError, match="needs classes"):
        Labels(0, 0.1)
    with pytest.raises(ValueError, match="dropout is at least 0 and below 1, not 1"):
        Labels(3, 1.0)
