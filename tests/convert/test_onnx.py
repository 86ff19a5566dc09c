"""Exported graphs, walked by onnxruntime, go the way of the library's own samplers."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from sfumato.export import ExportError, export, replay, samplers
from sfumato.model import Model
from torch import Tensor

from sfumato import lenses
from sfumato.cli import main
from sfumato.core.randomness import ImageNoise
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import Recipe

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed)
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
    pytest.skip("older torch cannot write every network as ONNX", allow_module_level=True)


def random_model(name: str, **changes: Any) -> Model:
    """A preset's model with weights that say something, also where they begin as zeros."""
    recipe: Any = replace(PRESETS[name].recipe, **changes)
    torch.manual_seed(0)
    network = recipe.model().eval().requires_grad_(False)
    for parameter in network.parameters():
        if not bool(parameter.any()):
            parameter.normal_(std=0.1)
    return Model(recipe, network)


def walked(recipe: Recipe, moves: Any, n: int) -> tuple[list[Tensor], list[Tensor]]:
    """Every state of a walk here, and every draw of noise."""
    draws: list[Tensor] = []
    fresh = ImageNoise(0, range(n))

    def noise(like: Tensor) -> Tensor:
        draws.append(fresh(like))
        return draws[-1]

    states = [recipe.prior((n, *recipe.shape)).sample(noise)]
    with torch.no_grad():
        for kernel, t, s in moves:
            states.append(kernel(states[-1], t, s).sample(noise))
    return states, draws


TINY = {"channels": 8, "multipliers": (1, 2), "attention": (2,)}


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("adm/digits", {**TINY, "head_channels": 8}),  # labels, guidance, a learned variance
        ("score_sde/digits", TINY),  # continuous time
        ("ncsnv2/digits", {"channels": 8}),
        ("dpm/digits", {"hidden": 8, "dense": 16}),
    ],
)
def test_every_sampler_walks_alike(name: str, changes: dict[str, Any], tmp_path: Path) -> None:
    """All states, for another number of images than the graphs were traced with."""
    model, n, steps = random_model(name, **changes), 3, 4
    chosen = samplers(model.recipe)
    about = export(model, tmp_path / "onnx", steps=(steps,))
    assert about == json.loads((tmp_path / "onnx" / "about.json").read_text())
    assert list(about["samplers"]) == list(chosen)
    labels = model.labels(None, n)
    given: dict[str, Any] = {} if labels is None else {"y": labels}
    guided = bool(getattr(model.recipe, "label_dropout", 0))
    for sampler_name, sampler in chosen.items():
        denoise = model.recipe.denoiser(model.network, 2.0 if guided else 1.0, **given)
        ours, draws = walked(model.recipe, sampler(model.recipe, denoise, steps), n)

        def noise(i: int, draws: list[Tensor] = draws) -> Any:  # a last draw here may be one of spread 0 there
            return (draws[i] if i < len(draws) else torch.zeros_like(draws[0])).numpy()

        told = {name: value.numpy() for name, value in given.items()}
        if guided:
            told["scale"] = torch.full((n,), 2.0).numpy()
        theirs = [torch.from_numpy(x) for x in replay(tmp_path / "onnx", sampler_name, steps, noise, n, **told)]
        assert len(ours) == len(theirs)
        assert {x.dtype for x in ours} == {torch.float32}
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-4 * float(one.abs().max()))


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that says how to use it, and nothing about where it was made."""
    random_model("ddpm/digits", **TINY).save(tmp_path / "model.safetensors", half=True)
    out = tmp_path / "onnx"
    assert main(["convert", str(tmp_path / "model.safetensors"), "--to", "onnx", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "belief.onnx: x, t, y -> x0, eps" in said
    assert "kernel-0.onnx: DDIM, s, x0, eps -> x_s" in said
    about = json.loads((out / "about.json").read_text())
    assert list(about["samplers"]["DDIM"]) == ["5", "10", "20", "50", "100"]
    assert {f"{path.stem}" for path in out.glob("*.onnx")} == {"prior", "belief", *(
        f"kernel-{i}" for i in range(len(about["kernels"])))}  # fmt: skip
    for path in out.glob("*.onnx"):
        assert b"site-packages" not in path.read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()
    assert main(["convert", str(tmp_path / "model.safetensors"), "--to", "onnx", "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    model, out = random_model("ddpm/digits", **TINY), tmp_path / "onnx"
    with pytest.raises(ExportError, match="Heun asks the network 2 times"):
        export(model, out, chosen={"Heun": lenses.heun()}, steps=(4,))
    with pytest.raises(ExportError, match="takes this model in 2000 steps"):
        export(model, out, steps=(2000,))
    classifier = random_model("adm_classifier/digits", **TINY, head_channels=8)
    with pytest.raises(ExportError, match="no classifiers"):
        export(classifier, out)
    assert list(tmp_path.iterdir()) == []
    export(model, out, chosen={"DDIM": lenses.ddim()}, steps=(2,))
    with pytest.raises(ExportError, match=r"no plan of 'Heun' in 2 steps; it has DDIM in 2 steps"):
        next(replay(out, "Heun", 2, lambda i: torch.zeros(1, 1, 8, 8).numpy(), 1))
