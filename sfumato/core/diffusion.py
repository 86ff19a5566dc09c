"""A diffusion model but for its weights: what a recipe builds once, and training, sampling and evaluation ask.

Capabilities are attributes: pictures where there is a `sampler`, a variational bound where there is a `variance`, K of
2015 where there is a `lower_bound`, clipping where there is a `clip`; nobody asks which paper it is.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

import torch
from torch import Tensor, nn

from sfumato.core.denoisers import Denoise
from sfumato.core.distributions import Distribution, Noise
from sfumato.core.guidance import Classify, clipped
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Sampler
from sfumato.core.schedules import Steps
from sfumato.core.times import TrainingTimes
from sfumato.core.variances import ReverseVariance

Inputs = Mapping[str, Tensor]
"""What a network is given besides x and its noise level, by name."""


class Loss(Protocol):
    """The training loss of each image, (B,)."""

    def __call__(
        self, network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
    ) -> Tensor:
        """images (B, C, ...) in [-1, 1]; t (B,) on the host; given: labels y (B,), a picture low_res, ..."""
        ...


@dataclass(frozen=True)
class Diffusion:
    """A diffusion model but for its weights.

    Attributes:
        process: the forward process; ValueError from `gaussian` where it is none of Gaussians on a fixed schedule.
        denoise: (network, inputs) -> the denoiser, neither clipped nor guided, in the units of the space.
        loss: the training loss.
        times: which times to train on.
        prior: (shape, device) -> where sampling starts, in the units of the space.
        own: the paper's own sampler.
        sampler, steps: what is used where nothing is asked for.
        own_steps: the number of steps of the paper's own sampler, and of any other that is asked for by name alone.
        variance: of the steps of the ancestral chain, where that has a decoder and so a variational bound.
        clip: the range of clean data inside which x0 is held while sampling; None where it is not.
        lower_bound: K of Sohl-Dickstein et al. 2015, where the model has it.
        labelled: whether it cannot be trained without labels.
        averages: whether x0 is the mean of clean data given x_t; a model of few steps has the end of one path instead,
            which its own sampler alone fits.
        distilled: the steps of DDIM that it was distilled into; None where it was not.
        classify, reconstruct: always None: it neither tells classes nor reconstructs images.
    """

    process: GaussianDiffusion | None
    denoise: Callable[[nn.Module, Inputs], Denoise]
    loss: Loss
    times: TrainingTimes
    prior: Callable[..., Distribution]
    own: Sampler
    sampler: Sampler
    steps: Steps = None
    own_steps: Steps = None
    variance: ReverseVariance | None = None
    clip: tuple[float, float] | None = None
    lower_bound: Callable[..., Any] | None = None
    averages: bool = True
    distilled: int | None = None
    classify: None = None
    reconstruct: None = None
    labelled: ClassVar[bool] = False

    def evaluate(self, network: nn.Module, x: Tensor, t: Tensor, inputs: Inputs) -> Any:
        """One evaluation of the network at noisy x (B, C, ...) and times t (B,)."""
        return self.denoise(network, inputs)(x, t)

    @property
    def gaussian(self) -> GaussianDiffusion:
        """The forward process. ValueError for bits and for learned schedules, which only their own sampler fits."""
        if self.process is None:
            raise ValueError(
                "this model of 2015 has bits or learned noise levels; it is sampled by its own (ancestral) steps alone"
            )
        return self.process

    def usual(self, chosen: Sampler) -> Steps:
        """The number of steps of a sampler where none is asked for."""
        return self.steps if chosen == self.sampler else self.own_steps

    def clipped(self, denoise: Denoise) -> Denoise:
        """The denoiser with x0 held inside the range of the data, where the model does so."""
        return denoise if self.clip is None else clipped(denoise, *self.clip)


@dataclass(frozen=True)
class Classification:
    """A classifier of noisy images but for its weights; it is trained like a diffusion model and guides one.

    Attributes:
        process: the forward process; the same as in the model that it guides.
        classify: network -> (x_t, t) -> logits (B, classes).
        loss, times: as in `Diffusion`.
        sampler, distilled, reconstruct, lower_bound: always None: it makes no pictures.
        labelled: it cannot be trained without labels.
    """

    process: GaussianDiffusion
    classify: Callable[[nn.Module], Classify]
    loss: Loss
    times: TrainingTimes
    sampler: None = None
    distilled: None = None
    reconstruct: None = None
    lower_bound: None = None
    labelled: ClassVar[bool] = True

    def evaluate(self, network: nn.Module, x: Tensor, t: Tensor, inputs: Inputs) -> Any:
        """One evaluation of the network at noisy x (B, C, ...) and times t (B,)."""
        return self.classify(network)(x, t)


@dataclass(frozen=True)
class Autoencoding:
    """An autoencoder but for its weights: the first stage of latent diffusion (Rombach et al. 2022, section 3.1).

    Attributes:
        reconstruct: network -> images (B, C, H, W) in [-1, 1] -> what they become on the way through the latents.
        loss, times: as in `Diffusion`, without noise levels.
        process, sampler, distilled, classify, lower_bound: always None: it knows no noise and makes no pictures.
    """

    reconstruct: Callable[[nn.Module], Callable[[Tensor], Tensor]]
    loss: Loss
    times: TrainingTimes
    process: None = None
    sampler: None = None
    distilled: None = None
    classify: None = None
    lower_bound: None = None
    labelled: ClassVar[bool] = False

    def evaluate(self, network: nn.Module, x: Tensor, t: Tensor, inputs: Inputs) -> Any:
        """One evaluation of the network at images x (B, C, H, W)."""
        return self.reconstruct(network)(x)


Built = Diffusion | Classification | Autoencoding
"""What a recipe builds."""
