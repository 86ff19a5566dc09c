"""Answers to the program of the lesson on measuring: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("((mean_a - mean_b) ** 2).sum()", "((mean_a - mean_b) ** 2).sum().sqrt()")], "3^2 = 9"),
    ([("- 2 * cross", "- cross")], "apart, by yours"),
    ([("root(half @ cov_b @ half)", "half @ root(cov_b)")], "do not commute"),
    ([("cross = root(half @ cov_b @ half)", "cross = (cov_a * cov_b).clamp(min=0).sqrt()")], "do not commute"),
    ([("    centred = x - mean\n", "    centred = x\n")], "differ in their mean by 3"),
    ([("values.clamp(min=0).sqrt()", "values")], "apart, by yours"),
]

RIGHT = [
    """import numpy as np

def frechet(a, b):
    a, b = np.asarray(a), np.asarray(b)
    first, second = np.atleast_2d(np.cov(a.T)), np.atleast_2d(np.cov(b.T))
    eigenvalues = np.linalg.eigvals(first @ second)
    trace = np.sqrt(np.maximum(eigenvalues.real, 0)).sum()
    return ((a.mean(0) - b.mean(0)) ** 2).sum() + np.trace(first) + np.trace(second) - 2 * trace
""",
    """def frechet(a, b):
    a, b = a.float(), b.float()
    apart = (a.mean(0) - b.mean(0)).square().sum()
    a, b = (a - a.mean(0)) / len(a) ** 0.5, (b - b.mean(0)) / len(b) ** 0.5
    apart = apart + a.square().sum() + b.square().sum()
    a, b = torch.linalg.qr(a).R, torch.linalg.qr(b).R
    return apart - 2 * torch.linalg.svdvals(a @ b.T).sum()
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("measuring", programming.changed("measuring", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("measuring", code)
