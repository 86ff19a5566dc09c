"""Two guidances and an upsampler on fashion, by one command: how far the asked class is reached, and what it costs.

`python benchmarks/guidance_on_fashion.py` trains what is missing below runs/guidance-on-fashion (an ADM with label
dropout, a classifier of noisy images, an upsampler from 14x14), sweeps the guidance scale, keeps every figure in
benchmarks/results/guidance_on_fashion.json, draws docs/images/guidance-on-fashion.png, guided.png and upsampled.png,
and prints the tables of docs/likelihood_line.md; `--plot` only redraws the curves.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.evaluate.neighbours import density_coverage
from sfumato.evaluate.plots import ACCENT, INK, SECOND, panels
from sfumato.models import Guide, load_classifier, load_model
from sfumato.models.real import shrunk
from sfumato.samplers.grids import respace

ROOT = Path(__file__).parent.parent
RUNS = ROOT / "runs" / "guidance-on-fashion"
RESULTS = ROOT / "benchmarks" / "results" / "guidance_on_fashion.json"
IMAGES = ROOT / "docs" / "images"
PICTURES, STEPS = 500, 25
GRID = partial(respace, text=f"ddim{STEPS}")
"""The grid that ADM samples with: it begins where some signal is left, so that a guided score implies a sane x0."""
TRAININGS = {"adm/fashion": "100k", "adm_classifier/fashion": "40k", "iddpm/fashion-upsampler": "50k"}
SWEEPS: dict[str, tuple[float, ...]] = {
    "classifier-free": (1.0, 1.5, 2.0, 3.0, 5.0),
    "classifier": (0.5, 1.0, 2.0, 4.0, 8.0),
}


def folder(preset: str) -> Path:
    return RUNS / preset.replace("/", "-")


def train(preset: str) -> None:
    out = folder(preset)
    if (out / "report.html").exists():
        return
    print(f"== training {preset}")
    new = ["train", preset, "--train.images", TRAININGS[preset], "--train.threads", "1", "--out", str(out)]
    if sfumato(["train", "--resume", str(out)] if (out / "config.json").exists() else new):
        raise SystemExit(f"training {preset} did not finish")


def measure() -> dict[str, Any]:
    net, test = in_domain("fashion"), open_source("fashion:test")
    real = net(test.images[:5000])
    model, classifier = load_model(folder("adm/fashion")), load_classifier(folder("adm_classifier/fashion"))
    y = torch.arange(PICTURES) % 10
    held_out = net(test.images[5000:5500])
    assert held_out.logits is not None
    assert test.labels is not None
    floor = {
        "fd": frechet_distance(statistics(held_out.pooled), statistics(real.pooled)),
        "accuracy": float((held_out.logits.argmax(1) == test.labels[5000:5500]).double().mean()),
        "coverage": density_coverage(real.pooled, held_out.pooled).coverage,
    }
    found: dict[str, Any] = {"net": net.distance, "pictures": PICTURES, "steps": STEPS, "real": floor}
    sheets: list[Tensor] = []
    for kind, scales in SWEEPS.items():
        rows = {}
        for scale in scales:
            guide = Guide(classifier, scale) if kind == "classifier" else None
            images = model.sample(
                PICTURES, steps=GRID, classes=y, guide=guide, batch=125,
                scale=scale if kind == "classifier-free" else 1.0,
            )  # fmt: skip
            features = net(images)
            assert features.logits is not None
            rows[str(scale)] = {
                "accuracy": float((features.logits.argmax(1) == y).double().mean()),
                "fd": frechet_distance(statistics(features.pooled), statistics(real.pooled)),
                "coverage": density_coverage(real.pooled, features.pooled).coverage,
                "spread": spread(features.pooled, y) / spread(held_out.pooled, test.labels[5000:5500]),
            }
            print(kind, scale, json.dumps(rows[str(scale)]), flush=True)
            if scale in (1.0, 3.0, 8.0):
                sheets.append(images[:20])
        found[kind] = rows
    pictures.save_png(IMAGES / "guided.png", pictures.grid(torch.cat(sheets), columns=20))
    found["upsampler"] = upsample(test.images)
    RESULTS.parent.mkdir(exist_ok=True)
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    return found


def spread(features: Tensor, y: Tensor) -> float:
    """Mean distance of two pictures of the same class in feature space: diversity that an average hides."""
    parts = [torch.pdist(features[y == k]).mean() for k in y.unique().tolist()]
    return float(torch.stack(parts).mean())


def upsample(test: Tensor, n: int = 16) -> dict[str, float]:
    """Enlarge test images, and draw: what was given, bicubic, ours, the original."""
    model = load_model(folder("iddpm/fashion-upsampler"))
    small = shrunk(test[:200], 14)
    ours = model.sample(200, steps=50, low_res=small, batch=100)
    bicubic = F.interpolate(small.float(), 28, mode="bicubic", antialias=False).clamp(0, 255).round().byte()
    given = F.interpolate(small.float(), 28, mode="nearest").byte()
    sheet = torch.cat([images[:n] for images in (given, bicubic, ours, test)])
    pictures.save_png(IMAGES / "upsampled.png", pictures.grid(sheet, columns=n))
    net = in_domain("fashion")
    real = statistics(net(test[5000:]).pooled)

    def error(images: Tensor) -> float:
        return float(((images.float() - test[:200].float()) / 255).square().mean().sqrt())

    back = shrunk(ours, 14).float() - small.float()
    return {
        "rmse ours": error(ours), "rmse bicubic": error(bicubic),
        "fd ours": frechet_distance(statistics(net(ours).pooled), real),
        "fd bicubic": frechet_distance(statistics(net(bicubic).pooled), real),
        "fd original": frechet_distance(statistics(net(test[:200]).pooled), real),
        "rmse of ours shrunk again": float((back / 255).square().mean().sqrt()),
    }  # fmt: skip


def table(found: dict[str, Any]) -> str:
    lines = ["| guidance | scale | accuracy of the asked class | spread within a class | coverage | FD |",
             "|---|---|---|---|---|---|"]  # fmt: skip
    for kind in SWEEPS:
        for scale, row in found[kind].items():
            lines.append(f"| {kind} | {scale} | {row['accuracy']:.1%} | {row['spread']:.2f} | {row['coverage']:.2f} "
                         f"| {row['fd']:.2f} |")  # fmt: skip
    real = found["real"]
    lines.append(f"| real images | | {real['accuracy']:.1%} | 1.00 | {real['coverage']:.2f} | {real['fd']:.2f} |")
    lines += ["", "| upsampler | |", "|---|---|"]
    lines += [f"| {name} | {value:.3f} |" for name, value in found["upsampler"].items()]
    return "\n".join(lines)


def plot(found: dict[str, Any], path: Path) -> None:
    with panels(path) as (left, right):
        for kind, colour in zip(SWEEPS, (ACCENT, SECOND), strict=True):
            rows = found[kind]
            scales = [float(s) for s in rows]
            accuracy, wide = ([rows[s][key] for s in rows] for key in ("accuracy", "spread"))
            left.plot(wide, accuracy, "o-", color=colour, label=kind)
            for s, x, y in zip(scales, wide, accuracy, strict=True):
                left.annotate(f"{s:g}", (x, y), textcoords="offset points", xytext=(4, -9), fontsize=7, color=colour)
            right.plot(scales, [rows[s]["fd"] for s in rows], "o-", color=colour, label=kind)
        left.plot([1], [found["real"]["accuracy"]], "*", color=INK, markersize=10, label="real images")
        left.set(
            xlabel="spread within a class (real = 1)", ylabel="accuracy of the asked class", title="fidelity, diversity"
        )
        right.set(xscale="log", xlabel="guidance scale", ylabel=found["net"], title="distance to real images")
        right.set_xticks([0.5, 1, 2, 4, 8], ["0.5", "1", "2", "4", "8"])
        right.minorticks_off()
        left.legend(frameon=False, fontsize=8)


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    if "--plot" not in arguments:
        for preset in TRAININGS:
            train(preset)
        if "--train" in arguments:
            return
        measure()
    found = json.loads(RESULTS.read_text())
    plot(found, IMAGES / "guidance-on-fashion.png")
    print(table(found))


if __name__ == "__main__":
    main(sys.argv[1:])
