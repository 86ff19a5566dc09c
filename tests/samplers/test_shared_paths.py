"""`?noise=brownian`: what is sampled in n and in 2n steps follows one path, and each image's path is its own."""

from __future__ import annotations

from functools import cache

import pytest
import torch
from torch import Tensor

from sfumato import samplers
from sfumato.core import VP, GaussianDiffusion, LinearFlow, from_betas
from sfumato.core.betas import linear_betas
from sfumato.core.exact import gaussian
from sfumato.core.randomness import ImageNoise
from sfumato.models import load_model
from sfumato.samplers.grids import OnGrid
from tests.samplers.bench import SAMPLERS

MEAN, STD = torch.full((500,), 0.4, dtype=torch.float64), torch.full((500,), 0.5, dtype=torch.float64)
PROCESSES = {name: GaussianDiffusion(schedule) for name, schedule in
             {"VP": VP(), "flow": LinearFlow(), "levels": from_betas(linear_betas(4000))}.items()}  # fmt: skip
GOES_UP = ("churn", "restart", "predictor-corrector")
DRAW = ("eta=", "ancestral", "sde", "sa-solver", "reverse-diffusion", "maruyama", "sit")
NO_OPTION = ("adaptive", "annealed-langevin")


@cache
def ends(spec: str, process: str, steps: int, n: int = 4, seed: int = 0) -> Tensor:
    """Where n images of 500 numbers of Gaussian data end."""
    way, x = PROCESSES[process], torch.zeros(n, 500, dtype=torch.float64)
    start, noise = ImageNoise(2, range(n))(x), ImageNoise(seed, range(n))
    return samplers.run(spec, way, gaussian(MEAN, STD).denoise(way), start, steps=steps, noise=noise)


def distance(spec: str, process: str, n: int) -> float:
    """The root mean square between n and 2n steps."""
    return float((ends(spec, process, n) - ends(spec, process, 2 * n)).square().mean().sqrt())


@pytest.mark.parametrize("process", PROCESSES)
@pytest.mark.parametrize(
    "spec", ["sde-dpmpp-2m", "sde-dpmpp-2m?eta=0.5", "ddim?eta=1", "ancestral", "sa-solver?order=1&corrector=1"]
)
def test_with_twice_the_steps_it_is_nearly_the_same_picture(spec: str, process: str) -> None:
    mark = "&" if "?" in spec else "?"
    own, shared = f"{spec}{mark}grid=log-snr", f"{spec}{mark}grid=log-snr&noise=brownian"
    near, far = distance(shared, process, 16), distance(shared, process, 64)
    assert far < 0.4 * near, (near, far)
    assert far < 0.1
    assert distance(own, process, 64) > 0.6 * distance(own, process, 16)
    assert float(ends(shared, process, 128).std()) == pytest.approx(0.5, rel=0.06)


@pytest.mark.parametrize("spec", SAMPLERS)
def test_every_sampler_takes_it_or_refuses_it_in_one_line(spec: str) -> None:
    written, way = f"{spec}{'&' if '?' in spec else '?'}noise=brownian", PROCESSES["VP"]
    if any(name in spec for name in (*GOES_UP, *NO_OPTION)):
        with pytest.raises(ValueError, match=r"moves all go down|has no option 'noise'") as error:
            samplers.by_name(written).plan(way, gaussian(MEAN, STD).denoise(way), 8)
        assert "\n" not in str(error.value)
        return
    assert samplers.by_name(samplers.name(samplers.by_name(written))) == samplers.by_name(written)
    sampler, draws = samplers.by_name(spec), any(word in spec for word in DRAW)
    assert isinstance(sampler, OnGrid)
    assert sampler.draws == (draws and not any(word in spec for word in ("ode=true", "tau=0")))
    one = ends(spec, "VP", 8)
    if sampler.draws:
        shared = ends(written, "VP", 8)
        assert bool(shared.isfinite().all())
        assert not torch.equal(shared, one)
        return
    assert torch.equal(one, ends(spec, "VP", 8, seed=1))  # so that the option would change nothing
    with pytest.raises(ValueError, match="draws no noise, so it has none to be brownian"):
        ends(written, "VP", 8)


def test_evaluations_are_counted_without_noise_of_images() -> None:
    assert samplers.evaluations(samplers.by_name("sde-dpmpp-2m?noise=brownian"), PROCESSES["VP"], 7) == 7


def test_pictures_of_a_model_do_not_depend_on_the_batch() -> None:
    model = load_model("ddpm/fashion")
    sampler = "sde-dpmpp-2m?grid=karras&noise=brownian"
    one, two = (model.sample(3, steps=3, sampler=sampler, batch=batch, precision="float32") for batch in (3, 1))
    assert int((one.int() - two.int()).abs().max()) <= 1
    other = model.sample(3, steps=3, sampler="sde-dpmpp-2m?grid=karras", precision="float32")
    assert not torch.equal(one, other)
