"""DDPM with two objectives at once: a network that returns noise, clean data and how to weigh them at every pixel.

The weighted objective of denoising-diffusion-pytorch (Wang, lucidrains); no paper has it. The levels and the ancestral
steps are Ho et al.'s (2020), x0 is the mean of both predictions by a softmax over two further channels.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.betas import sigmoid_signal_betas
from sfumato.core.denoisers import Denoise, Denoiser, Prediction, predict_x0
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import UniformLevels
from sfumato.core.variances import fixed_small
from sfumato.fields import Length, Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.unet import HoUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.ddpm import BETAS, index
from sfumato.papers.recipe import Levels, Shape, build_network, channels_of, check_fields, denoising_loss, levels_of
from sfumato.samplers import FAST, FAST_STEPS, Ancestral
from sfumato.spaces import Pixels, Space

Weight = Annotated[float, Range(0, 1000)]
BOUND = 2.0
"""In training the clean data that the noise implies is held inside [-2, 2]."""


@dataclass(frozen=True)
class Mixed(Prediction):
    """A prediction with what it is made of: noise and clean data as predicted, and the share of the former's x0."""

    noise: Tensor | None = None
    data: Tensor | None = None
    share: Tensor | None = None


def predict_both(output: Tensor, x: Tensor, t: Tensor, process: GaussianDiffusion) -> Mixed:
    """(B, 2 C + 2, ...): the noise, clean data, and two numbers whose softmax weighs the x0 of each."""
    channels = x.shape[1]
    if output.shape[1] != 2 * channels + 2:
        raise ValueError(f"noise, data and weights are {2 * channels + 2} channels, not {output.shape[1]}")
    noise, data, weights = output.split((channels, channels, 2), dim=1)
    share = weights.softmax(dim=1)[:, :1]
    found = predict_x0(share * process.level(t, x).x0(x, noise) + (1 - share) * data, x, t, process)
    return Mixed(found.x, found.level, found.eps, found.x0, None, noise, data, share)


@dataclass(frozen=True)
class MixedDDPM:
    """DDPM whose network returns noise, clean data and their weights; the defaults are the package's."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = HoUNet()
    """The backbone; by default Ho et al.'s U-Net."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Pixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 1000
    """T, the number of noise levels."""
    betas: str = "sigmoid-signal"
    """The noise schedule, a word of recipe ddpm's."""
    sigmoid: Annotated[tuple[float, ...], Length(3, 3)] = (-3.0, 3.0, 1.0)
    """Start, end and temperature of sigmoid-signal (Jabri et al. 2022, algorithm 5)."""
    noise_weight: Weight = 0.1
    """Of the squared error in the noise, beside that in the mixed x0."""
    data_weight: Weight = 0.1
    """Of the squared error in clean data as predicted."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""

    def __post_init__(self) -> None:
        check_fields(self, betas=BETAS)
        self._betas()

    def model(self) -> nn.Module:
        return build_network(self, 2 * channels_of(self) + 2, self.steps)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(levels_of(self._betas(), (1.0,)))

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, predict_both, index, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            assert isinstance(prediction, Mixed)
            assert prediction.noise is not None
            assert prediction.data is not None
            assert prediction.share is not None
            implied = prediction.level.x0(prediction.x, prediction.noise).clamp(-BOUND, BOUND)
            mixed = torch.lerp(prediction.data, implied, prediction.share)
            parts = (
                (1.0, mixed, x0),
                (self.data_weight, prediction.data, x0),
                (self.noise_weight, prediction.noise, eps),
            )
            return torch.stack([weight * per_image((found - true) ** 2) for weight, found, true in parts]).sum(0)

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), UniformLevels(self.steps),
            process.prior, own=Ancestral(), sampler=FAST, steps=FAST_STEPS, own_steps=50, variance=fixed_small,
            clip=self.space.range if self.clip else None,
        )  # fmt: skip

    def _betas(self) -> Tensor:
        """betas (T,)."""
        table = BETAS[self.betas]
        return table(self.steps, *self.sigmoid) if table is sigmoid_signal_betas else table(self.steps)
