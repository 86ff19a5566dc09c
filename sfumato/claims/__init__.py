"""The papers' claims as experiments, each with what it measures and between which numbers that has to lie.

`sfumato reproduce` lists them; lessons show what they return; the tests run every one at its fast setting.
"""

from __future__ import annotations

from sfumato.claims import (
    adm,
    ddim,
    ddpm,
    dpm,
    explorative,
    iddpm,
    jit,
    measuring,
    ncsn,
    ncsnv2,
    score_sde,
    solvers,
)
from sfumato.claims.claim import Claim, Measured, Verdict, judge

PAPERS = (dpm, ncsn, ncsnv2, ddpm, ddim, iddpm, score_sde, adm, solvers, jit, explorative, measuring)

CLAIMS: dict[str, Claim] = {claim.name: claim for paper in PAPERS for claim in paper.CLAIMS}

__all__ = ["CLAIMS", "Claim", "Measured", "Verdict", "judge"]
