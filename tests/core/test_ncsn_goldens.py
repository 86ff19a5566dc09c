"""NCSN and NCSNv2 against the recorded numbers of the official code: score matching and annealed Langevin dynamics.

Official levels are numbered from the noisiest, 0; ours from clean data, 0.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from sfumato.core import matching
from sfumato.core.denoisers import Prediction, predict_eps, predict_score
from sfumato.core.inpainting import Replacement
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import on_arc
from sfumato.core.sampling import DenoiseToZero, Move, finish, trajectory
from sfumato.core.schedules import from_sigmas
from sfumato.samplers import langevin
from tests.golden.song import Case, compare, load, sources
from tests.golden.song_data import exact, falling, toy

# ---------------------------------------------------------------- score matching


@pytest.mark.parametrize(("source", "name"), sources("dsm"))
def test_denoising_score_matching(source: str, name: str) -> None:
    case = load(source, name)
    recipe, x, noises = case.recipe, case.input("x"), case.noises()
    if "model" not in recipe:
        process = GaussianDiffusion(from_sigmas(torch.tensor([recipe["sigma"]], dtype=torch.float64)))
        t = torch.tensor(1)
        score = (lambda x: 0.5 * x.sin() + 0.02) if recipe["fn"] == "score" else matching.score_of(energy(case))
        power = 4.0 if recipe["fn"] == "energy" else 0.0
    else:
        process = GaussianDiffusion(falling(recipe["model"]))
        labels = torch.tensor(recipe["labels"]) if recipe["labels"] else noises.next()
        t, power = process.schedule.T - labels, recipe["anneal_power"]
        score = lambda x: toy(x, labels)  # noqa: E731
        if "labels" in recipe["outputs"]:
            compare(case, "labels", labels)
    eps = noises(x)
    x_t = process.level(t, x).noise(x, eps)
    prediction = predict_score(score(x_t), x_t, t, process)
    weight = matching.anneal_weight(prediction.level, power)
    loss = matching.denoising(prediction, eps, weight, matching.half_sum)
    compare(case, "loss", loss.mean())
    if "per_sample" in recipe["outputs"]:
        compare(case, "per_sample", loss)


def energy(case: Case) -> Callable[[Tensor], Tensor]:
    """The recording's energy."""
    A = case.input("A")
    B = A + A.T
    return lambda x: 0.1 * (x**4).sum(1) + 0.5 * ((x @ B) * x).sum(1) + (x[:, 0] * x[:, -1]).sin()


DIRECTIONS = {"gaussian": matching.gaussian, "radermacher": matching.rademacher, "sphere": matching.sphere}


@pytest.mark.parametrize(("source", "name"), sources("ssm"))
def test_sliced_score_matching(source: str, name: str) -> None:
    case = load(source, name)
    recipe, x, noises = case.recipe, case.input("x"), case.noises()
    if "labels" in recipe:
        labels = torch.tensor(recipe["labels"])
        process = GaussianDiffusion(falling(recipe["model"]))
        level = process.level(process.schedule.T - labels, x)
        scale = (1 + 0.1 * labels.float())[:, None, None, None]
        x_t = level.noise(x, noises(x))
        v = noises.next().reshape(recipe["n_particles"], *x.shape)
        loss = matching.annealed_sliced(
            lambda x: -(x + 0.3 * (2 * x).sin() + 0.1 * x.roll(1, -1) ** 2) / scale, x_t, level, v
        )
        compare(case, "loss", loss.mean())
        return
    z = noises.next().reshape(recipe.get("n_particles", 1), *x.shape)
    reduced = recipe["fn"].endswith("_vr") or recipe["fn"].startswith("partial")
    if "noise_type" in recipe:
        v = DIRECTIONS[recipe["noise_type"]](z)
    else:
        v = matching.gaussian(z) if reduced else matching.unit(z)
    score = matching.score_of(energy(case))
    square, curvature, s, slopes = matching.sliced_terms(score, x, v, reduced)
    assert torch.equal(matching.sliced(score, x, v, reduced), (square + curvature).mean(0))
    ours = {"loss": (square + curvature).mean(), "loss1": square.mean(), "loss2": curvature.mean()}
    ours |= {"grad1": s, "grad2": slopes[0]}
    for output in recipe["outputs"]:
        compare(case, output, ours[output])


# ---------------------------------------------------------------- Langevin dynamics


@pytest.mark.parametrize(("source", "name"), sources("sigmas"))
def test_levels_and_step_sizes(source: str, name: str) -> None:
    case = load(source, name)
    for table, about in case.recipe["tables"].items():
        schedule = falling(about)
        process = GaussianDiffusion(schedule)
        levels = torch.arange(schedule.T, 0, -1)
        sigmas = schedule.alpha_sigma(levels)[1]
        for output in ("sigmas", "sigmas_float64", "sigmas_train_float32"):
            if f"{table}/{output}" in case.recipe["outputs"]:
                compare(case, f"{table}/{output}", sigmas)
        if "step_lr" in about:
            x = torch.zeros(schedule.T, 1, dtype=torch.float64)
            prediction = predict_eps(x, x, levels, process)
            compare(
                case,
                f"{table}/step_sizes",
                langevin.annealed(about["step_lr"], about["sigma_end"])(prediction, levels)[:, 0],
            )


