"""Pictures of measurements: the terms of a variational bound, and rate against distortion (Ho et al. 2020, figure 5).

matplotlib draws them without a display; numbers are in the JSON beside each picture.
"""

from __future__ import annotations

import io
from pathlib import Path

from sfumato.data import pictures
from sfumato.evaluate.likelihood import BoundReport

INK, ACCENT, SOFT = "#23282f", "#b4552d", "#8a929c"


def bound_plot(report: BoundReport, path: Path) -> None:
    """Two panels: every term of the bound by its level, and the distortion left at each rate."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    bound = report.bound
    levels = bound.times[:-1].double()
    terms = bound.terms.double().mean(0)
    figure, (left, right) = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    left.loglog(levels, terms.clamp(min=1e-9), color=INK, linewidth=1.4)
    left.plot(levels[-1:], terms[-1:], "o", color=ACCENT, label="decoder")
    left.set(xlabel="level t (1 is almost clean)", ylabel="bits/dim", title="terms of the bound")
    left.legend(frameon=False)
    rate, distortion = bound.rate.double().mean(0), bound.distortion.double().mean(0)
    right.plot(rate, distortion, color=INK, linewidth=1.4)
    right.set(xlabel="rate: bits/dim spent", ylabel="distortion: RMSE of 0..255", title="progressive coding")
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
        axes.grid(color=SOFT, alpha=0.25, linewidth=0.6)
    figure.suptitle(
        f"{report.bits_per_dim:.3f} +- {report.standard_error:.3f} bits/dim on {report.protocol['images']:,} images of "
        f"{report.protocol['data']}",
        fontsize=11,
    )
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    plt.close(figure)
    pictures.write_bytes(path, buffer.getvalue())
