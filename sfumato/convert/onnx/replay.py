"""The loop that an exported model leaves to its reader, in Python on onnxruntime: the reference for other languages."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sfumato.convert.onnx.steps import ExportError

if TYPE_CHECKING:
    import numpy as np

    Array = np.ndarray[Any, Any]


def replay(
    folder: str | Path, sampler: str, steps: int, noise: Callable[[int], Array], n: int, **labels: Any
) -> Iterator[Array]:
    """Sample an exported model in onnxruntime; yields images (n, C, H, W) float32 from the noise to the picture.

    Args:
        folder: what `export` wrote.
        sampler, steps: one of its plans.
        noise: the number of a draw, from 0 for the prior -> standard normal (n, ...) float32.
        labels: y, whole numbers (n,), and scale, floats (n,), where the denoiser asks for them.

    Raises:
        ExportError: no such plan, or onnxruntime is missing.
    """
    try:
        import numpy as np
        import onnxruntime
    except ImportError:
        raise ExportError('running ONNX needs onnxruntime: pip install "sfumato[onnx]"') from None
    about = json.loads((Path(folder) / "about.json").read_text("utf-8"))
    plan = about["samplers"].get(sampler, {}).get(str(steps))
    if plan is None:
        known = [f"{name} in {', '.join(plans)} steps" for name, plans in about["samplers"].items()]
        raise ExportError(f"{folder} has no plan of {sampler!r} in {steps} steps; it has {'; '.join(known)}")
    sessions: dict[str, Any] = {}

    def run(name: str, inputs: list[str], values: Mapping[str, Any]) -> list[Array]:
        if name not in sessions:
            path = Path(folder) / f"{name}.onnx"
            sessions[name] = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        outputs: list[Array] = sessions[name].run(None, {key: values[key] for key in inputs})
        return outputs

    def shown(x: Array) -> Array:
        return run("decode", ["x"], {"x": x})[0] if about["decode"] else x

    values: dict[str, Any] = {name: np.asarray(value) for name, value in labels.items()}
    drawn = 1
    (values["x"],) = run("prior", ["z"], {"z": noise(0)})
    yield shown(values["x"])
    for move in plan:
        for step in move:
            values |= {key: np.full(n, step[key], about["time"]) for key in ("t", "s")}
            if step["ask"]:
                inputs, outputs = about["denoiser"]["inputs"], about["denoiser"]["outputs"]
                values |= dict(zip(outputs, run("denoiser", inputs, values), strict=True))
            kernel = about["kernels"][step["kernel"]]["inputs"] if "kernel" in step else []
            if "z" in kernel or any("z" in row for row in step["set"].values()):
                values["z"], drawn = noise(drawn), drawn + 1
            found = {name: sum(w * values[key] for key, w in row.items()) for name, row in step["set"].items()}
            if "kernel" in step:
                (found["x"],) = run(f"kernel-{step['kernel']}", kernel, values)
            values |= found
        yield shown(values["x"])
