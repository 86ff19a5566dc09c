"""Flow matching and rectified flow (Lipman et al. 2023; Liu et al. 2023), with the times of Esser et al. 2024.

Beside the PDFs: the straight path is Lipman et al.'s eq. 20 with sigma_min = 0 (`continuous.LinearFlow`, where time 0
is clean data and 1 noise, the other way than in that paper), the loss eq. 23 and Liu et al.'s eq. 1, the network's
output the velocity u = eps - x0 (`denoisers.predict_u`), densities of time and shift Esser et al.'s section 3.1 and
eq. 23. A network may return clean data instead, as JiT does (Li & He 2025): the loss is the same error in u, whose
divisor is held above a floor. Since the path is a noise schedule like others, every sampler of this package takes it,
stochastic ones too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import losses
from sfumato.core.continuous import LinearFlow
from sfumato.core.denoisers import Denoise, Denoiser, Parameterization, Prediction, predict_u, predict_x0
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Sampler
from sfumato.core.times import LogNormal, Mode, TrainingTimes
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.ncsnpp import DDPMpp
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
from sfumato.samplers import DDIM, FAST, FAST_STEPS, Heun
from sfumato.spaces import Pixels, Space

SOLVERS: dict[str, Sampler] = {"euler": DDIM(), "heun": Heun()}
"""On a straight path the step of DDIM is Euler's in the path's own time."""
PREDICTIONS: dict[str, Parameterization] = {"u": predict_u, "x0": predict_x0}


@dataclass(frozen=True)
class FlowMatching:
    """A flow along straight lines from noise to data; the defaults are Liu et al.'s 1-rectified flow for CIFAR-10."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = DDPMpp(dropout=0.15)
    """The backbone; by default Liu et al.'s, DDPM++."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Pixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    times: Literal["uniform", "logit-normal", "mode", "learned"] = "uniform"
    """The density of times in training: even, or denser in the middle (Esser et al. 2024, section 3.1); or learned to
    lessen the variance of the loss, whose expectation stays that of even times (VDM, Kingma et al. 2021)."""
    logit_mean: float = 0.0
    """logit-normal: the mean of log(t / (1 - t)); above 0 prefers noise."""
    logit_std: float = 1.0
    """logit-normal: its deviation."""
    mode_scale: float = 1.29
    """mode: 0 is even; between -1 and 1.75."""
    shift: float = 1.0
    """Multiplies sigma / alpha at every time, in training and sampling: above 1 for large images, such as the root of
    their number of pixels beside 256x256 (eq. 23)."""
    weight: str = "flow"
    """How levels count: flow weighs the error in u evenly; or eps, x0, v, min-snr, soft-min-snr, p2, sigmoid, edm."""
    solver: Literal["euler", "heun"] = "heun"
    """Its own sampler."""
    steps: Levels = 25
    """Steps of its own sampler."""
    prediction: Literal["u", "x0"] = "u"
    """What the network returns: the velocity u = eps - x0, or clean data x0, for transformers of large patches."""
    floor: Annotated[float, Range(0, 1)] = 0.05
    """For x0: the least sigma by which its error is divided to be one in u (Li & He 2025: 0.05), for weight flow."""

    def __post_init__(self) -> None:
        check_fields(self, weight=losses.WEIGHTS)
        if not (0 < self.shift < math.inf and 0 < self.logit_std < math.inf and math.isfinite(self.logit_mean)):
            raise ValueError("shift and logit_std are above 0, and logit_mean is a number")
        if not -1 <= self.mode_scale <= 2 / (math.pi - 2):
            raise ValueError(f"mode_scale lies between -1 and 1.75, not {self.mode_scale:g}")
        if self.steps < 1:
            raise ValueError(f"steps are at least 1, not {self.steps}")

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self))

    def build(self) -> Diffusion:
        schedule = LinearFlow(self.shift)
        process, own = GaussianDiffusion(schedule), SOLVERS[self.solver]
        clean = self.prediction == "x0" and self.weight == "flow"

        def condition(t: Tensor) -> Tensor:  # a thousand times the path's own time, as of a thousand levels
            return 1000 * schedule.alpha_sigma(t)[1]

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, PREDICTIONS[self.prediction], condition, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            if clean:
                return losses.velocity_of_x0(prediction, x0, self.floor)
            return losses.weighted(prediction, x0, eps, losses.WEIGHTS[self.weight])

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), self._times(schedule), process.prior,
            own=own, sampler=FAST, steps=FAST_STEPS, own_steps=self.steps,
        )  # fmt: skip

    def _times(self, schedule: LinearFlow) -> TrainingTimes:
        """Of the schedule: its shift moves the density along the path."""
        if self.times == "logit-normal":
            return LogNormal(schedule, self.logit_mean + math.log(self.shift), self.logit_std)
        if self.times == "mode":
            return Mode(self.mode_scale)
        return interval_times(self.times, schedule, 0.0, schedule.end)
