"""The table of Sohl-Dickstein et al. 2015 by one command: K and K - L_null beside the paper's figures, and pictures.

`python benchmarks/dpm2015_table.py` trains what is missing below runs/dpm2015-table (each row by its preset, each seed
anew), measures K on held-out data, keeps every figure in benchmarks/results/dpm2015_table.json and prints the table of
docs/dpm.md; `--only NAME` takes one row, `--figures` draws docs/images/dpm-*.png, `--print` only prints. A run that was
stopped is taken up where it stood.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.core.betas import jsd_betas
from sfumato.core.dpm2015.binomial import BinomialDiffusion
from sfumato.core.dpm2015.products import Known, Multiplied
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import finish, trajectory
from sfumato.data import open_source, pictures
from sfumato.data.loader import to_float, to_uint8
from sfumato.data.toys import HEARTBEATS, ROLL_CENTRE, ROLL_FROM, ROLL_SCALE, ROLL_TO
from sfumato.evaluate.parzen import parzen
from sfumato.likelihood import k_of
from sfumato.models import Model, load_model

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "dpm2015-table"
RESULTS = ROOT / "benchmarks" / "results" / "dpm2015_table.json"
IMAGES = ROOT / "docs" / "images"
PARZEN = {"digits": (1000, 100), "fashion": (500, 50)}
"""Rows with a Parzen window as well: samples, and their steps; the paper has it for MNIST: 317 +- 2.7 bits."""


@dataclass(frozen=True)
class Row:
    """A row of the table: the paper's figures where it has them, ours from so many seeds.

    Attributes:
        data: so many of the test set, and so many of the levels (0 for all), which stand for the others.
    """

    K: float | None
    gain: float | None
    seeds: int
    data: tuple[int, int]
    options: tuple[str, ...] = ()
    preset: str = ""


ROWS = {
    "swiss_roll": Row(2.35, 6.45, 2, (2000, 0)),
    "swiss_roll, 16 constant units": Row(
        2.35,
        6.45,
        1,
        (2000, 0),
        ("--recipe.network", "dpm-radial?hidden=16", "--train.minutes", "3"),
        "swiss_roll",
    ),
    "heartbeat": Row(-2.414, 12.024, 3, (1000, 0)),
    "heartbeat, last step learned": Row(None, None, 1, (1000, 0), ("--recipe.edge", "learned"), "heartbeat"),
    "dead_leaves": Row(1.489, 3.536, 1, (500, 250)),
    "digits": Row(None, None, 1, (300, 250)),
    "fashion": Row(None, None, 1, (100, 250), ("--train.minutes", "4")),
    "emoji32": Row(None, None, 1, (90, 250), ("--train.minutes", "4")),
}


# ---------------------------------------------------------------- measuring


def load_results() -> dict[str, Any]:
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def keep(name: str, found: dict[str, Any]) -> None:
    """Add to a row, whatever other rows are being measured beside."""
    results = load_results()
    results.setdefault(name, {}).update(found)
    RESULTS.parent.mkdir(exist_ok=True)
    pictures.write_text(RESULTS, json.dumps(results, indent=1))


def folder(name: str, seed: int) -> Path:
    return RUNS / f"{name.replace(', ', '-').replace(' ', '-')}-{seed}"


def finished(run: Path) -> bool:
    return (run / "report.html").exists()


def trained(name: str, seed: int) -> Path:
    row, out = ROWS[name], folder(name, seed)
    if not finished(out):
        choices = [*row.options, "--train.seed", str(seed), "--train.threads", "1", "--out", str(out)]
        again = (out / "config.json").exists()
        arguments = ["--resume", str(out)] if again else [f"dpm/{row.preset or name}", *choices]
        if sfumato(["train", *arguments]):
            raise SystemExit(f"training {name} did not finish")
    return out


def measure(name: str) -> None:
    row = ROWS[name]
    for seed in range(row.seeds):
        if str(seed) in load_results().get(name, {}):
            continue
        model = load_model(trained(name, seed))
        spec = row.preset or name
        test = open_source(f"{spec}:test")
        report = k_of(model, test, steps=row.data[1] or None, limit=row.data[0])
        seen = {key: model.about[key] for key in ("images", "step", "seconds")}
        size = sum(p.numel() for p in model.network.parameters())
        found = {**report.to_json(), "K": report.total, **seen, "parameters": size}
        if len(found["divergences"]) > 100:
            del found["divergences"]  # thousands of them; `sfumato likelihood` writes them all
        if name in PARZEN:
            found["parzen"] = windows(model, spec, *PARZEN[name])
        keep(name, {str(seed): found})
        print(f"{name}, seed {seed}: {report}, gain {report.details['gain']:.4f}")


def windows(model: Model, spec: str, n: int, steps: int) -> dict[str, Any]:
    """Parzen windows of samples, and of as many training images, which is what a perfect model could reach."""
    test, train = open_source(f"{spec}:test").images, open_source(spec).images
    order = torch.randperm(len(test), generator=torch.Generator().manual_seed(0))
    chosen = train[torch.randperm(len(train), generator=torch.Generator().manual_seed(0))[:n]]
    half = len(test) // 2
    validation, rest = test[order[: min(half, 500)]], test[order[half : half + 2000]]
    values: dict[str, Any] = {"samples": n, "steps": steps}
    for kind, images in (("model", model.sample(n, steps=steps)), ("training images", chosen)):
        found = parzen(images, validation, rest)
        values[kind] = {"bits": found.bits, "standard_error": found.standard_error / math.log(2), "width": found.width}
    return values


# ---------------------------------------------------------------- what is the most that K can be


def best_heartbeat(T: int = 2000) -> float:
    """-H(x_1), bits: K of a perfect model where the last step is fixed, by the sum over all 2^20 sequences."""
    process = BinomialDiffusion(jsd_betas(T))
    one = process.marginal(HEARTBEATS.double(), torch.tensor(1)).p  # (5, 20)
    total = 0.0
    for block in torch.arange(2**20).split(2**16):
        bits = (block[:, None] >> torch.arange(20) & 1).double()
        log = bits @ one.log().T + (1 - bits) @ (1 - one).log().T  # (n, 5)
        log = log.logsumexp(1) - math.log(5)
        total += float((log.exp() * log).sum())
    return total / math.log(2)


def best_roll(model: Model, n: int = 2000) -> float:
    """-h(x_1), bits: the same for the roll, by a fine sum over the curve."""
    recipe: Any = model.recipe
    alpha2 = 1 - float(recipe.first_betas()[0])
    r = torch.linspace(ROLL_FROM, ROLL_TO, 200_001, dtype=torch.float64)
    centre = torch.from_numpy(ROLL_CENTRE)

    def curve(r: Tensor) -> Tensor:
        points = (torch.stack([r * r.cos(), r * r.sin()], 1) - centre) / ROLL_SCALE
        return alpha2**0.5 * recipe.space.encode(points)

    torch.manual_seed(0)
    std = (1 - alpha2) ** 0.5
    x = curve(ROLL_FROM + (ROLL_TO - ROLL_FROM) * torch.rand(n, dtype=torch.float64))
    x, knots, values = x + std * torch.randn_like(x), curve(r), []
    for part in x.split(50):
        log = -0.5 * ((part[:, None] - knots).square().sum(-1)) / std**2
        values.append(log.logsumexp(1) - math.log(len(r)) - math.log(2 * math.pi * std**2))
    return float(torch.cat(values).mean()) / math.log(2)


def bounds() -> None:
    """The optimum of each toy, kept beside its row."""
    results = load_results()
    if "best" not in results.get("heartbeat", {"best": 0}):
        keep("heartbeat", {"best": best_heartbeat()})
    if "best" not in results.get("swiss_roll", {"best": 0}):
        keep("swiss_roll", {"best": best_roll(load_model(folder("swiss_roll", 0)))})


# ---------------------------------------------------------------- the table


def table(results: dict[str, Any]) -> str:
    lines = [
        "| data | K, paper | K, ours | the most possible | K - L_null, paper | ours | unit | seeds | training each |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for name, row in ROWS.items():
        seeds = [v for key, v in results.get(name, {}).items() if key.isdigit()]
        if not seeds:
            continue
        K, gain = ([v[key] for v in seeds] for key in ("K", "gain"))
        spread = f"+- {statistics.stdev(K):.3f}" if len(K) > 1 else f"+- {seeds[0]['standard_error']:.3f} (data)"
        best = results[name].get("best")
        cost = f"{statistics.mean(v['seconds'] for v in seeds) / 60:.1f} min, {seeds[0]['parameters']:,} weights"
        paper = ["-" if v is None else f"{v:g}" for v in (row.K, row.gain)]
        lines.append(
            f"| {name} | {paper[0]} | {statistics.mean(K):.3f} {spread} | {'-' if best is None else f'{best:.3f}'} "
            f"| {paper[1]} | {statistics.mean(gain):.3f} | {seeds[0]['unit']} | {len(seeds)} | {cost} |"
        )
    lines += ["| bark | -0.55 | not to be had | - | 1.5 | - | bits/pixel | 0 | - |"]
    for name in PARZEN:
        if found := results.get(name, {}).get("0", {}).get("parzen"):
            lines.append(f"\nParzen windows on {name}, {found['samples']:,} samples: " + "; ".join(
                f"{kind} {found[kind]['bits']:.1f} +- {found[kind]['standard_error']:.1f} bits, "
                f"width {found[kind]['width']:.3f}" for kind in ("model", "training images")) + ".")  # fmt: skip
    return "\n".join(lines)


# ---------------------------------------------------------------- figures


def both_ways(model: Model, n: int, seed: int = 0) -> tuple[list[Tensor], list[Tensor]]:
    """Forward and reverse trajectories in the model's space at the start, the middle and the end (figure 1)."""
    recipe: Any = model.recipe
    chain, T = recipe.chain(model.network), recipe.steps
    spec = model.about["data"]["spec"]
    x0 = recipe.space.encode(to_float(open_source(spec).images[:n]))
    noise = ImageNoise(seed, range(n))
    forward = [chain.process.marginal(x0, torch.tensor(t)).sample(noise) for t in (0, T // 2, T)]
    x = chain.process.prior(tuple(x0.shape)).sample(noise)
    moves = [(chain.kernel, t, t - 1) for t in torch.arange(T, 1, -1)]
    states = [x, *(state for state, _ in trajectory(x, moves, noise))]
    return forward, [states[-1], states[T // 2], states[0]]


def figures() -> None:
    """Figure 1 for the roll and the heartbeat; figure 5 for the leaves."""
    from sfumato.evaluate.plots import ACCENT, INK, panels

    if finished(roll := folder("swiss_roll", 0)):
        with torch.inference_mode():
            rows = both_ways(load_model(roll), 2000)
        title = "forward (dark) and reverse (red), at levels 0, 20 and 40"
        with panels(IMAGES / "dpm-swiss-roll.png", title, 6, 2.6) as axes:
            for column in range(3):
                for k, (row, colour) in enumerate(zip(rows, (INK, ACCENT), strict=True)):
                    ax = axes[3 * k + column]
                    ax.scatter(*row[column].flatten(1).T, s=0.4, color=colour)
                    ax.set(xlim=(-3, 3), ylim=(-3, 3), xticks=[], yticks=[], aspect="equal")
    if finished(beats := folder("heartbeat", 0)):
        with torch.inference_mode():
            rows = both_ways(load_model(beats), 40)
        title = "forward (left) and reverse (right), at levels 0, 1000 and 2000; one sequence a row"
        with panels(IMAGES / "dpm-heartbeat.png", title, 6, 2.0) as axes:
            for ax, state in zip(axes, [*rows[0], *rows[1]], strict=True):
                ax.imshow(1 - state.flatten(1), cmap="gray", vmin=0, vmax=1, interpolation="nearest")
                ax.set(xticks=[], yticks=[])
    if finished(leaves := folder("dead_leaves", 0)):
        inpainted(load_model(leaves), IMAGES / "dpm-inpainting.png")


def inpainted(model: Model, path: Path, n: int = 8) -> None:
    """Figure 5: the truth, what is known of it, and two ways in which the model fills in the rest."""
    diffusion, shape = model.diffusion, model.recipe.shape
    truth = to_float(open_source("dead_leaves:test").images[:n])
    known = torch.ones(shape, dtype=torch.bool)
    side = shape[1]
    known[:, side // 4 : -(side // 4), side // 4 : -(side // 4)] = False
    rows = [truth, torch.where(known, truth, torch.zeros(()))]
    for seed in (0, 1):
        noise = ImageNoise(seed, range(n))
        moves = diffusion.own.plan(diffusion.gaussian, model.denoiser())
        factor = Known(model.recipe.space.encode(truth), known)
        with torch.inference_mode():
            x = diffusion.prior(tuple(truth.shape)).sample(noise)
            end = finish(x, [(Multiplied(kernel, factor), t, s) for kernel, t, s in moves], noise)
            rows.append(model.recipe.space.decode(end))
    pictures.save_png(path, pictures.grid(to_uint8(torch.cat(rows)), columns=n))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=ROWS, help="one row")
    parser.add_argument("--print", action="store_true", help="only print the table")
    parser.add_argument("--figures", action="store_true", help="only draw the figures")
    chosen = parser.parse_args()
    if not chosen.print and not chosen.figures:
        for name in [chosen.only] if chosen.only else ROWS:
            measure(name)
        bounds()
    if chosen.figures or not (chosen.print or chosen.only):
        figures()
    print(table(load_results()))


if __name__ == "__main__":
    main()
