"""DDPM in continuous time: variational diffusion models' levels (Kingma et al. 2021), and v of Salimans & Ho (2022).

Beside the PDFs: the process and the ancestral step between any two times are Kingma et al.'s eq. 1 and appendix A
(`samplers.Ancestral`), the schedules `core.log_snr`, v Salimans & Ho's section 4. The loss is an even weight in what is
predicted, at even times; a schedule given as a table is one that was learned elsewhere, and is not learned further.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import losses
from sfumato.core.continuous import Continuous
from sfumato.core.denoisers import Denoise, Denoiser, Parameterization, Prediction, predict_eps, predict_v, predict_x0
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.log_snr import LinearBetas, NoisyCosine, Tabulated
from sfumato.core.processes import GaussianDiffusion
from sfumato.fields import Length, Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.unet import HoUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import (
    Levels,
    Shape,
    build_network,
    channels_of,
    check_fields,
    denoising_loss,
    interval_times,
)
from sfumato.samplers import FAST, FAST_STEPS, Ancestral
from sfumato.spaces import Pixels, Space

PREDICTIONS: dict[str, Parameterization] = {"eps": predict_eps, "x0": predict_x0, "v": predict_v}


@dataclass(frozen=True)
class ContinuousDDPM:
    """DDPM in continuous time; the defaults are Ho et al.'s network, a cosine schedule and v prediction."""

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
    schedule: Literal["linear", "cosine", "table"] = "cosine"
    """The noise schedule: DDPM's linear betas in continuous time (log SNR 9.2 to -10), a cosine, or `log_snr`."""
    log_snr: Annotated[tuple[Annotated[float, Range(-100, 100)], ...], Length(0, 4096)] = ()
    """For table: the log SNR at even times from 0 to 1, descending."""
    prediction: Literal["eps", "x0", "v"] = "v"
    """What the network returns."""
    weight: str = "v"
    """How levels count: eps, x0 and v weigh the errors in those evenly; or min-snr, soft-min-snr, p2, sigmoid, edm or
    flow, see `core.losses`."""
    condition: Literal["time", "log-snr"] = "time"
    """The number that the network is given of the noise level: a thousand times the time, or the log SNR."""
    times: Literal["uniform", "learned"] = "uniform"
    """The density of times in training: even, or learned for the least variance of the loss (Kingma et al. 2021)."""
    steps: Levels = 500
    """Steps of its own sampler, ancestral ones with the posterior's variance."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""

    def __post_init__(self) -> None:
        check_fields(self, weight=losses.WEIGHTS)
        if bool(self.log_snr) != (self.schedule == "table"):
            raise ValueError("log_snr is the table of schedule table, and goes with no other")
        self._schedule()

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self))

    def build(self) -> Diffusion:
        schedule = self._schedule()
        process = GaussianDiffusion(schedule)

        def condition(t: Tensor) -> Tensor:
            return schedule.log_snr(t) if self.condition == "log-snr" else 1000 * t.double()

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, PREDICTIONS[self.prediction], condition, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            return losses.weighted(prediction, x0, eps, losses.WEIGHTS[self.weight])

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion),
            interval_times(self.times, schedule, 0.0, 1.0), process.prior, own=Ancestral(), sampler=FAST,
            steps=FAST_STEPS, own_steps=self.steps, clip=self.space.range if self.clip else None,
        )  # fmt: skip

    def _schedule(self) -> Continuous:
        if self.schedule == "table":
            return Tabulated(self.log_snr)
        return LinearBetas() if self.schedule == "linear" else NoisyCosine()
