"""A model as ONNX graphs, which run without Python: in a browser, in C++, on a phone.

Every graph is traced from the code that samples here, so nothing is written twice: the prior, what the network
believes, and each kernel of each sampler, which is told a belief instead of asking for one. What is left to the reader
of the graphs is the loop: `about.json` says for every sampler and number of steps which kernel goes from which t to
which s. `replay` is that loop in Python, on onnxruntime.

A folder holds prior.onnx, belief.onnx with the weights, kernel-0.onnx and so on, and about.json. Inputs, by name:
x (B, C, H, W) float32 in [-1, 1] of the data; t and s (B,), int64 for numbered levels, float64 for continuous time;
z (B, C, H, W) float32 standard normal noise; y (B,) int64 labels; scale (B,) float32 of classifier-free guidance;
x0, eps and, for a learned variance, variance: what belief.onnx returns.
"""

from __future__ import annotations

import contextlib
import copy
import hashlib
import io
import json
import logging
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato import lenses
from sfumato.core.denoisers import Prediction
from sfumato.core.sampling import Kernel, Move
from sfumato.model import Model, Sampler, ancestral, ddim_sampler, load
from sfumato.papers.recipe import Bounded, Classifying, Nonequilibrium, Recipe, low_res_side

if TYPE_CHECKING:
    import numpy as np

FORMAT = 1
STEPS = (5, 10, 20, 50, 100)
"""The numbers of steps that are planned by default."""


class ExportError(ValueError):
    """A model that cannot be exported, or a library that is missing; the message says which."""


def samplers(recipe: Recipe) -> dict[str, Sampler]:
    """The samplers that are exported by default, by name; the first is the one to begin with.

    Each asks the network once a move, so Heun's is not among them.
    """
    if isinstance(recipe, Nonequilibrium):
        return {"ancestral": ancestral}
    if isinstance(recipe, Bounded):
        return {"DDIM": ddim_sampler(), "ancestral": ancestral, "predictor-corrector": lenses.predictor_corrector()}
    if getattr(recipe, "continuous", False):
        return {"reverse diffusion": lenses.reverse_diffusion(), "DDIM": ddim_sampler(),
                "predictor-corrector": lenses.predictor_corrector()}  # fmt: skip
    return {"annealed Langevin": ancestral, "DDIM": ddim_sampler(), "ancestral": lenses.ancestral()}


def export(
    model: Model,
    folder: Path,
    *,
    chosen: Mapping[str, Sampler] | None = None,
    steps: Sequence[int] = STEPS,
    say: Callable[[str], object] = lambda line: None,
) -> dict[str, Any]:
    """Write the graphs and about.json into a new folder, which appears whole or not at all; returns about.json.

    Args:
        model: on the host.
        folder: new.
        chosen: samplers by name; by default `samplers`. Each must ask the network once a move.
        steps: the numbers of steps to plan; those that a sampler cannot take are left out.
        say: told what is written.

    Raises:
        ExportError: a classifier or an upsampler, a sampler that asks twice, onnx or onnxscript missing, or `folder`
            exists.
    """
    recipe = model.recipe
    if isinstance(recipe, Classifying) or low_res_side(recipe):
        raise ExportError("models that make pictures from noise alone are exported, no classifiers and no upsamplers")
    if folder.exists():
        raise ExportError(f"{folder} exists already")
    chosen = samplers(recipe) if chosen is None else chosen
    unfinished = folder.with_name(f".{folder.name}.tmp")
    shutil.rmtree(unfinished, ignore_errors=True)
    unfinished.mkdir(parents=True)
    try:
        about = _write(model, unfinished, chosen, steps, say)
        (unfinished / "about.json").write_text(json.dumps(about) + "\n", "utf-8")
        os.rename(unfinished, folder)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return about


