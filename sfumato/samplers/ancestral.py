"""Ancestral sampling: the reverse Markov chain that the variational bound trains (Ho et al. 2020, algorithm 2).

With a classifier's gradient each step's mean moves by its variance times the gradient (Dhariwal & Nichol 2021,
algorithm 1). In continuous time the steps are exact as well (Kingma et al. 2021).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Self

from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Diffusion
from sfumato.core.guidance import Gradient
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, Past, Sampler, Step, denoise_to_zero, descend
from sfumato.core.variances import ReverseVariance, fixed_large, fixed_small, reverse
from sfumato.samplers.grids import OnGrid


@dataclass(frozen=True)
class AncestralStep:
    """The ancestral step: the posterior at the predicted x_0, with a chosen variance (Ho et al. 2020, algorithm 2).

    Attributes:
        variance: fixed small, fixed large, learned, ...
        gradient: of a classifier, at x_t, which shifts the mean (Dhariwal & Nichol 2021, algorithm 1).
        above: the second level of the chain, whose variance the last move's shift has (see `ReverseVariance`); without
            it the move into clean data is not shifted.
    """

    process: GaussianDiffusion
    denoise: Denoise
    variance: ReverseVariance = fixed_small
    gradient: Gradient | None = None
    above: Tensor | None = None

    def __call__(self, x: Tensor, t: Tensor, s: Tensor, past: Past = ()) -> Step:
        prediction = self.denoise(x, t)
        to = reverse(self.process, self.variance, prediction, t, s)
        if self.gradient is not None:
            shift = self.variance(self.process, prediction, t, s, self.above) ** 2 * self.gradient(x, t)
            to = replace(to, mean=to.mean + shift)
        return Step(to, prediction)


@dataclass(frozen=True)
class Ancestral(OnGrid):
    """Ancestral sampling (Ho et al. 2020). variance: small, large, or by default the model's own."""

    variance: ReverseVariance | None = None
    gradient: Gradient | None = None
    words: ClassVar[dict[str, dict[str, Any]]] = {"variance": {"small": fixed_small, "large": fixed_large}}

    def of(self, diffusion: Diffusion) -> Self:
        made = super().of(diffusion)
        return made if self.variance is not None else replace(self, grid=made.grid, variance=diffusion.variance)

    def moves(self, process: GaussianDiffusion, denoise: Denoise, times: Tensor) -> list[Move]:
        above = times[-3] if self.gradient is not None and len(times) > 2 else None
        step = AncestralStep(process, denoise, self.variance or fixed_small, self.gradient, above)
        return denoise_to_zero(descend(step, times), process, denoise)

    def guided(
        self, denoise: Denoise, gradient: Gradient, clip: Callable[[Denoise], Denoise]
    ) -> tuple[Sampler, Denoise]:
        return replace(self, gradient=gradient), denoise
