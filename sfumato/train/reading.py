"""How two recipes read the same network: the number it is given for a noise level, and what its output means.

Compared at equal signal-to-noise ratios by a network that only records its inputs, so that no recipe need be known.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.papers import to_json
from sfumato.papers.recipe import Trainable

CLOSE = 1e-2
"""A difference of two curves, as a share of their range, that interpolation between levels may make."""


class Reading(NamedTuple):
    """Curves over rising half log signal-to-noise ratio, (n,) each, for noisy images divided by alpha."""

    log_snr: Tensor
    number: Tensor
    """What the network is given for the level."""
    into: Tensor
    """What the image is multiplied with on the way in."""
    skip: Tensor
    """d x0 / d image where the network's output is fixed."""
    out: Tensor
    """d x0 / d output."""


class _Probe(nn.Module):
    """A network that records its inputs and returns one number everywhere."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.channels, self.value, self.seen = channels, 0.0, (torch.empty(0), torch.empty(0))

    def forward(self, x: Tensor, t: Tensor, **_: Any) -> Tensor:
        self.seen = (x, t)
        return torch.full((len(x), self.channels, *x.shape[2:]), self.value, dtype=x.dtype)


def reading(recipe: Trainable, n: int = 256) -> Reading | None:
    """How a recipe reads its network; None for classifiers and for what has no fixed schedule of Gaussians."""
    built: Any = recipe.build()
    if built.sampler is None or built.process is None:
        return None
    t, _ = built.times.draw((torch.arange(n) + 0.5) / n)
    one = torch.ones(n, recipe.shape[0], 1, 1, dtype=torch.float64)
    level = built.process.level(t, one)
    for channels in (recipe.shape[0], 2 * recipe.shape[0]):
        probe = _Probe(channels)
        try:
            skip = built.denoise(probe, {})(one, t).x0[:, 0, 0, 0]
            into, number = probe.seen
            probe.value = 1.0
            out = built.denoise(probe, {})(torch.zeros_like(one), t).x0[:, 0, 0, 0]
        except ValueError:
            continue
        alpha = level.alpha.expand_as(one)[:, 0, 0, 0]
        order = (alpha / level.sigma.expand_as(one)[:, 0, 0, 0]).log().argsort()
        log_snr = (alpha / level.sigma.expand_as(one)[:, 0, 0, 0]).log()
        curves = (log_snr, number.double(), into[:, 0, 0, 0] * alpha, skip * alpha, out)
        return Reading(*(curve.double()[order] for curve in curves))
    return None


def compared(source: Trainable, recipe: Trainable) -> list[str]:
    """Sentences on what the same weights mean otherwise under another recipe; none where nothing does."""
    before, now = reading(source), reading(recipe)
    if before is None or now is None:
        return [] if source.build() == recipe.build() else ["how the two recipes read the network is not compared"]
    inside = (now.log_snr > before.log_snr[0]) & (now.log_snr < before.log_snr[-1])
    if not inside.any():
        return ["the noise levels of the two recipes do not meet; every level is learned anew"]
    said = []
    was, number = _at(before.log_snr, before.number, now.log_snr[inside]), now.number[inside]
    if _apart(was, number):
        worst = int((was - number).abs().argmax())
        said.append(
            f"the network is given other numbers for the same noise ({number[worst]:.4g} where the source had "
            f"{was[worst]:.4g}): the layers of the noise level are taken and must learn these"
        )
    curves = [
        (_at(before.log_snr, old, now.log_snr[inside]), new[inside])
        for old, new in zip(before[2:], now[2:], strict=True)
    ]
    if any(_apart(old, new) for old, new in curves):
        changed = _changes(source, recipe)
        said.append(
            "the network's output means something else here than in the source, and must be learned anew"
            + (f"; it is read exactly with {changed}" if changed else "")
        )
    return said


def _at(x: Tensor, y: Tensor, where: Tensor) -> Tensor:
    """y at these places, by straight lines between its points."""
    i = torch.searchsorted(x, where).clamp(1, len(x) - 1)
    share = ((where - x[i - 1]) / (x[i] - x[i - 1]).clamp(min=1e-12)).clamp(0, 1)
    return y[i - 1] + share * (y[i] - y[i - 1])


def _apart(a: Tensor, b: Tensor) -> bool:
    span = float(torch.cat([a, b]).max() - torch.cat([a, b]).min())
    return bool((a - b).abs().max() > CLOSE * max(span, float(a.abs().max()), 1e-9))


def _changes(source: Trainable, recipe: Trainable) -> str:
    """The options that give the recipe the source's reading, where both are of one paper."""
    old, new = to_json(source), to_json(recipe)
    if old["paper"] != new["paper"]:
        return f"a preset of {old['paper']}"
    plain = {name: value for name, value in old.items() if isinstance(value, str | int | float)}
    return " ".join(f"--recipe.{name.replace('_', '-')} {value}" for name, value in plain.items() if new[name] != value)
