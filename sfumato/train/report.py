"""report.html: one page about a run that needs nothing beside it: curves, previews over time, data card, commands.

Pictures and curves are embedded, so that the file can be mailed; it reads well on a phone, and in the dark.
"""

from __future__ import annotations

import base64
import html
import json
import math
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from sfumato import shapes
from sfumato.data import pictures
from sfumato.papers import PAPERS, from_json
from sfumato.runtime.folder import RunFolder
from sfumato.train.charts import chart
from sfumato.train.report_lengths import lengths

STYLE = """
:root { --ink: #23282f; --soft: #6a7280; --paper: #faf9f7; --card: #fff; --line: #e4e1dc; --accent: #b4552d; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e3de; --soft: #9aa0a8; --paper: #17191c; --card: #1f2226; --line: #33373d; --accent: #e08a5f; }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); font: 16px/1.55 system-ui, sans-serif; }
main { max-width: 1080px; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font: 600 2rem/1.2 Georgia, serif; margin: 0; }
h2 { font: 600 1.25rem Georgia, serif; margin: 2.6rem 0 .9rem; }
p.lead, figcaption, .soft { color: var(--soft); }
p.lead { margin: .3rem 0 0; }
.facts { display: grid; grid-template-columns: repeat(auto-fit, minmax(150px, 1fr)); gap: .8rem; margin: 1.6rem 0 0; }
.facts div, figure, pre, details { background: var(--card); border: 1px solid var(--line); border-radius: 10px; }
.facts div { padding: .8rem 1rem; }
.facts b { display: block; font: 600 1.3rem Georgia, serif; }
.facts span { color: var(--soft); font-size: .85rem; }
.pair { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 1rem; }
figure { margin: 0; padding: 1rem; overflow: hidden; }
figure img, figure svg { display: block; width: 100%; height: auto; }
figure img { image-rendering: pixelated; border-radius: 4px; }
figcaption { font-size: .88rem; margin-top: .6rem; }
.strip { display: flex; gap: 1rem; overflow-x: auto; padding-bottom: .5rem; }
.strip figure { flex: 0 0 230px; padding: .7rem; }
pre { padding: 1rem; font: .88rem/1.6 ui-monospace, monospace; margin: 0; }
pre { white-space: pre-wrap; overflow-wrap: anywhere; }
details { padding: .8rem 1rem; margin-top: .8rem; }
details pre { border: 0; padding: .6rem 0 0; }
summary { cursor: pointer; }
.note { border-left: 3px solid var(--accent); padding-left: .9rem; }
"""


def write_report(path: Path) -> Path:
    """Write report.html into a run folder from what lies there; returns where it is.

    Raises:
        ValueError: no run folder.
        OSError: it cannot be written.
    """
    run = RunFolder.open(path)
    config, card = run.config(), run.data_card()
    train, validation = run.metrics("train"), run.metrics("validation")
    parts = [
        _head(path, config),
        _facts(config, card, train),
        _notes(config, train),
        _results(run),
        _curves(train, validation, _distances(run)),
        lengths(run),
        _over_time(run),
        _data(run, card),
        _commands(path, config),
        _settings(config),
    ]
    title = html.escape(str(config.get("preset", path.name)))
    page = (
        f'<!doctype html><html lang="en"><head><meta charset="utf-8"><title>{title} - sfumato</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head>'
        f"<body><main>{''.join(parts)}</main></body></html>"
    )
    pictures.write_text(path / "report.html", page)
    return path / "report.html"


# ---------------------------------------------------------------- parts, from the top


def _head(path: Path, config: dict[str, Any]) -> str:
    name, data = html.escape(str(config.get("preset", "a run"))), html.escape(str(config.get("data", "")))
    return f'<h1>{name}</h1><p class="lead">trained on {data}; everything about it lies in <code>{path.name}</code></p>'


def _facts(config: dict[str, Any], card: dict[str, Any], train: list[dict[str, Any]]) -> str:
    last = train[-1] if train else {"images": 0, "seconds": 0.0}
    images, seconds = last["images"], last["seconds"]
    recipe = config["recipe"]
    facts = [
        (f"{images:,}", f"images seen, {images / max(card['count'], 1):.1f} epochs"),
        (_clock(seconds), "of training"),
        (f"{images / max(seconds, 1e-9):,.0f}", "images a second"),
        (f"{config['parameters'] / 1e6:.2f}M" if "parameters" in config else "-", "parameters"),
        (str(recipe.get("network", {}).get("kind", "-")), _choices(recipe)),
    ]
    cells = "".join(f"<div><b>{html.escape(a)}</b><span>{html.escape(b)}</span></div>" for a, b in facts)
    return f'<div class="facts">{cells}</div>'


