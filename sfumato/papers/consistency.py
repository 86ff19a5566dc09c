"""Consistency models: one or two evaluations a picture (Song et al. 2023), trained by consistency tuning, ECT.

Beside the PDFs: f is EDM's D, x itself without noise (Song et al. 2023, eq. 5); the loss compares f at a noise
t with f at a lower noise r on the same line x0 + t eps, t is log-normal and r = t (1 - n(t) / q^(k+1)), n(t) = 1 + 8
sigmoid(-t) (Geng et al. 2024, section 3); the norm is a pseudo-Huber's (Song & Dhariwal 2024). Since f is EDM's,
`sfumato train consistency/... --from` an EDM model takes all its weights.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.continuous import PowerVE
from sfumato.core.denoisers import Denoise, Denoiser, predict_f, unit_variance
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import LogNormal
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.papers.edm import PUBLISHED_DEVIATION
from sfumato.papers.recipe import (
    Shape,
    Sigma,
    augmented,
    build_network,
    channels_of,
    check_fields,
    encoded,
    training_noise,
)
from sfumato.samplers.consistency import LAST, Consistency, LogEven
from sfumato.spaces import Measured, Space

NEAREST = 24
"""Binary digits of a float32, in which the noises t and r must differ."""


@dataclass(frozen=True)
class ConsistencyModel:
    """A consistency model; the defaults are Geng et al.'s for CIFAR-10, with the q of their short runs."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = DDPMpp(multipliers=(2, 2, 2), dropout=0.2)
    """The backbone, F of EDM."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Measured()
    """What the model sees of an image; `measured` takes the deviation from the data set."""
    sigma_data: float | None = None
    """The deviation of the data; by default as the space has it."""
    sigma_min: Sigma = 0.002
    """The least noise, as in EDM."""
    sigma_max: Sigma = 80.0
    """The most, where sampling starts."""
    rho: Annotated[float, Range(0, 100, above=True)] = 7.0
    """As in EDM, whose times these are."""
    p_mean: Annotated[float, Range(-20, 20)] = -1.1
    """Mean of ln sigma in training, for a sigma_data of 0.5; for another it moves by the ratio's logarithm."""
    p_std: Annotated[float, Range(0, 20, above=True)] = 2.0
    """Deviation of ln sigma in training."""
    q: Annotated[float, Range(1, 1_000_000, above=True)] = 256.0
    """How near r is to t: r / t = 1 - n(t) / q^(stage + 1). Their long runs take 2 and double through the stages."""
    stage: Annotated[int, Range(0, 64)] = 0
    """k, which stays as it is during a run."""
    huber: Annotated[float, Range(0, 1000)] = 0.0
    """c of the norm, sqrt(|d|^2 + c^2) - c, times the root of the dimension; iCT's is 0.00054, 0 is the norm itself."""
    last: Sigma = LAST
    """The noise of the last of several steps, for a sigma_data of 0.5."""
    steps: Annotated[int, Range(1, 1000)] = 2
    """Steps of its sampler, of one evaluation each."""

    def __post_init__(self) -> None:
        check_fields(self)
        if not self.sigma_min < self.sigma_max:
            raise ValueError(f"sigma_min is below sigma_max, not {self.sigma_min:g} and {self.sigma_max:g}")
        if (self.stage + 1) * math.log2(self.q) > NEAREST:
            raise ValueError(f"q^(stage + 1) is at most 2^{NEAREST}, or r is no other number than t: lower q or stage")

    @property
    def deviation(self) -> float:
        """sigma_data, as it is used."""
        return self.space.deviation if self.sigma_data is None else self.sigma_data

    @property
    def scale(self) -> float:
        """By how much noises stated for a deviation of 0.5 are larger for this one."""
        return self.deviation / PUBLISHED_DEVIATION

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self))

    def earlier(self, sigma: Tensor) -> Tensor:
        """r, the lower noise that f at sigma learns from, in float64."""
        sigma = sigma.double()
        step = (1 + 8 * torch.sigmoid(-sigma / self.scale)) / self.q ** (self.stage + 1)
        return (sigma * (1 - step)).clamp(min=0)

    def build(self) -> Diffusion:
        if self.conditioning.feeds_back:
            raise ValueError("a consistency model is fed no predictions of its own")
        schedule = PowerVE(self.sigma_min, self.sigma_max, self.rho)
        process = GaussianDiffusion(schedule)
        parameterization, scale_in = predict_f(self.deviation), unit_variance(self.deviation)

        def condition(t: Tensor) -> Tensor:  # c_noise = ln(sigma) / 4
            return -schedule.log_snr(t) / 8

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, parameterization, condition, scale_in, inputs)

        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            images, known = augmented(self, network, images, given, noise)
            x0 = encoded(self, network, images, known, noise)
            eps = training_noise(self, x0, noise, known)
            f = denoise(network, self.conditioning.training(images, known, noise))
            sigma = schedule.alpha_sigma(t)[1]
            r = self.earlier(sigma)
            low = schedule.at(-r.clamp(min=1e-9).log())
            with torch.no_grad(), torch.random.fork_rng([x0.device] if x0.is_cuda else []):  # the same dropout for both
                below = f(process.level(low, x0).noise(x0, eps), low).x0
            clean = (r == 0).to(x0.device).reshape(-1, *(1,) * (x0.ndim - 1))
            error = f(process.level(t, x0).noise(x0, eps), t).x0 - torch.where(clean, x0, below)
            size, c = error[0].numel(), self.huber * math.sqrt(error[0].numel())
            norm = (error.flatten(1).square().sum(1) + max(c, 1e-6) ** 2).sqrt() - c
            return norm / ((sigma - r).to(norm) * math.sqrt(size))

        times = LogNormal(schedule, self.p_mean + math.log(self.scale), self.p_std)
        sampler = Consistency(grid=LogEven(self.last * self.scale))
        return Diffusion(
            process, denoise, loss, times, process.prior, own=sampler, sampler=sampler, steps=self.steps,
            own_steps=self.steps, averages=False,
        )  # fmt: skip
