"""NCSN: Generative modeling by estimating gradients of the data distribution (Song & Ermon 2019).

Beside the PDF: the noise levels are section 4.1, the loss is eq. 5 and 6, sampling is algorithm 1; the
network and the numbers are those of section 5 and appendix A. The paper's images lie in [0, 1] and ours in [-1, 1], so
its sigmas and steps are stated in that `UNIT`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import matching, times
from sfumato.core.denoisers import Denoise, Prediction, predict_score
from sfumato.core.distributions import Distribution, Noise
from sfumato.core.langevin import Langevin, Uniform, annealed
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move
from sfumato.core.schedules import from_sigmas, geometric_sigmas
from sfumato.core.times import Steps
from sfumato.networks import refinenet

UNIT = 2.0
"""The width of our range of images, [-1, 1], in units of the paper's, [0, 1]: noise is so many times as large here."""


def staying(kernel: Langevin, levels: Tensor, moves: int) -> list[Move]:
    """So many moves, spread evenly over the levels (n,), each of which stays where it is."""
    n = len(levels)
    ends = [(i + 1) * moves // n for i in range(n)]
    each = [end - start for start, end in zip([0, *ends], ends, strict=False)]
    return [(kernel, t, t) for t, count in zip(levels, each, strict=True) for _ in range(count)]


def levels_and_moves(T: int, per_level: int, steps: Steps) -> tuple[Tensor, int]:
    """The levels to stay at, descending, and how many moves there are in all.

    A number of steps is the number of moves, spread over all levels or, if there are fewer moves, over as many evenly
    spaced ones; a grid names the levels and gives each the usual number of moves, as does None to every level.
    """
    if isinstance(steps, int):
        if steps < 1:
            raise ValueError(f"steps are at least 1, not {steps}")
        return times.strided(T, min(steps, T))[:-1], steps
    levels = times.visits(T, steps)[:-1]
    return levels, len(levels) * per_level


@dataclass(frozen=True)
class NCSN:
    """Song & Ermon's model; the defaults are the paper's for CIFAR-10 (section 5 and appendix A)."""

    shape: tuple[int, int, int] = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    classes: int = 0
    """Always 0: the network is told no labels."""
    steps: int = 10
    """L, the number of noise levels (section 5)."""
    first_sigma: float = 1.0
    """The largest noise, for images in [0, 1]."""
    last_sigma: float = 0.01
    """The smallest noise, for images in [0, 1]; those between form a geometric sequence (section 4.1)."""
    anneal_power: float = 2.0
    """A level counts sigma to this power in the loss; 2 makes all count about alike (section 4.2)."""
    step_size: float = 2e-5
    """The epsilon of algorithm 1, for images in [0, 1], as in the authors' code, which moves twice as far with it."""
    moves_per_level: int = 100
    """T, Langevin steps at each level (section 5)."""
    start: Literal["gaussian", "uniform"] = "gaussian"
    """Noise to start from: that of the noisiest level, for every sampler; or the paper's, for Langevin steps alone."""
    channels: int = 128
    """Width of the RefineNet; the paper's is 64 for MNIST."""

    def __post_init__(self) -> None:
        if self.classes:
            raise ValueError("NCSN's network is told no labels: set classes to 0")
        if not 0 < self.last_sigma < self.first_sigma:
            raise ValueError("noise falls from first_sigma to last_sigma, both above 0")

    def process(self) -> GaussianDiffusion:
        return GaussianDiffusion(from_sigmas(UNIT * geometric_sigmas(self.steps, self.last_sigma, self.first_sigma)))

    def model(self) -> nn.Module:
        return refinenet.ncsn(in_channels=self.shape[0], channels=self.channels, levels=self.steps)

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps)

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        eps, level = noise(x0), self.process().level(t, x0)
        prediction = self.denoiser(model)(level.noise(x0, eps), t)
        # sigma^power is of the paper's sigma; the rest of the error has no unit
        weight = level.sigma**2 * (level.sigma / UNIT) ** (self.anneal_power - 2)
        return matching.denoising(prediction, eps, weight, matching.half_sum)  # eq. 5 and 6

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Denoise:
        """The network's score, which is that of images in [0, 1]; its levels are numbered from the noisiest, 0."""
        if scale != 1:
            raise ValueError("classifier-free guidance needs a model that was trained with labels and label dropout")
        process = self.process()

        def inner(x: Tensor, t: Tensor) -> Prediction:
            label = (self.steps - t).to(x.device, non_blocking=True).expand(x.shape[0])
            return predict_score(model(x, label).to(x.dtype) / UNIT, x, t, process)

        return inner

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Distribution:
        return Uniform(shape, device=device) if self.start == "uniform" else self.process().prior(shape, device)

    def moves(self, denoise: Denoise, steps: Steps = None) -> list[Move]:
        kernel = Langevin(denoise, annealed(UNIT**2 * self.step_size, UNIT * self.last_sigma))
        return staying(kernel, *levels_and_moves(self.steps, self.moves_per_level, steps))
