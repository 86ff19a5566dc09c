"""Score-SDE: Score-based generative modeling through stochastic differential equations (Song et al. 2021).

Beside the PDF: the three SDEs are section 3.4 and appendix B, training is eq. 7, the predictors and correctors of
`moves` are section 4 and algorithms 1 to 5, and the networks are appendix H. The probability flow is `sfumato.flow`.
VE is meant for images in [0, 1], as in `ncsn`; ours lie in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import langevin, matching, schedules, sde, times
from sfumato.core.denoisers import Denoise, Prediction, predict_eps
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.kernels import Ancestral, large, small
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move
from sfumato.core.times import Steps
from sfumato.networks import ncsnpp
from sfumato.papers.ncsn import UNIT

NETWORKS: dict[str, Callable[..., nn.Module]] = {
    "ncsnpp": ncsnpp.ncsnpp,
    "ddpmpp": ncsnpp.ddpmpp,
    "ddpm": ncsnpp.ddpm,
}


@dataclass(frozen=True)
class ScoreSDE:
    """Song et al.'s models; the defaults are the paper's continuous NCSN++ with the VE SDE for CIFAR-10."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Always 0: the networks are told no labels."""
    sde: Literal["ve", "vp", "subvp"] = "ve"
    """How noise comes: variance exploding, variance preserving, or less than that (section 3.4)."""
    continuous: bool = True
    """Train on all times between 0 and 1 (eq. 7), or on `steps` levels as NCSN (VE) and DDPM (VP) do."""
    steps: int = 1000
    """N, the number of levels, and of predictions in sampling."""
    first_sigma: float = 50.0
    """VE: the largest noise, for images in [0, 1]."""
    last_sigma: float = 0.01
    """VE: the smallest noise, for images in [0, 1]."""
    beta_start: float = 0.1
    """VP and sub-VP: beta at time 0."""
    beta_end: float = 20.0
    """VP and sub-VP: beta at time 1."""
    likelihood_weighting: bool = False
    """Weigh the score's error by g(t)^2, for likelihood, not by sigma(t)^2, for pictures."""
    reduction: Literal["mean", "half_sum"] = "half_sum"
    """How the errors of an image's pixels become one number; the paper's is half their sum for VE, the mean for VP."""
    predictor: Literal["reverse", "euler", "ancestral", "none"] = "reverse"
    """How sampling goes down: reverse diffusion, Euler-Maruyama, or ancestral steps from level to level."""
    corrector: Literal["langevin", "annealed", "none"] = "langevin"
    """How sampling stays: Langevin dynamics that follows the score's length, or the level's; the paper: none for VP."""
    snr: float = 0.16
    """The correctors' r, how long their steps are beside the noise."""
    corrections: int = 1
    """Corrections at each time."""
    network: Literal["ncsnpp", "ddpmpp", "ddpm"] = "ncsnpp"
    """Appendix H: NCSN++ for VE, DDPM++ or DDPM for VP and sub-VP."""
    progressive: Literal["residual", "skip"] = "residual"
    """NCSN++: the image is added to the features on the way down; for 256x256 and more, "skip" leads it both ways."""
    channels: int = 128
    """Width of the network's first level."""
    multipliers: tuple[int, ...] = (1, 2, 2, 2)
    """Width of each level, in multiples of `channels`; each level halves the resolution of the one before."""
    blocks: int = 4
    """Residual blocks a level; the deep models have 8."""
    attention: tuple[int, ...] = (2,)
    """Downsampling factors with self-attention (16x16 of 32x32 is factor 2)."""
    dropout: float = 0.1
    """Dropout inside the residual blocks."""

    def __post_init__(self) -> None:
        for refused, reason in (
            (self.classes, "these networks are told no labels: set classes to 0"),
            (self.sde == "subvp" and not self.continuous, "the sub-VP SDE has no levels of its own: set continuous"),
            (self.likelihood_weighting and not self.continuous, "likelihood weighting needs g(t), so continuous time"),
            (self.predictor == "ancestral" and self.continuous, "ancestral steps need levels, not continuous time"),
            (self.predictor == "euler" and not self.continuous, "Euler-Maruyama steps need continuous time"),
            (self.progressive == "skip" and self.network != "ncsnpp", "only NCSN++ has a way for the image beside"),
            (self.predictor == self.corrector == "none", "a sampler needs a predictor or a corrector"),
        ):
            if refused:
                raise ValueError(reason)

    def process(self) -> GaussianDiffusion:
        if not self.continuous:
            return GaussianDiffusion(self._levels(self.steps))
        if self.sde == "ve":
            return GaussianDiffusion(schedules.VE(UNIT * self.last_sigma, UNIT * self.first_sigma))
        kind = schedules.VP if self.sde == "vp" else schedules.SubVP
        return GaussianDiffusion(kind(self.beta_start, self.beta_end))

    def _levels(self, N: int) -> schedules.Table:
        """The published discretisation in N levels (appendices B and E)."""
        if self.sde == "ve":
            low, high = UNIT * self.last_sigma, UNIT * self.first_sigma
            return schedules.from_sigmas(schedules.geometric_sigmas(N, low, high))
        if self.beta_end > N:
            raise ValueError(f"VP needs at least {self.beta_end:g} steps, or a beta passes 1; not {N}")
        return schedules.from_betas(schedules.linear_betas(N, self.beta_start / N, self.beta_end / N))

    def model(self) -> nn.Module:
        options: dict[str, Any] = {"embedding": "fourier" if self.sde == "ve" and self.continuous else "sin_cos"}
        if self.progressive == "skip":
            options |= {"progressive_input": "skip", "progressive_output": "skip"}
        return NETWORKS[self.network](
            in_channels=self.shape[0],
            channels=self.channels,
            multipliers=self.multipliers,
            blocks_per_level=self.blocks,
            attention_factors=self.attention,
            dropout=self.dropout,
            **(options if self.network == "ncsnpp" else {}),
        )

    def times(self) -> times.Times:
        return times.UniformInterval(1e-5, 1.0) if self.continuous else times.UniformLevels(self.steps)

    def condition(self, t: Tensor) -> Tensor:
        """What the network is told: sigma of VE, 999 t of VP, or the number of a level, from the noisiest for VE."""
        if self.continuous:
            ve = self.sde == "ve"
            return self.process().schedule.alpha_sigma(t)[1] / UNIT if ve else 999 * t
        return self.steps - t if self.sde == "ve" else t - 1

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, process = noise(x0), self.process()
        level = process.level(t, x0)
        weight = matching.anneal_weight(level)
        if self.likelihood_weighting:
            weight = matching.likelihood_weight(sde.sde(process), t, x0)
        reduce = per_image if self.reduction == "mean" else matching.half_sum
        return matching.denoising(self.denoiser(model)(level.noise(x0, eps), t), eps, weight, reduce)  # eq. 7

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        """VE networks are divided by sigma to be the score, so they are minus the noise; the others are the noise."""
        if scale != 1:
            raise ValueError("classifier-free guidance needs a model that was trained with labels and label dropout")
        process, sign = self.process(), -1 if self.sde == "ve" else 1

        def inner(x: Tensor, t: Tensor) -> Prediction:
            seen = self.condition(t).to(x.device, torch.float32, non_blocking=True).expand(x.shape[0])
            return predict_eps(sign * model(x, seen).to(x.dtype), x, t, process)

        return inner

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Gaussian:
        return self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        """The official loop with so many predictions, each after its corrections (algorithm 1)."""
        process = self.process()
        if self.continuous:
            N = len(sde.grid(process.schedule, self.steps if steps is None else steps)) - 1
            pairs = sde.published_pairs(N, 1e-5 if self.sde == "ve" else 1e-3)
            euler = self.sde == "subvp" or self.predictor == "euler"
            step = sde.euler(sde.sde(process)) if euler else sde.on_table(self._levels(N))
            kept = langevin.kept(step) if self.sde == "vp" and not euler else langevin.whole
        else:
            pairs, step = list(pairwise(times.visits(self.steps, steps))), process.between
            kept = langevin.kept(lambda s, t: process.between(t - 1, t))
        down: Kernel | None = None
        if self.predictor == "ancestral":
            down = Ancestral(process, denoise, small if self.sde == "ve" else large)
        elif self.predictor != "none":
            down = sde.ReverseDiffusion(process, denoise, step)
        stay: Kernel | None = None
        if self.corrector == "langevin":
            stay = langevin.Corrector(denoise, self.snr, kept)
        elif self.corrector == "annealed":
            stay = langevin.Langevin(denoise, langevin.ratio(self.snr, kept))
        return sde.correct_predict(down, stay, pairs, self.corrections)
