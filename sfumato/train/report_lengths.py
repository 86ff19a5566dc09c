"""The part of a run's report on averages of other lengths: validation loss and Frechet distance by sigma_rel (EDM2)."""

from __future__ import annotations

from typing import Any

from sfumato.runtime.folder import RunFolder
from sfumato.train.charts import chart


def lengths(run: RunFolder) -> str:
    """What was measured of averages of other lengths: the validation loss and the Frechet distance."""
    records = run.metrics("lengths")
    shown = [figure for measure in (_loss_by_length, _distance_by_length) if (figure := measure(run, records))]
    return f'<h2>Which average</h2><div class="pair">{"".join(shown)}</div>' if shown else ""


def _newest(records: list[dict[str, Any]], measure: str) -> dict[str, Any] | None:
    """The newest record with at least three values of a measure, one a length."""
    for record in reversed(records):
        lengths, values = record.get("lengths", []), record.get(measure, [])
        if all(isinstance(part, list) for part in (lengths, values)) and 3 <= len(lengths) == len(values):
            return record
    return None


def _loss_by_length(run: RunFolder, records: list[dict[str, Any]]) -> str:
    """The validation loss by the length of the average, with that of the default average for comparison."""
    found = _newest(records, "loss")
    if found is None:
        return ""
    lengths, loss = found["lengths"], found["loss"]
    at = [r for r in run.metrics("validation") if r["images"] == found["images"]][-1:]
    lines = [(lengths, loss, "power-function averages", "#b4552d")]
    if at and at[0].get("ema"):
        mean = sum(at[0]["ema"]) / len(at[0]["ema"])
        lines.append(([lengths[0], lengths[-1]], [mean, mean], f"default, EMA {at[0].get('rate', '')}", "#4a7a8c"))
    best = min(zip(loss, lengths, strict=True))[1]
    by_distance = any(record["images"] == found["images"] and record.get("fd") for record in records)
    or_best = "" if by_distance else ", or --weights best"
    text = (
        "Validation loss (mean over the levels, fixed images and noise) of averages of other lengths, rebuilt from "
        f"snapshots; the least is at {best:g}. Sample with one by --weights {best:g}{or_best}."
    )
    return chart(lines, text, x="length of the average, sigma_rel", marked=True)


def _distance_by_length(run: RunFolder, records: list[dict[str, Any]]) -> str:
    """The Frechet distance by the length of the average, where it was measured (`evaluate.lengths`)."""
    found = _newest(records, "fd")
    if found is None:
        return ""
    lengths, fd, name = found["lengths"], found["fd"], str(found.get("distance", "Frechet distance"))
    best = min(zip(fd, lengths, strict=True))[1]
    text = (
        f"{name} of {found.get('n', 0):,} pictures of each average against {found.get('reference', 'real images')}, "
        f"after {found['images']:,} images; the least is at {best:g}, which --weights best takes."
    )
    return chart([(lengths, fd, name, "#6b7f3f")], text, x="length of the average, sigma_rel", marked=True)
