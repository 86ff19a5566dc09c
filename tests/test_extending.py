"""A new sampler, schedule, parameterization, recipe, network, conditioning and space, each of at most 25 lines.

Each is defined here and goes the whole way (training, checkpoint, sampling, likelihood, evaluation, ONNX, the command
line) without a change in the package: a row in its table is all. CONTRIBUTING.md has a line for each.
"""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers, samplers
from sfumato.cli import main
from sfumato.conditioning import CONDITIONINGS, Conditioning, Unconditional
from sfumato.core import GaussianDiffusion, LinearFlow, Prediction
from sfumato.core.denoisers import Denoise, Denoiser
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.losses import per_image
from sfumato.core.sampling import NO_NOISE, Kernel, Past, Sampler, Step
from sfumato.core.times import UniformInterval
from sfumato.data import Images, open_source
from sfumato.evaluate import evaluate, from_function
from sfumato.likelihood import bound_of, ode_likelihood, runge_kutta
from sfumato.models import Model, load_model
from sfumato.networks import NETWORKS
from sfumato.networks.backbone import NOTHING, Backbone, Embedded
from sfumato.papers import ddpm
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import build_network, denoising_loss
from sfumato.papers.training import TrainConfig
from sfumato.samplers import Heun
from sfumato.spaces import SPACES, Pixels, Space
from sfumato.train.loop import train
from tests.samplers.bench import spread
from tests.samplers.test_order import order

# ---------------------------------------------------------------- a sampler


