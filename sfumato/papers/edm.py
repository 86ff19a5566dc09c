"""EDM: Elucidating the design space of diffusion-based generative models (Karras, Aittala, Aila & Laine 2022).

Beside the PDF: table 1 has every choice below; the preconditioning is eq. 7 (`denoisers.predict_f`), the training
eq. 8, the grid eq. 5 (`continuous.PowerVE`, whose even times it is), and algorithms 1 and 2 are `samplers.Heun`. Beyond
the paper: the deviation of the data is measured, and P_mean goes with it; other weights, by one field.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import losses
from sfumato.core.continuous import PowerVE
from sfumato.core.denoisers import Denoise, Denoiser, Prediction, predict_f, unit_variance
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import LogNormal
from sfumato.networks.backbone import Backbone
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import Levels, Shape, Sigma, build_network, channels_of, check_fields, denoising_loss
from sfumato.samplers import FAST, FAST_STEPS, Heun
from sfumato.spaces import Measured, Space

PUBLISHED_DEVIATION = 0.5
"""The sigma_data that p_mean is stated for."""


@dataclass(frozen=True)
class EDM:
    """Karras et al.'s model; the defaults are the paper's for CIFAR-10 (table 1, and configuration F of table 2)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = DDPMpp(multipliers=(2, 2, 2), dropout=0.13)
    """The backbone, F; by default the paper's DDPM++ for CIFAR-10."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Measured()
    """What the diffusion sees of an image; `measured` takes the deviation from the data set."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    sigma_data: float | None = None
    """The deviation of the data; by default as the space has it (0.5 for `pixels`, as published)."""
    sigma_min: Sigma = 0.002
    """The least noise of a sampler."""
    sigma_max: Sigma = 80.0
    """The most, where sampling starts."""
    rho: float = 7.0
    """Steps of a sampler are even in sigma^(1 / rho)."""
    p_mean: float = -1.2
    """Mean of ln sigma in training, for a sigma_data of 0.5; for another it moves by the ratio's logarithm."""
    p_std: float = 1.2
    """Deviation of ln sigma in training."""
    weight: str = "edm"
    """How levels count: edm weighs the error in F evenly; or eps, x0, v, min-snr, soft-min-snr, p2, sigmoid, flow."""
    steps: Levels = 18
    """Steps of its own sampler, of two evaluations each but the last."""
    churn: float = 0.0
    """Noise that its own sampler adds, S_churn; 0 is deterministic. The paper's for ImageNet is 40, in 256 steps."""
    s_min: float = 0.05
    """It is added from this sigma (the paper's for ImageNet)."""
    s_max: float = 50.0
    """It is added up to this sigma."""
    s_noise: float = 1.003
    """Its deviation, which makes up for detail that is lost."""

    def __post_init__(self) -> None:
        check_fields(self, weight=losses.WEIGHTS)
        if not 0 < self.sigma_min < self.sigma_max < math.inf:
            raise ValueError(f"sigma_min is above 0 and below sigma_max, not {self.sigma_min:g} and {self.sigma_max:g}")
        if not math.isfinite(self.p_mean):
            raise ValueError(f"p_mean is a number, not {self.p_mean}")
        above = {"rho": self.rho, "p_std": self.p_std, "steps": self.steps, "sigma_data": self.deviation}
        for name, value in above.items():
            if not 0 < value < math.inf:
                raise ValueError(f"{name} is above 0, not {value:g}")
        self._sampler()

    @property
    def deviation(self) -> float:
        """sigma_data, as it is used."""
        return self.space.deviation if self.sigma_data is None else self.sigma_data

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self))

    def build(self) -> Diffusion:
        schedule = PowerVE(self.sigma_min, self.sigma_max, self.rho)
        process = GaussianDiffusion(schedule)
        parameterization, scale_in = predict_f(self.deviation), unit_variance(self.deviation)
        weight = losses.edm_weight(self.deviation) if self.weight == "edm" else losses.WEIGHTS[self.weight]

        def condition(t: Tensor) -> Tensor:  # c_noise = ln(sigma) / 4
            return -schedule.log_snr(t) / 8

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, parameterization, condition, scale_in, inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            return losses.weighted(prediction, x0, eps, weight)

        times = LogNormal(schedule, self.p_mean + math.log(self.deviation / PUBLISHED_DEVIATION), self.p_std)
        own = self._sampler()
        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), times, process.prior, own=own,
            sampler=FAST, steps=FAST_STEPS, own_steps=self.steps,
        )  # fmt: skip

    def _sampler(self) -> Heun:
        """Algorithm 1, or 2 where there is churn."""
        if not self.churn:
            return Heun()
        return Heun(churn=self.churn, s_min=self.s_min, s_max=self.s_max, s_noise=self.s_noise)
