"""Progressive distillation: Gaussian data in closed form, guidance, what is refused, and a run that was cut off."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.cli import main
from sfumato.cli.samplers import fitting
from sfumato.conditioning import Labels, Picture, SelfConditioned
from sfumato.core.distillation import ddim, even_times
from sfumato.core.exact import gaussian
from sfumato.core.sampling import finish
from sfumato.data import open_source
from sfumato.distilling import Plan, left, plan_of, prepared
from sfumato.models import Model, load_model
from sfumato.networks.unet import HoUNet
from sfumato.papers.controlled import controlled
from sfumato.papers.ddpm import DDPM
from sfumato.papers.distilled import Distilled, student
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.mean_flow import MeanFlow
from sfumato.papers.recipe import Derived, of_shape, with_data
from sfumato.papers.shortcut import Shortcut
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.lock import hold
from tests.train import toy

NET = HoUNet(channels=8, multipliers=(1,), blocks=1, attention=(), dropout=0.1)
BASE = DDPM((1, 8, 8), NET, betas="cosine", prediction="v", weight="v", steps=64)
MEAN, STD = 0.3, 0.5


class Exact(nn.Module):
    """v of the exact denoiser of independent Gaussian pixels, by the level's number from 0."""

    def __init__(self, recipe: Any) -> None:
        super().__init__()
        self.process, self.zero = recipe.build().gaussian, nn.Parameter(torch.zeros(()))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        flat, at = x.flatten(1).double(), t.long() + 1
        one = torch.ones(flat.shape[1]).double()
        v: Tensor = gaussian(MEAN * one, STD * one).denoise(self.process)(flat, at).v
        return v.to(x.dtype).view_as(x) + self.zero


class Affine(nn.Module):
    """x -> a[t] x + b[t]: what every denoiser of Gaussian data is."""

    def __init__(self, levels: int) -> None:
        super().__init__()
        self.a, self.b = (nn.Parameter(torch.zeros(levels)) for _ in range(2))

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        a, b = (values[t.long()].reshape(-1, 1, 1, 1) for values in (self.a, self.b))
        return a * x + b


def test_a_linear_student_learns_the_two_steps_of_its_teacher_exactly() -> None:
    """For Gaussian data all is affine, so the loss goes to 0 and two steps of the student are four of the teacher."""
    teacher, recipe, affine = Exact(BASE), Distilled(BASE, 2), Affine(64)
    built = recipe.taught(teacher)
    optimizer = torch.optim.LBFGS(affine.parameters(), max_iter=200, line_search_fn="strong_wolfe")
    x0 = MEAN + STD * torch.randn(64, 1, 8, 8)
    t, eps = built.times.draw(torch.rand(64, generator=torch.Generator().manual_seed(0)))[0], torch.randn(64, 1, 8, 8)
    assert set(t.tolist()) == {64, 32}

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = built.loss(affine, x0, t, lambda like: eps).mean()
        loss.backward()
        return loss.detach()

    before = float(closure())
    optimizer.step(closure)  # type: ignore[no-untyped-call]
    assert float(closure()) < 1e-7 * before
    process, z, four = built.gaussian, torch.randn(8, 1, 8, 8), even_times(built.gaussian.schedule, 4)
    exact = z
    for now, then in pairwise(four):
        exact = ddim(built.denoise(teacher, {})(exact, now), process.level(then, exact))
    made = finish(z, built.sampler.plan(process, built.denoise(affine, {}), built.steps))
    torch.testing.assert_close(made, exact, rtol=1e-3, atol=1e-3)


def test_one_step_of_the_teacher_is_not_two() -> None:
    built = Distilled(BASE, 4).taught(Exact(BASE))
    loss = built.loss(Exact(BASE), torch.randn(4, 1, 8, 8), torch.tensor([64, 48, 32, 16]))
    assert bool((loss > 1e-6).all())


class ByLabel(nn.Module):
    """v is the image times a number of its label's."""

    def __init__(self) -> None:
        super().__init__()
        self.of = nn.Parameter(torch.tensor([0.1, 0.2, 0.3, -0.4]))

    def forward(self, x: Tensor, t: Tensor, y: Tensor) -> Tensor:
        return self.of[y].reshape(-1, 1, 1, 1) * x


