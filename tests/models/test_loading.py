"""What `load` takes: by its content, whatever it is called; and what it refuses in one line, before it takes memory."""

from __future__ import annotations

import os
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

import sfumato
from sfumato import papers
from sfumato.cli import main
from sfumato.convert import foreign
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.runtime import checkpoint, tensor_file
from tests.models.small import made

RECIPE = DDPM((1, 8, 8), HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0))


@pytest.fixture(scope="module")
def model() -> Any:
    return made(RECIPE)


def same(a: Any, b: Any) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.network.parameters(), b.network.parameters(), strict=True))


@pytest.mark.parametrize(
    "name", ["a.pt", "a.pth", "a.PT", "a.Pth", "a.pth.tar", "a.PTH.TAR", "a.ckpt", "a.bin", "a", "a.weights", "a.1"]
)
def test_official_files_of_every_name(name: str, model: Any, tmp_path: Path) -> None:
    torch.save(foreign.official_state(RECIPE, model.network), tmp_path / name)
    assert same(sfumato.load(tmp_path / name, size=8), model)


@pytest.mark.parametrize("name", ["a.safetensors", "a.SafeTensors", "a.bin", "a"])
def test_official_weights_as_safetensors(name: str, model: Any, tmp_path: Path) -> None:
    state = foreign.official_state(RECIPE, model.network)
    safetensors.torch.save_file({f"module._orig_mod.{key}": value for key, value in state.items()}, tmp_path / name)
    loaded = sfumato.load(tmp_path / name, size=8)
    assert same(loaded, model)
    assert loaded.about["weights"] == "as in the file"


@pytest.mark.parametrize("name", ["a.safetensors", "a.SAFETENSORS", "a", "a.model"])
def test_ours_of_every_name(name: str, model: Any, tmp_path: Path) -> None:
    model.save(tmp_path / name)
    assert same(sfumato.load(tmp_path / name), model)


def test_the_home_folder(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    model.save(tmp_path / "a.safetensors")
    assert same(sfumato.load("~/a.safetensors"), model)
    foreign.save_folder(RECIPE, model.network, tmp_path / "theirs")
    assert same(sfumato.load("~/theirs"), model)
    assert main(["convert", "~/a.safetensors", "--to", "official", "--out", "~/b.pt"]) == 0
    assert (tmp_path / "b.pt").is_file()


def test_a_folder_that_holds_only_the_network(model: Any, tmp_path: Path) -> None:
    foreign.save_folder(RECIPE, model.network, tmp_path / "theirs")
    (tmp_path / "theirs" / "model_index.json").unlink()
    assert same(sfumato.load(tmp_path / "theirs"), model)
    assert same(sfumato.load(tmp_path / "theirs" / "unet"), model)


# ---------------------------------------------------------------- what is refused


def pipe(path: Path) -> None:
    os.mkfifo(path)


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize("name", ["a.safetensors", "a.pt", "a", "a.parts"])
@pytest.mark.parametrize("make", [pipe, folder])
def test_what_is_no_file_is_not_waited_for(make: Callable[[Path], None], name: str, tmp_path: Path) -> None:
    make(tmp_path / name)
    with pytest.raises((ValueError, OSError), match=r"pipe|folder|no whole checkpoint"):
        sfumato.load(tmp_path / name)


RECIPES: list[tuple[dict[str, Any], str]] = [
    ({"steps": 50.5}, "steps is"),
    ({"steps": True}, "steps is"),
    ({"steps": float("nan")}, "steps is"),
    ({"steps": 10**12}, "steps is"),
    ({"clip": "no"}, "clip is true or false"),
    ({"clip": 1}, "clip is true or false"),
    ({"shape": [1, 32768, 32768]}, "are too large"),
    ({"shape": [1, 8.0, 8]}, "shape is"),
    ({"network": {"kind": "ddpm-unet", "blocks": 10**7}}, "blocks is"),
    ({"network": {"kind": "ddpm-unet", "multipliers": [1] * 200_000}}, "multipliers is"),
    ({"network": {"kind": "ddpm-unet", "multipliers": [10**6]}}, "multipliers is"),
    ({"network": 3}, "network is"),
    ({"paper": "x"}, "unknown paper 'x'"),
    ({"conditioning": {"kind": "labels", "classes": 10, "dropout": float("nan")}}, "dropout is"),
]


@pytest.mark.parametrize(("change", "words"), RECIPES)
def test_a_recipe_that_is_none_is_one_line_with_the_file(
    change: dict[str, Any], words: str, model: Any, tmp_path: Path
) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"model/x": torch.zeros(1)}, {"recipe": {**papers.to_json(RECIPE), **change}})
    tracemalloc.start()
    try:
        with pytest.raises(checkpoint.CheckpointError, match=words) as caught:
            sfumato.load(path)
        assert str(path) in str(caught.value)
        assert "\n" not in str(caught.value)
        assert len(str(caught.value)) < 1000
        assert tracemalloc.get_traced_memory()[1] < 100 << 20
    finally:
        tracemalloc.stop()


