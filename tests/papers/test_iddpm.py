"""The recipes of Improved DDPM, ADM and its classifier: what their losses are made of, and what they refuse."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.conditioning import Labels, LowRes
from sfumato.core.distributions import discretised_log_prob
from sfumato.core.likelihood import variational_bound
from sfumato.core.losses import simple
from sfumato.core.randomness import ImageNoise
from sfumato.core.times import LossSecondMoment
from sfumato.core.variances import reverse
from sfumato.models import Model
from sfumato.networks.classifier import Encoder
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers import part_of
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM

UNET: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,)}
SMALL: dict[str, Any] = {"shape": (1, 8, 8), "steps": 40}
PLAIN = DDPM(**SMALL, network=HoUNet(**UNET), weight="bound")
IDDPM = ImprovedDDPM(**SMALL, network=ImprovedUNet(**UNET, dropout=0.0))
GUIDED = ADM(**SMALL, network=ADMUNet(**UNET, head_channels=32), conditioning=Labels(3, 0.25))
CLASSIFIER = NoisyClassifier(**SMALL, network=Encoder(**UNET, head_channels=32), conditioning=Labels(3))


def shaken(recipe: Any) -> nn.Module:
    """The recipe's network, away from its zero initialisation."""
    torch.manual_seed(0)
    network = recipe.model().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return network


def images(n: int) -> Tensor:
    return torch.randint(0, 256, (n, 1, 8, 8), generator=torch.Generator().manual_seed(0)) / 127.5 - 1


def test_the_hybrid_loss_is_the_simple_one_plus_a_thousandth_of_the_bound() -> None:
    network, x0, t = shaken(IDDPM), images(40), torch.arange(1, 41)
    noise = ImageNoise(0, range(40))
    losses = {
        objective: replace(IDDPM, objective=objective).build().loss(network, x0, t, ImageNoise(0, range(40)))
        for objective in ("hybrid", "vlb")
    }
    diffusion = IDDPM.build()
    x_t = diffusion.gaussian.level(t, x0).noise(x0, eps := noise(x0))
    squared = simple(diffusion.denoise(network, {})(x_t, t), eps)
    assert torch.allclose(losses["hybrid"], squared + 0.001 * losses["vlb"], rtol=1e-4)


@pytest.mark.parametrize("recipe", [replace(IDDPM, objective="vlb"), PLAIN, replace(PLAIN, variance="learned")])
def test_the_bound_as_a_loss_is_the_bound(recipe: Any) -> None:
    """The mean over levels of T times a term is the sum of all terms."""
    network = shaken(recipe)
    x0, times = images(1), torch.arange(40, -1, -1)
    diffusion = recipe.build()
    denoise, process, variance = diffusion.denoise(network, {}), diffusion.gaussian, diffusion.variance
    torch.manual_seed(0)
    eps = torch.randn(40, 1, 8, 8)
    draws = iter(eps.flip(0))
    with torch.no_grad():
        found = variational_bound(process, denoise, variance, x0, times, lambda x: next(draws)[None])
        losses = diffusion.loss(network, x0.expand(40, -1, -1, -1), torch.arange(1, 41), lambda x: eps)
    assert torch.allclose(losses.flip(0) / 40, found.terms[0], rtol=1e-3, atol=1e-5)
    assert float(losses.mean()) == pytest.approx(float(found.total - found.prior), rel=1e-4)


LEARNED = [
    replace(IDDPM, objective="vlb"), replace(PLAIN, variance="learned"), replace(GUIDED, conditioning=Labels(3)),
]  # fmt: skip


@pytest.mark.parametrize("recipe", LEARNED, ids=["iddpm", "ddpm", "adm"])
@pytest.mark.parametrize("space", ["pixels", "unit-pixels", "standardised?std=0.5&mean=0.25&bin=0", "pixels?levels=0"])
def test_the_decoder_in_training_has_bins_in_pixels_alone(recipe: Any, space: str) -> None:
    """At level 1 the bound is -log p(x_0 | x_1): of a grey level where these are 2 / 255 apart, else a density."""
    recipe = replace(recipe, space=part_of("space", space))
    network, diffusion, x0 = shaken(recipe), recipe.build(), recipe.space.encode(images(6))
    y, one = {"y": torch.arange(6) % 3} if recipe.conditioning.classes else {}, torch.tensor(1)
    eps = ImageNoise(0, range(6))(x0)
    with torch.no_grad():
        loss = diffusion.loss(network, images(6), torch.full((6,), 1), lambda x: eps, **y)
        seen = diffusion.denoise(network, y)(diffusion.gaussian.level(one, x0).noise(x0, eps), one)
    assert diffusion.variance is not None
    p = reverse(diffusion.gaussian, diffusion.variance, seen, one, one - 1, one + 1)
    nats = -(discretised_log_prob(p, x0) if space == "pixels" else p.log_prob(x0)).flatten(1).mean(1)
    bits = (loss - simple(seen, eps)) / 0.001 if isinstance(recipe, ADM) else loss
    assert torch.allclose(bits.double() / 40, nats.double() / math.log(2), rtol=2e-3, atol=1e-4)