def test_guidance_of_the_teacher_is_in_the_target() -> None:
    """And the teacher's own weights get no gradient."""
    base, teacher, network = replace(BASE, conditioning=Labels(3, 1e-9)), ByLabel(), ByLabel()
    x0, t, y = torch.randn(2, 1, 8, 8), torch.tensor([64, 32]), torch.tensor([0, 2])

    def loss(scale: float) -> Tensor:
        torch.manual_seed(2)
        return Distilled(base, 4, scale).taught(teacher, scale).loss(network, x0, t, y=y)

    plain, guided = loss(1.0), loss(3.0)
    assert bool((guided > plain + 1e-3).all())
    guided.mean().backward()
    assert teacher.of.grad is None
    assert network.of.grad is not None
    with pytest.raises(ValueError, match="trained with labels and label dropout alone"):
        Distilled(BASE, 4).taught(BASE.model(), 2.0)


def test_recipes() -> None:
    recipe = Distilled(ImprovedDDPM((1, 8, 8), NET, conditioning=Labels(3, 0.1), prediction="v"), 8, 1.5)
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe
    assert student(recipe, 4) == replace(recipe, steps=4)
    assert student(BASE, 4, 2.0) == Distilled(BASE, 4, 2.0)
    assert recipe.build().steps == 8
    assert Distilled(FlowMatching(), 4).build().times.draw(torch.tensor([0.0, 0.9]))[0].tolist() == [1.0, 0.25]
    for of in (recipe, "ddpm", None):
        with pytest.raises(ValueError, match="of is the recipe of the model that was distilled first"):
            Distilled(of)
    kinds = [name for table in papers.PARTS.values() for name in table]
    assert len(kinds) == len(set(kinds)), "a kind in JSON has one meaning"


def test_every_recipe_takes_another_shape_and_a_distilled_one_no_other_data() -> None:
    for kind in papers.PAPERS.values():
        recipe = kind()
        assert of_shape(recipe, (2, 16, 24)).shape == (2, 16, 24), kind
        assert isinstance(recipe, Derived) == (kind is Distilled), kind
        if kind is not Distilled:
            assert with_data(recipe, (1, 16, 16), recipe.conditioning, recipe.space).shape == (1, 16, 16), kind
    recipe = Distilled(BASE, 2)
    assert of_shape(recipe, (1, 8, 16)) == Distilled(replace(BASE, shape=(1, 8, 16)), 2)
    assert with_data(recipe, BASE.shape, BASE.conditioning, BASE.space) is recipe
    with pytest.raises(ValueError, match="distilled on images like its own"):
        with_data(recipe, (1, 8, 16), BASE.conditioning, BASE.space)
    for levels, values, theirs in (
        (65536, (-1.0, 1.0), "65,536 grey levels"),
        (0, (0.0, 9.0), "real numbers from 0 to 9"),
    ):
        with pytest.raises(ValueError, match=f"like its own, of 256 grey levels; these are of {theirs}"):
            with_data(recipe, BASE.shape, BASE.conditioning, BASE.space.of_depth(levels, values))


def test_the_classes_are_the_teachers_in_their_order() -> None:
    base, images = replace(BASE, conditioning=Labels(3, 0.1)), toy.images()
    plan = Plan("x", 4, 2, 1.0, "bars", None, replace(toy.SMALL, flip=False))
    said = {"preset": "", "data": "bars", "validation": None}
    teacher = Model(base, base.model().eval(), images.classes, {})
    assert prepared(teacher, "x", plan, 2, images, said, None).recipe.conditioning == Labels(3, 0.1)
    turned = replace(images, classes=images.classes[::-1])
    with pytest.raises(ValueError, match="of its own classes, bar0, bar1, bar2; those of bars are bar2, bar1, bar0"):
        prepared(teacher, "x", plan, 2, turned, said, None)
    nameless = Model(base, base.model().eval(), (), {})
    assert prepared(nameless, "x", plan, 2, turned, said, None).images.classes == turned.classes


def test_self_conditioning_is_refused() -> None:
    base = replace(BASE, conditioning=SelfConditioned())
    with pytest.raises(ValueError, match="self-conditioned"):
        Distilled(base).taught(base.model())


def test_models_of_few_steps_are_refused() -> None:
    for of in (MeanFlow(), Shortcut()):
        with pytest.raises(ValueError, match="made for few steps already"):
            Distilled(of).build()


# ---------------------------------------------------------------- the command

