"""Self-conditioning in sampling: a denoiser that is fed its own prediction of x0 (Chen, Zhang & Hinton 2023).

What is fed at a level is the last prediction at a noisier level, so within a solver's step every evaluation at one
level is of one function of x: Heun's corrector and the predictor after it, or a Langevin corrector, see the same.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction

REMEMBERED = 8
"""Predictions that are kept, for samplers that go up again."""


class Feedback:
    """A denoiser fed its own x0 of a noisier level, or zeros where there was none; made anew for each batch.

    A trajectory that starts again at the noisiest level finds nothing noisier, so it is fed as the first one was.

    Args:
        make: (inputs with `previous`) -> the denoiser.
        inputs: what it is given besides.
        range: of clean data, inside which x0 is fed.
    """

    def __init__(
        self, make: Callable[[Mapping[str, Tensor]], Denoise], inputs: Mapping[str, Tensor], range: tuple[float, float]
    ) -> None:
        self.make, self.inputs, self.range = make, inputs, range
        self.past: list[tuple[float, Tensor]] = []

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        now = float(t.max())
        self.past = [(level, x0) for level, x0 in self.past if level > now][-REMEMBERED:]
        previous = self.past[-1][1] if self.past else torch.zeros(())
        prediction = self.make({**self.inputs, "previous": previous})(x, t)
        self.past.append((now, prediction.x0.detach().clamp(*self.range)))
        return prediction