def _choices(recipe: dict[str, Any]) -> str:
    """The first choices of a recipe, as far as it has them."""
    parts = [f"{recipe[name]} {name}" for name in ("prediction", "betas", "sde") if name in recipe]
    return ", ".join([*parts, f"{recipe['steps']} levels" if "steps" in recipe else "the network"])


def _notes(config: dict[str, Any], train: list[dict[str, Any]]) -> str:
    notes = [
        f"Gone on after {change['images']:,} images with {name.replace('_', ' ')} {after} in the place of {before}."
        for change in config.get("history", [])
        for name, (before, after) in change["changed"].items()
    ]
    skipped = train[-1].get("skipped", 0) if train else 0
    if skipped:
        notes.append(f"{skipped} steps were skipped because their loss or gradient was not finite.")
    if not train:
        notes.append("This run has not logged anything yet.")
    return "".join(f'<p class="note">{html.escape(note)}</p>' for note in notes)


def _results(run: RunFolder) -> str:
    final = _previews(run, "ema")[-1:]
    data = run.path / "samples" / "data.png"
    rows = run.metrics("reconstruction")
    what = "Held-out images above their reconstructions by" if rows else "Samples of"
    text = f"{what} the averaged weights after {{:,}} images. {_floor(rows)}"
    figures = [_picture(p, text.format(images)) for images, p in final]
    if data.is_file():
        figures.append(_picture(data, "Training images, for comparison: evenly spread over the set."))
    return f'<h2>What it makes</h2><div class="pair">{"".join(figures)}</div>' if figures else ""


def _floor(rows: list[dict[str, Any]]) -> str:
    """How near the reconstructions of an autoencoder are, in words."""
    if not rows:
        return ""
    last = rows[-1]
    distance = f", {last['distance']} {last['frechet']:.4g}" if last.get("frechet") is not None else ""
    codes = f", {last['used']:,} of {last['codes']:,} codes used" if last.get("codes") else ""
    return f"PSNR {last['psnr']:.2f} dB on {last['count']:,} images of {last['on']}{distance}{codes}."


BY_LEVEL = {
    "ema": "Loss of the averaged weights by share of the schedule (light is clean), on fixed images and noise.",
    "uncertainty": "The loss that is expected in training by share of the schedule: exp(u) of the learned uncertainty.",
}
"""What is recorded by level, and its caption."""


def _curves(train: list[dict[str, Any]], validation: list[dict[str, Any]], distances: str) -> str:
    if len(train) < 2:
        return ""
    seen = [r["images"] for r in train]
    loss = [(seen, _smooth([r["loss"] for r in train]), "training", "#b4552d")]
    figures = [chart(loss, "Training loss (smoothed), by images seen.", log_y=True)]
    for key, text in BY_LEVEL.items():
        found = [r for r in validation if r.get(key)]
        bins = len(found[0][key]) if found else 0
        at = [r["images"] for r in found]
        lines = [
            (at, [r[key][b] for r in found], f"{100 * b // bins}-{100 * (b + 1) // bins} %", _shade(b / bins))
            for b in range(bins)
        ]
        if lines:
            figures.append(chart(lines, text, log_y=True))
    rate = [(seen, [r["learning_rate"] for r in train], "learning rate", "#4a7a8c")]
    speed = [(seen, _speeds(train), "images/s", "#6b7f3f")]
    figures += [distances, chart(rate, "Learning rate."), chart(speed, "Images a second.", zero=True)]
    return f'<h2>How it went</h2><div class="pair">{"".join(figures)}</div>'


def _distances(run: RunFolder) -> str:
    """The Frechet distance of samples on the way, as far as it was measured as the last time, beside its floor."""
    found = run.metrics("fd")
    how = ("name", "n", "on", "reference", "sampler", "evaluations", "rate")
    alike = [r for r in found if all(r.get(key) == found[-1].get(key) for key in how)]
    if not alike:
        return ""
    last, at = alike[-1], [r["images"] for r in alike]
    fd, n = [float(r["fd"]) for r in alike], int(last["n"])
    lines = [(at, fd, "samples", "#b4552d")]
    if last.get("floor") is not None:
        lines.append(([at[0], at[-1]], [float(last["floor"])] * 2, "real images", "#4a7a8c"))
    best = fd.index(min(fd))
    kept = f"The best, {fd[best]:.4g} after {at[best]:,} images, is kept: sfumato sample {run.best}."
    text = (
        f"{last['name']} of {n:,} samples ({last['sampler']}, {last['evaluations']} evaluations, averaged weights) to "
        f"{last['on']}, {last['reference']}. {kept if run.best.is_file() else ''}"
    )
    return chart(lines, text, log_y=True, marked=True)


