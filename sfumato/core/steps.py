"""How many moves a sampler makes, or the grid of levels that it goes down: what is asked for, and whether it can be."""

from __future__ import annotations

import operator
from collections.abc import Callable

from torch import Tensor

Grid = Callable[[int], Tensor]
"""The number of levels T -> the timesteps, descending and ending at 0; see `samplers.grids`."""

Steps = int | Grid | None
"""So many evenly spaced moves, or a grid of one's own; None takes every level."""

MOST = 1_000_000
"""Moves in continuous time, where no number of levels bounds them."""


def possible(steps: int, levels: int | None = None) -> int:
    """The number of moves, where there can be so many: a whole number up to that of the levels, where there are any.

    Raises: ValueError.
    """
    try:
        steps = operator.index(steps)
    except TypeError:
        raise ValueError(f"steps are a whole number, not {steps!r}") from None
    if not 1 <= steps <= (levels or MOST):
        most = f"{levels}, the number of levels of this model," if levels else f"{MOST:,},"
        raise ValueError(f"steps must lie between 1 and {most} not {steps}")
    return steps
