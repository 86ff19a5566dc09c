"""Distances and neighbours against the recorded numbers of ADM's evaluator, official and in plain float64."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.evaluate.distances import frechet_distance, inception_score, statistics
from sfumato.evaluate.neighbours import half_precision_distances, precision_recall, radii, squared_distances
from tests.golden.evaluations import Evaluation, calls

EXACT = 1e-9
"""Allowed against plain float64 arithmetic, on numbers of order 1 to 100."""
ROOTS = 1e-6
"""Allowed with fewer images than dimensions, where the recording has roots of eigenvalues that are 0 but for rounding
(ours agrees to 1e-13 with the singular values of the images themselves: test_distances.py)."""


@pytest.mark.parametrize(("case", "call"), calls("eval_frechet"))
def test_frechet_distance(case: Evaluation, call: dict[str, Any]) -> None:
    samples, reference = statistics(case.input(call["sample"])), statistics(case.input(call["ref"]))
    distance = frechet_distance(samples, reference)
    case.compare(f"{call['out']}/distance", distance, allowed=EXACT if call["ref"] == call["sample"] else None)
    case.compare(
        f"{call['out']}/distance_independent_fp64", distance, allowed=ROOTS if "fewer" in call["out"] else EXACT
    )
    if "stats" in call:
        case.compare(f"{call['out']}/mu_ref", reference.mean, allowed=1e-7)
        case.compare(f"{call['out']}/sigma_ref", reference.covariance, allowed=EXACT)


@pytest.mark.parametrize(("case", "call"), calls("eval_inception_score"))
def test_inception_score(case: Evaluation, call: dict[str, Any]) -> None:
    score = inception_score(case.input(call["probs"]), size=call["split_size"]).value
    case.compare(f"{call['out']}/score", score)
    case.compare(f"{call['out']}/score_independent_fp64", score, allowed=EXACT)


@pytest.mark.parametrize(("case", "call"), calls("eval_precision_recall"))
def test_precision_recall(case: Evaluation, call: dict[str, Any]) -> None:
    """The half-precision mode gives the official numbers, the default those of exact arithmetic."""
    reference, samples, k = case.input(call["ref"]), case.input(call["sample"]), call["k"]
    for distances, suffix in ((half_precision_distances, ""), (squared_distances, "_independent_fp64")):
        precision, recall = precision_recall(reference, samples, k=k, distances=distances)
        case.compare(f"{call['out']}/precision{suffix}", precision, allowed=1e-12)
        case.compare(f"{call['out']}/recall{suffix}", recall, allowed=1e-12)
        for name, features in (("ref", reference), ("sample", samples)):
            found = radii(features, k, distances)
            allowed = EXACT if suffix else 2e-6 if "float32" in call["distance_path"] else 1e-12  # float16: bit by bit
            case.compare(f"{call['out']}/radii_{name}{suffix}", found, allowed=allowed * float(found.max()))
