"""What exercises accept and refuse besides their own solution and stub.

Every wrong answer here is one that a check could take for right; every right one is another than the solution.
"""

from __future__ import annotations

import pytest

from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.workshop import WORKSHOP

EXERCISES = {exercise.key: exercise for lesson in CATALOGUE for exercise in lesson.exercises}

WRONG = [
    ("first_picture.1", "def sample(x, moves):\n    for k, t, s in moves:\n        x = k(x, t, s).to.mean\n"
     "    return x"),
    ("first_picture.2", "def pixels(x):\n    return ((x + 1) * 127.5).round().to(torch.uint8)"),
    ("noise.3", "def score(x, x0, alpha, sigma):\n    return (alpha * x0 - x) / sigma"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + 3 * d * score + math.sqrt(6 * d) * z"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d / 2 * score + math.sqrt(d) * z"),
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d * score + math.sqrt(d) * z"),
    ("ncsn.3", "def size(sigma, last, eps):\n    return 2 * eps * (sigma / last) ** 2"),
    ("ddim.1", "def sigma(eta, a, b):\n    return eta * math.sqrt(1 - a / b)"),
    ("ddim.1", "def sigma(eta, a, b):\n    return eta ** 2 * math.sqrt((1 - b) / (1 - a) * (1 - a / b))"),
    ("iddpm.3", "def variance(v, beta, beta_tilde):\n"
     "    return math.exp(v * math.log(beta_tilde) + (1 - v) * math.log(beta))"),
    ("iddpm.4", "def clipped(x, eps, a):\n"
     "    return min(max((x - math.sqrt(1 - a) * eps) / math.sqrt(a), -1), 1), eps"),
    ("measuring.2", "def interval(x):\n    half = 1.96 * x.std() / len(x) ** 0.5\n"
     "    return x.mean() - half, x.mean() + half"),
    ("measuring.2", "def interval(x):\n    return x.quantile(0.025), x.quantile(0.975)"),
    ("ddpm.3", "def noisy(x0, eps, t, table):\n    a = table[t - 2]\n    return a ** 0.5 * x0 + (1 - a) ** 0.5 * eps"),
    ("score_sde.2", "def score(eps, sigma):\n    return -eps / sigma ** 2"),
    ("adm.3", "def classifier_free(with_label, without, scale):\n"
     "    return with_label + scale * (with_label - without)"),
    ("capstone.2", "def ninth(x, denoise, sigma, to):\n"
     "    return denoise(x, sigma) + to * (x - denoise(x, sigma)) / sigma"),
]  # fmt: skip

RIGHT = [
    ("ncsn.2", "def langevin(x, score, d, z):\n    return x + d * score - (2 * d) ** 0.5 * z"),  # z has no sign
    ("ddim.1", "def sigma(eta, a, b):\n    a, b = torch.tensor(a), torch.tensor(b)\n"
               "    return eta * ((1 - b) / (1 - a) * (1 - a / b)).sqrt()"),  # in float32
    ("ddpm.1", "def predicted_x0(x, eps, a):\n    a = torch.tensor(a)\n"
     "    return (x - (1 - a).sqrt() * eps) / a.sqrt()"),
    ("iddpm.2", "def respaced(alpha_bar, kept):\n    left = torch.tensor([alpha_bar[t] for t in [0, *kept]])\n"
                "    return 1 - left[1:] / left[:-1]"),
    ("measuring.2", "def interval(x):\n    means = [x[torch.randint(len(x), (len(x),))].mean() for _ in range(1000)]\n"
                    "    means = sorted(means)\n    return means[25], means[974]"),
    ("capstone.2", "def ninth(x, denoise, sigma, to):\n    half = (sigma * to) ** 0.5\n"
                   "    middle = x + (half - sigma) * (x - denoise(x, sigma)) / sigma\n"
                   "    return x + (to - sigma) * (middle - denoise(middle, half)) / half"),  # the middle one
]  # fmt: skip


@pytest.mark.parametrize(("key", "answer"), WRONG)
def test_a_wrong_answer_is_refused(key: str, answer: str) -> None:
    verdict = WORKSHOP.judge(EXERCISES[key], answer)
    assert not verdict.right
    assert "Error" not in verdict.words  # it is refused for what it says, not for how it is written


@pytest.mark.parametrize(("key", "answer"), RIGHT)
def test_another_right_answer_is_accepted(key: str, answer: str) -> None:
    assert WORKSHOP.judge(EXERCISES[key], answer).words == "Right."
