"""The program of the lesson on bits (Sohl-Dickstein et al. 2015): binomial diffusion, undone by Bayes' rule, appendix B.2."""

from __future__ import annotations

import itertools
import math

import torch
from torch import Tensor

from sfumato.claims.dpm import valid
from sfumato.core.betas import jsd_betas
from sfumato.data.toys import HEARTBEATS
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import states, tensor

TASK = r"""Write the lesson's diffusion of bits, from noise to samples. Bits are the numbers 0 and 1, `betas` $= (\beta_1, \dots, \beta_T)$, and in step $t$ each bit
is tossed anew by a fair coin with probability $\beta_t$, else kept.

- `noised(x0, betas, t)` draws $x_t$ for `x0` (N, D): a bit has been kept by all `t` steps, or it is a toss of the coin.
- `believe(x, sequences, kept)`: data are one of the rows of `sequences` (K, D), each as likely. For each bit of $x_t$ = `x` (N, D) give the
  probability that it was 1 in $x_0$, by Bayes' rule over the sequences; `kept` is the share of bits not yet tossed at $t$.
- `reverse(x, p0, before, step)`: the probability of $x_s = 1$ given `x` at $t$, where $x_0 = 1$ with probability `p0`: the posterior
  $q(x_s = 1 \mid x_t, x_0)$ of exercise 1 for $x_0 = 1$ and for $x_0 = 0$, weighed by `p0`. `before` is kept from 0 to $s$, `step` from $s$ to $t$.
- `sample(x, sequences, betas)`: from tosses `x` (N, D) at $T$, level by level, each bit drawn by itself. Give back all T + 1 states, the start first.

For three bits the check adds up all cases, and follows the probability of each of the eight states through the chain. Then your sampler makes
heartbeats."""

STUB = '''def noised(x0, betas, t):
    """x0 (N, D) -> a draw of x_t (N, D), of 0 and 1"""
    ...


def believe(x, sequences, kept):
    """x (N, D), sequences (K, D) -> probabilities that x_0 = 1, (N, D)"""
    ...


def reverse(x, p0, before, step):
    """x, p0 (N, D) -> probabilities that x_s = 1, (N, D)"""
    ...


def sample(x, sequences, betas):
    """x (N, D) at T -> a list of T + 1 states, the last at 0"""
    ...
'''

SOLUTION = """def noised(x0, betas, t):
    kept = (1 - betas[:t]).prod()
    tossed = (torch.rand(x0.shape) < 0.5).to(x0.dtype)
    return torch.where(torch.rand(x0.shape) < kept, x0, tossed)


def believe(x, sequences, kept):
    same = (1 + kept) / 2  # kept, or tossed to what it was
    likelihood = torch.where(x[:, None] == sequences, same, 1 - same).prod(dim=2)
    return likelihood / likelihood.sum(dim=1, keepdim=True) @ sequences


def reverse(x, p0, before, step):
    def posterior(x0):
        one = (before * x0 + (1 - before) / 2) * (step * x + (1 - step) / 2)
        zero = (before * (1 - x0) + (1 - before) / 2) * (step * (1 - x) + (1 - step) / 2)
        return one / (one + zero)

    return p0 * posterior(1) + (1 - p0) * posterior(0)


def sample(x, sequences, betas):
    kept = [1.0]
    for beta in betas:
        kept.append(kept[-1] * (1 - beta))
    states = [x]
    for t in range(len(betas), 0, -1):
        p0 = believe(x, sequences, kept[t])
        p = reverse(x, p0, kept[t - 1], 1 - betas[t - 1])
        x = (torch.rand(x.shape) < p).to(x.dtype)
        states.append(x)
    return states
"""

DATA = torch.tensor([[1, 0, 0], [0, 1, 1], [1, 1, 0]], dtype=torch.float64)
ALL = torch.tensor(list(itertools.product((0, 1), repeat=3)), dtype=torch.float64)
KEEP = 0.7, 0.5, 0.0
"""Of the three steps of the check: the last one tosses every bit, as the paper's does."""


