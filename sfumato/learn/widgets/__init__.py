"""Shared interactives: plain ES modules, given whole trajectories once and scrubbed in the page."""

from __future__ import annotations

import base64
import functools
import json
import subprocess
import sys
import time
import weakref
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import anywidget
import torch
import traitlets
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.learn import figures
from sfumato.learn.figures import packed
from sfumato.learn.languages import tr

HERE = Path(__file__).parent
_made: weakref.WeakValueDictionary[str, Interactive] = weakref.WeakValueDictionary()


class Interactive(anywidget.AnyWidget):
    """What all of them are: a widget that can be found by its id, to be written into a static page."""

    messages: Any = traitlets.Dict({}).tag(sync=True)

    def __init__(self, *given: Any, **traits: Any) -> None:
        super().__init__(*given, **{"messages": figures.messages(_stem(str(type(self)._esm))), **traits})
        _made[self.model_id] = self


def made(model: str) -> Interactive:
    """The widget of that id; KeyError where it is gone."""
    return _made[model]


def module(widget: Interactive) -> str:
    """The name of its ES module in this folder."""
    return _stem(str(widget._esm))


@functools.cache
def _stem(text: str) -> str:
    """The name of the module of that text."""
    return next(path.stem for path in HERE.glob("*.js") if path.read_text(encoding="utf-8") == text)


class Scrubber(Interactive):
    """Trajectories of points in the plane, several runs side by side, with one slider for the time.

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
        return cls(**figures.scrubber(runs, data, reach, start)["traits"])


class Frames(Interactive):
    """Trajectories of pictures, several runs side by side, with one slider for the time.

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
        return cls(**figures.frames(runs, start)["traits"])


class Field(Interactive):
    """What a denoiser predicts everywhere in the plane, at several noise levels, with a point to drag through it.

    Build one with `Field.of`.
    """

    _esm = HERE / "field.js"
    predictions = traitlets.Unicode("").tag(sync=True)
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
        """A widget of a denoiser whose levels keep all of the signal (alpha 1), so predictions and data share a plane.

        Args:
            denoise: (x, t) -> Prediction, for x (B, 2).
            levels: (L,) the times to show, from little noise to much.
            data: (points, 2) drawn behind the field.
            point: where the noisy point stands at first.
            start: the index in `levels` of the level that is shown at first.
            reach: the picture shows [-reach, reach] in both directions.
            cells: grid points in each direction at which the prediction is known.

        Raises:
            ValueError: where a level scales the signal.
        """
        axis = torch.linspace(-reach, reach, cells, dtype=torch.float64)
        y, x = torch.meshgrid(axis, axis, indexing="ij")
        grid = torch.stack([x, y], dim=-1).reshape(-1, 2)
        seen = [denoise(grid, t) for t in levels]
        if any(float(p.level.alpha) != 1 for p in seen):
            raise ValueError("a field needs levels that keep all of the signal: a schedule made by from_sigmas")
        predicted = torch.stack([p.x0 for p in seen]).clamp(-reach, reach)
        return cls(predictions=packed(predicted, reach), data=packed(data, reach),
                   sigmas=[float(p.level.sigma) for p in seen], point=list(point), cells=cells, reach=reach,
                   start=start)  # fmt: skip


def pixels(image: Tensor) -> str:
    """One uint8 picture (C, H, W), C 1 or 3 and as wide as high, as base64 of its rows of pixels."""
    if (
        image.dtype != torch.uint8
        or image.ndim != 3
        or image.shape[0] not in (1, 3)
        or image.shape[1] != image.shape[2]
    ):
        raise ValueError(f"a picture is uint8 (1 or 3, side, side), not {image.dtype} {tuple(image.shape)}")
    return base64.b64encode(image.permute(1, 2, 0).contiguous().numpy().tobytes()).decode()


