"""NCSNv2: Improved techniques for training score-based generative models (Song & Ermon 2020).

Beside the PDF: the techniques are `core.techniques`, and `fitted` applies them to a data set; the defaults are those of
section 6 and appendix B for CIFAR-10, for images 1 wide as in `ncsn`.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Annotated, Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.betas import geometric_sigmas
from sfumato.core.denoisers import Denoise, Denoiser, Prediction, negated, predict_eps
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.matching import anneal_weight, denoising, half_sum
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, from_sigmas
from sfumato.core.techniques import best_step_size, largest_distance, number_of_levels, overlap, variance_ratio
from sfumato.core.times import UniformLevels
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.refinenet import RefineNetV2
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.ncsn import as_images, start_from
from sfumato.papers.recipe import (
    Levels,
    Moves,
    Rate,
    Shape,
    Sigma,
    build_network,
    channels_of,
    check_fields,
    denoising_loss,
)
from sfumato.samplers import AnnealedLangevin
from sfumato.spaces import Space, UnitPixels


@dataclass(frozen=True)
class NCSNv2:
    """Song & Ermon's second model; the defaults are the paper's for CIFAR-10 (appendix B)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = RefineNetV2()
    """The backbone; by default the paper's RefineNet, which is given no level. Deeper for larger images."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides; the paper's is given nothing."""
    space: Space = UnitPixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 232
    """L, the number of noise levels (technique 2)."""
    first_sigma: Sigma = 50.0
    """The largest noise (technique 1)."""
    last_sigma: Sigma = 0.01
    """The smallest noise; those between form a geometric sequence."""
    anneal_power: Annotated[float, Range(-16, 16)] = 2.0
    """A level counts sigma to this power in the loss."""
    step_size: Rate = 6.2e-6
    """The epsilon of Langevin dynamics (technique 4)."""
    moves_per_level: Moves = 5
    """T, Langevin steps at each level."""
    denoise: bool = True
    """Take out the noise of the last level in the end, by one more evaluation."""
    start: Literal["gaussian", "uniform"] = "gaussian"
    """Noise to start from: that of the noisiest level, for every sampler; or the paper's, for Langevin steps alone."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not 0 < self.last_sigma < self.first_sigma:
            raise ValueError("noise falls from first_sigma to last_sigma, both above 0")

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self), self.steps)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(from_sigmas(geometric_sigmas(self.steps, self.last_sigma, self.first_sigma)))
        scale = as_images(self)

        def scale_in(level: Level) -> float:
            return scale

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            # the network F is given no level; its score is F / sigma (technique 3), so F is minus the noise
            return Denoiser(network, process, negated(predict_eps), scale_in=scale_in, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            return denoising(prediction, eps, anneal_weight(prediction.level, self.anneal_power), half_sum)

        own = AnnealedLangevin(self.step_size, self.last_sigma, self.moves_per_level, self.denoise)
        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), UniformLevels(self.steps),
            start_from(self.start, process, self.space), own=own, sampler=own,
        )  # fmt: skip


# ---------------------------------------------------------------- from a data set


def fitted(recipe: NCSNv2, images: Tensor) -> NCSNv2:
    """NCSNv2 for a data set in [0, 1]: sigma_1, levels and step size by techniques 1, 2 and 4.

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
        "3  the network is given no level, and its output is divided by sigma",
        f"4  step size {recipe.step_size:.3g} with {T} steps a level: variance ratio {ratio:.4f}",
        "5  moving average of the weights: 0.999",
    ])  # fmt: skip
