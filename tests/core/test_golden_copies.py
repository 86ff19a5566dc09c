"""The distilled copies of the recordings hold the very numbers of the whole ones, where those are at hand."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from tests.golden import cases, song


@pytest.mark.parametrize(("source", "name"), [
    *((cases, name) for name in cases.distilled()), *((song, name) for name in song.distilled()),
], ids=lambda part: part if isinstance(part, str) else part.__name__)  # fmt: skip
def test_a_distilled_case_is_a_part_of_the_whole(source: Any, name: str) -> None:
    if not source.FULL.is_dir():
        pytest.skip("the full recording is not at hand")
    copy, whole = source.distilled()[name], source.full(name)
    assert copy.recipe["outputs"] == whole.recipe["outputs"]
    for output, where in copy.places.items():
        assert np.array_equal(copy.numbers[output], whole.numbers[output][where], equal_nan=True), output
