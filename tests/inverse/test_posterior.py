"""Posterior sampling on Gaussians, where every posterior is known: what each method makes, without sampling noise.

Two numbers of variance 1 and covariance 0.9, the first known: the second has mean 0.9 y and variance 0.19.
"""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import inverse, samplers
from sfumato.core import VE, VP, Denoise, GaussianDiffusion, Prediction, finish, from_betas, inpainting, linear_betas
from sfumato.core.betas import cosine_betas
from sfumato.core.sampling import Move
from sfumato.inverse import (
    DPS,
    MMPS,
    POSTERIORS,
    DiffPIR,
    Function,
    Grey,
    Linear,
    Mask,
    MeanPool,
    Measurement,
    PiGDM,
    RePaint,
    Replacement,
    SDEdit,
)

SCHEDULES = {"linear": from_betas(linear_betas(1000)), "cosine": from_betas(cosine_betas(1000))}
PAIR = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64)
FIRST = Mask(torch.tensor([True, False]))


def exact(process: GaussianDiffusion, covariance: Tensor) -> Denoise:
    """The denoiser of centred Gaussian data."""
    one = torch.eye(len(covariance), dtype=torch.float64)

    def inner(x: Tensor, t: Tensor) -> Prediction:
        level = process.level(t, x)
        gain = level.alpha * covariance @ torch.linalg.inv(level.alpha**2 * covariance + level.sigma**2 * one)
        x0 = x.flatten(1) @ gain.T
        return Prediction(x, level, level.eps(x, x0.reshape(x.shape)), x0.reshape(x.shape))

    return inner


def second_given_first(method: str, schedule: str, sampler: str, steps: int = 250) -> tuple[float, float]:
    """The mean over y and the variance of the second number, every move's affine map carried exactly."""
    process = GaussianDiffusion(SCHEDULES[schedule])
    states = torch.zeros(6, 2, dtype=torch.float64)  # zero, two of x, one of y, two of the noise
    states[1, 0] = states[2, 1] = 1
    y = torch.zeros_like(states)
    y[3, 0] = 1

    def noise(x: Tensor) -> Tensor:
        z = torch.zeros_like(x)
        z[4, 0] = z[5, 1] = 1
        return z

    moves = inverse.by_name(method).plan(
        process, exact(process, PAIR), Measurement(FIRST, y), samplers.by_name(sampler), steps
    )
    mean, covariance = torch.zeros(2, dtype=torch.float64), torch.eye(2, dtype=torch.float64)
    for kernel, t, s in moves:
        out = kernel(states, t, s, ()).to.sample(noise)
        of_x, of_noise = out[1:3].T, out[4:6].T
        mean = of_x @ mean + out[3]
        covariance = of_x @ covariance @ of_x.T + of_noise @ of_noise.T
    return float(mean[1]), float(covariance[1, 1])


@pytest.mark.parametrize(
    ("method", "sampler", "linear", "cosine"),
    [
        ("replacement", "ancestral", (0.622, 0.300), (0.624, 0.305)),
        ("diffpir", "ddim", (0.4456, 0.514), (0.447, 0.518)),  # without noise it imputes x0
        ("repaint?first=10", "ancestral", (0.855, 0.205), (0.873, 0.193)),
        ("repaint", "ancestral", (0.8746, 0.1787), (0.8784, 0.1834)),  # jumps as published
        ("repaint?jump=1", "ancestral", (0.878, 0.170), (0.879, 0.182)),
        ("pigdm", "ddim?eta=1", (0.853, 0.202), (0.8536, 0.2078)),
        ("pigdm", "ddim", (0.844, 0.226), (0.8470, 0.2288)),
        ("mmps", "ddim?eta=1", (0.900, 0.178), (0.900, 0.1836)),
        ("mmps", "ddim", (0.898, 0.185), (0.900, 0.1873)),
    ],
)
def test_what_each_method_makes_of_a_pair(method: str, sampler: str, linear: Any, cosine: Any) -> None:
    """Truth: 0.9 and 0.19. Replacement's mean is 0.62 y, RePaint nearly repairs it, MMPS does."""
    for schedule, expected in (("linear", linear), ("cosine", cosine)):
        assert second_given_first(method, schedule, sampler) == pytest.approx(expected, abs=1e-3)


def test_more_steps_do_not_help_replacement() -> None:
    assert second_given_first("replacement", "linear", "ancestral", 1000) == pytest.approx((0.626, 0.308), abs=1e-3)
    assert second_given_first("mmps", "linear", "ddim?eta=1", 1000) == pytest.approx((0.900, 0.187), abs=2e-3)


# ---------------------------------------------------------------- exactness of the denoisers


def covariance(n: int) -> Tensor:
    factor = torch.randn(n, n, dtype=torch.float64)
    return factor @ factor.T / n


