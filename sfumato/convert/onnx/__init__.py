"""A model as ONNX graphs, which run without Python: in a browser, in C++, on a phone.

A folder holds denoiser.onnx with the weights, prior.onnx, decode.onnx where x is no image in [-1, 1] itself, and
about.json with the plans of the samplers: for every move, where the denoiser is evaluated and how the next x is
summed up (`steps`). Nothing is written twice: all is measured on, or traced from, the code that samples here. A step
that is no weighted sum, as one with a learned variance, is a graph of its own, kernel-0.onnx and so on. What is left to
the reader is the loop, `replay`.

Inputs of graphs, by name: x (B, ...) float32; t and s (B,), int64 for numbered levels, float64 for continuous time;
z (B, ...) float32 standard normal noise; y (B,) int64 labels; scale (B,) float32 of classifier-free guidance; x0, eps
and, for a variance head, variance: what denoiser.onnx returns.
"""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.convert.onnx.graphs import Decode, KernelGraph, Predict, Prior, graph, inputs_of
from sfumato.convert.onnx.replay import replay
from sfumato.convert.onnx.steps import ExportError, Given, Plan, Planner
from sfumato.core.diffusion import Diffusion
from sfumato.core.sampling import Kernel, Move, Sampler
from sfumato.papers.recipe import Recipe
from sfumato.runtime.files import whole_folder
from sfumato.samplers import SAMPLERS

__all__ = ["FORMAT", "STEPS", "ExportError", "export", "fitting", "replay"]

FORMAT = 2
STEPS = (5, 10, 20, 50, 100)
"""The numbers of steps that are planned by default."""

Say = Callable[[str], object]


def fitting(diffusion: Diffusion) -> dict[str, Sampler]:
    """The samplers that are tried by default, by name: the model's usual one, the paper's own, then every other."""
    names = {kind: name for name, kind in SAMPLERS.items()}
    first = {names.get(type(chosen), "own"): chosen for chosen in (diffusion.sampler, diffusion.own)}
    if diffusion.process is None:
        return first
    return first | {name: kind().of(diffusion) for name, kind in SAMPLERS.items() if name not in first}


def export(
    recipe: Recipe,
    network: nn.Module,
    folder: str | Path,
    *,
    classes: Sequence[str] = (),
    chosen: Mapping[str, Sampler] | None = None,
    steps: Sequence[int] = STEPS,
    say: Say = lambda line: None,
) -> dict[str, Any]:
    """Write the graphs and about.json into a new folder, which appears whole or not at all; returns about.json.

    Args:
        recipe, network: of a model, on the host.
        folder: new.
        classes: names of the labels.
        chosen: samplers by name; by default all of `fitting` that can be exported.
        steps: the numbers of steps to plan; those that a sampler cannot take are left out.
        say: given a line for each file, and for each sampler that is left out.

    Raises:
        ExportError: a classifier or an upsampler, a chosen sampler that cannot be exported, onnx or onnxscript missing,
            or `folder` exists.
    """
    folder, diffusion = Path(folder), recipe.build()
    if diffusion.sampler is None or recipe.conditioning.pictured:
        raise ExportError(
            "models that make pictures from noise alone are exported, no classifiers, no upsamplers and none with "
            "pictures as inputs"
        )
    if recipe.conditioning.names:
        raise ExportError("the graphs tell a network of labels alone, not of attributes")
    if recipe.conditioning.feeds_back:
        raise ExportError("a self-conditioned model is fed its own predictions, which the graphs do not do")
    if diffusion.sampler.two_times:
        raise ExportError("the graphs tell a network of one time, a mean flow needs two")
    if folder.exists():
        raise ExportError(f"{folder} exists already")
    with whole_folder(folder) as unfinished:
        export = Export(recipe, diffusion, copy.deepcopy(network).float().eval(), unfinished, say)
        about = {**export.about(chosen, steps), "classes": list(classes)}
        (unfinished / "about.json").write_text(json.dumps(about) + "\n", "utf-8")
    return about


