"""Score-SDE: Score-based generative modeling through stochastic differential equations (Song et al. 2021).

Beside the PDF: the three SDEs are section 3.4 and appendix B, training is eq. 7, the predictors and correctors are
section 4 and algorithms 1 to 5 (`samplers.predictor_corrector`), and the networks are appendix H. The probability flow
is `likelihood.flow`. VE is meant for images 1 wide, as in `ncsn`.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import matching, schedules
from sfumato.core.betas import geometric_sigmas, linear_betas
from sfumato.core.continuous import VE, VP, Continuous, SubVP
from sfumato.core.denoisers import Condition, Denoise, Denoiser, Prediction, negated, predict_eps
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.losses import per_image
from sfumato.core.ode import sde
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel
from sfumato.core.schedules import Level
from sfumato.core.times import TrainingTimes
from sfumato.core.variances import fixed_large, fixed_small
from sfumato.networks.backbone import Backbone
from sfumato.networks.ncsnpp import NCSNpp
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.ncsn import as_images
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
    interval_times,
    level_times,
)
from sfumato.samplers import FAST, FAST_STEPS, langevin, reverse_sde
from sfumato.samplers.ancestral import AncestralStep
from sfumato.samplers.predictor_corrector import OfficialPredictorCorrector
from sfumato.spaces import Pixels, Space, UnitPixels

BY_THE_SDE = Space()

LAST = {"ve": 1e-5, "vp": 1e-3, "subvp": 1e-3}
"""The least noisy of the official sampler's times."""


