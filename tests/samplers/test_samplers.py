"""The table of samplers, spec strings, the loop that carries predictions, and `run` for a denoiser of one's own."""

from __future__ import annotations

import pickle
from dataclasses import FrozenInstanceError, fields
from functools import partial
from itertools import pairwise

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import (
    VE,
    VP,
    Gaussian,
    GaussianDiffusion,
    LinearFlow,
    Prediction,
    Step,
    finish,
    from_betas,
    trajectory,
)
from sfumato.core.betas import linear_betas
from sfumato.core.exact import gaussian
from sfumato.core.sampling import NO_NOISE, DenoiseToZero, Past
from sfumato.core.variances import fixed_large
from sfumato.samplers import DDIM, Ancestral, Heun, grids
from sfumato.samplers.ddim import DDIMStep
from tests.samplers.bench import SAMPLERS

MEAN, STD = torch.tensor([0.4, -0.8], dtype=torch.float64), torch.tensor([0.6, 0.3], dtype=torch.float64)
TABLE = GaussianDiffusion(from_betas(linear_betas(1000)))
TIME = GaussianDiffusion(VP())


def start(process: GaussianDiffusion = TABLE, n: int = 3) -> Tensor:
    noise = torch.randn(n, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    return process.prior((n, 2)).std * noise


def seeded(x: Tensor, generator: torch.Generator) -> Tensor:
    return torch.randn(x.shape, generator=generator, dtype=x.dtype)


@pytest.mark.parametrize("spec", SAMPLERS)
def test_a_sampler_is_a_frozen_value_that_its_spec_names(spec: str) -> None:
    sampler = samplers.by_name(spec)
    assert samplers.by_name(samplers.name(sampler)) == sampler
    assert hash(sampler) == hash(samplers.by_name(spec))
    assert pickle.loads(pickle.dumps(sampler)) == sampler
    for field in fields(sampler):  # type: ignore[arg-type]
        with pytest.raises(FrozenInstanceError):
            setattr(sampler, field.name, 1)


@pytest.mark.parametrize("spec", SAMPLERS)
def test_the_same_plan_twice_gives_the_same_picture(spec: str) -> None:
    plan = samplers.by_name(spec).plan(TIME, gaussian(MEAN, STD).denoise(TIME), 8)
    one, two = (finish(start(TIME), plan, partial(seeded, generator=torch.Generator().manual_seed(1))) for _ in "12")
    assert torch.equal(one, two)


def test_names_options_and_defaults() -> None:
    assert samplers.by_name("ddim") == DDIM()
    assert samplers.by_name("ddim?eta=0.5") == DDIM(0.5)
    assert samplers.by_name("ancestral?variance=large") == Ancestral(fixed_large)
    assert samplers.by_name("heun?churn=40&s-min=0.05") == Heun(40.0, 0.05)
    assert samplers.name(DDIM(0.5)) == "ddim?eta=0.5"
    assert samplers.name(Ancestral(fixed_large)) == "ancestral?variance=large"
    assert len(samplers.listed().splitlines()) == len(samplers.SAMPLERS)

    class Mine(DDIM):
        """No row of the table."""

    assert samplers.name(Mine()) == "own"


@pytest.mark.parametrize(("spec", "message"), [
    ("dim", "did you mean ddim"),
    ("ddim?eta=2", "between 0 and 1"),
    ("ddim?eta=much", "a number"),
    ("ddim?churn=2", "has no option 'churn'"),
    ("ancestral?variance=middle", "small or large"),
    ("heun?churn=-1", "not negative"),
    ("heun?s_noise=1.5&s_min=1", "churn is 0"),
    ("heun?s_max=2", "churn is 0"),
    ("sa-solver?tau=0&s_min=1", "tau, which is 0"),
    ("predictor-corrector?snr=0", "above 0"),
    ("annealed-langevin?per_level=0", "at least 1"),
])  # fmt: skip
def test_what_no_sampler_is(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.by_name(spec)


# ---------------------------------------------------------------- the loop


def test_the_loop_hands_on_at_most_four_predictions_newest_first() -> None:
    seen: list[tuple[float, ...]] = []

    def kernel(x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        seen.append(tuple(float(p.level.sigma) for p in past))
        level = TABLE.level(t, x)
        return Step(Gaussian(x + 1, NO_NOISE), Prediction(x, level, x, x))

    def silent(x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        return kernel(x, t, s, past)._replace(prediction=None)

    times = TABLE.schedule.times(6)
    moves = [(kernel, t, s) for t, s in pairwise(times)]
    moves[3] = (silent, *moves[3][1:])
    states = list(trajectory(torch.zeros(1, 1), moves))
    sigmas = [float(TABLE.schedule.alpha_sigma(t)[1]) for t in times]
    assert [len(past) for past in seen] == [0, 1, 2, 3, 3, 4]
    assert seen[2] == pytest.approx((sigmas[1], sigmas[0]))
    assert seen[4] == pytest.approx((sigmas[2], sigmas[1], sigmas[0]))  # a move that asks nothing adds nothing
    assert seen[5] == pytest.approx((sigmas[4], sigmas[2], sigmas[1], sigmas[0]))
    assert [float(x) for x, _ in states] == [1, 2, 3, 4, 5, 6]
    assert [float(p.x) for _, p in states] == [0, 1, 2, 2, 4, 5]  # the last prediction stands


def test_a_trajectory_yields_the_state_and_the_prediction_before_it() -> None:
    denoise, x = gaussian(MEAN, STD).denoise(TABLE), start()
    states = list(trajectory(x, DDIM().plan(TABLE, denoise, 4)))
    assert len(states) == 4
    assert torch.equal(states[0][1].x, x)
    assert torch.equal(states[1][1].x, states[0][0])
    assert torch.equal(states[-1][0], states[-1][1].x0)  # into clean data


# ---------------------------------------------------------------- run


def test_run_takes_a_value_or_a_spec_and_steps_or_times() -> None:
    denoise, x = gaussian(MEAN, STD).denoise(TABLE), start()
    plain = samplers.run("ddim", TABLE, denoise, x, steps=10)
    assert torch.equal(plain, samplers.run(DDIM(), TABLE, denoise, x, steps=10))
    assert torch.equal(plain, samplers.run("ddim", TABLE, denoise, x, times=TABLE.schedule.times(10)))
    assert torch.equal(plain, samplers.run("ddim", TABLE, denoise, x, steps=lambda T: TABLE.schedule.times(10)))
    assert plain.dtype == x.dtype
    every = samplers.run("ddim", TABLE, denoise, x)
    assert torch.equal(every, samplers.run("ddim", TABLE, denoise, x, steps=1000))
    fixed = partial(seeded, generator=torch.Generator().manual_seed(0))
    again = partial(seeded, generator=torch.Generator().manual_seed(0))
    one, two = (samplers.run("ancestral", TABLE, denoise, x, steps=5, noise=noise) for noise in (fixed, again))
    assert torch.equal(one, two)


@pytest.mark.parametrize("spec", ["ddim", "heun", "dpmpp-2m", "unipc", "euler-ode", "ancestral"])
def test_run_stops_where_the_times_stop(spec: str) -> None:
    """Halfway and then to clean data is a way of its own; halfway alone has the noise of that level."""
    denoise, x = gaussian(MEAN, STD).denoise(TIME), start(TIME, 4000)
    half = samplers.run(spec, TIME, denoise, x, times=torch.linspace(1, 0.3, 60))
    alpha, sigma = TIME.schedule.alpha_sigma(torch.tensor(0.3))
    assert torch.allclose(half.std(0), ((alpha * STD) ** 2 + sigma**2).sqrt(), rtol=0.05)
    end = samplers.run(spec, TIME, denoise, half, times=torch.tensor([*torch.linspace(0.3, 0.001, 40), 0.0]))
    assert torch.allclose(end.std(0), STD, rtol=0.08)
    assert torch.allclose(end.mean(0), MEAN, atol=0.05)


def test_run_ends_a_process_that_stays_noisy_with_the_predicted_x0() -> None:
    process = GaussianDiffusion(VE())
    denoise, x = gaussian(MEAN, STD).denoise(process), start(process)
    plan = DDIM().plan(process, denoise, 5)
    assert isinstance(plan[-1][0], DenoiseToZero)
    assert isinstance(plan[0][0], DDIMStep)
    assert torch.equal(samplers.run("ddim", process, denoise, x, steps=5), finish(x, plan))


@pytest.mark.parametrize(("arguments", "message"), [
    ({"times": torch.tensor([0, 500])}, "strictly descending"),
    ({"times": torch.tensor([500, 500, 0])}, "strictly descending"),
    ({"times": torch.tensor([500])}, "strictly descending"),
    ({"times": torch.tensor([[500, 0]])}, "strictly descending"),
    ({"times": torch.tensor([1001, 0])}, "between 0, clean data, and 1000"),
    ({"times": torch.tensor([500, -1])}, "between 0, clean data, and 1000"),
    ({"times": torch.tensor([500, 0]), "steps": 3}, "either steps or times"),
    ({"steps": 0}, "between 1 and 1000"),
    ({"steps": 1001}, "between 1 and 1000"),
])  # fmt: skip
def test_what_run_refuses(arguments: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        samplers.run("ddim", TABLE, gaussian(MEAN, STD).denoise(TABLE), start(), **arguments)  # type: ignore[arg-type]


def test_the_linear_flow_at_time_1() -> None:
    """No signal is left there: the ODE is finite, the reverse SDE is not and says so."""
    process = GaussianDiffusion(LinearFlow())
    denoise, x = gaussian(MEAN, STD).denoise(process), start(process, 2000)
    for spec in ("euler-ode", "heun", "ddim"):
        found = samplers.run(spec, process, denoise, x, steps=50)
        assert torch.allclose(found.std(0), STD, rtol=0.1)
    with pytest.raises(ValueError, match="no signal is left"):
        samplers.run("euler-maruyama", process, denoise, x, steps=50)
    below = samplers.run("euler-maruyama", process, denoise, x, times=torch.linspace(0.98, 0.001, 200))
    assert torch.allclose(below.std(0), STD, rtol=0.15)


def test_levels_that_repeat_leave_the_picture_where_it_is() -> None:
    """DDIM's published quadratic grid stays at level 1 for some moves."""
    denoise, x = gaussian(MEAN, STD).denoise(TABLE), start()
    grid = partial(grids.ddim_quadratic, n=60)
    for spec in ("ddim", "heun", "dpmpp-2m", "dpmpp-3m", "unipc", "ab"):
        found = samplers.run(spec, TABLE, denoise, x, steps=grid)
        times = grid(1000).unique().flip(0)
        assert torch.allclose(found, samplers.run(spec, TABLE, denoise, x, times=times), atol=1e-6), spec


def test_evaluations_are_counted() -> None:
    assert samplers.evaluations(DDIM(), TABLE, 10) == 10
    assert samplers.evaluations(Heun(), TABLE, 10) == 19  # the move into clean data takes one
    assert samplers.evaluations(samplers.by_name("predictor-corrector"), TIME, 10) == 20
    assert samplers.evaluations(samplers.by_name("dpmpp-2m"), TABLE, 10) == 10
