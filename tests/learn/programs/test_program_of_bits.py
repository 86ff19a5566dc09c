"""Answers to the program of the lesson on bits: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("same = (1 + kept) / 2", "same = kept")], "(1 + kept) / 2"),
    ([("(1 - betas[:t]).prod()", "1 - betas[:t].sum()")], "if every step keeps it"),
    ([("torch.where(torch.rand(x0.shape) < kept, x0, tossed)", "x0 * kept + (1 - kept) / 2")], "draws bits"),
    ([("torch.rand(x0.shape) < kept", "torch.rand(len(x0), 1) < kept")], "each bit is tossed by itself"),
    ([("/ likelihood.sum(dim=1, keepdim=True)", "")], "weights of the sequences sum to 1"),
    ([("p0 * posterior(1) + (1 - p0) * posterior(0)", "posterior(p0)")], "each normalised over x_s and then weighed"),
    ([("kept[t - 1], 1 - betas", "kept[t], 1 - betas")], "`before` is kept up to t - 1"),
    ([("(torch.rand(x.shape) < p)", "(p > 0.5)")], "1 with its probability"),
    ([("(torch.rand(x.shape) < p)", "(torch.rand(len(x), 1) < p)")], "each bit is drawn by itself"),
]

RIGHT = [
    """import numpy as np

rng = np.random.default_rng(0)

def noised(x0, betas, t):
    x = np.array(x0)
    for beta in np.asarray(betas)[:t]:
        x = np.where(rng.random(x.shape) < beta, rng.integers(0, 2, x.shape), x)
    return x

def believe(x, sequences, kept):
    x, sequences = np.asarray(x), np.asarray(sequences)
    differ = (x[:, None] != sequences).sum(2)  # the likelihood depends on the number of bits that differ
    w = (1 - kept) ** differ * (1 + kept) ** (x.shape[1] - differ)
    return w @ sequences / w.sum(1, keepdims=True)

def reverse(x, p0, before, step):
    x, p0 = np.asarray(x), np.asarray(p0)
    out = 0
    for x0, weight in ((1, p0), (0, 1 - p0)):
        up = (1 + before) / 2 if x0 else (1 - before) / 2
        like = np.where(x == 1, (1 + step) / 2, (1 - step) / 2)
        out = out + weight * up * like / (up * like + (1 - up) * (1 - like))
    return out

def sample(x, sequences, betas):
    keep = 1 - np.asarray(betas)
    path = [np.asarray(x)]
    for t in range(len(keep), 0, -1):
        p0 = believe(path[-1], sequences, keep[:t].prod())
        path.append(rng.binomial(1, reverse(path[-1], p0, keep[: t - 1].prod(), keep[t - 1])))
    return np.array(path)
""",
    """def noised(x0, betas, t):
    share = torch.cumprod(torch.cat([torch.ones(1), 1 - betas.float()]), 0)[t]
    return torch.bernoulli(0.5 + (x0.float() - 0.5) * share)

def believe(x, sequences, kept):
    p = (0.5 + (sequences.float() - 0.5) * kept).clamp(1e-30, 1)[None]
    log = torch.where(x[:, None] > 0.5, p, 1 - p).log().sum(-1)
    return torch.softmax(log, dim=1) @ sequences.float()

def reverse(x, p0, before, step):
    sign = 2 * x.float() - 1
    def at(b):
        log_odds = math.log((1 + b * before) / (1 - b * before))
        return torch.sigmoid(log_odds + sign * math.log((1 + step) / (1 - step)))
    return p0 * at(1) + (1 - p0) * at(-1)

def sample(x, sequences, betas):
    keep = (1 - betas).float().tolist()
    out = torch.zeros(len(keep) + 1, *x.shape)
    out[0] = x
    for k, t in enumerate(reversed(range(len(keep)))):
        p0 = believe(out[k], sequences, math.prod(keep[: t + 1]))
        out[k + 1] = torch.bernoulli(reverse(out[k], p0, min(math.prod(keep[:t]), 1 - 1e-7), keep[t]).clamp(0, 1))
    return out
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("bits", programming.changed("bits", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("bits", code)
