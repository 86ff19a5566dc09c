"""Pictures of measurements in one style; the terms of a bound, rate and distortion (Ho et al. 2020, figure 5).

matplotlib draws them without a display; numbers are in the JSON beside each picture.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sfumato.data import pictures

INK, ACCENT, SOFT, SECOND = "#23282f", "#b4552d", "#8a929c", "#4a6fa5"


@contextmanager
def panels(path: str | Path, title: str = "", count: int = 2, wide: float = 5.0) -> Iterator[Any]:
    """So many axes side by side, in the one style of this project; on leaving, the picture is written to the file."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(wide * count, 3.8), layout="constrained")
    every = figure.subplots(1, count)
    yield every
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=SOFT, alpha=0.25, linewidth=0.6)
    if title:
        figure.suptitle(title, fontsize=11)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    pictures.write_bytes(path, buffer.getvalue())


def bound_plot(values: Mapping[str, Any], path: str | Path) -> None:
    """Two panels: every term of the variational bound by its level, and the distortion left at each rate.

    Args:
        values: of a bound's report, as `Report.to_json` gives them or a file bound.json holds them.
    """
    levels, terms, protocol = values["levels"], [max(term, 1e-9) for term in values["terms"]], values["protocol"]
    title = (
        f"{values['total']:.3f} +- {values['standard_error']:.3f} bits/dim on {protocol['images']:,} images of "
        f"{protocol['data']}"
    )
    with panels(path, title) as (left, right):
        left.loglog(levels, terms, color=INK, linewidth=1.4)
        left.plot(levels[-1:], terms[-1:], "o", color=ACCENT, label="decoder")
        left.set(xlabel="level t (1 is almost clean)", ylabel="bits/dim", title="terms of the bound")
        left.legend(frameon=False)
        right.plot(values["rate"], values["distortion"], color=INK, linewidth=1.4)
        right.set(xlabel="rate: bits/dim spent", ylabel="distortion: RMSE of 0..255", title="progressive coding")
