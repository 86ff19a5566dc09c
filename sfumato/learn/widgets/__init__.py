"""Shared interactives: plain ES modules, given whole trajectories once and scrubbed in the page."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from sfumato.core.denoisers import Denoise

HERE = Path(__file__).parent


def packed(points: Tensor, reach: float) -> str:
    """Points in [-reach, reach] as base64 of 16-bit integers: a third of a thousandth of the picture's width each."""
    scaled = (points.double() / reach).clamp(-1, 1) * 32767
    return base64.b64encode(scaled.round().to(torch.int16).contiguous().numpy().tobytes()).decode()


class Scrubber(anywidget.AnyWidget):
    """Clouds of points on their way, several runs side by side, with one slider for the time.

    Build one with `Scrubber.of`.
    """

    _esm = HERE / "scrubber.js"
    runs: Any = traitlets.List([]).tag(sync=True)
    data = traitlets.Unicode("").tag(sync=True)
    reach = traitlets.Float(2.0).tag(sync=True)
    start = traitlets.Float(0.35).tag(sync=True)

    @classmethod
    def of(
        cls, runs: dict[str, Tensor], data: Tensor | None = None, reach: float = 2.0, start: float = 0.35
    ) -> Scrubber:
        """A widget of named trajectories.

        Args:
            runs: name -> (states, points, 2), from noise to data.
            data: (points, 2) drawn behind them.
            reach: the picture shows [-reach, reach] in both directions.
            start: the share of the way at which the slider stands at first.
        """
        made: list[dict[str, Any]] = [
            {"name": name, "states": len(states), "points": states.shape[1], "bytes": packed(states, reach)}
            for name, states in runs.items()
        ]
        return cls(runs=made, data="" if data is None else packed(data, reach), reach=reach, start=start)


class Frames(anywidget.AnyWidget):
    """Pictures on their way, several runs side by side, with one slider for the time.

    Build one with `Frames.of`.
    """

    _esm = HERE / "frames.js"
    runs: Any = traitlets.List([]).tag(sync=True)
    start = traitlets.Float(0.35).tag(sync=True)

    @classmethod
    def of(cls, runs: dict[str, Tensor], start: float = 0.35) -> Frames:
        """A widget of named films.

        Args:
            runs: name -> uint8 (states, C, H, W), from noise to data, C 1 or 3.
            start: the share of the way at which the slider stands at first.
        """
        made: list[dict[str, Any]] = []
        for name, film in runs.items():
            if film.dtype != torch.uint8 or film.ndim != 4 or film.shape[1] not in (1, 3):
                raise ValueError(f"a film is uint8 (states, 1 or 3, H, W), not {film.dtype} {tuple(film.shape)}")
            states, channels, height, width = film.shape
            data = base64.b64encode(film.permute(0, 2, 3, 1).contiguous().numpy().tobytes()).decode()
            made.append({"name": name, "states": states, "channels": channels, "height": height, "width": width,
                         "bytes": data})  # fmt: skip
        return cls(runs=made, start=start)


class Field(anywidget.AnyWidget):
    """What a denoiser believes everywhere in the plane, at several noise levels, with a point to drag through it.

    Build one with `Field.of`.
    """

    _esm = HERE / "field.js"
    beliefs = traitlets.Unicode("").tag(sync=True)
    data = traitlets.Unicode("").tag(sync=True)
    sigmas: Any = traitlets.List([]).tag(sync=True)
    point: Any = traitlets.List([0.0, 0.0]).tag(sync=True)
    cells = traitlets.Int(0).tag(sync=True)
    reach = traitlets.Float(2.0).tag(sync=True)
    start = traitlets.Int(0).tag(sync=True)

    @classmethod
    def of(
        cls,
        denoise: Denoise,
        levels: Tensor,
        data: Tensor,
        *,
        point: tuple[float, float] = (0.5, 0.5),
        start: int = 0,
        reach: float = 2.0,
        cells: int = 49,
    ) -> Field:
        """A widget of a denoiser whose levels keep all of the signal (alpha 1), so that beliefs and data share a plane.

        Args:
            denoise: (x, t) -> Prediction, for x (B, 2).
            levels: (L,) the times to show, from little noise to much.
            data: (points, 2) drawn behind the field.
            point: where the noisy point stands at first.
            start: the index in `levels` of the level that is shown at first.
            reach: the picture shows [-reach, reach] in both directions.
            cells: grid points in each direction at which the belief is known.

        Raises:
            ValueError: where a level scales the signal.
        """
        axis = torch.linspace(-reach, reach, cells, dtype=torch.float64)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grid = torch.stack([x, y], dim=-1).reshape(-1, 2)
        seen = [denoise(grid, t) for t in levels]
        if any(float(p.level.alpha) != 1 for p in seen):
            raise ValueError("a field needs levels that keep all of the signal: a schedule made by from_sigmas")
        return cls(beliefs=packed(torch.stack([p.x0 for p in seen]), reach), data=packed(data, reach),
                   sigmas=[float(p.level.sigma) for p in seen], point=list(point), cells=cells, reach=reach,
                   start=start)  # fmt: skip