def conditional_mean(x: Tensor, level: Any, prior: Tensor, a: Tensor, y: Tensor, noise: float) -> Tensor:
    """E[x0 | x_t, y], both measurements at once."""
    n = len(prior)
    rows = torch.cat([level.alpha * torch.eye(n, dtype=torch.float64), a])
    spread = torch.block_diag(level.sigma**2 * torch.eye(n), noise**2 * torch.eye(len(a))).double()
    seen = torch.cat([x.flatten(1), y.flatten(1)], 1)
    return seen @ torch.linalg.inv(rows @ prior @ rows.T + spread) @ rows @ prior


@pytest.mark.parametrize("t", [0.02, 0.3, 0.9])
@pytest.mark.parametrize("noise", [0.0, 0.2])
def test_mmps_is_exact_on_gaussians_at_every_level(t: float, noise: float) -> None:
    prior, process, a = covariance(5), GaussianDiffusion(VP()), torch.randn(2, 5, dtype=torch.float64)
    x, y, at = torch.randn(3, 5).double(), torch.randn(3, 2).double(), torch.tensor(t).double()
    measurement = Measurement(Linear(lambda x: x @ a.T, (5,)), y, noise)
    with torch.inference_mode():
        found = MMPS(iterations=2).denoiser(exact(process, prior), measurement)(x, at)
    level = process.level(at, x)
    assert torch.allclose(found.x0, conditional_mean(x, level, prior, a, y, noise))
    assert torch.allclose(level.noise(found.x0, found.eps), x)
    assert not found.x0.requires_grad


@pytest.mark.parametrize("unit", [True, False])
def test_pigdm_is_exact_for_uncorrelated_data_of_variance_one_alone(unit: bool) -> None:
    prior = torch.eye(3, dtype=torch.float64) if unit else covariance(3)
    process, known = GaussianDiffusion(VP()), torch.tensor([True, False, True])
    x, y, at = torch.randn(2, 3).double(), torch.randn(2, 3).double() * known, torch.tensor(0.4).double()
    found = PiGDM().denoiser(exact(process, prior), Measurement(Mask(known), y, 0.1))(x, at).x0
    a = torch.eye(3, dtype=torch.float64)[known]
    true = conditional_mean(x, process.level(at, x), prior, a, y[:, known], 0.1)
    assert torch.allclose(found, true) == unit


def test_diffpir_goes_to_the_nearest_picture_that_agrees() -> None:
    """The minimum of |y - A x|^2 / 2 noise^2 + weight / (2 kappa^2) |x - D|^2."""
    process, operator = GaussianDiffusion(VP()), MeanPool(2)
    x, y, at = torch.randn(2, 1, 4, 4).double(), torch.randn(2, 1, 2, 2).double(), torch.tensor(0.4).double()
    denoise = exact(process, covariance(16))
    found = DiffPIR(weight=5.0).denoiser(denoise, Measurement(operator, y, 0.3))(x, at)
    kappa = process.level(at, x).sigma / process.level(at, x).alpha
    slope = operator.transpose(operator(found.x0) - y) / 0.3**2 + 5.0 / kappa**2 * (found.x0 - denoise(x, at).x0)
    assert torch.allclose(slope, 0 * slope, atol=1e-9)


def test_a_level_without_signal_is_no_trouble() -> None:
    process = GaussianDiffusion(inverse_cosine())
    made = inverse.run("mmps", process, exact(process, PAIR), Measurement(FIRST, FIRST(torch.ones(4, 2).double())),
                       torch.randn(4, 2).double(), steps=20)  # fmt: skip
    assert bool(made.isfinite().all())


def inverse_cosine() -> Any:
    from sfumato.core import LinearFlow

    return LinearFlow()  # alpha is 0 at its end


# ---------------------------------------------------------------- plans


def test_the_plan_of_repaint_is_the_published_one() -> None:
    """T = 250, jumps of 10, 10 rounds: 4570 transitions, of which 2410 ask the network."""
    order = RePaint().visits(250)
    assert (len(order), sum(i >= 0 for i in order)) == (4570, 2410)
    assert len([i for i in RePaint(jump=1).visits(250) if i >= 0]) == 2491
    assert RePaint(rounds=1).visits(30) == list(range(30))
    level = 250
    for i in order:
        assert 250 - level == (i if i >= 0 else ~i + 1)
        level += -1 if i >= 0 else 1
    assert level == 0


def test_replacement_is_that_of_the_papers() -> None:
    process, known = GaussianDiffusion(VP()), torch.rand(2, 3, 4, 4) < 0.5
    images, x = torch.randn(2, 3, 4, 4).double(), torch.randn(2, 3, 4, 4).double()
    denoise, sampler = exact(process, covariance(48)), samplers.by_name("ancestral")

    def made(moves: list[Move]) -> Tensor:
        generator = torch.Generator().manual_seed(3)
        return finish(x, moves, lambda like: torch.randn(like.shape, generator=generator, dtype=like.dtype))

    theirs = inpainting.with_replacement(
        sampler.plan(process, denoise, 6), inpainting.Replacement(process, images, known)
    )
    ours = Replacement().plan(process, denoise, Measurement(Mask(known), Mask(known)(images)), sampler, 6)
    assert torch.allclose(made(ours), made(theirs))


