"""Distances and neighbours against the recorded numbers of ADM's evaluator, official and in plain float64."""

from __future__ import annotations

from typing import Any

import pytest

from sfumato.evaluate.distances import frechet_distance, inception_score, statistics
from sfumato.evaluate.neighbours import half_precision_distances, precision_recall, radii, squared_distances
from tests.golden.evaluations import Evaluation, calls

EXACT = 1e-9
"""Allowed against plain float64 arithmetic, relative to numbers of order 1 to 100."""


@pytest.mark.parametrize(("case", "call"), calls("eval_frechet"))
def test_frechet_distance(case: Evaluation, call: dict[str, Any]) -> None:
    samples, reference = statistics(case.input(call["sample"])), statistics(case.input(call["ref"]))
    distance = frechet_distance(samples, reference)
    case.compare(f"{call['out']}/distance", distance, allowed=EXACT if call["ref"] == call["sample"] else None)
    case.compare(f"{call['out']}/distance_independent_fp64", distance, allowed=EXACT)
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
            rounding = 2e-6 if call["distance_path"].startswith("float32") else 0.0
            allowed = EXACT * float(found.max()) if suffix else rounding * float(found.max()) + 1e-300
            case.compare(f"{call['out']}/radii_{name}{suffix}", found, allowed=allowed)