def check(namespace: Namespace) -> None:
    """Frequencies of the noise; Bayes' rule as sums over all cases; the chain's law on all eight states."""
    noised, believe, reverse, sample = (wanted(namespace, name) for name in ("noised", "believe", "reverse", "sample"))
    betas, data = 1 - torch.tensor(KEEP), DATA.float()
    x0 = torch.tensor([1.0, 0.0]).repeat(20_000, 1)
    for t, kept in ((0, 1.0), (1, 0.7), (2, 0.35), (3, 0.0)):
        drawn = _bits(noised(x0, betas, t), "noised", (20_000, 2))
        for bit, expected in enumerate(((1 + kept) / 2, (1 - kept) / 2)):
            share = float(drawn[:, bit].mean())
            assert abs(share - expected) < 0.02, tr(
                "with keep probabilities {keep} a bit that began as {bit} is 1 at level {t} with probability "
                "{expected:.3f}; yours {share:.3f}. It is kept if every step keeps it, and a tossed bit is 1 half the time",
                keep=", ".join(f"{k:g}" for k in KEEP),
                bit=1 - bit,
                t=t,
                expected=expected,
                share=share,
            )
        both = float((drawn[:, 0] * drawn[:, 1]).mean())
        assert abs(both - (1 - kept**2) / 4) < 0.02, "each bit is tossed by itself: yours come together"
    _check_belief(believe)
    _check_reverse(reverse)
    start = ALL.float().repeat(4000, 1)
    found = states(sample(start, data, betas), "sample", 4, tuple(start.shape))
    _bits(found, "sample", tuple(found.shape))
    assert torch.equal(found[0], start.double()), "the first state is the start itself"
    _check_chain(found)


def _bits(value: object, name: str, shape: tuple[int, ...]) -> Tensor:
    drawn = tensor(value, name, shape)
    assert bool(((drawn == 0) | (drawn == 1)).all()), tr("{name} draws bits, 0 or 1, not probabilities", name=name)
    return drawn


def _q(to: float, given: float, keep: float) -> float:
    """q(x_t = to | x_s = given): kept, or tossed to it."""
    return keep * (to == given) + (1 - keep) / 2


def _belief(x: list[float], kept: float) -> list[float]:
    """p(x_0 = 1 | x_t = x) of each bit, by a sum over the sequences."""
    weights = [math.prod(_q(a, b, kept) for a, b in zip(x, row, strict=True)) for row in DATA.tolist()]
    return [sum(w * row[d] for w, row in zip(weights, DATA.tolist(), strict=True)) / sum(weights) for d in range(3)]


def _back(x: float, p0: float, before: float, step: float) -> float:
    """p(x_s = 1 | x_t = x) with that belief about x_0, from all cases of (x_0, x_s)."""
    share = 0.0
    for x0, belief in ((1, p0), (0, 1 - p0)):
        joint = [_q(b, x0, before) * _q(x, b, step) for b in (0, 1)]
        share += belief * joint[1] / sum(joint) if sum(joint) else 0.0
    return share


def _check_belief(believe: object) -> None:
    assert callable(believe)
    for kept in (0.9, 0.35, 0.0):
        found = tensor(believe(ALL.float(), DATA.float(), kept), "believe", (8, 3))
        expected = torch.tensor([_belief(x, kept) for x in ALL.tolist()], dtype=torch.float64)
        at = int((found - expected).abs().amax(1).argmax())
        assert torch.allclose(found, expected, atol=1e-5), tr(
            "for x_t = {x} with a share {kept:g} kept, and data [1,0,0], [0,1,1] or [1,1,0], Bayes' rule gives "
            "{expected}; yours {found}. A bit of x_t is as it began with probability (1 + kept) / 2, and the weights "
            "of the sequences sum to 1",
            x=ALL[at].int().tolist(),
            kept=kept,
            expected=_three(expected[at]),
            found=_three(found[at]),
        )


