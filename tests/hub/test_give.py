"""A folder for a model hub: the model comes back as it was, and the card says what the run and its measurements say."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.cli import main
from sfumato.cli.config_file import configured
from sfumato.conditioning import Labels
from sfumato.data import open_source
from sfumato.evaluate import Metric, Protocol, Result
from sfumato.hub import give
from sfumato.hub.card import dataset_name
from tests.models.small import RECIPES, made

TINY: dict[str, Any] = {
    "images": 64, "batch": 16, "precision": "float32", "preview_images": 2, "preview_steps": 2, "validation_images": 8,
    "threads": 1, "quiet": True, "profiles": (),
}  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run on digits, measured three times: as it is, by other weights, and before its end."""
    out = tmp_path_factory.mktemp("runs") / "mine"
    model = sfumato.fit("digits?limit=64", "ddpm/digits", out=out, **TINY)
    about = {"weights": model.about["weights"], "images_seen": 64}
    for name, how in (("a", about), ("b", about | {"weights": "online"}), ("c", about | {"images_seen": 16})):
        protocol = Protocol("x", 50, (1, 8, 8), "", how, "", "digits", "", "none", f"{name}:test", 299, "", "half", "0")
        (out / "evaluations" / name).mkdir(parents=True)
        metrics = {"frechet": Metric("FD-digits", 5.25, "lower", floor=0.125), "recall": Metric("recall|x", 0.5)}
        Result(metrics, protocol).save(out / "evaluations" / name / "evaluation.json")
    (out / "evaluations" / "d").mkdir()
    (out / "evaluations" / "d" / "evaluation.json").write_text("{")
    return out


def head(card: str) -> Any:
    yaml = pytest.importorskip("yaml")
    return yaml.safe_load(card.split("---\n")[1])


def test_a_run_is_given_and_loads_back(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "given"
    words = ["convert", str(run), "--to", "hub", "--out", str(out), "--licence", "cc-by-4.0", "--pictures", "20"]
    assert main(words) == 0
    assert {path.name for path in out.iterdir()} == {
        "README.md", "config.json", "model.safetensors", "nearest.png", "samples.png",
    }  # fmt: skip
    theirs, ours = sfumato.load(out), sfumato.load(run)
    assert theirs.recipe == ours.recipe
    assert theirs.classes == ours.classes
    assert torch.equal(theirs.sample(3, steps=3, seed=5), ours.sample(3, steps=3, seed=5))
    card = (out / "README.md").read_text("utf-8")
    config = json.loads((run / "config.json").read_text())
    assert f"```\n{config['command']}\n```" in card
    assert str(open_source("digits?limit=64").card) in card
    assert "| FD-digits | 5.25 | 0.125 | lower is better |" in card
    assert "| recall\\|x | 0.5 |  |  |" in card
    assert "a:test" in card
    assert "b:test" not in card
    assert "c:test" not in card
    with Image.open(out / "samples.png") as sheet, Image.open(out / "nearest.png") as pairs:
        assert sheet.width > 100
        assert pairs.width > pairs.height
    said = configured(out / "config.json")
    assert (said.recipe, said.train.images, said.data) == (ours.recipe, 64, "digits?limit=64")
    held = head(card)
    assert (held["license"], held["library_name"]) == ("cc-by-4.0", "sfumato")
    assert {"ddpm", "ddpm-unet", "class-conditional"} <= set(held["tags"])
    (measured,) = held["model-index"][0]["results"]
    assert measured["metrics"][0] == {"type": "frechet", "name": "FD-digits", "value": 5.25}
    capsys.readouterr()
    assert main(["train", "--resume", str(out)]) == 2
    assert "holds a model without its run" in capsys.readouterr().err


def test_hub_tools_read_the_head(run: Path, tmp_path: Path) -> None:
    hub = pytest.importorskip("huggingface_hub")
    give(sfumato.load(run), tmp_path / "x", str(run), licence="mit", dataset="digits", count=0)
    data = hub.ModelCard.load(tmp_path / "x" / "README.md").data
    assert (data.license, data.library_name, data.datasets) == ("mit", "sfumato", ["digits"])
    (first, second) = data.eval_results
    assert (first.metric_type, first.metric_value, second.metric_value) == ("frechet", 5.25, 0.5)


def test_copies_are_counted_and_shown(tmp_path: Path) -> None:
    """The training pictures are the samples themselves, and one other: every sample is a copy."""
    model = made(replace(RECIPES["adm"], conditioning=Labels(3, 0.2)), ("a", "b", "c"))
    samples = model.sample(6, seed=0)
    apart = torch.randint(0, 256, (2, *samples.shape[1:]), dtype=torch.uint8)
    np.savez(tmp_path / "t.npz", images=torch.cat([samples, apart]).permute(0, 2, 3, 1).numpy())
    spec = f"npz:{tmp_path / 't.npz'}"
    model = replace(model, about={**model.about, "data": {"spec": spec}})
    give(model, tmp_path / "a", "small", count=6)
    card = (tmp_path / "a" / "README.md").read_text("utf-8")
    assert "to the nearest is 0.000" in card
    assert "6 of 6 are copies" in card
    assert "datasets:" not in card
    assert "license:" not in card
    give(model, tmp_path / "b", "small", count=6, show_training=False)
    assert not (tmp_path / "b" / "nearest.png").exists()
    changed = replace(model, about={**model.about, "data": {"spec": spec, "fingerprint": "0"}})
    said: list[str] = []
    give(changed, tmp_path / "c", "small", count=6, say=said.append)
    assert said == [
        f"left out: the nearest training pictures: {spec} holds other images now than those of the training"
    ]
    assert not (tmp_path / "c" / "nearest.png").exists()
    held = replace(model, about={**model.about, "data": {"spec": "memory"}})
    give(held, tmp_path / "d", "small", count=6, say=said.append)
    assert said[1:] == [
        "left out: the nearest training pictures: memory: these images were given from Python and are not stored"
    ]


@pytest.mark.parametrize("name", RECIPES)
def test_every_kind_comes_back(name: str, tmp_path: Path) -> None:
    model = made(RECIPES[name])
    give(model, tmp_path / "m", "small", count=0, half=True)
    again = sfumato.load(tmp_path / "m")
    assert again.recipe == model.recipe
    for key, value in model.network.state_dict().items():
        torch.testing.assert_close(again.network.state_dict()[key], value, rtol=1e-3, atol=1e-4)
    assert "None yet of these weights" in (tmp_path / "m" / "README.md").read_text("utf-8")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--to", "hub", "--licence", "cc-by-4"], "did you mean cc-by-4.0"),
        (["--to", "hub", "--pictures", "-1"], "pictures is between 0 and 1,024, not -1"),
        (["--to", "diffusers", "--licence", "mit"], "--licence is an option of --to hub"),
        (["--to", "onnx", "--no-nearest"], "--nearest is an option of --to hub"),
    ],
)
def test_what_is_wrong_is_one_line_and_nothing_is_written(
    words: list[str], said: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["convert", "ddpm/fashion", *words, "--out", str(tmp_path / "x")]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1
    assert not list(tmp_path.iterdir())
    (tmp_path / "x").mkdir()
    assert main(["convert", "ddpm/fashion", "--to", "hub", "--out", str(tmp_path / "x")]) == 2


def test_paths_are_no_names_of_data_sets() -> None:
    known = {"fashion?size=32": "fashion_mnist", "hf:me/pets?split=train": "me/pets", "hf:/home/me": "", "folder:a": ""}
    assert {spec: dataset_name(spec) for spec in known} == known
