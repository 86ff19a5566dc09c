"""`sfumato samplers [MODEL]`: every sampler with its order, its price, whether it draws noise, and its paper.

Given a model, it says which of them its schedule bears, why not the others, and which one is taken by default.
"""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Any

import tyro

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.sampling import Sampler
    from sfumato.core.schedules import Steps
    from sfumato.models.model import Model


@dataclass(frozen=True)
class SamplersArguments:
    """List the samplers: order, evaluations of the network a move, whether noise is drawn, options, and paper."""

    target: Annotated[str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[MODEL]")] = None
    """A run folder, a checkpoint or a shipped model: which samplers fit it, and which one it is sampled by."""


def samplers_command(arguments: list[str]) -> int:
    from sfumato.cli.parsing import loaded, parse

    parsed = parse(SamplersArguments, arguments, "sfumato samplers")
    model = loaded(parsed.target, None, "cpu") if parsed.target else None
    print("\n".join(table() if model is None else fitting(model)))
    return 0


def table() -> list[str]:
    """A line for each sampler, and a line for what it is."""
    from sfumato.samplers import SAMPLERS
    from sfumato.spec import options

    lines = [f"{'sampler':20} {'order':>5} {'evaluations a move':>19} {'noise':>6}  options"]
    kind: Any
    for name, kind in SAMPLERS.items():
        sampler, written = kind(), ", ".join(options(kind))
        order, noise = str(sampler.convergence or "-"), "yes" if _draws(sampler) else ""
        lines.append(f"{name:20} {order:>5} {sampler.evaluations:>19} {noise:>6}  {written}")
        lines.append(f"    {' '.join((kind.__doc__ or '').partition(chr(10) * 2)[0].split())}")
    return [*lines, "", "--sampler NAME or --sampler 'NAME?option=value&option=value'; own is the paper's"]


def fitting(model: Model) -> list[str]:
    """What a model is sampled by, and which samplers its schedule bears."""
    from sfumato import samplers

    diffusion = model.diffusion
    usual = samplers.name(diffusion.sampler)
    lines = [f"by default: {usual}, {_moves(diffusion.steps)}",
             f"the paper's own: --sampler own, {_moves(diffusion.own_steps)}"]  # fmt: skip
    if diffusion.process is None:
        return [*lines, "no other: its bits or learned noise levels are sampled by its own chain alone"]
    if not diffusion.averages:
        return [*lines, "no other: a model of few steps is sampled by its own sampler alone"]
    for name, kind in samplers.SAMPLERS.items():
        try:
            sampler = kind().of(diffusion)
            steps, grid = diffusion.usual(sampler), diffusion.process.schedule
            if len(sampler.times(grid, 5)) == len(sampler.times(grid, 6)):  # whatever number is asked for
                lines.append(f"{name:20} as many steps and evaluations as each image needs")
                continue
            asked = samplers.evaluations(sampler, diffusion.process, steps)
            lines.append(f"{name:20} {_moves(steps)}, {asked} evaluations of the network")
        except ValueError as error:
            lines.append(f"{name:20} does not fit: {error}")
    return lines


def _moves(steps: Steps) -> str:
    return f"{steps} steps" if isinstance(steps, int) else "every level"


def _draws(sampler: Sampler) -> bool:
    """Whether it draws noise as it stands, found by running it on a schedule that it fits."""
    import torch

    from sfumato.core.denoisers import Prediction
    from sfumato.core.sampling import finish
    from sfumato.papers.presets import PRESETS

    drawn = 0

    def noise(like: Tensor) -> Tensor:
        nonlocal drawn
        drawn += 1
        return torch.ones_like(like)

    for preset in ("ddpm/fashion", "score_sde/fashion"):  # levels, and continuous time
        diffusion: Any = PRESETS[preset].recipe.build()
        process, one = diffusion.gaussian, torch.ones(1, 1)

        def denoise(x: Tensor, t: Tensor, process: GaussianDiffusion = process) -> Prediction:
            return Prediction(x, process.level(t, x), x, x, variance=x)

        with contextlib.suppress(ValueError):
            finish(one, sampler.of(diffusion).plan(process, denoise, 5), noise)
            break
    return drawn > 0