def _check_reverse(reverse: object) -> None:
    assert callable(reverse)
    x = torch.tensor([[0.0, 1.0]])
    for before, step, p0 in itertools.product((0.9, 0.4), (0.8, 0.0), (0.0, 0.3, 1.0)):
        found = tensor(reverse(x, p0 + 0 * x, before, step), "reverse", (1, 2))[0]
        for state in (0, 1):
            expected, mine = _back(state, p0, before, step), float(found[state])
            assert abs(mine - expected) < 1e-5, tr(
                "for x_t = {state}, kept {before:g} before s and {step:g} in the step, with probability {p0:g} that x_0 = 1, the posteriors of both "
                "x_0, each normalised over x_s and then weighed, give {expected:.4f}; yours {mine:.4f}",
                state=state,
                before=before,
                step=step,
                p0=p0,
                expected=expected,
                mine=mine,
            )


def _check_chain(found: Tensor) -> None:
    """The law of the next state, from how often each of the eight states came before."""
    code = torch.tensor([4, 2, 1], dtype=torch.float64)
    for k, t in enumerate((3, 2, 1)):
        kept, before = math.prod(KEEP[:t]), math.prod(KEEP[: t - 1])
        shares = (found[k] @ code).long().bincount(minlength=8).double() / len(found[k])
        law = torch.zeros(8, dtype=torch.float64)
        for share, x in zip(shares.tolist(), ALL.tolist(), strict=True):
            ones = [_back(a, p0, before, KEEP[t - 1]) for a, p0 in zip(x, _belief(x, kept), strict=True)]
            for i, s in enumerate(ALL.tolist()):
                law[i] += share * math.prod(p if bit else 1 - p for p, bit in zip(ones, s, strict=True))
        mine = (found[k + 1] @ code).long().bincount(minlength=8).double() / len(found[k])
        at = int((mine - law).abs().argmax())
        assert torch.allclose(mine, law, atol=0.015), tr(
            "from level {t} to {s} the share of {state} becomes {law:.3f} if each bit is drawn by itself, 1 with its "
            "probability; yours {mine:.3f}. In the step from t to t - 1 the belief is that at t, `before` is kept up to t - 1, "
            "and `step` is 1 - beta_t",
            t=t,
            s=t - 1,
            state=ALL[at].int().tolist(),
            law=float(law[at]),
            mine=float(mine[at]),
        )


def _three(numbers: Tensor) -> str:
    return "(" + ", ".join(f"{float(p):.3f}" for p in numbers) + ")"


def figure(namespace: Namespace) -> Figure:
    """Heartbeats from tosses, in few and in many levels."""
    runs = {}
    for T in (50, 5):
        start = (torch.rand(300, 20) < 0.5).float()
        made = namespace["sample"](start, HEARTBEATS.float(), jsd_betas(T).float())
        film = states(made, "sample", T + 1, (300, 20))
        name = f"{T} levels: {valid(film[-1]):.0%} of 300 are heartbeats"
        runs[name] = (255 * (1 - film[:, None, :14])).to(torch.uint8)
    return figures.frames(runs)


PROGRAM = Exercise(
    "bits.program", "Diffusion of bits", TASK, STUB, SOLUTION, check, figure=figure,
    hints=(
        "noised: torch.where(torch.rand(x0.shape) < kept, x0, tossed), where kept is the product of 1 - beta over the first t steps.",
        "believe: x[:, None] == sequences has shape (N, K, D); put (1 + kept) / 2 where it holds and (1 - kept) / 2 where not, take the product "
        "over bits, normalise over K, and multiply by sequences.",
        "reverse: with q(to | given) = keep * (to == given) + (1 - keep) / 2, the posterior is q(1 | x0) q(x | 1) over the sum of that and "
        "q(0 | x0) q(x | 0).",
        "sample: for t from T to 1: believe at t, reverse with kept up to t - 1 and 1 - betas[t - 1], then (torch.rand(x.shape) < p).to(x.dtype).",
    ),
)  # fmt: skip