def test_shapes_are_compared_before_memory_is_taken(tmp_path: Path) -> None:
    """A recipe whose network would have billions of numbers, in a file of a few bytes."""
    recipe = papers.to_json(DDPM((1, 8, 8), HoUNet(channels=4096, multipliers=(1, 8), blocks=1, attention=())))
    checkpoint.save(tmp_path / "a.safetensors", {"model/x": torch.zeros(1)}, {"recipe": recipe})
    with pytest.raises(checkpoint.CheckpointError, match="another architecture"):
        sfumato.load(tmp_path / "a.safetensors")


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_weights_that_are_not_finite_are_refused(value: float, model: Any, tmp_path: Path) -> None:
    state = foreign.official_state(RECIPE, model.network)
    state["conv_in.bias"][3] = value
    torch.save(state, tmp_path / "a.pt")
    with pytest.raises(ValueError, match=r"a\.pt: conv_in\.bias holds NaN or infinite values"):
        sfumato.load(tmp_path / "a.pt", size=8)
    tensors = {f"model/{name}": tensor.clone() for name, tensor in model.network.state_dict().items()}
    tensors["model/conv_in.bias"][3] = value
    checkpoint.save(tmp_path / "a.safetensors", tensors, {"recipe": papers.to_json(RECIPE)})
    with pytest.raises(ValueError, match=r"model/conv_in\.bias holds NaN or infinite values"):
        sfumato.load(tmp_path / "a.safetensors")


def test_weights_beyond_half_precision_are_not_halved(tmp_path: Path) -> None:
    large = made(RECIPE)
    with torch.no_grad():
        large.network.conv_in.bias[0] = 1e5
    with pytest.raises(ValueError, match=r"conv_in.bias holds values beyond float16"):
        large.save(tmp_path / "a.safetensors", half=True)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, "holds no recipe"),
        ({"recipe": [1]}, r"recipe in its description is \[1\]"),
        ({"recipe": {}, "progress": 3}, "progress in its description is 3"),
        ({"recipe": {}, "progress": {"images": "many"}}, "images in its progress is 'many'"),
        ({"recipe": {}, "progress": {"seconds": float("nan")}}, "seconds in its progress is nan"),
        ({"recipe": {}, "ema": "0.9"}, "ema in its description is '0.9'"),
        ({"recipe": {}, "data": {"classes": 3}}, "classes in its description is no list of names"),
        ({"recipe": {}, "data": {"classes": [3]}}, "classes in its description is no list of names"),
    ],
)
def test_a_description_that_is_none_is_refused(about: dict[str, Any], words: str, tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    checkpoint.save(path, {"model/x": torch.zeros(1)}, about)
    with pytest.raises(checkpoint.CheckpointError, match=words):
        sfumato.load(path)


def test_a_description_that_is_nested_without_end(tmp_path: Path) -> None:
    text = '{"format": 1, "recipe": ' + "[" * 100_000
    tensor_file.write(tmp_path / "a.safetensors", {}, {checkpoint.KEY: text})
    with pytest.raises(checkpoint.CheckpointError, match="nested too deeply"):
        sfumato.load(tmp_path / "a.safetensors")


def test_nothing_from_a_file_acts_on_the_terminal(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "a\x1b]0;owned\x07.safetensors"
    checkpoint.save(path, {"model/\x1b[31mx": torch.zeros(1)}, {"recipe": papers.to_json(RECIPE)})
    with pytest.raises(checkpoint.CheckpointError, match="another architecture") as caught:
        sfumato.load(path)
    assert "\x1b" not in str(caught.value)
    torch.save({"\x1b[31mx": torch.zeros(1)}, path.with_suffix(".pt"))
    assert main(["convert", str(path.with_suffix(".pt"))]) == 2
    recipe = {**papers.to_json(RECIPE), "betas": "\x1b[2J"}
    path.unlink()
    checkpoint.save(path, {}, {"recipe": recipe})
    assert main(["convert", str(path)]) == 2
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert len(err.splitlines()) == 2
