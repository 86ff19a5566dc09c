"""Samples of ddpm/signals beside the exact covariance and power spectrum of their data: `python benchmarks/signals.py`.

Trains the preset for 70,000 signals below runs/signals (three minutes on two cores), and compares 1,000 samples, and as
many held-out signals, with `data.moving.covariance`. `--write` prints the stored result into docs/data.md.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.data import open_source
from sfumato.data.moving import LENGTH, covariance
from sfumato.models import Model, load_model

ROOT = Path(__file__).parent.parent
RUN, RESULTS = ROOT / "runs" / "signals", ROOT / "benchmarks" / "results" / "signals.json"
PAGE = ROOT / "docs" / "data.md"
COUNT, STEPS = 1000, 20
BANDS = {"0": (0, 1), "1/128 to 3/128": (1, 4), "1/32 to 1/8": (4, 17), "17/128 to 1/4": (17, 33), "above": (33, 65)}
"""Frequencies in periods a sample, and which of the 65 of a signal they are; the data's sines are in the third."""


def spectrum(second_moments: Tensor) -> Tensor:
    """The mean power E|X_k|^2 of the discrete Fourier transform, of E[x(s) x(t)] (L, L): (L/2 + 1,)."""
    turned = torch.fft.rfft(second_moments.to(torch.float64), dim=0)
    waves = torch.fft.rfft(torch.eye(LENGTH, dtype=torch.float64), dim=0)
    return (turned * waves.conj()).sum(1).real


def compared(signals: Tensor) -> dict[str, object]:
    """How far signals (N, 1, L) are from the exact moments."""
    x, exact = signals.double()[:, 0], covariance()
    found = x.T @ x / len(x)
    ours, theirs = spectrum(found), spectrum(exact)
    decibels = {
        name: round(10 * float((ours[a:b].sum() / theirs[a:b].sum()).log10()), 2) for name, (a, b) in BANDS.items()
    }
    variance = (x - x.mean(1, keepdim=True)).square().mean(0) / exact.diag()
    ends = [round(float(part.mean()), 3) for part in (variance[:32], variance[96:])]
    return {"decibels": decibels, "variance": ends, "offset": round(float(x.mean(1).std()), 4)}


def measure(model: Model) -> dict[str, object]:
    """Samples and held-out signals."""
    samples = model.sample(COUNT, steps=STEPS, seed=0, batch=250)
    held = open_source(f"signals:test?limit={COUNT}").images
    return {"samples": compared(samples), "held out": compared(held), "count": COUNT, "steps": STEPS}


def table(found: dict[str, object]) -> str:
    """The result as a table of Markdown."""
    rows = {name: found[name] for name in ("samples", "held out")}
    bands = " | ".join(BANDS)
    lines = [f"| power, in dB of the exact one | {bands} | variance of the first and last quarter | offset |",
             f"|---|{'---|' * (len(BANDS) + 2)}"]  # fmt: skip
    for name, row in rows.items():
        assert isinstance(row, dict)
        power = " | ".join(f"{row['decibels'][band]:+.1f}" for band in BANDS)
        begin, end = row["variance"]
        lines.append(f"| {found['count']:,} {name} | {power} | {begin:.2f}, {end:.2f} | {row['offset']:.3f} |")
    return "\n".join(lines)


def write() -> None:
    """The stored result, between the marks of the page."""
    text, between = (
        table(json.loads(RESULTS.read_text())),
        re.compile(r"(<!-- signals -->\n).*?(<!-- end -->)", re.DOTALL),
    )
    PAGE.write_text(between.sub(lambda kept: f"{kept[1]}{text}\n{kept[2]}", PAGE.read_text()))


if __name__ == "__main__":
    if "--write" not in sys.argv:
        if not (RUN / "report.html").exists():
            sfumato(["train", "ddpm/signals", "--train.minutes", "None", "--train.images", "70000", "--out", str(RUN)])
        made = load_model(RUN)
        RESULTS.write_text(json.dumps(measure(made), indent=1) + "\n")
        print(table(json.loads(RESULTS.read_text())))
    write()