TINY = ["--train.images", "64", "--train.batch", "16", "--train.preview-images", "2", "--train.threads", "1",
        "--train.validation-images", "8", "--train.precision", "float32", "--train.checkpoint-every", "0",
        "--train.keep", "9"]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("models") / "v.safetensors"
    torch.manual_seed(0)
    data = {"spec": "digits?limit=64"}
    Model(BASE, BASE.model().eval(), (), {"data": data}).save(path)
    return path


def test_a_distillation_goes_on_bit_for_bit(model: Path, tmp_path: Path) -> None:
    """Cut off in the middle of the second stage, and a third that has no checkpoint yet: as if it had not been."""
    command = ["distill", str(model), "--from-steps", "8", "--to", "1", *TINY]
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    assert main([*command, "--out", str(whole)]) == 0
    shutil.copytree(whole, parts)
    plan, images = plan_of(parts), open_source("digits?limit=64")
    assert plan.stages == [4, 2, 1]
    second, third = (RunFolder.open(parts / f"steps-{n}") for n in (2, 1))
    second.rewind(32)
    for path in third.checkpoints():
        path.unlink()
    stage = next(left(parts, plan, images, None, ""))
    assert (stage.steps, stage.begun) == (2, True)
    assert main(["distill", "--resume", str(parts)]) == 0
    for n in (4, 2, 1):
        one, other = (RunFolder.open(out / f"steps-{n}").latest() for out in (whole, parts))
        assert one is not None and other is not None  # noqa: PT018
        a, b = one.tensors(""), other.tensors("")
        assert a.keys() == b.keys()
        assert all(torch.equal(a[name], b[name]) for name in a), n
    made = load_model(parts / "steps-1")
    assert made.recipe == Distilled(BASE, 1)
    assert made.sample(2).shape == (2, 1, 8, 8)
    with pytest.raises(ValueError, match="its own sampler alone"):
        made.sample(1, sampler="heun")
    assert list(left(parts, plan, images, None, "")) == []
    assert main(["train", "--resume", str(parts / "steps-2")]) == 2


def test_a_model_of_few_steps_lists_its_own_sampler_alone() -> None:
    recipe = Distilled(BASE, 2)
    lines = fitting(Model(recipe, recipe.model().eval(), ()))
    assert lines[0] == "by default: ddim, 2 steps"
    assert lines[-1].startswith("no other")
    assert len(lines) == 3


def test_what_cannot_be_distilled_is_one_line(model: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    eps, bits = tmp_path / "eps.safetensors", tmp_path / "learned.safetensors"
    recipe = replace(BASE, prediction="eps")
    Model(recipe, recipe.model(), (), {"data": {"spec": "digits?limit=64"}}).save(eps)
    learned = papers.PAPERS["dpm"]((1, 8, 8), learn_betas=True)
    Model(learned, learned.model(), (), {"data": {"spec": "digits?limit=64"}}).save(bits)
    control = tmp_path / "control.safetensors"
    edges = controlled(BASE, Picture("edges"))
    Model(edges, edges.model(), (), {"data": {"spec": "digits?limit=64"}}).save(control)
    for target, words, said in (
        (model, ["--to", "5"], "32 never come to 5"),
        (model, ["--from-steps", "128", "--to", "64"], "steps must lie between 1 and 64"),
        (model, ["--data", "fashion"], "a model is distilled on images like its own, 1x8x8"),
        (model, ["--scale", "2"], "label dropout"),
        (eps, [], "distil a model that returns v or x0"),
        (bits, [], "sampled by its own"),
        (control, [], "a control is not distilled"),
    ):
        out = tmp_path / "none"
        assert main(["distill", str(target), "--out", str(out), *words, *TINY]) == 2
        heard = capsys.readouterr().err
        assert said in heard
        assert heard.count("\n") == 1
        assert not out.exists()
    out.mkdir()
    with hold(out, "distilled"):  # another process is about to begin there
        assert main(["distill", str(model), "--out", str(out), "--from-steps", "4", "--to", "2", *TINY]) == 2
        assert "is being distilled by process" in capsys.readouterr().err
        assert [child.name for child in out.iterdir()] == [".lock"]
    (out / "distill.json").write_text("{}")
    for command in ("sample", "inspect", "evaluate"):
        assert main([command, str(out)]) == 2
        assert "is a distillation, which has a run folder for each stage" in capsys.readouterr().err
    assert main(["distill", "--resume", str(tmp_path)]) == 2
    assert "holds no distillation" in capsys.readouterr().err
