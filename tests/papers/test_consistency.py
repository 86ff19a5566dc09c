"""Consistency models: f without noise is x, r is the paper's, and a trained toy reaches the closed form."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from sfumato import samplers
from sfumato.conditioning import Augmented, Labels, SelfConditioned
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish
from sfumato.inverse import MeanPool
from sfumato.likelihood import Flow, adaptive
from sfumato.models import Model
from sfumato.models.restoration import restore
from sfumato.networks.unet import HoUNet
from sfumato.papers import from_json, to_json
from sfumato.papers.consistency import ConsistencyModel
from sfumato.papers.edm import EDM
from sfumato.samplers.consistency import Consistency, LogEven
from sfumato.spaces import Pixels

TOY = ConsistencyModel(shape=(2, 1, 1), space=Pixels(), sigma_data=1.0, q=8.0, p_mean=-0.5, p_std=1.6, sigma_max=20.0)
MEAN, DEVIATION = torch.tensor([0.4, -0.2]).reshape(1, 2, 1, 1), torch.tensor([0.5, 0.8]).reshape(1, 2, 1, 1)


def noised(recipe: ConsistencyModel | EDM, x: Tensor, sigma: float, network: nn.Module) -> Tensor:
    built = recipe.build()
    t = built.gaussian.schedule.at(torch.tensor(-math.log(sigma)))
    return built.denoise(network, {})(x, t).x0


def test_r_is_the_papers() -> None:
    first = ConsistencyModel(space=Pixels(), q=2.0)
    assert first.earlier(torch.tensor([5.0, 80.0])).tolist() == pytest.approx([2.366, 40.0], abs=1e-3)
    assert float(first.earlier(torch.tensor(0.01))) == 0.0  # clean data themselves
    assert float(replace(first, stage=3).earlier(torch.tensor(1.0))) == pytest.approx(0.803, abs=1e-3)
    wide = replace(first, sigma_data=1.0)  # data twice as wide: all noises twice as large
    assert float(wide.earlier(torch.tensor(10.0))) == pytest.approx(2 * 2.3661, abs=1e-3)


class Net(nn.Module):
    """F of a toy: a small perceptron of x and the number of its noise."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 64), nn.SiLU(), nn.Linear(64, 64), nn.SiLU(), nn.Linear(64, 2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        t = t.to(x).expand(len(x))[:, None]
        given = torch.cat([x.flatten(1), t, t.sin(), (2 * t).sin(), (2 * t).cos()], 1)
        return self.layers(given).reshape(x.shape)


def test_without_noise_f_is_x_itself_and_with_it_it_is_edms() -> None:
    x, network = torch.randn(4, 2, 1, 1), Net()
    torch.testing.assert_close(noised(TOY, x, 1e-8, network), x, rtol=0, atol=1e-6)
    edm = EDM(shape=(2, 1, 1), space=Pixels(), sigma_data=1.0)
    assert torch.equal(noised(TOY, x, 0.7, network), noised(edm, x, 0.7, network))


def test_the_loss_compares_f_with_f_nearer_to_the_data_and_only_one_of_them_learns() -> None:
    """By hand, at a noise whose r is above 0 and at one whose r is 0, where x0 itself is the target."""
    network, built = Net(), replace(TOY, q=2.0).build()
    x0, eps = torch.randn(2, 2, 1, 1), torch.randn(2, 2, 1, 1)
    sigma = torch.tensor([9.0, 0.05], dtype=torch.float64)
    t, r = built.gaussian.schedule.at(-sigma.log()), replace(TOY, q=2.0).earlier(sigma)
    assert r[0] > 0
    assert r[1] == 0
    f = built.denoise(network, {})
    low = built.gaussian.schedule.at(-r[:1].log())
    below = f(x0[:1] + float(r[0]) * eps[:1], low).x0.detach()
    above = f(x0 + sigma.float().reshape(2, 1, 1, 1) * eps, t).x0
    expected = (above - torch.cat([below, x0[1:]])).flatten(1).norm(dim=1) / (sigma - r).float() / math.sqrt(2)
    losses = built.loss(network, x0, t, lambda _: eps)
    torch.testing.assert_close(losses, expected, rtol=2e-4, atol=1e-6)
    ours, theirs = (torch.autograd.grad(v.sum(), list(network.parameters())) for v in (losses, expected))
    for a, b in zip(ours, theirs, strict=True):
        torch.testing.assert_close(a, b, rtol=2e-3, atol=1e-5)