@dataclass(frozen=True)
class ScoreSDE:
    """Song et al.'s models; the defaults are the paper's continuous NCSN++ with the VE SDE for CIFAR-10."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = NCSNpp()
    """The backbone (appendix H): NCSN++ for VE, with Fourier features in continuous time; DDPM++ or DDPM otherwise."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides; the paper's is given nothing."""
    space: Space = BY_THE_SDE
    """What the diffusion sees of an image; by default images 1 wide for VE, and 2 wide for VP and sub-VP."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    sde: Literal["ve", "vp", "subvp"] = "ve"
    """How noise comes: variance exploding, variance preserving, or less than that (section 3.4)."""
    continuous: bool = True
    """Train on all times between 0 and 1 (eq. 7), or on `steps` levels as NCSN (VE) and DDPM (VP) do."""
    steps: Levels = 1000
    """N, the number of levels, and of predictions in sampling."""
    first_sigma: Sigma = 50.0
    """VE: the largest noise."""
    last_sigma: Sigma = 0.01
    """VE: the smallest noise."""
    beta_start: Rate = 0.1
    """VP and sub-VP: beta at time 0."""
    beta_end: Rate = 20.0
    """VP and sub-VP: beta at time 1."""
    likelihood_weighting: bool = False
    """Weigh the score's error by g(t)^2, for likelihood, not by sigma(t)^2, for pictures."""
    reduction: Literal["mean", "half_sum"] = "half_sum"
    """How the errors of an image's pixels become one number; the paper's is half their sum for VE, the mean for VP."""
    predictor: Literal["reverse", "euler", "ancestral", "none"] = "reverse"
    """How sampling goes down: reverse diffusion, Euler-Maruyama, or ancestral steps from level to level."""
    corrector: Literal["langevin", "annealed", "none"] = "langevin"
    """How sampling stays: Langevin dynamics that follows the score's length, or the level's; the paper: none for VP."""
    snr: Rate = 0.16
    """The correctors' r, how long their steps are beside the noise."""
    corrections: Moves = 1
    """Corrections at each time."""
    times: Literal["uniform", "learned"] = "uniform"
    """Times of training: all alike, or by a learned density that lessens the variance of the loss and keeps its
    expectation (VDM, Kingma et al. 2021)."""

    def __post_init__(self) -> None:
        check_fields(self)
        for refused, reason in (
            (self.sde == "subvp" and not self.continuous, "the sub-VP SDE has no levels of its own: set continuous"),
            (self.likelihood_weighting and not self.continuous, "likelihood weighting needs g(t), so continuous time"),
            (self.predictor == "ancestral" and self.continuous, "ancestral steps need levels, not continuous time"),
            (self.predictor == "euler" and not self.continuous, "Euler-Maruyama steps need continuous time"),
            (self.predictor == self.corrector == "none", "a sampler needs a predictor or a corrector"),
        ):
            if refused:
                raise ValueError(reason)
        if self.space is BY_THE_SDE:
            object.__setattr__(self, "space", UnitPixels() if self.sde == "ve" else Pixels())

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self), 0 if self.continuous else self.steps)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(self._schedule())
        scale = as_images(self)
        exploding = self.sde == "ve"  # these networks are divided by sigma to be the score, so they are minus the noise
        parameterization = negated(predict_eps) if exploding else predict_eps

        def condition(t: Tensor) -> Tensor:
            if self.continuous:
                return process.schedule.alpha_sigma(t)[1] if exploding else 999 * t
            return self.steps - t if exploding else t - 1

        def scale_in(level: Level) -> float:
            return scale

        def denoise(network: nn.Module, inputs: Inputs, condition: Condition = condition) -> Denoise:
            return Denoiser(network, process, parameterization, condition, None if scale == 1 else scale_in, inputs)

        def in_sampling(t: Tensor) -> Tensor:  # no whole number for VP, though it was one in training
            return condition(t) if self.continuous or exploding else (self.steps - 1) * self.official_time(t)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            weight = matching.anneal_weight(prediction.level)
            if self.likelihood_weighting:
                weight = matching.likelihood_weight(sde(process), t, x0)
            reduce = per_image if self.reduction == "mean" else matching.half_sum
            return matching.denoising(prediction, eps, weight, reduce)  # eq. 7

        own, own_steps = self._sampler(), 100 if self.continuous else None
        return Diffusion(
            process, partial(denoise, condition=in_sampling), denoising_loss(self, process, denoise, criterion),
            self._times(process.schedule),
            process.prior, own=own,
            sampler=own if exploding else FAST, steps=own_steps if exploding else FAST_STEPS, own_steps=own_steps,
        )  # fmt: skip

    def official_time(self, t: Tensor) -> Tensor:
        """The time of level t in the official sampler, whose N times go evenly from 1 to almost 0; or t itself."""
        if self.continuous:
            return t
        return 1 - (1 - LAST[self.sde]) * (self.steps - t.double()) / max(self.steps - 1, 1)

    def _times(self, schedule: schedules.Schedule) -> TrainingTimes:
        if self.continuous:
            return interval_times(self.times, schedule, schedule.first, 1.0)
        return level_times(self.times, schedule, self.steps)

    def _schedule(self) -> schedules.Schedule:
        return self._continuous() if self.continuous else self._levels(self.steps)

    def _continuous(self) -> Continuous:
        if self.sde == "ve":
            return VE(self.last_sigma, self.first_sigma)
        return {"vp": VP, "subvp": SubVP}[self.sde](self.beta_start, self.beta_end)

    def _levels(self, N: int) -> schedules.Table:
        """The published discretisation in N levels (appendices B and E)."""
        if self.sde == "ve":
            return schedules.from_sigmas(geometric_sigmas(N, self.last_sigma, self.first_sigma))
        if self.beta_end > N:
            raise ValueError(f"VP needs at least {self.beta_end:g} steps, or a beta passes 1; not {N}")
        return schedules.from_betas(linear_betas(N, self.beta_start / N, self.beta_end / N))

    def _sampler(self) -> OfficialPredictorCorrector:
        """The official loop with so many predictions, each after its corrections (algorithm 1)."""
        euler = self.sde == "subvp" or self.predictor == "euler"

        def forward(process: GaussianDiffusion, N: int) -> reverse_sde.ForwardStep:
            """The forward step that is undone in N steps."""
            if not self.continuous:
                return process.between
            return reverse_sde.euler(sde(process)) if euler else reverse_sde.on_table(self._levels(N))

        def retained(process: GaussianDiffusion, N: int) -> langevin.RetainedVariance:
            if not self.continuous:
                return langevin.RetainedBelow(process)
            shrinks = self.sde == "vp" and not euler
            return langevin.retained_by(forward(process, N)) if shrinks else langevin.all_retained

        def predict(process: GaussianDiffusion, denoise: Denoise, N: int) -> Kernel:
            if self.predictor == "ancestral":
                return AncestralStep(process, denoise, fixed_small if self.sde == "ve" else fixed_large)
            return reverse_sde.ReverseDiffusionStep(process, denoise, forward(process, N))

        def correct(process: GaussianDiffusion, denoise: Denoise, N: int) -> Kernel:
            if self.corrector == "langevin":
                return langevin.CorrectorStep(denoise, self.snr, retained(process, N))
            sigma = lambda t: self._continuous().alpha_sigma(self.official_time(t))[1]  # noqa: E731
            return langevin.LangevinStep(denoise, langevin.ratio(self.snr, retained(process, N), sigma))

        return OfficialPredictorCorrector(
            None if self.predictor == "none" else predict, None if self.corrector == "none" else correct,
            self.corrections, LAST[self.sde] if self.continuous else None, self.steps,
        )  # fmt: skip