def annealing(case: Case, seen: list[Tensor]) -> tuple[GaussianDiffusion, langevin.LangevinStep]:
    """Annealed Langevin dynamics of a case on its analytic data; keeps what the network is given."""
    process = GaussianDiffusion(falling(case.recipe["model"]))
    inner = exact(case.recipe["data"], process)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        seen.append(x)
        return inner(x, t)

    return process, langevin.LangevinStep(
        denoise, langevin.annealed(case.recipe["step_lr"], case.recipe["model"]["sigma_end"])
    )


def stays(kernel: langevin.LangevinStep, levels: Tensor, n: int) -> list[Move]:
    """n steps at each level."""
    return [(kernel, t, t) for t in levels for _ in range(n)]


@pytest.mark.parametrize(("source", "name"), sources("ald"))
def test_annealed_langevin_dynamics(source: str, name: str) -> None:
    case = load(source, name)
    recipe, x, seen = case.recipe, case.input("x"), []
    process, kernel = annealing(case, seen)
    down = process.schedule.times()[:-1]
    moves = stays(kernel, down, recipe["n_steps_each"])
    if recipe.get("denoise"):
        moves = [*moves, (DenoiseToZero(kernel.denoise), down[-1], torch.tensor(0))]
    states = [x for x, _ in trajectory(x, moves, case.noises())]
    if name.startswith("ncsn/"):  # it shows each state before its update, clamped
        states = [s.clamp(0, 1) for s in [x, *states[:-1]]]
    elif recipe["final_only"]:
        states = states[-1:]
    compare(case, "images", torch.stack(states))
    if "model_inputs" in recipe["outputs"]:
        compare(case, "model_inputs", torch.stack(seen))


@pytest.mark.parametrize(("source", "name"), sources("langevin"))
def test_plain_langevin_dynamics(source: str, name: str) -> None:
    case = load(source, name)
    recipe, x, seen = case.recipe, case.input("x"), []
    _, annealed = annealing(case, seen)
    kernel = langevin.LangevinStep(annealed.denoise, langevin.constant(recipe["step_lr"]))
    last = torch.tensor(1)
    states = [x for x, _ in trajectory(x, [(kernel, last, last)] * recipe["n_steps"], case.noises())]
    compare(case, "images", torch.stack([s.clamp(0, 1) for s in [x, *states[:-1]]]))
    compare(case, "model_inputs", torch.stack(seen))


@pytest.mark.parametrize(("source", "name"), sources("inpaint", "ald_inpaint"))
def test_inpainting_by_langevin_dynamics(source: str, name: str) -> None:
    """What is known is noised before each step; by NCSN once a level, by NCSNv2 each time."""
    case = load(source, name)
    recipe, first, seen = case.recipe, case.input("x"), []
    process, kernel = annealing(case, seen)
    x = first.flatten(0, 1)
    refer = case.input("refer").repeat_interleave(first.shape[1], 0)
    known = torch.arange(x.shape[-1]) < x.shape[-1] // 2
    replacement = Replacement(process, refer, known)
    noises, once, shown_states = case.noises(), name.startswith("ncsn/"), []

    def half(z: Tensor) -> Callable[[Tensor], Tensor]:
        return lambda x: torch.cat([z, torch.zeros_like(z)], dim=-1)

    for t in process.schedule.times()[:-1]:
        for step in range(recipe["n_steps_each"]):
            if step == 0 or not once:
                z = noises.next()
            x = replacement(x, t, t).to.sample(half(z))
            shown_states.append(x)
            x = kernel(x, t, t).to.sample(noises)
    if once:
        images = torch.stack(shown_states)[recipe["keep_images"]].clamp(0, 1)
        compare(case, "last_model_input", seen[-1])
    else:
        # on a CPU the official state is kept without a copy, and its known half is then overwritten
        images = torch.stack(shown_states)
        compare(case, "model_inputs", torch.stack(seen))
    compare(case, "images", images)


@pytest.mark.parametrize(("source", "name"), sources("ald_interp"))
def test_interpolation_shares_its_noise(source: str, name: str) -> None:
    case = load(source, name)
    recipe, x, noises = case.recipe, case.input("x"), case.noises()
    n = recipe["n_interpolations"]
    process, kernel = annealing(case, [])
    angles = torch.linspace(0, math.pi / 2, n).repeat(len(x))[:, None, None, None]
    x = x.repeat_interleave(n, 0)

    def drawn(x: Tensor) -> Tensor:
        return noises.next().repeat_interleave(n, 0)

    arc = on_arc(drawn, drawn, angles)
    down = process.schedule.times()[:-1]
    compare(case, "final", finish(x, stays(kernel, down, recipe["n_steps_each"]), arc))
