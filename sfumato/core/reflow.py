"""Reflow: pairs of noise and what a flow makes of it, on which the next, straighter flow is trained (Liu et al. 2023).

A loss of `recipe.denoising_loss` takes the noise of a pair as `eps`; the straightness is the paper's S(Z), section 3.
"""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor

from sfumato.core.sampling import Move, trajectory


def straightness(x: Tensor, moves: Iterable[Move]) -> Tensor:
    """How far the paths of a straight-line flow are from straight: S(Z), the mean of |chord - velocity|^2, (B,).

    0 for straight paths, along which a single Euler step is exact. A mean over dimensions and even moves.

    Args:
        x: (B, ...) noise, where the moves begin.
        moves: of a deterministic sampler on `LinearFlow`, from time 1 to 0 in even steps.
    """
    end, velocities = x, []
    with torch.no_grad():
        for state, prediction in trajectory(x, moves):
            velocities.append(prediction.eps - prediction.x0)
            end = state
    chord = x - end
    return torch.stack([(chord - u).square().flatten(1).mean(1) for u in velocities]).mean(0)
