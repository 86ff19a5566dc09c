"""NCSN: Generative modeling by estimating gradients of the data distribution (Song & Ermon 2019).

Beside the PDF: the noise levels are section 4.1, the loss is eq. 5 and 6, sampling is algorithm 1
(`samplers.AnnealedLangevin`); the network and the numbers are those of section 5 and appendix A, for images 1 wide
(`spaces.UnitPixels`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.betas import geometric_sigmas
from sfumato.core.denoisers import Denoise, Denoiser, Prediction, predict_score
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.distributions import Distribution, Uniform
from sfumato.core.matching import anneal_weight, denoising, half_sum
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, from_sigmas
from sfumato.core.times import UniformLevels
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.refinenet import RefineNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import (
    Levels,
    Moves,
    Rate,
    Shape,
    Sigma,
    Trainable,
    build_network,
    channels_of,
    check_fields,
    denoising_loss,
)
from sfumato.samplers import AnnealedLangevin
from sfumato.spaces import Space, UnitPixels


def as_images(recipe: Trainable) -> float:
    """What x is multiplied with before a score network sees it: networks see images 2 wide in any space with bounds,
    and latents as they are."""
    low, high = recipe.space.bounds or (-1.0, 1.0)
    return 2 / (high - low)


def start_from(word: str, process: GaussianDiffusion, space: Space) -> Callable[..., Distribution]:
    """Where sampling starts: the noise of the noisiest level, or uniform over the range of the images."""

    def uniform(shape: tuple[int, ...], device: torch.device | str = "cpu") -> Distribution:
        return Uniform(shape, *space.range, device)

    if word == "uniform" and space.bounds is None:
        raise ValueError("sampling cannot start uniformly in a space without bounds: --recipe.start gaussian")
    return {"gaussian": process.prior, "uniform": uniform}[word]


@dataclass(frozen=True)
class NCSN:
    """Song & Ermon's model; the defaults are the paper's for CIFAR-10 (section 5 and appendix A)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = RefineNet()
    """The backbone; by default the paper's RefineNet, which is given the number of the level."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides; the paper's is given nothing."""
    space: Space = UnitPixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 10
    """L, the number of noise levels (section 5)."""
    first_sigma: Sigma = 1.0
    """The largest noise."""
    last_sigma: Sigma = 0.01
    """The smallest noise; those between form a geometric sequence (section 4.1)."""
    anneal_power: Annotated[float, Range(-16, 16)] = 2.0
    """A level counts sigma to this power in the loss; 2 makes all count about alike (section 4.2)."""
    step_size: Rate = 2e-5
    """The epsilon of algorithm 1, as in the authors' code, which moves twice as far with it."""
    moves_per_level: Moves = 100
    """T, Langevin steps at each level (section 5)."""
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

        def from_the_noisiest(t: Tensor) -> Tensor:
            return self.steps - t

        def scale_in(level: Level) -> float:
            return scale

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, predict_score, from_the_noisiest, scale_in, inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            weight = anneal_weight(prediction.level, self.anneal_power)
            return denoising(prediction, eps, weight, half_sum)  # eq. 5 and 6

        own = AnnealedLangevin(self.step_size, self.last_sigma, self.moves_per_level, denoise=False)
        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), UniformLevels(self.steps),
            start_from(self.start, process, self.space), own=own, sampler=own,
        )  # fmt: skip
