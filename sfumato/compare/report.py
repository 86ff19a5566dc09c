"""Tables and pictures of stored results; nothing here computes anything anew."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from sfumato.compare.entries import NUMBERS, Entry, entries, makes_pictures, presets
from sfumato.compare.runner import AT
from sfumato.evaluate.plots import INK, SOFT, panels

Found = dict[str, Any]
COLOURS = ("#7a5195", "#2a9d8f", "#1d6f8a", "#b4552d", "#d98f4e", "#4a6fa5", "#8a929c", "#6b8e23", "#c0507a")
STYLES = ("o-", "s:", "^--", "d-.")


def tables(found: Found) -> Iterator[str]:
    """All tables, in Markdown."""
    yield "\n".join(_models(found))
    yield "\n".join(_by_evaluations(found))
    yield "\n".join(_at_one_number(found))


def _scored(found: Found) -> list[Entry]:
    """The entries that have scores; those by a sampler of one's own behind the others of their model."""
    usual = {one.name: one for one in entries(found["data"])}
    every = [usual.get(name) or Entry(*name.split(", ", 1)) for name in dict.fromkeys([*usual, *found["scores"]])]
    order = list(dict.fromkeys(one.preset for one in every))
    return sorted((one for one in every if one.name in found["scores"]), key=lambda one: order.index(one.preset))


def _seeds(values: list[float], form: str = "{:.2f}") -> str:
    """The mean over seeds, with their standard deviation where there are several."""
    known = [v for v in values if not math.isnan(v)]
    if not known:
        return "-"
    mean = sum(known) / len(known)
    if len(known) < 2:
        return form.format(mean)
    spread = (sum((v - mean) ** 2 for v in known) / (len(known) - 1)) ** 0.5
    return f"{form.format(mean)} +- {form.format(spread)}"


def _each(rows: dict[str, Any], get: Callable[[Any], float | None]) -> list[float]:
    values = (get(row) for row in rows.values())
    return [math.nan if value is None else value for value in values]


def _models(found: Found) -> Iterator[str]:
    yield "| model | parameters | MFLOP an image | images seen | CPU s per 1,000 | bound, bits/dim | ODE, bits/dim |"
    yield "|---|---|---|---|---|---|---|"
    for preset in presets(found["data"]):
        if rows := found["models"].get(preset):
            first = next(iter(rows.values()))
            bits = [
                _seeds(_each(rows, lambda r, k=kind: r.get(k, {}).get("bits"))) if makes_pictures(preset) else "-"  # type: ignore[misc]
                for kind in ("bound", "ode")
            ]
            cost = _seeds(_each(rows, lambda r: r["cpu_seconds_per_thousand"]), "{:.1f}")
            yield (
                f"| {preset} | {first['parameters'] / 1e6:.2f}M | {first['flops'] / 1e6:.0f} | {first['images']:,} | "
                f"{cost} | {bits[0]} | {bits[1]} |"
            )


def _by_evaluations(found: Found) -> Iterator[str]:
    numbers = _numbers(found)
    yield f"| {found['net']} at evaluations | " + " | ".join(map(str, numbers)) + " |"
    yield "|---" * (len(numbers) + 1) + "|"
    for one in _scored(found):
        scores = found["scores"][one.name]
        cells = (_seeds(_each(scores.get(str(n), {}), lambda row: row.get("frechet"))) for n in numbers)
        yield f"| {one.name} | " + " | ".join(cells) + " |"
    yield "| real images | " + " | ".join(f"{_any(found, n, 'floor'):.2f}" for n in numbers) + " |"
    yield "| pictures scored | " + " | ".join(str(_any(found, n, "pictures")) for n in numbers) + " |"


def _numbers(found: Found) -> list[int]:
    """The evaluations at which anyone scored."""
    return [n for n in NUMBERS if _any(found, n, "floor") is not None]


def _any(found: Found, evaluations: int, key: str) -> Any:
    """What all entries share at a number of evaluations; None where nobody has it."""
    rows = (row for scores in found["scores"].values() for row in scores.get(str(evaluations), {}).values())
    return next((row[key] for row in rows if row.get(key) is not None), None)


COLUMNS = {
    "kernel": ("KD x1000", "{:.1f}"), "precision": ("precision", "{:.2f}"), "recall": ("recall", "{:.2f}"),
    "density": ("density", "{:.2f}"), "coverage": ("coverage", "{:.2f}"),
    "class_accuracy": ("asked class", "{:.0%}"), "copies_pixels": ("copies", "{:.1%}"),
    "seconds_per_picture": ("s a picture", "{:.3f}"),
}  # fmt: skip


def _at_one_number(found: Found) -> Iterator[str]:
    yield f"| at {AT} evaluations | " + " | ".join(label for label, _ in COLUMNS.values()) + " |"
    yield "|---" * (len(COLUMNS) + 1) + "|"
    for one in _scored(found):
        rows = found["scores"][one.name].get(str(AT), {})
        cells = (_seeds(_each(rows, lambda row, k=key: row.get(k)), form) for key, (_, form) in COLUMNS.items())  # type: ignore[misc]
        yield f"| {one.name} | " + " | ".join(cells) + " |"


def plot(found: Found, path: Path) -> None:
    """Distance to real images against network evaluations, a line an entry."""
    every = _scored(found)
    models = list(dict.fromkeys(one.preset for one in every))
    with panels(path, f"{found['data']}: {found['images']:,} training images each", count=1, wide=9.0) as axes:
        for one in every:
            scores = found["scores"][one.name]
            points = [
                (n, sum(known) / len(known))
                for n in _numbers(found)
                if (known := [row["frechet"] for row in scores.get(str(n), {}).values() if "frechet" in row])
            ]
            if points:
                ways = [other.how for other in every if other.preset == one.preset]
                style, colour = STYLES[ways.index(one.how) % len(STYLES)], models.index(one.preset) % len(COLOURS)
                axes.plot(*zip(*points, strict=True), style, color=COLOURS[colour], markersize=4, linewidth=1.4,
                          label=one.name)  # fmt: skip
        floors = [(n, _any(found, n, "floor")) for n in _numbers(found)]
        axes.plot(*zip(*floors, strict=True), color=INK, linewidth=0.8, label="real images")
        axes.set(xscale="log", yscale="log", xlabel="network evaluations a picture", ylabel=found["net"])
        axes.set_xticks(_numbers(found), [str(n) for n in _numbers(found)])
        axes.minorticks_off()
        axes.grid(color=SOFT, alpha=0.25)
        axes.legend(frameon=False, fontsize=7, loc="center left", bbox_to_anchor=(1.0, 0.5))
