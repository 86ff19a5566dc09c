"""VE and VP on fashion, by one command: three ways to sample at equal network evaluations, likelihood, restoring.

`python benchmarks/score_on_fashion.py` trains what is missing below runs/score-on-fashion (NCSN++ with VE and DDPM++
with VP, one budget), measures predictor only, predictor and corrector, and the probability flow at equal numbers of
network evaluations, keeps every figure in benchmarks/results/score_on_fashion.json and prints the tables of
docs/score_line.md. `--plot` only redraws and prints, `--restore` fills in and colours emoji with the model that ships.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.core.ode import runge_kutta
from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.plots import ACCENT, INK, SECOND, panels
from sfumato.likelihood import ode_likelihood
from sfumato.models import load_model
from sfumato.models.restoration import colourise, inpaint

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "score-on-fashion"
RESULTS = ROOT / "benchmarks" / "results" / "score_on_fashion.json"
IMAGES = "30k"
BUDGET = ["--train.images", IMAGES, "--train.minutes", "60", "--train.threads", "1", "--train.preview-steps", "50",
          "--train.preview-every", "0.5", "--train.validate-every", "0.25"]  # fmt: skip
MODELS = {"vp": ("DDPM++, VP", "score_sde/fashion"), "ve": ("NCSN++, VE", "score_sde/fashion-ve")}
EVALUATIONS = (20, 50, 100)
PICTURES, HELD_OUT, STEPS = 200, 64, 25
"""Pictures a distance; held-out images and Runge-Kutta steps for the likelihood."""
WAYS = {
    "predictor": ("reverse-diffusion", lambda n: n),
    "predictor and corrector": ("predictor-corrector", lambda n: n // 2),
    "ODE (Heun)": ("heun", lambda n: (n + 1) // 2),
}
"""Samplers, and the steps that take so many evaluations: Heun's last step takes one."""


def train(name: str) -> None:
    out = RUNS / name
    if (out / "report.html").exists():
        return
    arguments = ["train", MODELS[name][1], *BUDGET, "--out", str(out)]
    if sfumato(["train", "--resume", str(out)] if (out / "config.json").exists() else arguments):
        raise SystemExit(f"training {name} did not finish")


def measure(name: str) -> None:
    """Every figure of a model that is not yet in the results."""
    net, test, model = in_domain("fashion"), open_source("fashion:test"), load_model(RUNS / name)
    real = net(test.images).pooled
    reference = statistics(real[5000:])
    keep("protocol", "net", net.distance)
    keep("protocol", "floor", frechet_distance(statistics(real[:PICTURES]), reference))
    for evaluations in EVALUATIONS:
        for way, (sampler, steps) in WAYS.items():
            cell = f"{way}, {evaluations}"
            if cell not in stored().get(name, {}):
                samples = model.sample(PICTURES, steps=steps(evaluations), sampler=sampler, batch=100)
                pictures.save_png(RUNS / f"{name}-{cell}.png", pictures.grid(samples[:32], columns=16))
                keep(name, cell, frechet_distance(statistics(net(samples).pooled), reference))
        if "bits" not in stored().get(name, {}):
            report = ode_likelihood(model, test, runge_kutta(STEPS), limit=HELD_OUT)
            values = report.to_json()
            keep(name, "bits", {key: values[key] for key in ("total", "standard_error", "protocol")})


def keep(name: str, cell: str, value: Any) -> None:
    """Into the results, at once."""
    print(name, cell, value if isinstance(value, float) else "", flush=True)
    found = stored()
    found.setdefault(name, {})[cell] = value
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")


def stored() -> dict[str, Any]:
    """What was measured before."""
    return json.loads(RESULTS.read_text()) if RESULTS.exists() else {}


def measured(found: dict[str, Any]) -> list[int]:
    """The numbers of evaluations at which every way of every model has been measured."""
    return [n for n in EVALUATIONS if all(f"{way}, {n}" in found.get(name, {}) for name in MODELS for way in WAYS)]


def table(found: dict[str, Any]) -> str:
    every = measured(found)
    lines = ["| model | how | " + " | ".join(f"{n} evaluations" for n in every) + " |", "|---" * (len(every) + 2) + "|"]
    for name, (title, _) in MODELS.items():
        for way in WAYS:
            cells = [f"{found[name][f'{way}, {n}']:.2f}" for n in every]
            lines.append(f"| {title} | {way} | {' | '.join(cells)} |")
    lines.append(f"\n{found['protocol']['net']} of {PICTURES} pictures against 5,000 test images; of as many real "
                 f"ones {found['protocol']['floor']:.2f}.\n")  # fmt: skip
    lines += ["| model | bits/dim by the ODE |", "|---|---|"]
    for name, (title, _) in MODELS.items():
        if bits := found[name].get("bits"):
            lines.append(f"| {title} | {bits['total']:.2f} +- {bits['standard_error']:.2f} |")
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    every = measured(found)
    with panels(path) as axes:
        for axis, (name, (title, _)) in zip(axes, MODELS.items(), strict=True):
            for way, colour in zip(WAYS, (SECOND, ACCENT, INK), strict=True):
                axis.plot(every, [found[name][f"{way}, {n}"] for n in every], "o-", color=colour, label=way)
            axis.axhline(found["protocol"]["floor"], color=INK, linewidth=0.8, linestyle=":")
            axis.set(xscale="log", yscale="log", xlabel="network evaluations", title=title)
            axis.set_xticks(every, [str(n) for n in every])
            axis.minorticks_off()
        axes[0].set(ylabel=found["protocol"]["net"])
        axes[0].legend(frameon=False, fontsize=8)


def restored(n: int = 10, steps: int = 250) -> Tensor:
    """Rows of emoji: original, with a hole, filled in, grey, coloured."""
    model, images = load_model("ddpm/emoji32"), open_source("emoji32:test")
    chosen = torch.arange(n) * len(images) // n
    originals, labels = images.images[chosen], images.labels
    assert labels is not None
    known = torch.ones(32, 32, dtype=torch.bool)
    known[8:24, 8:24] = False
    filled = inpaint(model, originals, known, steps=steps, labels=labels[chosen])
    coloured = colourise(model, originals, steps=steps, labels=labels[chosen])
    grey = originals.float().mean(1, keepdim=True).expand(-1, 3, -1, -1).round().byte()
    holed = torch.where(known, originals, torch.tensor(128, dtype=torch.uint8))
    return pictures.grid(torch.cat([originals, holed, filled, grey, coloured]), columns=n)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--restore" in arguments:
        pictures.save_png(ROOT / "docs" / "images" / "restored.png", restored())
        return
    only = next((a.removeprefix("--only=") for a in arguments if a.startswith("--only=")), "")
    if "--plot" not in arguments:
        for name in (n for n in MODELS if only in (n, "")):
            train(name)
            measure(name)
        if only:
            return
    found = stored()
    plot(found, ROOT / "docs" / "images" / "score-on-fashion.png")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
