"""The exercises of the first lesson on DPM (Sohl-Dickstein et al. 2015): bits."""

from __future__ import annotations

import itertools
import math
from typing import Any

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_posterior(namespace: dict[str, Any]) -> None:
    posterior = wanted(namespace, "posterior")
    for x, x0, before, step in itertools.product((0, 1), (0, 1), (0.9, 0.5), (0.7, 0.2)):
        # q(x_s | x_0) and q(x_t | x_s), each bit kept with that probability or tossed anew, summed over both states
        def q(to: int, given: int, keep: float) -> float:
            return keep * (to == given) + (1 - keep) / 2

        joint = [q(b, x0, before) * q(x, b, step) for b in (0, 1)]
        expected, found = joint[1] / sum(joint), float(posterior(x, x0, before, step))
        assert abs(found - expected) < 1e-5, tr(
            "for x_t = {x}, x_0 = {x0}, kept {before:g} so far and {step:g} in the step, Bayes' rule over both states "
            "gives {expected:.4f}; yours gives {found:.4f}",
            x=x,
            x0=x0,
            before=before,
            step=step,
            expected=expected,
            found=found,
        )


def _check_null(namespace: dict[str, Any]) -> None:
    null = wanted(namespace, "l_null")
    for p, bits in ((0.2, 20), (0.5, 8), (0.01, 3)):
        expected = bits * (p * math.log2(p) + (1 - p) * math.log2(1 - p))
        found = float(null(p, bits))
        assert abs(found - expected) < 1e-5, tr(
            "{bits} independent bits that are 1 with probability {p:g} have a log likelihood of {expected:.4f} bits on "
            "average (the paper's heartbeat: -14.4386); yours is {found:.4f}",
            bits=bits,
            p=p,
            expected=expected,
            found=found,
        )


def _check_kept(namespace: dict[str, Any]) -> None:
    kept = wanted(namespace, "kept")
    for T in (2, 5, 20):
        betas = [1 / (T - t + 1) for t in range(1, T + 1)]
        for t in range(T + 1):
            expected, found = 1 - t / T, float(kept(betas, t))  # the schedule was made for this straight line
            assert abs(found - expected) < 1e-5, tr(
                "with betas 1/(T - t + 1), T = {T}, the share of bits not yet tossed anew after level {t} is 1 - t/T = "
                "{expected:.4f}; yours is {found:.4f}",
                T=T,
                t=t,
                expected=expected,
                found=found,
            )


EXERCISES = (
    Exercise(
        "bits.1",
        "The posterior of a bit",
        r"""A bit is kept with probability `before` from $x_0$ to $x_s$, and with probability `step` from $x_s$ to $x_t$; else
a fair coin is tossed. Write $q(x_s = 1 \mid x_t, x_0)$ by Bayes' rule: both states of $x_s$, weighed and normalised.""",
        "def posterior(x, x0, before, step):\n    return before * x0 + (1 - before) / 2\n",
        """def posterior(x, x0, before, step):
    def q(to, given, keep):
        return keep * (to == given) + (1 - keep) / 2
    one, zero = q(1, x0, before) * q(x, 1, step), q(0, x0, before) * q(x, 0, step)
    return one / (one + zero)
""",
        _check_posterior,
    ),
    Exercise(
        "bits.2",
        "What must be beaten",
        r"""$L_\text{null}$ is the log likelihood of a model that knows only how often a bit is 1. Write it in bits for `n`
independent bits that are 1 with probability `p`: the mean of $\log_2$ of the probability of what happens.""",
        "def l_null(p, n):\n    return -n\n",
        "def l_null(p, n):\n    return n * (p * math.log2(p) + (1 - p) * math.log2(1 - p))\n",
        _check_null,
    ),
    Exercise(
        "bits.3",
        "A planted bug",
        r"""The share of bits that no step up to level $t$ has tossed anew. One mistake is in here; with it, half of the noise
schedule would do nothing, and no loss would tell you. `betas[0]` is $\beta_1$.""",
        """def kept(betas, t):
    share = 1.0
    for beta in betas[:t]:
        share = min(share, 1 - beta)
    return share
""",
        """def kept(betas, t):
    share = 1.0
    for beta in betas[:t]:
        share = share * (1 - beta)
    return share
""",
        _check_kept,
    ),
)
