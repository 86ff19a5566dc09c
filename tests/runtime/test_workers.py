"""Any number of processes gives the same images and the same figures; a process that dies is one clear line."""

from __future__ import annotations

import json
import os
import pickle
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato.cli import main
from sfumato.cli.parsing import steps_of
from sfumato.conditioning import Labels
from sfumato.core.ode import runge_kutta
from sfumato.data import open_source, to_float
from sfumato.likelihood import adaptive
from sfumato.models import Classifier, Guide, Model, load_classifier, load_model
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.runtime.workers import WorkerPool, batches, distribute
from sfumato.samplers import SAMPLERS
from sfumato.spaces import Standardised
from tests.models import small


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Untrained models of digits, saved."""
    folder = tmp_path_factory.mktemp("models")
    images = open_source("digits:test")
    digits = Labels(10)
    recipes: dict[str, Any] = {
        "ddpm": DDPM(small.SHAPE, HoUNet(**small.UNET), digits, steps=20, betas="cosine", clip=False),
        "classifier": replace(small.CLASSIFIER, conditioning=digits, steps=20, betas="cosine"),
        "dpm": DPM(small.SHAPE, space=Standardised().fitted([to_float(images.images)]), steps=20),
    }
    paths = {}
    for name, recipe in recipes.items():
        torch.manual_seed(0)
        network = recipe.model()
        for parameter in network.parameters():
            torch.nn.init.normal_(parameter, std=0.1)
        paths[name] = folder / f"{name}.safetensors"
        classes = images.classes if recipe.conditioning.classes else ()
        made = Classifier if name == "classifier" else Model
        made(recipe, network, classes, {"data": {"spec": "digits"}}).save(paths[name])
    return paths


@pytest.fixture(autouse=True)
def one_thread() -> Any:
    """A worker has one thread here, and so has this process: then all is equal bit for bit."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def files(models: dict[str, Path], tmp_path: Path, *words: str) -> list[Path]:
    """Where a command writes to with one process and with two, the model being its last word's."""
    out = []
    for processes in ("1", "2"):
        out.append(tmp_path / processes)
        arguments = [words[0], str(models[words[1]]), *words[2:], "--processes", processes, "--out", str(out[-1])]
        assert main([*arguments, "--batch", "2", "--device", "cpu"]) == 0
    return out


def test_two_processes_make_the_same_pictures(models: dict[str, Path], tmp_path: Path) -> None:
    """With a classifier that guides, and the way as an animation."""
    guide = ["--classifier", str(models["classifier"]), "--classes", "3", "7"]
    words = ["sample", "ddpm", "-n", "5", "--steps", "4", "--animation", "--precision", "float32", *guide]
    one, two = files(models, tmp_path, *words)
    with np.load(one / "images.npz") as a, np.load(two / "images.npz") as b:
        assert a["arr_0"].shape == (5, 8, 8, 1)
        assert len(np.unique(a["arr_0"], axis=0)) == 5
        assert (a["arr_0"] == b["arr_0"]).all()
        assert b["arr_1"].tolist() == [3, 7, 3, 7, 3]
    for name in ("grid.png", "trajectory.webp", "predictions.webp"):
        assert (one / name).read_bytes() == (two / name).read_bytes()


@pytest.mark.parametrize(
    ("name", "words", "file"),
    [
        ("ddpm", ["--steps", "5"], "bound.json"),
        pytest.param("dpm", [], "k.json", marks=pytest.mark.slow),
        pytest.param(
            "ddpm", ["--method", "ode", "--solver", "3", "--repeats", "2"], "ode.json", marks=pytest.mark.slow
        ),
        pytest.param("ddpm", ["--method", "ode"], "ode.json", marks=pytest.mark.slow),  # by the adaptive solver
    ],
)
def test_two_processes_find_the_same_likelihood(
    models: dict[str, Path], tmp_path: Path, name: str, words: list[str], file: str
) -> None:
    one, two = (out / file for out in files(models, tmp_path, "likelihood", name, "--limit", "5", *words))
    values = json.loads(one.read_text())
    assert values == json.loads(two.read_text())
    assert values["protocol"]["images"] == 5
    if "--solver" in words:
        assert values["network_evaluations"] == 12