@dataclass(frozen=True)
class Midpoint(Sampler):
    """The midpoint rule for the probability flow (Runge 1895): second order at two evaluations a move."""

    share: float = 0.5
    """Where in the step the network is asked again."""
    order = 2
    evaluations = 2

    def step(self, process: GaussianDiffusion, denoise: Denoise) -> Kernel:
        def kernel(x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
            here, there = denoise(x, t), process.level(s, x)
            between = (t + self.share * (s - t)).to(t.dtype)
            if there.sigma == 0 or between == s:
                return Step(Gaussian(there.noise(here.x0, here.eps), NO_NOISE), here)
            then = denoise(process.level(between, x).noise(here.x0, here.eps), between)
            of_x0, of_eps = there.alpha - here.level.alpha, there.sigma - here.level.sigma
            return Step(Gaussian(x + of_x0 * then.x0 + of_eps * then.eps, NO_NOISE), here)

        return kernel


# ---------------------------------------------------------------- a schedule


def sine_betas(T: int) -> Tensor:
    """betas (T,) along the first quarter of a sine."""
    return 18 / T * torch.sin(math.pi / 2 * torch.arange(1, T + 1, dtype=torch.float64) / T)


# ---------------------------------------------------------------- a parameterization


def predict_difference(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Prediction:
    """The network returns u = eps - x0, the velocity of flow matching, on any schedule."""
    level = process.level(t, x)
    x0 = (x - level.sigma * output) / (level.alpha + level.sigma)
    return Prediction(x, level, x0 + output, x0)


# ---------------------------------------------------------------- a recipe


@dataclass(frozen=True)
class RectifiedFlow:
    """Rectified flow (Liu et al. 2023): straight paths, the velocity as the network's output, Heun's steps."""

    shape: tuple[int, ...] = (1, 8, 8)
    network: Backbone = NETWORKS["ddpm-unet"]()
    conditioning: Conditioning = Unconditional()
    space: Space = Pixels()

    def model(self) -> nn.Module:
        return build_network(self, self.shape[0])

    def build(self) -> Diffusion:
        process = GaussianDiffusion(LinearFlow())

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, predict_difference, lambda t: 999 * t, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            return per_image((prediction.eps - prediction.x0 - (eps - x0)) ** 2)

        loss = denoising_loss(self, process, denoise, criterion)
        return Diffusion(process, denoise, loss, UniformInterval(), process.prior, own=Heun(), sampler=Heun(), steps=10)


# ---------------------------------------------------------------- a network


@dataclass(frozen=True)
class Perceptron(Backbone):
    """Two layers over all pixels, the noise level and the class."""

    width: int = 16

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> nn.Module:
        return PerceptronNetwork(math.prod(shape), self.width, outputs, given.labels)


class PerceptronNetwork(nn.Module):
    def __init__(self, numbers: int, width: int, outputs: int, labels: int) -> None:
        super().__init__()
        self.first, self.time = nn.Linear(numbers, width), nn.Linear(1, width)
        self.label = nn.Embedding(max(labels, 1), width)
        self.last, self.outputs = nn.Linear(width, numbers), outputs

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        label = self.label(torch.zeros(len(x), dtype=torch.long, device=x.device) if y is None else y)
        hidden = torch.tanh(self.first(x.flatten(1).to(t)) + self.time(t[:, None] / 1000) + label)
        return self.last(hidden).reshape(len(x), self.outputs, *x.shape[2:]).to(x)


# ---------------------------------------------------------------- a conditioning


@dataclass(frozen=True)
class Brightness(Conditioning):
    """How bright a picture is, found in the picture itself: labels without labelled data."""

    classes: int = 2

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return replace(given, labels=self.classes)

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        share = (images.flatten(1).mean(1) + 1) / 2
        return {"y": (share * self.classes).long().clamp(max=self.classes - 1)}

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        if labels is None:
            raise ValueError("say how bright each picture is to be")
        return {"y": labels}


# ---------------------------------------------------------------- a space


@dataclass(frozen=True)
class Contrast(Space):
    """Images with more or less contrast, around grey."""

    gain: float = 0.5

    def encode(self, images: Tensor, noise: Noise | None = None) -> Tensor:
        return self.gain * images

    def decode(self, x: Tensor) -> Tensor:
        return x / self.gain


# ---------------------------------------------------------------- the whole way


EXTENSIONS: list[list[Any]] = [
    [Midpoint], [sine_betas], [predict_difference], [RectifiedFlow], [Perceptron, PerceptronNetwork], [Brightness],
    [Contrast],
]  # fmt: skip
NET = Perceptron()
RECIPES = {
    "network": DDPM,
    "schedule": partial(DDPM, betas="sine"),
    "parameterization": partial(DDPM, prediction="difference"),
    "recipe": RectifiedFlow,
    "conditioning": partial(DDPM, conditioning=Brightness()),
    "space": partial(DDPM, space=Contrast()),
}
"""What takes each new part."""


@pytest.fixture(autouse=True)
def _rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """One row in one table each."""
    for table, name, value in (
        (samplers.SAMPLERS, "midpoint", Midpoint), (ddpm.BETAS, "sine", sine_betas),
        (ddpm.PREDICTIONS, "difference", predict_difference), (papers.PAPERS, "rectified_flow", RectifiedFlow),
        (NETWORKS, "perceptron", Perceptron), (CONDITIONINGS, "brightness", Brightness), (SPACES, "contrast", Contrast),
    ):  # fmt: skip
        monkeypatch.setitem(table, name, value)  # type: ignore[call-overload]


@pytest.fixture(scope="module")
def digits() -> Images:
    return open_source("digits:test?limit=64")


@pytest.mark.parametrize("parts", EXTENSIONS, ids=lambda parts: parts[0].__name__)
def test_each_takes_at_most_25_lines(parts: list[Any]) -> None:
    assert sum(len(inspect.getsource(part).splitlines()) for part in parts) <= 25


@pytest.mark.parametrize("name", RECIPES)
def test_from_training_to_measuring(name: str, digits: Images, tmp_path: Path) -> None:
    recipe = RECIPES[name](shape=(1, 8, 8), network=NET)
    recipe = recipe if name == "recipe" else replace(recipe, steps=20)
    settings = TrainConfig(images=64, batch=16, validation_images=8, preview_images=0, checkpoint_every=0, threads=1)
    train(recipe, digits, settings, tmp_path / "run", config={"recipe": papers.to_json(recipe)}, quiet=True)
    model = load_model(tmp_path / "run")
    assert model.recipe == recipe
    pictures = model.sample(40, steps=4, sampler="midpoint", seed=1)
    assert pictures.shape == (40, 1, 8, 8)
    assert torch.equal(pictures[:2], model.sample(2, steps=4, sampler=Midpoint(), seed=1))

    model.save(tmp_path / "alone.safetensors")
    again = load_model(tmp_path / "alone.safetensors")
    assert torch.equal(again.sample(2, steps=4, seed=2), model.sample(2, steps=4, seed=2))

    result = evaluate(pictures, digits, from_function(lambda images: images.float().flatten(1)[:, ::8], "pixels"))
    assert all(math.isfinite(metric.value) for metric in result.metrics.values())
    likely(model, digits.take(torch.arange(4)))
    exported(model, tmp_path / "onnx")


def likely(model: Model, images: Images) -> None:
    """The likelihoods that apply: of the probability flow always, the bound where there is a decoder."""
    labels = torch.zeros(len(images), dtype=torch.long) if model.recipe.conditioning.classes else None
    labelled = replace(images, labels=labels)
    if model.diffusion.variance is not None and model.recipe.space.range == (-1, 1):
        assert math.isfinite(bound_of(model, labelled, steps=4).total)
    found = ode_likelihood(model, labelled, runge_kutta(4))
    assert math.isfinite(found.total)
    assert found.bits_per_dim is not None


def exported(model: Model, folder: Path) -> None:
    """As ONNX graphs, with the new sampler beside the usual one."""
    pytest.importorskip("onnxscript")
    from sfumato.convert.onnx import export

    chosen = {"midpoint": Midpoint(), "ddim": samplers.DDIM()}
    about = export(model.recipe, model.network, folder, classes=model.classes, chosen=chosen, steps=(3,))
    assert set(about["samplers"]) == set(chosen)


def test_from_training_to_sampling_by_the_command_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    run = str(tmp_path / "run")
    small = ["--train.images", "64", "--train.batch", "16", "--train.threads", "1", "--train.preview-images", "0"]
    new = [
        "--recipe.network", "perceptron?width=8", "--recipe.conditioning", "brightness?classes=3", "--recipe.space",
        "contrast?gain=0.25", "--recipe.betas", "sine", "--recipe.prediction", "difference",
    ]  # fmt: skip
    assert main(["train", "ddpm/digits", *new, *small, "--out", run]) == 0
    recipe = load_model(run).recipe
    assert recipe.network == Perceptron(8)
    assert recipe.conditioning == Brightness(3)
    assert recipe.space == Contrast(0.25)
    assert (recipe.betas, recipe.prediction) == ("sine", "difference")
    capsys.readouterr()
    pictures = ["-n", "2", "--steps", "4", "--out", str(tmp_path / "two")]
    assert main(["sample", run, "--sampler", "midpoint?share=0.4", "--classes", "2", *pictures]) == 0
    assert main(["sample", run, "--sampler", "middlepoint", *pictures]) == 2
    assert "did you mean midpoint" in capsys.readouterr().err

    row = replace(PRESETS["ddpm/digits"], recipe=RectifiedFlow(network=NET))
    monkeypatch.setitem(PRESETS, "rectified_flow/digits", row)
    flow = str(tmp_path / "flow")
    assert main(["train", "rectified_flow/digits", *small, "--out", flow]) == 0
    assert main(["sample", flow, "-n", "2", "--steps", "3", "--out", str(tmp_path / "straight")]) == 0
    assert load_model(flow).recipe == RectifiedFlow(network=NET)


@pytest.mark.parametrize("name", ["DDPM linear", "Improved DDPM cosine", "NCSNv2", "VP", "VE", "cosine", "flow"])
def test_a_new_sampler_in_the_matrix(name: str) -> None:
    """What CONTRIBUTING asks of a sampler is a row of tests/samplers/bench.py, from which this follows."""
    assert spread("midpoint", name) == pytest.approx(0, abs=0.1)


@pytest.mark.parametrize("name", ["VP", "VE", "sub-VP"])
def test_a_new_sampler_in_the_order_test(name: str) -> None:
    assert order("midpoint", name) == pytest.approx(Midpoint().convergence, abs=0.3)
