"""Figures as the page draws them, from tensors: what the modules widgets/NAME.js are given."""

from __future__ import annotations

import base64
from typing import Any

import torch
from torch import Tensor

from sfumato.learn import languages
from sfumato.learn.exercises import Figure
from sfumato.learn.languages import tr


def packed(points: Tensor, reach: float) -> str:
    """Points in [-reach, reach] as base64 of 16-bit integers: a third of a thousandth of the picture's width each.

    A point outside is -32768 in every coordinate, which no other point is: it is not drawn.
    """
    scaled = points.double() / reach
    outside = (scaled.abs() > 1).any(-1, keepdim=True)
    scaled = torch.where(outside, -32768.0, scaled.clamp(-1, 1) * 32767)
    return base64.b64encode(scaled.round().to(torch.int16).contiguous().numpy().tobytes()).decode()


def scrubber(runs: dict[str, Tensor], data: Tensor | None = None, reach: float = 2.0, start: float = 1.0) -> Figure:
    """Trajectories of points, as `widgets.Scrubber.of` takes them."""
    made: list[dict[str, Any]] = [
        {"name": tr(name), "states": len(states), "points": states.shape[1], "bytes": packed(states, reach)}
        for name, states in runs.items()
    ]
    behind = "" if data is None else packed(data, reach)
    return _figure("scrubber", runs=made, data=behind, reach=reach, start=start)


def frames(runs: dict[str, Tensor], start: float = 1.0) -> Figure:
    """Films of pictures, as `widgets.Frames.of` takes them. ValueError where one is no film."""
    made: list[dict[str, Any]] = []
    for name, film in runs.items():
        if film.dtype != torch.uint8 or film.ndim != 4 or film.shape[1] not in (1, 3):
            raise ValueError(f"a film is uint8 (states, 1 or 3, H, W), not {film.dtype} {tuple(film.shape)}")
        states, channels, height, width = film.shape
        data = base64.b64encode(film.permute(0, 2, 3, 1).contiguous().numpy().tobytes()).decode()
        made.append({"name": tr(name), "states": states, "channels": channels, "height": height, "width": width,
                     "bytes": data})  # fmt: skip
    return _figure("frames", runs=made, start=start)


def messages(module: str) -> dict[str, str]:
    """The messages of widgets/MODULE.js in the language of the page."""
    return languages.of_file(languages.language(), f"widgets/{module}.js")


def _figure(module: str, **traits: Any) -> Figure:
    return {"module": module, "traits": {**traits, "messages": messages(module)}}