@pytest.mark.parametrize("name", ["replacement", "ilvr", "repaint?jump=2&rounds=2"])
def test_what_was_seen_comes_back(name: str) -> None:
    process, operator = GaussianDiffusion(VP()), Grey()
    y = operator(torch.randn(2, 3, 4, 4).double())
    made = inverse.run(
        name, process, exact(process, covariance(48)), Measurement(operator, y), torch.randn(2, 3, 4, 4).double(),
        steps=6,
    )  # fmt: skip
    assert torch.allclose(operator(made), y)


def test_sdedit_begins_at_its_level() -> None:
    process = GaussianDiffusion(SCHEDULES["linear"])
    operator, picture = Mask(torch.tensor(True)), torch.randn(2, 4).double()
    denoise = exact(process, covariance(4))
    plan = SDEdit(strength=0.4).plan(process, denoise, Measurement(operator, picture), samplers.by_name("ddim"), 50)
    assert [int(t) for _, t, _ in plan[:3]] == [1000, 400, 380]
    noisy = plan[0][0](torch.randn(2, 4), *plan[0][1:], ()).to
    assert torch.allclose(noisy.mean, process.level(torch.tensor(400), picture).alpha * picture)
    nearer = [
        float((inverse.run(SDEdit(strength), process, denoise, Measurement(operator, picture), picture, steps=50,
                           noise=torch.zeros_like) - picture).norm())
        for strength in (0.05, 0.3, 0.9)
    ]  # fmt: skip
    assert nearer == sorted(nearer)


# ---------------------------------------------------------------- DPS


def test_dps_comes_nearer_and_pictures_of_a_batch_do_not_depend_on_each_other() -> None:
    process, prior = GaussianDiffusion(SCHEDULES["linear"]), covariance(4)
    operator, y = Function(lambda x: x[:, :2] ** 3 + x[:, :2]), torch.randn(3, 2).double()
    x = torch.randn(3, 4).double()

    def made(rows: slice, scale: float) -> Tensor:
        return inverse.run(
            DPS(scale), process, exact(process, prior), Measurement(operator, y[rows]), x[rows],
            sampler="ancestral", steps=200, noise=torch.zeros_like,
        )  # fmt: skip

    sizes = [float((operator(made(slice(0, 3), scale)) - y).norm()) for scale in (0.0, 0.01, 0.03)]
    assert sizes == sorted(sizes, reverse=True)
    assert torch.allclose(made(slice(0, 3), 0.1)[1:2], made(slice(1, 2), 0.1))


# ---------------------------------------------------------------- every method


@pytest.mark.parametrize("schedule", [VP(), VE(), SCHEDULES["cosine"]], ids=["VP", "VE", "cosine"])
@pytest.mark.parametrize("name", POSTERIORS)
@pytest.mark.parametrize("sampler", ["ddim", "ancestral", "heun", "dpmpp-2m", "unipc"])
def test_every_method_goes_with_samplers_and_schedules(name: str, schedule: Any, sampler: str) -> None:
    process = GaussianDiffusion(schedule)
    measurement = Measurement(MeanPool(2), torch.zeros(2, 1, 2, 2).double(), 0.1)
    x = process.prior((2, 1, 4, 4)).sample().double()
    if name == "repaint" and sampler in ("dpmpp-2m", "unipc"):  # what they remember lies on the other side of a jump
        with pytest.raises(ValueError, match="remembers nothing"):
            inverse.run(name, process, exact(process, covariance(16)), measurement, x, sampler=sampler, steps=12)
        return
    made = inverse.run(name, process, exact(process, covariance(16)), measurement, x, sampler=sampler, steps=12)
    assert bool(made.isfinite().all())


def test_what_a_method_cannot_do_is_said() -> None:
    process = GaussianDiffusion(VP())
    for name, operator, words in (
        ("mmps", Function(lambda x: x**2), "linear operator"),
        ("pigdm", Linear(lambda x: 2 * x, (2,)), "closed inverse"),
    ):
        with pytest.raises(ValueError, match=words):
            inverse.run(name, process, exact(process, PAIR), Measurement(operator, torch.zeros(1, 2)), torch.ones(1, 2))
    for wrong, said in {
        "mmsp": "did you mean mmps",
        "mmps?iterations=0": "1 iteration",
        "sdedit?strength=2": "share of the time",
        "ilvr?until=1": "share of the time",
        "repaint?jump=0": "1 or more",
    }.items():
        with pytest.raises(ValueError, match=said):
            inverse.by_name(wrong)
    assert [line.split()[0] for line in inverse.listed().splitlines()] == list(POSTERIORS)
