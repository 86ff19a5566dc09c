"""`sfumato likelihood`: bits per dimension of images under a model, with every term of the estimate."""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.parsing import UsageError, device_of, known_images, loaded, parse, steps_of, writable

if TYPE_CHECKING:
    from sfumato.data import Images
    from sfumato.model import Model
    from sfumato.runtime.workers import WorkerPool


@dataclass(frozen=True)
class LikelihoodArguments:
    """How likely images are under a model, in bits per dimension, with every term of the estimate."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: str | None = None
    """The images; by default the :test split of what the model was trained on, where there is one."""
    method: Literal["bound", "ode"] = "bound"
    """The variational bound of the model's own chain (K for a model of 2015); or the probability flow of a model in
    continuous time, or of variance-preserving levels, between which it flows."""
    limit: int = 1000
    """So many images, spread over the set; 0 takes all."""
    steps: str = "all"
    """Levels of the chain: all, a number of evenly spaced ones, or a respacing such as 10,10,10 or ddim50."""
    solver: str = "adaptive"
    """ode: adaptive (RK45, needs the extra `ode`), or a number of Runge-Kutta steps, four evaluations each."""
    probes: int = 1
    """ode: Hutchinson probes an image."""
    repeats: int = 1
    """ode: estimates of each image, with other dequantisation and probes."""
    seed: int = 0
    """Decides the noise, the dequantisation and the probes."""
    batch: int = 256
    """Images at a time; bounds the memory."""
    processes: int = 1
    """How many share the images, a batch at a time; the figures are the same."""
    weights: str | None = None
    """`online`, or an EMA rate; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default likelihood/ inside the run folder, or in the current folder for a checkpoint."""


def likelihood_command(arguments: list[str]) -> int:
    parsed = parse(LikelihoodArguments, arguments, "sfumato likelihood")
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.evaluate.likelihood import bound_of
    from sfumato.evaluate.plots import bound_plot
    from sfumato.model import load
    from sfumato.papers.recipe import Nonequilibrium
    from sfumato.runtime.workers import WorkerPool

    if parsed.limit < 0 or parsed.batch < 1:
        raise UsageError("--limit is at least 0 and --batch at least 1")
    team = WorkerPool(partial(load, parsed.target, weights=parsed.weights), parsed.processes, device_of(parsed.device))
    model = loaded(parsed.target, parsed.weights, parsed.device)
    images = known_images(parsed.data, model)
    count = min(parsed.limit or len(images), len(images))
    target = Path(parsed.target)
    folder = parsed.out or (target if (target / "config.json").is_file() else Path()) / "likelihood"
    if parsed.method == "ode":
        return _flow(parsed, model, images, count, folder, team)
    steps = None if parsed.steps == "all" else steps_of(parsed.steps)
    if isinstance(model.recipe, Nonequilibrium):
        return _k(parsed, model, images, count, folder, team)
    with tqdm(total=count, unit="image", disable=None, leave=False, smoothing=0) as bar:
        report = bound_of(
            model, images, steps=steps, limit=count, seed=parsed.seed, batch=parsed.batch, team=team,
            progress=bar.update,
        )  # fmt: skip
    out = writable(folder)
    pictures.write_text(out / "bound.json", json.dumps(report.to_json(), indent=1))
    bound_plot(report, out / "bound.png")
    values, protocol = report.to_json(), report.protocol
    print(f"variational bound {values['total']:.4f} +- {values['standard_error']:.4f} bits/dim")
    print(f"  prior {values['prior']:.6f}, decoder {values['decoder']:.4f}, levels between "
          f"{values['total'] - values['prior'] - values['decoder']:.4f}")  # fmt: skip
    print(f"  {protocol['images']:,} images of {protocol['data']}, {protocol['levels']:,} levels, "
          f"seed {protocol['seed']}, {protocol['weights']} weights")  # fmt: skip
    print(f"{out}/{{bound.json,bound.png}}")
    return 0


def _flow(
    parsed: LikelihoodArguments, model: Model, images: Images, count: int, folder: Path, team: WorkerPool[Any]
) -> int:
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.flow import adaptive, flow_likelihood, runge_kutta

    if parsed.solver != "adaptive" and not (parsed.solver.isdigit() and int(parsed.solver) > 0):
        raise UsageError(f"--solver is adaptive or a number of steps, not {parsed.solver!r}")
    solve = adaptive() if parsed.solver == "adaptive" else runge_kutta(int(parsed.solver))
    with tqdm(total=count * parsed.repeats, unit="image", disable=None, leave=False, smoothing=0) as bar:
        report = flow_likelihood(
            model, images, solve, probes=parsed.probes, repeats=parsed.repeats, limit=count, seed=parsed.seed,
            batch=parsed.batch, team=team, progress=bar.update,
        )  # fmt: skip
    values = {**report.to_json(), "solver": parsed.solver, "network_evaluations": report.evaluations}
    out = writable(folder)
    pictures.write_text(out / "ode.json", json.dumps(values, indent=1))
    print(f"probability flow {report.bits_per_dim:.4f} +- {report.standard_error:.4f} bits/dim")
    protocol = report.protocol
    print(f"  {count:,} images of {protocol['data']}, {protocol['dequantisation']}, {protocol['divergence']} probes, "
          f"{report.evaluations:.0f} evaluations, seed {parsed.seed}")  # fmt: skip
    print(f"{out}/{{ode.json}}")
    return 0


def _k(
    parsed: LikelihoodArguments, model: Model, images: Images, count: int, folder: Path, team: WorkerPool[Any]
) -> int:
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.evaluate.likelihood import k_of

    if parsed.steps != "all" and not parsed.steps.isdigit():
        raise UsageError(f"for K, --steps is all or a number of levels that stand for all, not {parsed.steps!r}")
    steps = None if parsed.steps == "all" else int(parsed.steps)
    with tqdm(total=count, unit="image", disable=None, leave=False, smoothing=0) as bar:
        report = k_of(
            model, images, steps=steps, limit=count, seed=parsed.seed, batch=parsed.batch, team=team,
            progress=bar.update,
        )  # fmt: skip
    values = report.to_json()
    out = writable(folder)
    pictures.write_text(out / "k.json", json.dumps(values, indent=1))
    print(f"K {report.K:.4f} +- {report.standard_error:.4f} {values['unit']}, K - L_null {report.gain:.4f}"
          + (f"; at most {report.bits_per_dim:.4f} bits/dim" if report.bits_per_dim is not None else ""))  # fmt: skip
    print(f"  {count:,} of {report.protocol['data']}, {report.protocol['levels']:,} levels, "
          f"in units of {report.protocol['units']}, {report.protocol['weights']} weights")  # fmt: skip
    print(f"{out}/{{k.json}}")
    return 0