def test_whatever_the_command_line_offers_can_be_sent(models: dict[str, Path]) -> None:
    """Samplers and grids survive the way to another process."""
    for sampler in [kind() for kind in SAMPLERS.values()]:
        assert pickle.loads(pickle.dumps(sampler)) == sampler
    model, heun = load_model(models["ddpm"]), SAMPLERS["heun"]()
    pair = [model.sample(2, steps=3, sampler=s) for s in (heun, pickle.loads(pickle.dumps(heun)))]
    assert torch.equal(*pair)
    for text, spacing in (("3", "sections"), ("2,2", "auto"), ("4", "ddim-quadratic"), ("4", "quadratic")):
        grid: Any = steps_of(text, spacing)
        assert torch.equal(pickle.loads(pickle.dumps(grid))(20), grid(20))


@pytest.mark.parametrize("kind", ["fixed", "adaptive"])
def test_solvers_can_be_sent(kind: str) -> None:
    if kind == "adaptive":
        pytest.importorskip("torchdiffeq")
    solve = pickle.loads(pickle.dumps(runge_kutta(5) if kind == "fixed" else adaptive()))
    (end,) = solve(lambda t, state: state, (torch.ones(1, dtype=torch.float64),), 0, 1)
    assert float(end) == pytest.approx(2.71828, rel=1e-3)


def dies(model: Model, part: range) -> int:
    """Work that is the end of the process."""
    os._exit(1)


def counts(model: Model, part: range) -> tuple[int, int]:
    """Work that says what it is, and how many threads it has."""
    return sum(part), torch.get_num_threads()


@pytest.mark.slow
def test_parts_come_back_in_order(models: dict[str, Path]) -> None:
    parts = batches(7, 3)
    assert parts == [range(3), range(3, 6), range(6, 7)]
    model, told = load_model(models["ddpm"]), []
    pool = WorkerPool(partial(load_model, models["ddpm"]), 2)
    assert distribute(counts, model, parts, pool, told.append) == [(3, 1), (12, 1), (6, 1)]
    assert told == [3, 3, 1]
    with pytest.raises(ChildProcessError, match="a worker process died"):
        distribute(dies, model, parts, pool)


def test_one_process_needs_no_other(models: dict[str, Path]) -> None:
    model = load_model(models["ddpm"])
    one, four = WorkerPool(load_model, 1), WorkerPool(load_model, 4)
    for pool, parts in ((None, batches(4, 2)), (one, batches(4, 2)), (four, batches(4, 9))):
        assert set(distribute(lambda model, part: os.getpid(), model, parts, pool)) == {os.getpid()}


def test_a_guide_follows_the_model(models: dict[str, Path]) -> None:
    model, guide = load_model(models["ddpm"]), Guide(load_classifier(models["classifier"]))
    assert model.sample(2, steps=2, guide=guide).shape == (2, 1, 8, 8)
    assert guide.classifier.device == model.device


@pytest.mark.parametrize("command", ["sample", "likelihood", "evaluate"])
def test_wrong_numbers_of_processes(models: dict[str, Path], capsys: pytest.CaptureFixture[str], command: str) -> None:
    assert main([command, str(models["ddpm"]), "--processes", "0"]) == 2
    assert "--processes is between 1 and 512, not 0" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("command", "words"), [("sample", "let it share its work: --processes N"), ("edit", "not edit")]
)
def test_a_launcher_is_refused(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], command: str, words: str
) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("LOCAL_RANK", "1")
    assert main([command, "ddpm/emoji32"]) == 2
    said = capsys.readouterr().err
    assert "torchrun and accelerate launch are for sfumato train" in said
    assert words in said