class Export:
    """The files of a model that are written so far."""

    def __init__(self, recipe: Recipe, diffusion: Diffusion, network: nn.Module, folder: Path, say: Say) -> None:
        self.recipe, self.diffusion, self.network, self.folder, self.say = recipe, diffusion, network, folder, say
        self.by_kernel: dict[Kernel, int] = {}
        self.by_content: dict[str, int] = {}
        self.kernels: list[dict[str, Any]] = []
        self.space = recipe.space.bound(network)
        self.shape = recipe.space.shape(recipe.shape)
        process = diffusion.process
        self.real = process is not None and torch.as_tensor(process.schedule.end).is_floating_point()
        self.given = None if process is None else Given(process)
        self.example = self._example()
        self.predict = Predict(recipe, diffusion, network)
        self.inputs = [] if process is None else list(self.example)
        self.outputs = [] if process is None else ["x0", "eps", "variance"][: len(self._predicted)]

    def about(self, chosen: Mapping[str, Sampler] | None, steps: Sequence[int]) -> dict[str, Any]:
        """Write everything."""
        plans, left_out = self._plans(chosen, steps)
        z = self.example["x"].flip(0)
        self._save("prior", graph(Prior(self.diffusion.prior((1, *self.shape))), {"z": z}, ["x"]))
        with torch.no_grad():
            image = self.space.decode(z)
        decoded = image.shape != z.shape or not torch.equal(image, z)
        if decoded:
            self._save("decode", graph(Decode(self.space, self.network), {"x": z}, ["image"]))
        if self.given is not None:
            self._save("denoiser", graph(self.predict, self.example, self.outputs))
            self.say(f"denoiser.onnx: {', '.join(self.inputs)} -> {', '.join(self.outputs)}")
        return {
            "format": FORMAT, "recipe": type(self.recipe).__name__, "shape": list(self.recipe.shape),
            "levels": self.recipe.space.levels, "values": list(self.recipe.space.values),
            "noise": list(self.shape), "decode": decoded, "time": "float64" if self.real else "int64",
            "denoiser": {"inputs": self.inputs, "outputs": self.outputs}, "kernels": self.kernels,
            "samplers": plans, "left_out": left_out,
        }  # fmt: skip

    def _plans(
        self, chosen: Mapping[str, Sampler] | None, steps: Sequence[int]
    ) -> tuple[dict[str, dict[str, Plan]], dict[str, str]]:
        """The plans of each sampler by the number of steps, and why some are left out."""
        plans: dict[str, dict[str, Plan]] = {}
        left_out: dict[str, str] = {}
        for name, sampler in (fitting(self.diffusion) if chosen is None else chosen).items():
            found: dict[str, Plan] = {}
            for count in steps:
                try:
                    moves = self._moves(sampler, count)
                except ValueError as error:
                    left_out.setdefault(name, str(error))
                    continue
                try:
                    found[str(count)] = self._plan(moves)
                except ExportError as error:
                    if chosen is not None:
                        raise ExportError(f"{name}: {error}") from None
                    left_out[name] = str(error)
                    break
            if found:
                plans[name] = found
                left_out.pop(name, None)
            else:
                self.say(f"{name} is left out: {left_out[name]}")
        if not plans:
            reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
            raise ExportError(f"no sampler takes this model in {', '.join(map(str, steps))} steps. {reasons}")
        return plans, left_out

    def _moves(self, sampler: Sampler, count: int) -> list[Move]:
        if self.given is None:  # the network is inside its own sampler's steps
            own: Any = None
            return sampler.plan(own, self.diffusion.denoise(self.network, {}), count)
        return sampler.plan(self.given.process, self.given, count)

    def _plan(self, moves: list[Move]) -> Plan:
        if self.given is not None:
            variance = "variance" in self.outputs
            return Planner(self.given, 1 + len(self.shape), variance, self.real, self._number).plan(moves)
        return [
            [{"t": t.item(), "s": s.item(), "ask": False, "set": {}, "kernel": self._number(kernel, t, s)}]
            for kernel, t, s in moves
        ]

    def _number(self, kernel: Kernel, t: Tensor, s: Tensor) -> int:
        """The number of a kernel's graph, which is written when it is met first."""
        if kernel not in self.by_kernel:
            self.by_kernel[kernel] = self._write(kernel, t, s)
        return self.by_kernel[kernel]

    def _write(self, kernel: Kernel, t: Tensor, s: Tensor) -> int:
        x = self.example["x"]
        example = {"x": x, "t": t.expand(2).clone(), "s": s.expand(2).clone(), "z": x.flip(0)}
        if self.given is not None:
            example |= dict(zip(self.outputs, self._predicted, strict=True))
        drawn: list[Tensor] = []

        def noise(like: Tensor) -> Tensor:
            drawn.append(like)
            return like

        with torch.no_grad():
            if self.given is not None:
                self.given.hand([{name: example[name] for name in self.outputs}])
            kernel(x, t, s, ()).to.sample(noise)
        network = self.network if self.given is None else None
        content = graph(KernelGraph(kernel, self.given, network, bool(drawn)), example, ["x_s"])
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self.by_content:
            number = self.by_content[digest] = len(self.kernels)
            self.kernels.append({"name": type(kernel).__name__, "inputs": inputs_of(content, list(example))})
            self._save(f"kernel-{number}", content)
            self.say(f"kernel-{number}.onnx: {type(kernel).__name__}, {', '.join(self.kernels[-1]['inputs'])} -> x_s")
        return self.by_content[digest]

    def _save(self, name: str, content: bytes) -> None:
        (self.folder / f"{name}.onnx").write_bytes(content)

    def _example(self) -> dict[str, Tensor]:
        """What the denoiser is traced with, for two pictures."""
        x = torch.randn(2, *self.shape, generator=torch.Generator().manual_seed(0))
        process, conditioning = self.diffusion.process, self.recipe.conditioning
        example = {"x": x}
        if process is not None:
            example["t"] = torch.as_tensor(process.schedule.end, dtype=torch.float64 if self.real else None).repeat(2)
        if conditioning.classes:
            example["y"] = torch.zeros(2, dtype=torch.long)
            example |= {"scale": torch.ones(2)} if conditioning.dropout else {}
        return example

    @cached_property
    def _predicted(self) -> tuple[Tensor, ...]:
        """What the denoiser says of the example."""
        with torch.no_grad():
            found: tuple[Tensor, ...] = self.predict(**self.example)
        return found