class ScheduleCurve(Interactive):
    """A schedule to draw, as the share of signal that is left, with a picture that disappears in noise accordingly.

    Build one with `ScheduleCurve.of`; `alpha_bar` reads what was drawn.
    """

    _esm = HERE / "schedule.js"
    heights: Any = traitlets.List([]).tag(sync=True)
    ghosts: Any = traitlets.List([]).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    noise = traitlets.Unicode("").tag(sync=True)
    side = traitlets.Int(0).tag(sync=True)
    channels = traitlets.Int(0).tag(sync=True)

    @classmethod
    def of(cls, heights: Sequence[float], image: Tensor, noise: Tensor, ghosts: dict[str, Tensor]) -> ScheduleCurve:
        """A widget of a curve.

        Args:
            heights: alpha-bar at evenly spaced times from data to noise, falling, in (0, 1).
            image, noise: uint8 and float, (C, side, side) each: the picture and the noise that replaces it.
            ghosts: name -> alpha-bar (n,) of schedules to compare with.
        """
        colours = ("#1d6f8a", "#6a7280", "#2d6a4f")
        coded = (8000 * noise.double()).clamp(-32767, 32767).round().to(torch.int16).permute(1, 2, 0).contiguous()
        return cls(
            heights=[float(h) for h in heights],
            ghosts=[{"name": name, "values": [float(v) for v in values], "colour": colours[i % 3]}
                    for i, (name, values) in enumerate(ghosts.items())],
            picture=pixels(image), noise=base64.b64encode(coded.numpy().tobytes()).decode(), side=image.shape[1],
            channels=image.shape[0],
        )  # fmt: skip

    @staticmethod
    def alpha_bar(heights: Sequence[float], T: int) -> Tensor:
        """What was drawn as alpha-bar at levels 0 to T, (T + 1,) float64: straight between handles, always falling."""
        at = torch.linspace(0, len(heights) - 1, T + 1, dtype=torch.float64)
        drawn = torch.tensor(list(heights), dtype=torch.float64)
        i = at.floor().long().clamp(max=len(heights) - 2)
        straight = drawn[i] + (at - i) * (drawn[i + 1] - drawn[i])
        slope = torch.linspace(0, 1e-6, T + 1, dtype=torch.float64)
        return torch.cummin(straight, 0).values.clamp(1e-5, 1) - slope


class Brush(Interactive):
    """A picture to paint over. Build one with `Brush.of`; `known` reads what was left."""

    _esm = HERE / "brush.js"
    picture = traitlets.Unicode("").tag(sync=True)
    hole = traitlets.Unicode("").tag(sync=True)
    side = traitlets.Int(0).tag(sync=True)
    channels = traitlets.Int(0).tag(sync=True)

    @classmethod
    def of(cls, image: Tensor, known: Tensor) -> Brush:
        """A widget of a picture, uint8 (C, side, side), and what of it is known at first, bool (side, side)."""
        hole = base64.b64encode((~known).to(torch.uint8).contiguous().numpy().tobytes()).decode()
        return cls(picture=pixels(image), hole=hole, side=image.shape[1], channels=image.shape[0])

    @staticmethod
    def known(hole: str, side: int) -> Tensor:
        """What is still known, bool (side, side)."""
        return torch.tensor(list(base64.b64decode(hole)), dtype=torch.uint8).reshape(side, side) == 0


class Live(Interactive):
    """A training to watch: `follow` starts the command that anyone would type, and shows its run folder as it fills."""

    _esm = HERE / "live.js"
    losses: Any = traitlets.List([]).tag(sync=True)
    picture = traitlets.Unicode("").tag(sync=True)
    words = traitlets.Unicode("").tag(sync=True)

    def follow(self, arguments: Sequence[str], out: Path) -> None:
        """Run `sfumato train ARGUMENTS --out OUT` to its end. ValueError with its last words where it fails."""
        command = [sys.executable, "-m", "sfumato", "train", *arguments, "--out", str(out)]
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as child:
            self.words = tr("starting ...")
            while child.poll() is None:
                time.sleep(0.5)
                self.look(out)
            said = child.stdout.read() if child.stdout else ""
        if child.returncode:
            raise ValueError(said.strip().splitlines()[-1] if said.strip() else f"it ended with {child.returncode}")
        self.look(out)

    def look(self, out: Path) -> None:
        """Show what the run folder holds now."""
        metrics = out / "metrics.jsonl"
        lines = metrics.read_text("utf-8").splitlines(keepends=True) if metrics.exists() else []
        records = [json.loads(line) for line in lines if line.endswith("\n")]
        if found := [r for r in records if r["kind"] == "train"]:
            self.losses = [[r["images"], r["loss"]] for r in found]
            self.words = tr(
                "{images:,} images in {seconds:.0f} seconds", **{k: found[-1][k] for k in ("images", "seconds")}
            )
        if seen := sorted((out / "samples").glob("*-ema.png")):
            self.picture = base64.b64encode(seen[-1].read_bytes()).decode()


class Answer(Interactive):
    """An exercise's editor, verdict and figure. Its state is the server's (`answering`), asked for by key."""

    _esm = HERE / "answer.js"
    key = traitlets.Unicode("").tag(sync=True)