def _over_time(run: RunFolder) -> str:
    rows = []
    for kind, text in (("ema", "averaged weights"), ("online", "online weights")):
        shown = _previews(run, kind)
        figures = "".join(_picture(p, f"{images:,} images") for images, p in shown)
        if figures:
            rows.append(f'<p class="soft">The same noise through the {text}:</p><div class="strip">{figures}</div>')
    return f"<h2>Previews over time</h2>{''.join(rows)}" if rows else ""


def _data(run: RunFolder, card: dict[str, Any]) -> str:
    has = card.get("attributes") or {}
    rows = [
        (shapes.kind(card["shape"]), f"{card['count']:,}, {shapes.described(card['shape'])}"),
        ("spec", card["spec"]),
        ("classes", ", ".join(f"{name} {n:,}" for name, n in card["classes"].items()) if card["classes"] else "none"),
        *([("attributes", ", ".join(f"{name} {n:,}" for name, n in has.items()))] if has else []),
        ("corrupt files", ", ".join(card["corrupt"]) or "none"),
        *(("note", note) for note in card["notes"]),
        ("licence", card.get("licence") or "not known"),
    ]
    text = "\n".join(f"{name:14}{value}" for name, value in rows)
    return f"<h2>Data card</h2><pre>{html.escape(text)}</pre>"


def _commands(path: Path, config: dict[str, Any]) -> str:
    where = shlex.quote(str(path))
    lines = [f"{config.get('command', '')}    # this run", *uses(where, config), f"sfumato inspect {where}"]
    return f"<h2>Commands</h2><pre>{html.escape(chr(10).join(lines))}</pre>"


def uses(where: str, config: dict[str, Any]) -> list[str]:
    """The commands that use a run, by what its recipe builds; none of a recipe of one's own."""
    if config["recipe"].get("paper") not in PAPERS:
        return []
    made = from_json(config["recipe"])
    built, asked = made.build(), made.conditioning
    if built.reconstruct is not None:
        return [f'sfumato train PRESET --recipe.space "latents?of={where}"']
    if built.sampler is None:
        return [f"sfumato sample MODEL --classifier {where}"]
    option = "inputs" if str(config.get("data")).startswith("pair:") else "originals"
    given = " --low-res IMAGES" if asked.picture else f" --{option} IMAGES" if asked.pictured else ""
    return [f"sfumato sample {where}{given} -n 64 --seed 0", f"sfumato sample {where}{given} -n 16 --animation"]


def _settings(config: dict[str, Any]) -> str:
    text = html.escape(json.dumps({"recipe": config["recipe"], "train": config["train"]}, indent=2))
    summary = "<summary>recipe and training numbers (config.json)</summary>"
    return f"<h2>Settings</h2><details>{summary}<pre>{text}</pre></details>"


# ---------------------------------------------------------------- pieces


def _previews(run: RunFolder, kind: str) -> list[tuple[int, Path]]:
    found = [p for p in (run.path / "samples").glob(f"*-{kind}.png") if p.stem.split("-")[0].isdigit()]
    return sorted((int(p.stem.split("-")[0]), p) for p in found)


def _picture(path: Path, caption: str) -> str:
    encoded = base64.b64encode(path.read_bytes()).decode()
    text = html.escape(caption)
    return f'<figure><img alt="{text}" src="data:image/png;base64,{encoded}"><figcaption>{text}</figcaption></figure>'


def _shade(share: float) -> str:
    """From light (clean) to dark orange (noisy)."""
    light, dark = (231, 178, 120), (110, 44, 24)
    return "#" + "".join(f"{round(a + (b - a) * share):02x}" for a, b in zip(light, dark, strict=True))


def _smooth(values: Sequence[float], weight: float = 0.85) -> list[float]:
    smoothed, mean = [], math.nan
    for value in values:
        mean = value if math.isnan(mean) else mean if math.isnan(value) else weight * mean + (1 - weight) * value
        smoothed.append(mean)
    return smoothed


def _speeds(train: list[dict[str, Any]]) -> list[float]:
    """Images a second between records."""
    speeds, images, seconds = [], 0, 0.0
    for record in train:
        elapsed = record["seconds"] - seconds
        speeds.append((record["images"] - images) / elapsed if elapsed > 0 else math.nan)
        images, seconds = record["images"], record["seconds"]
    return _smooth(speeds)


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02} min" if hours else f"{minutes} min {rest:02} s"