def test_in_the_hybrid_loss_the_bound_trains_the_variance_alone() -> None:
    network, x0, t = shaken(IDDPM), images(8), torch.full((8,), 20)

    def gradient(recipe: ImprovedDDPM) -> Tensor:
        network.zero_grad()
        recipe.build().loss(network, x0, t, ImageNoise(0, range(8))).mean().backward()
        return network.conv_out.weight.grad.clone()  # type: ignore[union-attr, operator]

    light, heavy = gradient(IDDPM), gradient(replace(IDDPM, vlb_weight=1.0))
    assert torch.allclose(light[:1], heavy[:1], rtol=1e-4, atol=1e-6)  # the channel of the mean
    assert not torch.allclose(light[1:], heavy[1:], rtol=0.1)


def test_rescaled_times_mean_the_same_for_any_number_of_levels() -> None:
    heard: list[Tensor] = []

    class Listener(nn.Module):
        def forward(self, x: Tensor, t: Tensor, **labels: Tensor) -> Tensor:
            heard.append(t)
            return torch.zeros(len(x), 2, *x.shape[2:])

    for rescale in (True, False):
        replace(IDDPM, rescale_times=rescale).build().denoise(Listener(), {})(images(1), torch.tensor(21))
    assert [float(t) for t in heard] == [20 * 1000 / 40, 20.0]


def test_importance_sampling_is_an_option() -> None:
    assert isinstance(replace(IDDPM, importance=True).build().times, LossSecondMoment)


def test_an_upsampler_sees_the_mean_over_areas() -> None:
    recipe = replace(IDDPM, conditioning=LowRes(4))
    diffusion = recipe.build()
    seen: dict[str, Tensor] = {}

    class Listener(nn.Module):
        def forward(self, x: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
            seen["low_res"] = low_res
            return torch.zeros(len(x), 2, *x.shape[2:])

    x0 = images(2)
    diffusion.loss(Listener(), x0, torch.tensor([3, 4]))
    assert torch.allclose(seen["low_res"], x0.reshape(2, 1, 4, 2, 4, 2).mean((3, 5)))
    network = shaken(recipe)
    small, t = seen["low_res"], torch.tensor(20)
    x, y = (diffusion.denoise(network, {"low_res": low_res})(x0, t).x0 for low_res in (small, -small))
    assert not torch.allclose(x, y)  # and it matters


def test_guidance_without_a_classifier_uses_the_null_label() -> None:
    model, x0 = Model(GUIDED, shaken(GUIDED)), images(2)
    y, t = torch.tensor([0, 2]), torch.tensor(30)
    denoise = model.diffusion.denoise
    given, null = (denoise(model.network, {"y": labels})(x0, t).eps for labels in (y, torch.tensor([3, 3])))
    free = Model(replace(GUIDED, clip=False), model.network)
    assert torch.allclose(free.denoiser(y, scale=3.0)(x0, t).eps, 3 * given - 2 * null, atol=1e-5)
    assert model.denoiser(y, scale=3.0)(x0, t).x0.abs().max() <= 1  # guided first, then held inside the range
    with pytest.raises(ValueError, match="label dropout"):
        Model(replace(GUIDED, conditioning=Labels(3)), model.network).denoiser(y, scale=3.0)


def test_the_classifier_learns_from_noisy_images() -> None:
    torch.manual_seed(0)
    network, diffusion = CLASSIFIER.model(), CLASSIFIER.build()
    y = torch.arange(96) % 3
    x0 = (y / 1.5 - 2 / 3)[:, None, None, None].expand(-1, 1, 8, 8)  # dark, grey, bright
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3)
    t = torch.arange(96) % 20 + 1
    for _ in range(25):
        loss = diffusion.loss(network, x0, t, y=y).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert loss.item() < 0.5  # ln 3 = 1.10 knows nothing
    logits = diffusion.classify(network.eval())(x0, torch.tensor(2))
    assert float((logits.argmax(1) == y).double().mean()) > 0.9


@pytest.mark.parametrize("recipe", [IDDPM, GUIDED, CLASSIFIER, replace(IDDPM, conditioning=LowRes(4), importance=True)])
def test_a_checkpoint_carries_every_recipe(recipe: Any) -> None:
    assert papers.from_json(papers.to_json(recipe)) == recipe


@pytest.mark.parametrize(
    ("build", "words"),
    [
        (lambda: replace(IDDPM, objective="simple"), "learned variance"),
        (lambda: replace(IDDPM, variance="large"), "learned variance"),
        (lambda: Labels(0, 0.1), "needs classes"),
        (lambda: Labels(3, 1.0), "at least 0 and below 1"),
        (lambda: DDPM(variance="learned"), "bound"),
        (lambda: DDPM(betas="cubic"), "betas is one of linear"),  # type: ignore[arg-type]
    ],
)
def test_choices_that_do_not_fit_are_refused(build: Any, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        build()
