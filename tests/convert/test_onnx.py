"""Exported models, sampled by onnxruntime, go the way of the library's own samplers, every one that can be exported."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.cli import main
from sfumato.conditioning import Labels
from sfumato.convert import onnx
from sfumato.convert.onnx import ExportError, replay
from sfumato.convert.onnx.steps import Given, Plan, Planner
from sfumato.core.denoisers import Denoise
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Sampler, trajectory
from sfumato.models import Model
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.samplers import DDIM, SAMPLERS
from tests.models.small import CLASSIFIER, OF_2015, RECIPES, made

for needed in ("onnx", "onnxscript", "onnxruntime"):
    pytest.importorskip(needed)
if tuple(map(int, torch.__version__.split(".")[:2])) < (2, 11):
    pytest.skip("older torch cannot write every network as ONNX", allow_module_level=True)

SCALE = 2.0
DEPENDS, CONTINUOUS = {"adaptive"}, {"euler-maruyama", "euler-ode"}
"""Samplers whose steps depend on the pictures, and those of continuous time."""
MODELS = {
    "adm": replace(RECIPES["adm"], conditioning=Labels(3, 0.1)),  # labels, guidance, a learned variance
    "lucidrains": replace(RECIPES["ddpm"], network=LucidrainsUNet(8, (1, 2), (2,), head_channels=8)),
    "VP": RECIPES["VP"], "ncsnv2": RECIPES["ncsnv2"], "dpm": OF_2015["dpm"], "bits": OF_2015["bits"],
}  # fmt: skip
LEFT_OUT = {name: DEPENDS if name == "VP" else DEPENDS | CONTINUOUS | {"restart"} for name in MODELS}
"""At most; few levels have no room for a restart."""


def here(model: Model, sampler: Sampler, steps: int, n: int) -> tuple[list[Tensor], list[Tensor]]:
    """Every state of a trajectory here, as images, and every draw of noise."""
    draws: list[Tensor] = []
    fresh, space, diffusion = ImageNoise(0, range(n)), model.recipe.space, model.diffusion

    def noise(like: Tensor) -> Tensor:
        draws.append(fresh(like))
        return draws[-1]

    guided = SCALE if model.recipe.conditioning.dropout else 1.0
    denoise: Denoise = model.denoiser(model.labels(None, n), scale=guided)
    if diffusion.process is None:
        denoise = diffusion.denoise(model.network, {})
    x = diffusion.prior((n, *space.shape(model.recipe.shape))).sample(noise)
    process: Any = diffusion.process
    with torch.no_grad():
        states = [x, *(state for state, _ in trajectory(x, sampler.plan(process, denoise, steps), noise))]
    return [space.decode(state) for state in states], draws


@pytest.mark.parametrize(
    "name", [name if name in ("adm", "bits") else pytest.param(name, marks=pytest.mark.slow) for name in MODELS]
)
def test_every_sampler_goes_alike(name: str, tmp_path: Path) -> None:
    """All states, for another number of images than the graphs were traced with."""
    model, n, steps, said = made(MODELS[name]), 3, 20 if name == "VP" else 6, list[str]()  # fewer are no VP
    about = onnx.export(model.recipe, model.network, tmp_path / "onnx", steps=(steps,), say=said.append)
    assert about == json.loads((tmp_path / "onnx" / "about.json").read_text())
    chosen = onnx.fitting(model.diffusion)
    assert next(iter(about["samplers"])) == next(iter(chosen))
    assert set(about["samplers"]) == set(chosen) - set(about["left_out"])
    assert set(about["left_out"]) <= LEFT_OUT[name]
    reasons = [f"{key} is left out: {reason}" for key, reason in about["left_out"].items()]
    assert [line for line in said if "left out" in line] == reasons
    if model.diffusion.process is None:
        assert set(chosen) == {"own"}
    else:
        assert set(chosen) >= set(SAMPLERS)
    labels = model.labels(None, n)
    told = {} if labels is None else {"y": labels.numpy()}
    if model.recipe.conditioning.dropout:
        told["scale"] = torch.full((n,), SCALE).numpy()
    for key in about["samplers"]:
        ours, draws = here(model, chosen[key], steps, n)

        def noise(i: int, draws: list[Tensor] = draws) -> Any:  # a last draw here may be one of spread 0 there
            return (draws[i] if i < len(draws) else torch.zeros_like(draws[0])).numpy()

        theirs = [torch.from_numpy(x) for x in replay(tmp_path / "onnx", key, steps, noise, n, **told)]
        assert len(ours) == len(theirs)
        assert {x.dtype for x in theirs} == {torch.float32}
        for one, other in zip(ours, theirs, strict=True):
            torch.testing.assert_close(other, one, rtol=1e-3, atol=1e-3 * float(one.abs().max()), msg=f"{name} {key}")


def test_a_plan_is_a_list_of_sums_and_remembers_what_it_needs() -> None:
    diffusion = RECIPES["VP"].build()
    given = Given(diffusion.gaussian)
    planner = Planner(given, 4, False, True, lambda kernel, t, s: pytest.fail("no kernel needs a graph"))

    def planned(name: str) -> Plan:
        return planner.plan(SAMPLERS[name]().of(diffusion).plan(diffusion.gaussian, given, 8))

    first, *_, last = planned("dpmpp-2m")
    assert first[0]["set"].keys() == {"x", "x0_1"}
    assert last[0]["set"].keys() == {"x"}
    assert [len(move) for move in planned("heun")] == [2] * 7 + [1]
    assert {key for move in planned("ddim") for step in move for key in step["set"]["x"]} <= {"x0", "eps"}
    assert all("z" in move[-1]["set"]["x"] for move in planned("ancestral")[:-1])


def test_the_command_converts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A folder that says how to use it, and nothing about where it was made."""
    made(replace(RECIPES["adm"], steps=100)).save(tmp_path / "model.safetensors", half=True)
    out = tmp_path / "onnx"
    assert main(["convert", str(tmp_path / "model.safetensors"), "--to", "onnx", "--out", str(out)]) == 0
    said = capsys.readouterr().out
    assert "denoiser.onnx: x, t, y -> x0, eps, variance" in said
    assert "kernel-0.onnx: AncestralStep, x, t, s, z, x0, variance -> x_s" in said
    about = json.loads((out / "about.json").read_text())
    assert list(about["samplers"]["ddim"]) == ["5", "10", "20", "50", "100"]
    assert {f"{path.stem}" for path in out.glob("*.onnx")} == {"prior", "denoiser", *(
        f"kernel-{i}" for i in range(len(about["kernels"])))}  # fmt: skip
    for path in out.glob("*.onnx"):
        assert b"site-packages" not in path.read_bytes()
        assert str(Path(__file__).parents[1]).encode() not in path.read_bytes()
    assert main(["convert", str(tmp_path / "model.safetensors"), "--to", "onnx", "--out", str(out)]) == 2
    assert "exists already" in capsys.readouterr().err


def test_what_cannot_be_exported_says_so(tmp_path: Path) -> None:
    model, out = made(RECIPES["ddpm"]), tmp_path / "onnx"
    with pytest.raises(ExportError, match="adaptive: a move evaluates the network"):
        onnx.export(model.recipe, model.network, out, chosen={"adaptive": SAMPLERS["adaptive"]()}, steps=(4,))
    with pytest.raises(ExportError, match=r"takes this model in 2000 steps. ddim: steps must lie between 1 and 40"):
        onnx.export(model.recipe, model.network, out, chosen={"ddim": DDIM()}, steps=(2000,))
    with pytest.raises(ExportError, match="no classifiers"):
        onnx.export(CLASSIFIER, made(CLASSIFIER).network, out)  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []
    onnx.export(model.recipe, model.network, out, chosen={"ddim": DDIM()}, steps=(2,))
    with pytest.raises(ExportError, match=r"no plan of 'heun' in 2 steps; it has ddim in 2 steps"):
        next(replay(out, "heun", 2, lambda i: torch.zeros(1, 1, 8, 8).numpy(), 1))