def test_dropout_is_the_same_in_both() -> None:
    seen: list[Tensor] = []

    class Dropped(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            seen.append(torch.rand(3))
            return x

    TOY.build().loss(Dropped(), torch.randn(2, 2, 1, 1), torch.tensor([0.5, 0.6], dtype=torch.float64))
    assert torch.equal(seen[0], seen[1])


def test_a_toy_reaches_the_closed_form() -> None:
    """Gaussian data: f(x, sigma) = mean + sqrt(v / (v + sigma^2)) (x - mean), in one step and in two."""
    torch.manual_seed(0)
    network, built = Net(), replace(TOY, q=48.0, huber=1.0).build()
    optimizer = torch.optim.Adam(network.parameters(), 5e-3)
    rounds = 1500
    for i in range(rounds):
        for group in optimizer.param_groups:
            group["lr"] = 5e-3 * (1 - i / rounds)
        x0 = MEAN + DEVIATION * torch.randn(512, 2, 1, 1)
        t, _ = built.times.draw((torch.arange(512) + torch.rand(1)) / 512)
        loss = built.loss(network, x0, t).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = torch.randn(2000, 2, 1, 1)
    for sigma in (0.3, 1.0, 4.0, 20.0):
        noisy = MEAN + (DEVIATION**2 + sigma**2).sqrt() * x
        exact = MEAN + DEVIATION * x
        with torch.no_grad():
            error = (noised(TOY, noisy, sigma, network) - exact).square().mean(0).sqrt() / DEVIATION[0]
        assert float(error.max()) < 0.08, sigma
    process = built.gaussian
    with torch.no_grad():
        for steps in (1, 2):
            plan = Consistency().plan(process, built.denoise(network, {}), steps)
            made = finish(process.prior((4000, 2, 1, 1)).sample(), plan)
            torch.testing.assert_close(made.mean(0, keepdim=True), MEAN, rtol=0, atol=0.04)
            torch.testing.assert_close(made.std(0, keepdim=True), DEVIATION, rtol=0.06, atol=0)


def test_steps_are_even_in_the_logarithm_down_to_the_papers_second_noise() -> None:
    schedule = ConsistencyModel(space=Pixels()).build().gaussian.schedule
    sampler = Consistency()
    sigmas = [schedule.alpha_sigma(sampler.times(schedule, n))[1].tolist() for n in (1, 2, 3)]
    assert sigmas[0] == pytest.approx([80, 0])
    assert sigmas[1] == pytest.approx([80, 0.821, 0])
    assert sigmas[2] == pytest.approx([80, math.sqrt(80 * 0.821), 0.821, 0])


def test_its_grid_is_called_by_a_word() -> None:
    scaled = Consistency(grid=LogEven(1.2))
    assert samplers.name(Consistency()) == "consistency"
    assert samplers.name(scaled) == "consistency?grid=log-even"
    assert samplers.by_name(samplers.name(scaled)) == Consistency()


def test_json_and_back() -> None:
    recipe = ConsistencyModel((1, 8, 8), HoUNet(channels=8), Labels(3), huber=0.001)
    assert from_json(to_json(recipe)) == recipe
    with pytest.raises(ValueError, match="sigma_min is below sigma_max"):
        replace(recipe, sigma_min=90.0)


def test_r_that_is_no_other_number_than_t_is_refused() -> None:
    for q, stage in ((1e6, 64), (256.0, 3), (2.0, 24)):
        with pytest.raises(ValueError, match="r is no other number than t"):
            ConsistencyModel(q=q, stage=stage)
    nearest = ConsistencyModel(space=Pixels(), q=256.0, stage=2)
    assert float(nearest.earlier(torch.tensor(1.0))) < 1.0


def test_the_images_are_augmented_and_predictions_are_not_fed_back() -> None:
    recipe = ConsistencyModel((1, 8, 8), HoUNet(channels=8), Augmented(p=1.0), Pixels())
    network, built, x0 = recipe.model(), recipe.build(), 2 * torch.rand(4, 1, 8, 8) - 1
    told: list[Tensor] = []
    network.register_forward_pre_hook(lambda _, args, given: told.append(given["numbers"]), with_kwargs=True)
    built.loss(network, x0, torch.full((4,), 0.5), ImageNoise(0, range(4)))
    assert len(told) == 2
    assert torch.equal(told[0], told[1])  # f at t and at r are of the same images
    assert bool((told[0] != 0).any(dim=1).all())
    with pytest.raises(ValueError, match="is fed no predictions of its own"):
        replace(recipe, conditioning=SelfConditioned()).build()


def test_what_a_model_of_few_steps_is_not_is_said() -> None:
    recipe = ConsistencyModel((1, 8, 8), HoUNet(channels=8))
    model = Model(recipe, recipe.model().eval())
    assert model.sample(2).shape == (2, 1, 8, 8)
    assert not torch.equal(model.sample(2, steps=1), model.sample(2))
    with pytest.raises(ValueError, match="its own sampler alone"):
        model.sample(2, sampler="ddim")
    with pytest.raises(ValueError, match="a probability flow needs a diffusion model"):
        Flow(model, adaptive())
    with pytest.raises(ValueError, match="restoring needs a diffusion model"):
        restore(model, torch.zeros(1, 1, 4, 4), MeanPool(2))
