"""Every comparison with a recorded number, kept while the tests run, and the table that docs/goldens.md shows of them.

`make goldens` runs the comparisons and writes the table anew.
"""

from __future__ import annotations

from collections import defaultdict
from pathlib import Path
from typing import NamedTuple


class Entry(NamedTuple):
    """One array: the worst error relative to its largest number, and as a share of what is allowed."""

    family: str
    case: str
    relative: float
    share: float


ENTRIES: list[Entry] = []

FAMILIES = {
    "schedules": "betas and tables (improved-diffusion, guided-diffusion)",
    "ddim_schedule": "betas and alphas (ddim)",
    "respace": "respacing, with its errors",
    "diffusion": "one step: q, posterior, p_mean_variance, p_sample, DDIM both ways, bound terms, losses, guidance",
    "likelihood": "8-bit decoder, KL of Gaussians",
    "bpd": "variational bounds, term by term",
    "ddim_loss": "training loss (ddim)",
    "train_grad": "losses and gradients of U-Nets: simple, hybrid, bound",
    "resampler": "importance sampling of levels",
    "loop": "sampling loops, ancestral and DDIM, with and without a classifier, 16x16 U-Nets",
    "ddim_loop": "sampling loops (ddim)",
    "eval_frechet": "Frechet distance (guided-diffusion's evaluator)",
    "eval_inception_score": "Inception score (guided-diffusion's evaluator)",
    "eval_precision_recall": "precision and recall, half-precision distances (guided-diffusion's evaluator)",
    "song sde": "SDE tables, discretisations, what networks are conditioned on (score_sde)",
    "song losses": "losses in continuous and discrete time, likelihood weighting (score_sde)",
    "song predictors": "predictors, with and without noise (score_sde)",
    "song correctors": "correctors (score_sde)",
    "song samplers": "whole predictor-corrector runs (score_sde)",
    "song controllable": "inpainting and colouring (score_sde)",
    "song ode": "probability flow, adaptive (score_sde)",
    "song likelihood": "likelihood of the flow with Hutchinson probes (score_sde)",
    "song ema": "moving averages (score_sde, ncsnv2)",
    "song training": "learning rate, clipping, whole training steps of NCSN++ and DDPM++ (score_sde)",
    "song ncsn": "score matching, sliced and denoising; Langevin dynamics and inpainting (ncsn)",
    "song ncsnv2": "levels, techniques, losses, annealed Langevin dynamics, inpainting, interpolation (ncsnv2)",
    "song dpm2015": "schedule, bumps over time, bound, samplers, networks and bits of DPM 2015 (derived anew, not run)",
    "embedding": "time embeddings",
    "resampling": "resampling through a filter (score_sde)",
}


def record(family: str, case: str, relative: float, share: float) -> None:
    """Keep one comparison."""
    ENTRIES.append(Entry(family, case, relative, share))


def write_table(path: Path) -> None:
    """docs/goldens.md from what was recorded."""
    grouped: dict[str, dict[str, list[Entry]]] = defaultdict(lambda: defaultdict(list))
    for entry in ENTRIES:
        grouped[entry.family][entry.case].append(entry)
    rows = []
    for family in [*FAMILIES, *sorted(set(grouped) - set(FAMILIES))]:
        if family not in grouped:
            continue
        cases = grouped[family]
        passed = sum(all(e.share <= 1 for e in entries) for entries in cases.values())
        every = [e for entries in cases.values() for e in entries]
        rows.append(
            f"| {FAMILIES.get(family, f'network {family}')} | {passed} of {len(cases)} | {len(every):,} "
            f"| {max(e.relative for e in every):.1e} | {max(e.share for e in every):.2f} |"
        )
    path.write_text(TEXT.format(rows="\n".join(rows)))


TEXT = """# Parity with the official code

Numbers were recorded by running ermongroup/ddim, openai/improved-diffusion, openai/guided-diffusion, ermongroup/ncsn,
ermongroup/ncsnv2 and yang-song/score_sde_pytorch (`score_sde`) on a CPU, with weights and noise that a label alone
decides. `tests/golden` holds every case's recipe and a few dozen numbers of each array; the tests compare them, and the
whole arrays where the full recording is at hand. `make goldens` prints this table again.

An error is relative to the array's largest number. The last column is the worst error as a share of the recording's
own tolerance, which follows from how far the official float32 result lies from exact arithmetic, or moves when the
same official model runs on another backend; 1 is the limit.

| family | cases passed | arrays | worst relative error | worst share of the tolerance |
|---|---|---|---|---|
{rows}

In two places our test allows more than the recording states: DDIM's log of the small variance (5e-4, where the official
code subtracts float32 numbers near 1) and the time embedding of width 128 (one last bit of a float32 rate).
"""
