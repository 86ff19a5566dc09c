"""How many moves there can be: whole numbers within the levels of a model, or a bound where time is continuous."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from sfumato.core.betas import linear_betas
from sfumato.core.continuous import VE, VP, LinearFlow
from sfumato.core.schedules import Schedule, from_betas
from sfumato.core.steps import MOST, possible

SCHEDULES = (from_betas(linear_betas(40)), VP(), VE(), LinearFlow())


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("steps", [50.5, 4.0, "4", float("nan"), 0, -1, MOST + 1, 10**30])
def test_what_is_no_number_of_moves(schedule: Schedule, steps: Any) -> None:
    with pytest.raises(ValueError, match=r"steps (are a whole number|must lie between 1 and)"):
        schedule.times(steps)


@pytest.mark.parametrize("schedule", SCHEDULES, ids=lambda schedule: type(schedule).__name__)
@pytest.mark.parametrize("steps", [1, 4, np.int64(40)])
def test_what_is_one(schedule: Schedule, steps: int) -> None:
    assert len(schedule.times(steps)) == steps + 1
    assert possible(steps, 40) == steps
