"""`sfumato evaluate` of whatever holds pictures, and of diffusers' folders; a folder for each distinct request."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from sfumato.cli import main
from sfumato.data import open_source, pictures
from sfumato.evaluate.protocol import Metric, _table
from tests.models.small import RECIPES, made


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


def evaluated(target: str, *options: str) -> Path:
    """The new folder of the results."""
    before = set(Path("evaluations").glob("*"))
    assert main(["evaluate", target, "--metrics", "fd", "--training", "none", "--device", "cpu", *options]) == 0
    (made_now,) = set(Path("evaluations").glob("*")) - before
    return made_now


def test_every_kind_of_data_is_the_same_to_it(capsys: pytest.CaptureFixture[str]) -> None:
    """The same 40 pictures from memory maps, shards, folders and arrays: the same numbers, protocol and floor."""
    images = open_source("digits?limit=40").images
    pictures.save_npz("images.npz", images)
    Path("folder").mkdir()
    for i, image in enumerate(images):
        pictures.save_png(Path("folder") / f"{i:03}.png", image)
    assert main(["prepare", "digits?limit=40", "prepared"]) == 0
    targets = ["digits?limit=40", "folder", "folder:folder", "images.npz", "npz:images.npz", "map:prepared"]
    found = [
        json.loads((evaluated(target, "--reference", "digits:test") / "evaluation.json").read_text())
        for target in targets
    ]
    for one in found:
        assert one["protocol"]["count"] == 40
        assert one["protocol"]["reference"] == "digits:test"
        assert one["metrics"]["frechet"]["floor"] is not None
        assert one["metrics"]["frechet"]["value"] == pytest.approx(found[0]["metrics"]["frechet"]["value"], rel=1e-5)


def test_shards(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("webdataset")
    assert main(["prepare", "digits?limit=40", "shards", "--shards"]) == 0
    spec = capsys.readouterr().out.splitlines()[-2]
    assert spec.startswith("wds:")
    for target in (spec, str(next(Path("shards").glob("*.tar")))):
        folder = evaluated(target, "--reference", "digits:test")
        assert json.loads((folder / "evaluation.json").read_text())["protocol"]["count"] == 40


def test_a_folder_of_diffusers(capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("diffusers")
    made(replace(RECIPES["ddpm"], steps=8)).save("m.safetensors")
    assert main(["convert", "m.safetensors", "--to", "diffusers", "--out", "pipeline"]) == 0
    assert main(["evaluate", "pipeline", "-n", "16", "--steps", "2"]) == 2
    assert "does not say what it was trained on; choose" in capsys.readouterr().err
    options = ["--reference", "digits:test", "-n", "16", "--steps", "2", "--precision", "float32"]
    ours, theirs = (
        json.loads((evaluated(target, *options) / "evaluation.json").read_text())
        for target in ("m.safetensors", "pipeline")
    )
    assert theirs["protocol"]["samples"] == "pipeline"
    assert theirs["protocol"]["how"]["steps"] == 2
    assert theirs["metrics"]["frechet"]["floor"] is not None
    assert theirs["metrics"]["frechet"]["value"] == pytest.approx(ours["metrics"]["frechet"]["value"], rel=0.02)


def test_requests_that_differ_never_share_a_folder(capsys: pytest.CaptureFixture[str]) -> None:
    made(RECIPES["ddpm"]).save("m.safetensors")
    common = ["-n", "16", "--steps", "2", "--reference", "digits:test"]
    others = [
        [],
        ["-n", "17"],
        ["--seed", "1"],
        ["--steps", "3"],
        ["--reference", "digits"],
        ["--other", "digits?limit=99"],
    ]
    folders = [evaluated("m.safetensors", *common, *more) for more in others]
    assert len(set(folders)) == len(others)
    assert main(["evaluate", "m.safetensors", "--metrics", "fd", "--training", "none", *common, "--batch", "4"]) == 0
    assert "this very request" in capsys.readouterr().out
    assert len(list(Path("evaluations").iterdir())) == len(others)
    assert all((folder / "request.json").is_file() for folder in folders)


def test_zero_has_no_sign() -> None:
    rows = _table({"a": Metric("kernel distance", -0.00001, floor=-0.0), "b": Metric("other", -0.0001)})
    assert "-0.0000" not in "".join(rows)
    assert "-0.0001" in "".join(rows)
    assert torch.tensor(-0.0).signbit()
