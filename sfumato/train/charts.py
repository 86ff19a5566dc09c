"""Curves of the report as figures with an inline SVG, which need nothing beside them."""

from __future__ import annotations

import html
import io
import math
from collections.abc import Iterable, Sequence
from typing import Any

Line = tuple[Sequence[float], Sequence[float], str, str]


def chart(
    lines: Iterable[Line], caption: str, *, log_y: bool = False, zero: bool = False, x: str = "images seen",
    marked: bool = False,
) -> str:  # fmt: skip
    """A figure with an inline SVG; colours that read on light and dark.

    Args:
        lines: x, y, label and colour of each.
        log_y, zero: a logarithmic y axis where all values are positive; one that begins at 0.
        x: what the x axis shows.
        marked: a dot at each value of the first line.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator

    grey = "#8a8f98"
    style: dict[Any, Any] = {
             "svg.fonttype": "none", "font.family": "sans-serif", "font.size": 11, "axes.edgecolor": grey,
             "text.color": grey, "axes.labelcolor": grey, "xtick.color": grey, "ytick.color": grey}  # fmt: skip
    with mpl.rc_context(style):
        figure = Figure(figsize=(6.2, 3.3), layout="constrained")
        axes = figure.add_subplot()
        drawn = list(lines)
        for i, (at, y, label, colour) in enumerate(drawn):
            axes.plot(at, y, color=colour, linewidth=1.6, label=label, marker="o" if marked and not i else "", ms=4)
        if log_y and all(v > 0 for _, y, _, _ in drawn for v in y if math.isfinite(v)):
            axes.set_yscale("log")
            axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        if zero:
            axes.set_ylim(bottom=0)
        axes.set_xlabel(x)
        axes.xaxis.set_major_formatter(_short)
        axes.yaxis.set_major_formatter(lambda v, _: f"{v:g}")
        axes.yaxis.set_minor_formatter(lambda v, _: "")
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(alpha=0.2)
        if len(drawn) > 1:
            figure.legend(frameon=False, fontsize=8, loc="outside right upper")
        buffer = io.StringIO()
        nothing = dict.fromkeys(("Creator", "Date", "Format", "Type"))  # the page names no address but the SVG standard
        figure.savefig(buffer, format="svg", transparent=True, metadata=nothing)
    svg = buffer.getvalue()
    return f"<figure>{svg[svg.index('<svg') :]}<figcaption>{html.escape(caption)}</figcaption></figure>"


def _short(value: float, _: object) -> str:
    """A number of an axis: 2M, 500k, 0.1."""
    return f"{value / 1e6:g}M" if value >= 1e6 else f"{value / 1e3:g}k" if value >= 1e3 else f"{value:g}"
