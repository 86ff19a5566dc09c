"""`train --config`: a run's own config.json gives the same run, TOML the same values; wrong keys and dry runs."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from sfumato.cli import main
from sfumato.cli.config_file import configured
from sfumato.conditioning import Labels
from sfumato.papers import from_json, to_json
from sfumato.papers.presets import PRESETS, preset
from sfumato.papers.training import TrainConfig
from tests.train import toy

TINY = """
preset = "ddpm/digits"
[recipe]
betas = "linear"
[recipe.network]
channels = 16
[recipe.conditioning]
kind = "labels"
dropout = 0.25
[train]
images = 64
batch = 16
preview_images = 0
validation_images = 8
precision = "float32"
threads = 1
"""


def written(folder: Path, text: str, name: str = "run.toml") -> Path:
    path = folder / name
    path.write_text(text)
    return path


def test_a_run_is_repeated_by_its_own_config(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """TOML -> run -> its config.json verbatim -> the same run; then JSON with a flag that overrides."""
    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert main(["train", "--config", str(written(tmp_path, TINY)), "--out", str(first)]) == 0
    config = json.loads((first / "config.json").read_text())
    assert config["recipe"]["network"]["channels"] == 16
    assert config["recipe"]["betas"] == "linear"
    assert config["recipe"]["conditioning"] == {"kind": "labels", "classes": 10, "dropout": 0.25}
    assert config["train"]["images"] == 64
    assert config["train"]["minutes"] is None
    verbatim = tmp_path / "verbatim.json"
    shutil.copy(first / "config.json", verbatim)
    assert main(["train", f"--config={verbatim}", "--out", str(second)]) == 0
    again = json.loads((second / "config.json").read_text())
    assert {**again, "command": ""} == {**config, "command": ""}
    assert toy.same(toy.tensors(first), toy.tensors(second))
    words = ["--out", str(third), "--train.seed", "5", "--recipe.network.channels", "8", "--train.images", "32"]
    assert main(["train", "--config", str(verbatim), *words]) == 0
    other = json.loads((third / "config.json").read_text())
    assert (other["train"]["seed"], other["train"]["images"]) == (5, 32)
    assert other["recipe"]["network"]["channels"] == 8
    capsys.readouterr()


@pytest.mark.parametrize("name", ["ddpm/fashion", "edm/digits", "score_sde/fashion", "dpm/fashion"])
def test_every_value_of_a_preset_goes_through_a_file(tmp_path: Path, name: str) -> None:
    chosen = PRESETS[name]
    values = {"preset": name, "recipe": to_json(chosen.recipe), "data": chosen.data, "train": chosen.train.to_json()}
    said = configured(written(tmp_path, json.dumps(values), "config.json"))
    assert (said.recipe, said.train, said.data) == (chosen.recipe, chosen.train, chosen.data)
    nameless = {key: value for key, value in values.items() if key != "preset"}
    assert configured(written(tmp_path, json.dumps(nameless), "c.json")).recipe == chosen.recipe


def test_a_file_changes_only_what_it_names(tmp_path: Path) -> None:
    base = preset("ddpm/digits")
    said = configured(written(tmp_path, '[recipe.conditioning]\nkind = "labels"\ndropout = 0.5\n'), "ddpm/digits")
    assert said.recipe.conditioning == Labels(10, 0.5)
    assert said.train == base.train
    assert configured(
        written(tmp_path, "[train]\nseed = 3\n"), "ddpm/digits", TrainConfig.gentle
    ).train == TrainConfig.from_json({**base.train.gentle().to_json(), "seed": 3})
    half = configured(written(tmp_path, "[train]\nbatch = 16\n"), "ddpm/digits", TrainConfig.gentle).train
    assert (half.batch, half.warmup) == (16, 8_000)
    other = configured(written(tmp_path, 'recipe.paper = "flow"\n'), "ddpm/digits").recipe
    assert to_json(other)["paper"] == "flow"
    assert from_json(to_json(other)) == other
    origin = {"preset": "ddpm/digits", "from": {"source": "ddpm/fashion", "weights": "0.999", "fingerprint": "x"}}
    begun = configured(written(tmp_path, json.dumps(origin), "c.json"))
    assert (begun.source, begun.from_weights) == ("ddpm/fashion", "0.999")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[trian]\nimages = 3", "unknown key 'trian'; did you mean train?"),
        ("[train]\nimagse = 3", "unknown training option 'imagse'; did you mean images?"),
        ('[recipe]\nbeta = "linear"', "unknown option of recipe 'beta'; did you mean betas?"),
        ("[recipe.network]\nchanels = 3", "unknown option of network 'chanels'; did you mean channels?"),
        ('[recipe.network]\nkind = "ddpm_unet"', "unknown kind of network 'ddpm_unet'; did you mean ddpm-unet?"),
        ("[train]\nbatch = 0", "batch is between 1"),
        ('recipe = "x"', "recipe is names and values"),
        ("train = 3", "training options are names and values"),
        ("data = 3", "data is a text"),
        ("from = 3", "from is the name of a model"),
        ('preset = "ddpm/fashion"', "is of the preset 'ddpm/fashion', not ddpm/digits"),
        ("= 3", "is no TOML"),
    ],
)
def test_wrong_files_are_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, said: str
) -> None:  # fmt: skip
    path = written(tmp_path, text)
    assert main(["train", "ddpm/digits", "--config", str(path), "--out", str(tmp_path / "run")]) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1
    assert not (tmp_path / "run").exists()


def test_a_dry_run_says_what_it_costs_and_writes_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    path = written(tmp_path, TINY)
    assert main(["train", "--config", str(path), "--dry-run"]) == 0
    said = capsys.readouterr().out
    for part in ("data     digits", "64 images, 16 images a step", "M parameters", "GFLOP", "peak memory", "s a step"):
        assert part in said
    assert list(tmp_path.iterdir()) == [path]
    assert main(["train", "--config", str(path), "--dry-run", "--recipe.network.attention", "4"]) == 2
    assert main(["train", "--config", str(path), "--dry-run", "--out", str(path)]) == 2
    assert list(tmp_path.iterdir()) == [path]
