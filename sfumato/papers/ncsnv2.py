"""NCSNv2: Improved techniques for training score-based generative models (Song & Ermon 2020).

Beside the PDF: the techniques are `core.techniques`, and `fitted` applies them to a data set; the defaults are those of
section 6 and appendix B for CIFAR-10. Noise is meant for images in [0, 1], as in `ncsn`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import matching, times
from sfumato.core.denoisers import Denoise, Prediction, predict_eps
from sfumato.core.distributions import Distribution, Noise
from sfumato.core.kernels import Clean
from sfumato.core.langevin import Langevin, Uniform, annealed
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move
from sfumato.core.schedules import from_sigmas, geometric_sigmas
from sfumato.core.techniques import best_step_size, largest_distance, number_of_levels, overlap, variance_ratio
from sfumato.core.times import Steps
from sfumato.networks import refinenet
from sfumato.papers.ncsn import UNIT, levels_and_moves, staying


@dataclass(frozen=True)
class NCSNv2:
    """Song & Ermon's second model; the defaults are the paper's for CIFAR-10 (appendix B)."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Always 0: the network is told no labels."""
    steps: int = 232
    """L, the number of noise levels (technique 2)."""
    first_sigma: float = 50.0
    """The largest noise, for images in [0, 1] (technique 1)."""
    last_sigma: float = 0.01
    """The smallest noise, for images in [0, 1]; those between form a geometric sequence."""
    anneal_power: float = 2.0
    """A level counts sigma to this power in the loss."""
    step_size: float = 6.2e-6
    """The epsilon of Langevin dynamics, for images in [0, 1] (technique 4)."""
    moves_per_level: int = 5
    """T, Langevin steps at each level."""
    denoise: bool = True
    """Take out the noise of the last level in the end, by one more evaluation."""
    depth: int = 4
    """Stages of the RefineNet: 4 for images up to 64x64, 5 for 96x96 and 128x128, 6 for 256x256."""
    start: Literal["gaussian", "uniform"] = "gaussian"
    """Noise to start from: that of the noisiest level, for every sampler; or the paper's, for Langevin steps alone."""
    channels: int = 128
    """Width of the RefineNet."""

    def __post_init__(self) -> None:
        if self.classes:
            raise ValueError("NCSNv2's network is told no labels: set classes to 0")
        if self.depth not in NETWORKS:
            raise ValueError(f"depth is one of {', '.join(map(str, NETWORKS))}, not {self.depth}")
        if not 0 < self.last_sigma < self.first_sigma:
            raise ValueError("noise falls from first_sigma to last_sigma, both above 0")

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(from_sigmas(UNIT * geometric_sigmas(self.steps, self.last_sigma, self.first_sigma)))

    def model(self) -> nn.Module:
        return NETWORKS[self.depth](in_channels=self.shape[0], channels=self.channels)

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, level = noise(x0), self.process().level(t, x0)
        prediction = self.denoiser(model)(level.noise(x0, eps), t)
        weight = level.sigma**2 * (level.sigma / UNIT) ** (self.anneal_power - 2)
        return matching.denoising(prediction, eps, weight, matching.half_sum)

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        """The network F knows no level; its score is F / sigma (technique 3), so F is minus the noise."""
        if scale != 1:
            raise ValueError("classifier-free guidance needs a model that was trained with labels and label dropout")
        process = self.process()

        def inner(x: Tensor, t: Tensor) -> Prediction:
            return predict_eps(-model(x).to(x.dtype), x, t, process)

        return inner

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Distribution:
        return Uniform(shape, device=device) if self.start == "uniform" else self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        kernel = Langevin(denoise, annealed(UNIT**2 * self.step_size, UNIT * self.last_sigma))
        spare = 1 if self.denoise and isinstance(steps, int) and steps > 1 else 0
        wanted = steps - spare if isinstance(steps, int) else steps
        moves = staying(kernel, *levels_and_moves(self.steps, self.moves_per_level, wanted))
        last = torch.tensor(1)
        return [*moves, (Clean(denoise), last, torch.tensor(0))] if self.denoise else moves


NETWORKS = {4: refinenet.ncsnv2, 5: refinenet.ncsnv2_deeper, 6: refinenet.ncsnv2_deepest}


# ---------------------------------------------------------------- from a data set


def fitted(recipe: NCSNv2, images: Tensor) -> NCSNv2:
    """The recipe with the sigma_1, levels and step size that techniques 1, 2 and 4 find for images in [0, 1].

    Args:
        images: (N, C, H, W), the training set.
    """
    D, first = images[0].numel(), largest_distance(images)
    levels = number_of_levels(first, recipe.last_sigma, D)
    gamma = (first / recipe.last_sigma) ** (1 / (levels - 1))
    size = best_step_size(recipe.last_sigma, gamma, recipe.moves_per_level)
    channels, height, width = images.shape[1:]
    return replace(recipe, shape=(channels, height, width), first_sigma=first, steps=levels, step_size=size)


def explained(recipe: NCSNv2) -> str:
    """The five techniques with a recipe's numbers, a line each: what `fitted` found, in words."""
    D, T = math.prod(recipe.shape), recipe.moves_per_level
    gamma = (recipe.first_sigma / recipe.last_sigma) ** (1 / (recipe.steps - 1))
    ratio = variance_ratio(recipe.step_size / recipe.last_sigma**2, gamma, T)
    return "\n".join([
        f"1  sigma_1 = {recipe.first_sigma:.4g}, the largest distance between two images in [0, 1]^{D}",
        f"2  {recipe.steps} levels down to {recipe.last_sigma:g}: ratio {gamma:.5f}, overlap {overlap(gamma, D):.3f}",
        "3  the network is told no level, and its output is divided by sigma",
        f"4  step size {recipe.step_size:.3g} with {T} steps a level: variance ratio {ratio:.4f}",
        "5  moving average of the weights: 0.999",
    ])  # fmt: skip