def _write(
    model: Model, folder: Path, chosen: Mapping[str, Sampler], steps: Sequence[int], say: Callable[[str], object]
) -> dict[str, Any]:
    model = Model(_held(model.recipe), copy.deepcopy(model.network).float().eval(), model.classes, model.about)
    belief = Belief(model)
    example = _example(model)
    told = Told(model.recipe)
    plans: dict[str, dict[str, list[tuple[Kernel, float, float]]]] = {}
    for name, sampler in chosen.items():
        plans[name] = {}
        for count in steps:
            denoise = model.recipe.denoiser(model.network) if belief.inside else told
            with contextlib.suppress(ValueError):
                moves = sampler(model.recipe, denoise, count)
                plans[name][str(count)] = [(kernel, t.item(), s.item()) for kernel, t, s in moves]
                example["t"], example["s"] = _pair(moves)
    plans = {name: by_steps for name, by_steps in plans.items() if by_steps}
    if not plans:
        raise ExportError(f"none of {', '.join(chosen)} takes this model in {', '.join(map(str, steps))} steps")

    _save(Prior(model.recipe), {"z": example["z"]}, ["x"], folder / "prior.onnx")
    inputs: list[str] = []
    if not belief.inside:
        inputs = [name for name in ("x", "t", "y", "scale") if name in example]
        _save(belief, {name: example[name] for name in inputs}, belief.outputs, folder / "belief.onnx")
        say(f"belief.onnx: {', '.join(inputs)} -> {', '.join(belief.outputs)}")
        with torch.no_grad():
            example |= dict(zip(belief.outputs, belief(**{name: example[name] for name in inputs}), strict=True))
    written = Kernels(folder, told, belief, example, say)
    walks = {
        name: {n: [[written.number(kernel), t, s] for kernel, t, s in moves] for n, moves in by_steps.items()}
        for name, by_steps in plans.items()
    }
    return {
        "format": FORMAT, "recipe": type(model.recipe).__name__, "shape": list(model.recipe.shape),
        "classes": list(model.classes), "belief": {"inputs": inputs, "outputs": belief.outputs},
        "time": "int64" if not example["t"].is_floating_point() else "float64",
        "kernels": written.about, "samplers": walks,
    }  # fmt: skip


def _held(recipe: Recipe) -> Recipe:
    """The same recipe with one process made once, so that its tables are constants of a graph."""
    held, process = copy.copy(recipe), recipe.process()
    object.__setattr__(held, "process", lambda: process)
    return held


def _example(model: Model) -> dict[str, Tensor]:
    """Inputs to trace with, (2, ...)."""
    x = torch.randn(2, *model.recipe.shape, generator=torch.Generator().manual_seed(0))
    example = {"x": x, "z": x.flip(0), "t": torch.ones(2)}
    if model.recipe.classes:
        example["y"] = torch.zeros(2, dtype=torch.long)
        if getattr(model.recipe, "label_dropout", 0):
            example["scale"] = torch.ones(2)
    return example


