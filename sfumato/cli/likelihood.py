"""`sfumato likelihood`: bits per dimension of images under a model, with every term of the estimate."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.numbers import MANY, Count, Processes, Range, Seed, whole_number
from sfumato.cli.parsing import device_of, known_images, loaded, parse, steps_of
from sfumato.cli.results import asked, beside, of_weights, output_folder, place, store

if TYPE_CHECKING:
    from sfumato.likelihood import Report


@dataclass(frozen=True)
class LikelihoodArguments:
    """How likely images are under a model, in bits per dimension, with every term of the estimate."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: str | None = None
    """The images; by default the :test split of what the model was trained on, where there is one."""
    method: Literal["bound", "ode"] = "bound"
    """The variational bound of the model's own chain (K for a model of 2015); or the probability-flow ODE of a model in
    continuous time, or of variance-preserving levels, between which it flows."""
    limit: Annotated[int, Range(0, MANY)] = 1000
    """So many images, spread over the set; 0 takes all."""
    steps: str = "all"
    """Levels of the chain: all, a number of evenly spaced ones, or a respacing such as 10,10,10 or ddim50."""
    solver: str = "adaptive"
    """ode: adaptive (RK45, needs the extra `ode`), or a number of Runge-Kutta steps, four evaluations each."""
    probes: Annotated[int, Range(1, 10_000)] = 1
    """ode: Hutchinson probes an image."""
    repeats: Annotated[int, Range(1, 10_000)] = 1
    """ode: estimates of each image, with other dequantisation and probes."""
    seed: Seed = 0
    """Decides the noise, the dequantisation and the probes."""
    batch: Count = 256
    """Images at a time; bounds the memory."""
    processes: Processes = 1
    """How many share the images, a batch at a time; the figures are the same."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default a folder of likelihood/, inside the run folder or here for a checkpoint."""


def likelihood_command(arguments: list[str]) -> int:
    parsed = parse(LikelihoodArguments, arguments, "sfumato likelihood")
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.evaluate.plots import bound_plot
    from sfumato.models.loading import load_model
    from sfumato.runtime.workers import WorkerPool

    pool = WorkerPool(
        partial(load_model, parsed.target, weights=parsed.weights), parsed.processes, device_of(parsed.device)
    )
    model = loaded(parsed.target, parsed.weights, parsed.device)
    images = known_images(parsed.data, model)
    count = min(parsed.limit or len(images), len(images))
    name = "ode" if parsed.method == "ode" else "bound" if model.diffusion.lower_bound is None else "k"
    estimate = {"ode": _ode, "bound": _bound, "k": _k}[name](parsed)
    common: dict[str, Any] = {"limit": count, "seed": parsed.seed, "batch": parsed.batch, "pool": pool}
    total = count * (parsed.repeats if name == "ode" else 1)
    whole = asked("likelihood", parsed, weights=of_weights(model.network), device=model.device.type,
                  images=images.card.fingerprint)  # fmt: skip
    written = [f"{name}.json", *(["bound.png"] if name == "bound" else [])]
    with (
        place(parsed.out or output_folder(parsed.target, "likelihood", f"{name}-{whole.digest}"), whole) as out,
        tqdm(total=total, unit="image", disable=None, leave=False, smoothing=0) as bar,
    ):
        report: Report = estimate(model, images, progress=bar.update, **common)
        values = report.to_json() | ({"solver": parsed.solver} if name == "ode" else {})
        pictures.write_text(out / f"{name}.json", json.dumps(values, indent=1))
        store(out, whole, written)
        if name == "bound":
            with beside(out / "bound.json"):
                bound_plot(values, out / "bound.png")
    print("\n".join(_lines(report, name)))
    print(f"{out}/{{{','.join(written)}}}")
    return 0


Estimate = Callable[..., "Report"]
"""(model, images, limit=, seed=, batch=, pool=, progress=) -> its report."""


def _bound(parsed: LikelihoodArguments) -> Estimate:
    from sfumato.likelihood import bound_of

    return partial(bound_of, steps=None if parsed.steps == "all" else steps_of(parsed.steps))


def _k(parsed: LikelihoodArguments) -> Estimate:
    from sfumato.likelihood import k_of

    return partial(k_of, steps=None if parsed.steps == "all" else whole_number(parsed.steps, "--steps"))


def _ode(parsed: LikelihoodArguments) -> Estimate:
    from sfumato.likelihood import adaptive, ode_likelihood, runge_kutta

    solve = adaptive() if parsed.solver == "adaptive" else runge_kutta(whole_number(parsed.solver, "--solver"))
    return partial(ode_likelihood, solve=solve, probes=parsed.probes, repeats=parsed.repeats)


def _lines(report: Report, name: str) -> Iterator[str]:
    """What is printed of a report."""
    about, more = report.protocol, report.details
    of = f"{about['images']:,} images of {about['data']}"
    if name == "ode":
        yield str(report)
        yield (f"  {of}, {about['dequantisation']}, {about['divergence']} probes, "
               f"{more['network_evaluations']:.0f} evaluations, seed {about['seed']}")  # fmt: skip
    elif name == "k":
        bits = f"; at most {report.bits_per_dim:.4f} bits/dim" if report.bits_per_dim is not None else ""
        yield f"{report}, K - L_null {more['gain']:.4f}{bits}"
        yield f"  {of}, {about['levels']:,} levels, in units of {about['units']}, {about['weights']} weights"
    else:
        yield str(report)
        yield (f"  prior {more['prior']:.6f}, decoder {more['decoder']:.4f}, levels between "
               f"{report.total - more['prior'] - more['decoder']:.4f}")  # fmt: skip
        yield f"  {of}, {about['levels']:,} levels, seed {about['seed']}, {about['weights']} weights"
