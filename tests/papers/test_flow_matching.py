"""The flow-matching recipe: loss and times beside the papers' formulas, its solvers on known data, a run end to end."""

from __future__ import annotations

import math
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.conditioning import Labels
from sfumato.core.sampling import finish
from sfumato.data import open_source
from sfumato.likelihood import ode_likelihood, runge_kutta
from sfumato.models import Model
from sfumato.noising import Optimal
from sfumato.papers.flow_matching import FlowMatching
from sfumato.samplers import DDIM, FAST, Heun
from tests.likelihood.test_flow import dequantised
from tests.papers import whole
from tests.papers.whole import MEAN, STD

TINY = FlowMatching((1, 8, 8), whole.NETWORK, Labels(10, 0.2), times="logit-normal", shift=1.5, steps=6)
PLAIN = FlowMatching((1, 2, 2))


class Ideal(nn.Module):
    """u = E[eps - x0 | x] for N(MEAN, STD^2) pixels."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        t = (label.double() / 1000)[:, None, None, None]
        variance = ((1 - t) * STD) ** 2 + t**2
        return (t - (1 - t) * STD**2) / variance * (x - (1 - t) * MEAN) - MEAN


class Asked(nn.Module):
    """Answers with a function of what it sees, and keeps the label."""

    def forward(self, x: Tensor, label: Tensor) -> Tensor:
        self.label = label
        return 0.3 * x.sin() + 0.01


@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_the_loss_is_the_error_in_the_velocity(shift: float) -> None:
    """At both ends, too, where nothing is divided by; the network is told a thousand times the path's own time."""
    network, r = Asked(), torch.tensor([0.0, 0.25, 0.9, 1.0], dtype=torch.float64)
    x0, eps = torch.rand(4, 1, 2, 2) * 2 - 1, torch.randn(4, 1, 2, 2)
    loss = replace(PLAIN, shift=shift).build().loss(network, x0, r, lambda _: eps)
    t = shift * r / (1 + (shift - 1) * r)
    at = t[:, None, None, None].float()
    x = (1 - at) * x0 + at * eps
    by_hand = ((0.3 * x.sin() + 0.01 - (eps - x0)) ** 2).mean((1, 2, 3))
    torch.testing.assert_close(loss, by_hand, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(network.label, (1000 * t).float())


def test_densities_of_time() -> None:
    """Means and deviations of log(t / (1 - t)) of the path; uniform t has the deviation pi / sqrt(3)."""
    u = (torch.arange(100_000, dtype=torch.float64) + 0.5) / 100_000
    for changes, mean, std in (
        ({"times": "uniform"}, 0.0, math.pi / math.sqrt(3)),
        ({"times": "uniform", "shift": 3.0}, math.log(3), math.pi / math.sqrt(3)),
        ({"times": "logit-normal"}, 0.0, 1.0),
        ({"times": "logit-normal", "logit_mean": -0.8, "logit_std": 0.8, "shift": 2.0}, -0.8 + math.log(2), 0.8),
    ):
        diffusion = replace(PLAIN, **changes).build()
        t = diffusion.gaussian.schedule.alpha_sigma(diffusion.times.draw(u)[0])[1]
        assert float(t.logit().mean()) == pytest.approx(mean, abs=2e-3)
        assert float(t.logit().std()) == pytest.approx(std, rel=2e-3)
    t, _ = replace(PLAIN, times="mode").build().times.draw(u)
    assert 0 <= float(t.min()) < float(t.max()) <= 1


@pytest.mark.parametrize(("solver", "declared"), [("euler", 1), ("heun", 2)])
@pytest.mark.parametrize("shift", [1.0, 3.0])
def test_its_solvers_converge_to_the_flow(solver: Any, declared: int, shift: float) -> None:
    order, error = whole.converges(replace(PLAIN, solver=solver, shift=shift), Ideal(), (40, 80))
    assert order == pytest.approx(declared, abs=0.15)
    assert error < 0.05


def test_euler_is_the_step_along_the_velocity() -> None:
    """The step of DDIM on a straight path, in the path's own time, shifted or not."""
    diffusion = replace(PLAIN, solver="euler", shift=2.0).build()
    assert (diffusion.own, diffusion.sampler) == (DDIM(), FAST)
    x = torch.randn(3, 1, 2, 2, dtype=torch.float64)
    by_hand = x
    t = diffusion.gaussian.schedule.alpha_sigma(torch.linspace(1, 0, 6, dtype=torch.float64))[1]
    for a, b in pairwise(t):
        by_hand = by_hand + (b - a) * Ideal()(by_hand, 1000 * a.float().expand(3))
    made = finish(x, diffusion.own.plan(diffusion.gaussian, diffusion.denoise(Ideal(), {}), 5))
    torch.testing.assert_close(made, by_hand, rtol=1e-6, atol=1e-6)
    assert PLAIN.build().own == Heun()
    assert whole.evaluations(PLAIN) == 49


@pytest.mark.parametrize("spec", ["ancestral", "ddim?eta=0.5", "sde-dpmpp-2m?grid=log-snr", "heun?churn=20"])
def test_stochastic_samplers_have_the_marginals_of_the_flow(spec: str) -> None:
    """As SiT's, with any of them the pixels come out with their mean and deviation (Ma et al. 2024)."""
    diffusion, torch_noise = PLAIN.build(), torch.Generator().manual_seed(0)

    def noise(like: Tensor) -> Tensor:
        return torch.randn(like.shape, generator=torch_noise, dtype=like.dtype)

    model = Model(PLAIN, Ideal())
    x = noise(torch.empty(4000, 1, 2, 2, dtype=torch.float64))
    made = finish(x, model.sampler(spec).plan(diffusion.gaussian, diffusion.denoise(Ideal(), {}), 100), noise)
    assert float(made.mean()) == pytest.approx(MEAN, abs=0.02)
    assert float(made.std()) == pytest.approx(STD, rel=0.06)


def test_the_likelihood_of_gaussian_pixels_is_theirs() -> None:
    images = open_source("digits")
    x = (MEAN + STD * torch.randn(30, 1, 2, 2, generator=torch.Generator().manual_seed(0))).clamp(-1, 1)
    pixels = (x * 127.5 + 127.5).round().byte()
    source = replace(images, images=pixels, labels=None, card=replace(images.card, shape=(1, 2, 2)))
    report = ode_likelihood(Model(PLAIN, Ideal()), source, runge_kutta(50), kind="exact")
    z = (dequantised(pixels, torch.tensor(0.5)) - MEAN) / STD
    nats = 0.5 * z.square().mean() + math.log(STD) + 0.5 * math.log(2 * math.pi)
    assert report.bits_per_dim == pytest.approx(float(nats) / math.log(2) + 7, abs=5e-3)


@pytest.mark.parametrize("classes", [0, 2])
def test_optimal_pairs_are_nearer_and_belong_to_their_class(classes: int) -> None:
    """Seen by a network that keeps x: at the noisy end x is the noise of each image."""

    class Kept(nn.Module):
        def forward(self, x: Tensor, label: Tensor, y: Tensor | None = None) -> Tensor:
            self.x = x
            return x

    kept, eps = Kept(), torch.randn(16, 1, 2, 2)
    x0, y = torch.rand(16, 1, 2, 2) * 2 - 1, torch.arange(16) % 2
    recipe = replace(PLAIN, noising=Optimal(), conditioning=Labels(2) if classes else PLAIN.conditioning)
    recipe.build().loss(kept, x0, torch.ones(16, dtype=torch.float64), lambda _: eps, **({"y": y} if classes else {}))
    assert float((kept.x - x0).square().sum()) < float((eps - x0).square().sum())
    for label in range(2):
        ours, theirs = (e[y == label].flatten().sort().values for e in (kept.x, eps))
        assert torch.allclose(ours, theirs) == bool(classes)


def test_training_reads_nothing_on_the_host() -> None:
    for times in ("uniform", "logit-normal", "mode"):
        whole.check_no_host(replace(TINY, times=times))


def test_from_training_to_onnx(tmp_path: Path) -> None:
    whole.check_the_whole_way(replace(TINY, noising=Optimal()), tmp_path)


@pytest.mark.parametrize(
    ("values", "match"),
    [
        ({"times": "cosine"}, "times is one of uniform, logit-normal, mode"),
        ({"solver": "dopri5"}, "solver is one of euler, heun"),
        ({"weight": "snr"}, "weight is one of eps, x0, v"),
        ({"shift": 0.0}, "shift"),
        ({"logit_mean": math.inf}, "logit_mean"),
        ({"mode_scale": 2.0}, "mode_scale"),
        ({"steps": 0}, "steps"),
    ],
)
def test_what_makes_no_sense_is_refused(values: dict[str, Any], match: str) -> None:
    with pytest.raises(ValueError, match=match):
        FlowMatching(**values)


def test_clean_data_are_predicted_with_the_floor_of_jit() -> None:
    """The loss is the squared error in u, with its divisor held above 0.05; above the floor it is the recipe's own."""
    from torch import nn

    class Half(nn.Module):
        def forward(self, x: Tensor, t: Tensor) -> Tensor:
            return 0.5 * x

    recipe = FlowMatching((1, 4, 4), prediction="x0")
    built, x0 = recipe.build(), torch.rand(4, 1, 4, 4, dtype=torch.float64) * 2 - 1
    eps, t = torch.randn(4, 1, 4, 4, dtype=torch.float64), torch.tensor([0.0, 0.01, 0.3, 1.0], dtype=torch.float64)
    loss = built.loss(Half(), x0, t, lambda like: eps)
    s = t[:, None, None, None]
    x_t = (1 - s) * x0 + s * eps
    expected = (((0.5 * x_t - x0) / s.clamp(min=0.05)) ** 2).flatten(1).mean(1)
    torch.testing.assert_close(loss, expected, rtol=1e-5, atol=1e-5)
    said = built.denoise(Half(), {})(x_t, t)
    torch.testing.assert_close(said.x0, 0.5 * x_t)
    torch.testing.assert_close(said.eps[2:], ((x_t - (1 - s) * 0.5 * x_t) / s.clamp(min=1e-9))[2:])
    plain = FlowMatching((1, 4, 4), prediction="x0", weight="v").build().loss(Half(), x0, t, lambda like: eps)
    assert plain[1:].isfinite().all()