def _pair(moves: list[Move]) -> tuple[Tensor, Tensor]:
    """t and s, (2,) each, of a move in the middle of a plan."""
    _, t, s = moves[len(moves) // 2]
    return t.expand(2).clone(), s.expand(2).clone()


# ---------------------------------------------------------------- what is traced


class Prior(nn.Module):
    """z -> x, where sampling starts."""

    def __init__(self, recipe: Recipe) -> None:
        super().__init__()
        self.prior = recipe.prior((1, *recipe.shape))

    def forward(self, z: Tensor) -> Tensor:
        return self.prior.sample(lambda like: z)


class Belief(nn.Module):
    """(x, t, y, scale) -> (x0, eps) or (x0, eps, variance); a model of 2015 believes inside its only kernel."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        self.recipe, self.network = model.recipe, model.network
        self.inside = isinstance(model.recipe, Nonequilibrium)
        self.outputs: list[str] = []
        if not self.inside:
            example = _example(model)
            t = torch.full((2,), self.recipe.process().schedule.end)
            with torch.no_grad():
                prediction = self._predict(example["x"], t, example.get("y"), example.get("scale"))
            self.outputs = ["x0", "eps", *(["variance"] if prediction.variance is not None else [])]

    def _predict(self, x: Tensor, t: Tensor, y: Tensor | None, scale: Tensor | None) -> Prediction:
        labels = {} if y is None else {"y": y}
        at: Any = 1.0 if scale is None else scale[:, None, None, None]
        return self.recipe.denoiser(self.network, at, **labels)(x, t)

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, scale: Tensor | None = None) -> list[Tensor]:
        prediction = self._predict(x, t, y, scale)
        return [getattr(prediction, name) for name in self.outputs]


class Told:
    """A denoiser that is told what to believe."""

    def __init__(self, recipe: Recipe) -> None:
        self.process, self.asked = recipe.process(), 0
        self.values: dict[str, Tensor] = {}

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        self.asked += 1
        return Prediction(x, self.process.level(t, x), **self.values)


class Step(nn.Module):
    """One kernel: (x, t, s, z, x0, eps, variance) -> x at s; or (x, t, s, z), where it believes itself."""

    def __init__(self, kernel: Kernel, told: Told, network: nn.Module | None) -> None:
        super().__init__()
        self.kernel, self.told, self.network = kernel, told, network
        self.draws = True

    def look(self, example: Mapping[str, Tensor]) -> None:
        """Learn how often the kernel asks, and whether it draws noise. ExportError where it asks more than once."""
        self.draws = False
        with torch.no_grad():
            self(**example)
        if self.told.asked > 1:
            raise ExportError(f"{type(self.kernel).__name__} asks the network {self.told.asked} times a move, not once")

    def forward(
        self, x: Tensor, t: Tensor, s: Tensor, z: Tensor,
        x0: Tensor | None = None, eps: Tensor | None = None, variance: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        belief = {"x0": x0, "eps": eps, "variance": variance}
        self.told.values, self.told.asked = {name: v for name, v in belief.items() if v is not None}, 0

        def noise(like: Tensor) -> Tensor:
            if torch.compiler.is_compiling():
                return z if self.draws else torch.zeros_like(like)
            self.draws = True
            return z

        return self.kernel(x, t, s).sample(noise)


class Kernels:
    """The kernels that are written so far, each once, whatever plans it is part of."""

    def __init__(
        self, folder: Path, told: Told, belief: Belief, example: Mapping[str, Tensor], say: Callable[[str], object]
    ) -> None:
        self.folder, self.told, self.belief, self.example, self.say = folder, told, belief, example, say
        self.by_kernel: dict[Kernel, int] = {}
        self.by_content: dict[str, int] = {}
        self.about: list[dict[str, Any]] = []

    def number(self, kernel: Kernel) -> int:
        """The number of a kernel, which is written when it is met first."""
        if kernel not in self.by_kernel:
            self.by_kernel[kernel] = self._write(kernel)
        return self.by_kernel[kernel]

    def _write(self, kernel: Kernel) -> int:
        names = ["x", "t", "s", "z", *self.belief.outputs]
        step = Step(kernel, self.told, self.belief.network if self.belief.inside else None)
        example = {name: self.example[name] for name in names}
        step.look(example)
        content = _graph(step, example, ["x_s"])
        digest = hashlib.sha256(content).hexdigest()
        if digest not in self.by_content:
            number = self.by_content[digest] = len(self.about)
            (self.folder / f"kernel-{number}.onnx").write_bytes(content)
            self.about.append({"name": type(kernel).__name__, "inputs": _inputs(content, names)})
            self.say(f"kernel-{number}.onnx: {type(kernel).__name__}, {', '.join(self.about[-1]['inputs'])} -> x_s")
        return self.by_content[digest]


# ---------------------------------------------------------------- torch to onnx


def _save(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str], path: Path) -> None:
    path.write_bytes(_graph(module, inputs, outputs))


def _graph(module: nn.Module, inputs: Mapping[str, Tensor], outputs: list[str]) -> bytes:
    """A graph of the module for any number of images; inputs that it does not use are left out."""
    try:
        import onnx  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError:
        raise ExportError('writing ONNX needs onnx and onnxscript: pip install "sfumato[onnx]"') from None
    batch = torch.export.Dim("batch", max=1 << 20)  # torch 2.6 wants a bound
    with quiet(), torch.no_grad():
        try:
            program = torch.onnx.export(
                module.eval(), (), kwargs=dict(inputs), dynamo=True,
                dynamic_shapes={name: {0: batch} for name in inputs}, input_names=list(inputs), output_names=outputs,
                verbose=False,
            )  # fmt: skip
        except torch.onnx.OnnxExporterError as error:
            raise ExportError(
                f"torch {torch.__version__} could not write this network as ONNX; 2.13 can: "
                f"{str(error).strip().splitlines()[0]}"
            ) from error
        assert program is not None
        proto = program.model_proto
    used = {name for node in proto.graph.node for name in node.input} | {out.name for out in proto.graph.output}
    kept = [value for value in proto.graph.input if value.name in used]
    del proto.graph.input[:]
    proto.graph.input.extend(kept)
    for node in proto.graph.node:  # where in the code it comes from: paths of this machine
        del node.metadata_props[:]
        node.doc_string = ""
    del proto.graph.metadata_props[:]
    content: bytes = proto.SerializeToString(deterministic=True)
    return content


def _inputs(content: bytes, expected: list[str]) -> list[str]:
    """The inputs of a graph, in our order."""
    import onnx

    found = {value.name for value in onnx.load(io.BytesIO(content), load_external_data=False).graph.input}
    return [name for name in expected if name in found]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """The exporter speaks of torchvision and of its own deprecations; nobody asked."""
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        with warnings.catch_warnings(action="ignore"), contextlib.redirect_stdout(io.StringIO()):
            yield
    finally:
        logging.disable(before)


# ---------------------------------------------------------------- the loop


def replay(
    folder: Path, sampler: str, steps: int, noise: Callable[[int], np.ndarray[Any, Any]], n: int, **labels: Any
) -> Iterator[np.ndarray[Any, Any]]:
    """Walk an exported model in onnxruntime; yields x, (n, C, H, W) float32, from the prior to the picture.

    Args:
        folder: what `export` wrote.
        sampler, steps: one of its plans.
        noise: the number of a draw, from 0 for the prior -> standard normal (n, C, H, W) float32.
        labels: y, whole numbers (n,), and scale, floats (n,), where the belief asks for them.

    Raises:
        ExportError: no such plan, or onnxruntime is missing.
    """
    try:
        import numpy as np
        import onnxruntime
    except ImportError:
        raise ExportError('running ONNX needs onnxruntime: pip install "sfumato[onnx]"') from None
    about = json.loads((folder / "about.json").read_text("utf-8"))
    plan = about["samplers"].get(sampler, {}).get(str(steps))
    if plan is None:
        known = [f"{name} in {', '.join(plans)} steps" for name, plans in about["samplers"].items()]
        raise ExportError(f"{folder} has no plan of {sampler!r} in {steps} steps; it has {'; '.join(known)}")
    sessions: dict[str, Any] = {}

    def run(name: str, values: dict[str, Any], inputs: list[str]) -> list[Any]:
        if name not in sessions:
            sessions[name] = onnxruntime.InferenceSession(folder / f"{name}.onnx", providers=["CPUExecutionProvider"])
        outputs: list[Any] = sessions[name].run(None, {key: values[key] for key in inputs})
        return outputs

    values: dict[str, Any] = {name: np.asarray(v) for name, v in labels.items()}
    drawn = 1
    (values["x"],) = run("prior", {"z": noise(0)}, ["z"])
    yield values["x"]
    for number, t, s in plan:
        kernel = about["kernels"][number]
        values |= {"t": np.full(n, t, about["time"]), "s": np.full(n, s, about["time"])}
        if "x0" in kernel["inputs"] or "eps" in kernel["inputs"]:
            names = about["belief"]["outputs"]
            values |= dict(zip(names, run("belief", values, about["belief"]["inputs"]), strict=True))
        if "z" in kernel["inputs"]:
            values["z"], drawn = noise(drawn), drawn + 1
        (values["x"],) = run(f"kernel-{number}", values, kernel["inputs"])
        yield values["x"]


def export_named(target: str | Path, folder: Path, *, weights: str | None = None, **more: Any) -> dict[str, Any]:
    """`export` of anything that `load` takes."""
    return export(load(target, weights=weights), folder, **more)
