"""ControlNet as a run: the frozen weights stay bit for bit, resumed or not; pictures, scales and what does not fit."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import sfumato
from sfumato.cli import main
from sfumato.conditioning import Labels, Picture, Together
from sfumato.models import load_model
from sfumato.networks.unet import HoUNet
from sfumato.papers.autoencoder import ImageAutoencoder
from sfumato.papers.controlled import controlled
from sfumato.papers.ddpm import DDPM
from sfumato.papers.distilled import Distilled
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.weights import fingerprint
from tests.train import toy

NETWORK = "ddpm-unet?channels=32&multipliers=1,2&blocks=1&attention=none&dropout=0.1"
FAST = [
    "--train.batch", "8", "--train.threads", "1", "--train.validation-images", "8", "--train.preview-images", "2",
    "--train.preview-steps", "2", "--train.precision", "float32",
]  # fmt: skip


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of digits with labels, hardly trained, whose last layer is not zero any more."""
    out = tmp_path_factory.mktemp("base") / "run"
    words = ["--recipe.network", NETWORK, "--recipe.conditioning", "labels?dropout=0.2", "--recipe.steps", "40"]
    assert main(["train", "ddpm/digits", *FAST, *words, "--train.images", "64", "--out", str(out)]) == 0
    return out


def train(base: Path, out: Path, images: int = 64, *more: str) -> int:
    budget = ["--train.images", str(images), "--out", str(out)]
    return main(["train", "control/edges", "--from", str(base), *FAST, *budget, *more])


@pytest.fixture(scope="module")
def run(base: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("control") / "run"
    assert train(base, out) == 0
    return out


def frozen(run: Path) -> dict[str, dict[str, torch.Tensor]]:
    """The frozen weights of every set of weights in the newest checkpoint."""
    saved: Any = RunFolder.open(run).latest()
    sets = ["model/", *(f"ema/{name}/" for name in saved.weights if name != "online"),
            *(f"profile/{name}/" for name in saved.profiles)]  # fmt: skip
    return {name: saved.tensors(f"{name}frozen.") for name in sets}


def test_the_frozen_weights_stay_bit_for_bit(base: Path, run: Path) -> None:
    theirs = load_model(base).network.state_dict()
    held = frozen(run)
    assert len(held) == 4
    for weights in held.values():
        assert toy.same(weights, theirs)
    assert json.loads((run / "config.json").read_text())["from"]["fingerprint"] == fingerprint(theirs)
    saved: Any = RunFolder.open(run).latest()
    assert not [key for key in saved.shapes if key.startswith("optimizer/frozen.")]
    copied = saved.tensors("model/copy.")
    alike = {name: value for name, value in copied.items() if value.shape == theirs[name].shape}
    assert any(not torch.equal(value, theirs[name]) for name, value in alike.items())


def test_a_run_that_goes_on_is_the_run_and_leaves_them_alone(base: Path, run: Path, tmp_path: Path) -> None:
    """Stopped half-way by a smaller budget of the same schedule, as a signal would."""
    from sfumato.fitting import prepare
    from sfumato.starting import preset_from, start_from

    chosen = preset_from("control/edges", str(base))
    settings: Any = toy.replace(
        chosen.train, images=64, minutes=None, batch=8, threads=1, validation_images=8, preview_images=0,
        precision="float32",
    )  # fmt: skip
    data = sfumato.data.open_source("digits")
    stops = iter([False] * 3 + [True])

    def watch(row: Any) -> bool:
        return row["kind"] == "train" and next(stops, False)

    whole, parts = tmp_path / "whole", tmp_path / "parts"
    made = prepare(chosen.recipe, data, settings, {"preset": "", "data": ""}, initial=start_from(str(base)))
    made.run(whole, quiet=True)
    assert made.run(parts, quiet=True, watch=[watch]).interrupted
    recipe = sfumato.papers.from_json(json.loads((parts / "config.json").read_text())["recipe"])
    again = prepare(recipe, data, settings, {"preset": "", "data": ""}, resume=parts)
    assert again.run(parts, resume=True, quiet=True).images == 64
    assert toy.same(toy.tensors(whole), toy.tensors(parts))
    theirs = load_model(base).network.state_dict()
    assert all(toy.same(weights, theirs) for weights in frozen(parts).values())


def test_without_control_it_draws_what_the_frozen_model_draws(base: Path, run: Path) -> None:
    control, model = load_model(run), load_model(base)
    assert control.recipe.conditioning == Together((Labels(10, 0.2), Picture("edges")))
    edges = torch.randint(0, 255, (3, 1, 8, 8), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    each: Any
    for each in ({"classes": [3]}, {"classes": [3], "scale": 2.0}):
        options: Any = {"steps": 3, "precision": "float32", **each}
        drawn = model.sample(3, **options)
        assert torch.equal(control.controlled(0.0).sample(3, picture=edges, **options), drawn)
        whole = control.controlled(10.0).sample(3, picture=edges, **options)
        assert not torch.equal(whole, drawn)
        alone = control.controlled(10.0).sample(1, picture=edges, batch=1, **options)
        assert torch.equal(whole[:1], alone)
    assert control.recipe.network.scale == 1.0  # type: ignore[attr-defined]
    with pytest.raises(ValueError, match="no control"):
        model.controlled(0.5)


def test_one_file_holds_both(run: Path, tmp_path: Path) -> None:
    model = load_model(run).controlled(0.5)
    model.save(tmp_path / "both.safetensors")
    again = load_model(tmp_path / "both.safetensors")
    assert again.recipe == model.recipe
    edges = torch.zeros(2, 1, 8, 8, dtype=torch.uint8)
    assert torch.equal(again.sample(2, steps=2, picture=edges), model.sample(2, steps=2, picture=edges))


def test_from_a_model_to_pictures(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for scale, name in (("1", "one"), ("0.5", "half")):
        words = ["--originals", "digits:test", "-n", "4", "--steps", "2", "--control-scale", scale]
        assert main(["sample", str(run), *words, "--out", str(tmp_path / name)]) == 0
        assert (tmp_path / name / "pairs.png").is_file()
    one, half = (np.load(tmp_path / name / "images.npz")["arr_0"] for name in ("one", "half"))
    assert one.shape == (4, 8, 8, 1)
    assert not np.array_equal(one, half)
    capsys.readouterr()
    assert main(["sample", str(run), "--inputs", "fashion?limit=4", "--steps", "2", "--out", str(tmp_path / "no")]) == 2
    said = capsys.readouterr().err.strip()
    assert "this model takes inputs of 1x8x8" in said
    assert "\n" not in said


def test_one_call_controls_too(base: Path, tmp_path: Path) -> None:
    model = sfumato.fit(
        "digits", "control/mask", start=base, out=tmp_path / "run", images=16, batch=8, threads=1, preview_images=0,
        validation_images=0, quiet=True,
    )  # fmt: skip
    assert model.recipe.network.frozen
    assert toy.same(frozen(tmp_path / "run")["model/"], load_model(base).network.state_dict())


@pytest.mark.parametrize(("words", "message"), [
    ("control/edges --from nothing", "no such run folder"),
    ("control/edges --from {run} --data fashion --size small", "no sizes of the network control"),
    ("control/edges --from {base} --data fashion", "knows the classes 0, 1"),
    ("control/edges --from {base} --recipe.conditioning picture?by=blur", "label_embedding.weight of the frozen model"),
    ("control/edges --from {base} --recipe.prediction eps", "would not be read as it was trained"),
    ("control/edges --from edm/fashion-none", "no such run folder"),
    ("ddpm/digits --recipe.network control --recipe.conditioning picture?by=edges", "it needs one: --from MODEL"),
    ("ddpm/digits --recipe.network control", "a control is told of a picture"),
    ("control/edges --from {base} --recipe.network.scale 11", "scale"),
])  # fmt: skip
def test_what_does_not_fit_ends_in_one_line(
    words: str, message: str, base: Path, run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    assert main(["train", *words.format(base=base, run=run).split(), *FAST, "--out", str(out)]) == 2
    said = capsys.readouterr().err.strip()
    assert message in said
    assert "\n" not in said
    assert not out.exists()


def test_a_control_goes_on_as_a_control_and_of_a_picture_there_is_one() -> None:
    plain = DDPM((1, 8, 8), HoUNet(32, (1, 2), 1, ()))
    once = controlled(plain, Picture("edges"))
    assert once.conditioning == Picture("edges")
    assert once.network.network == plain.network
    assert controlled(once, Picture("edges")) == once
    with pytest.raises(ValueError, match="a control by another picture"):
        controlled(once, Picture("mask"))
    assert sfumato.papers.from_json(json.loads(json.dumps(sfumato.papers.to_json(once)))) == once
    with pytest.raises(ValueError, match="pictures already"):
        controlled(DDPM((1, 8, 8), plain.network, Picture("grey")), Picture("edges"))
    with pytest.raises(ValueError, match="a control is of a model that makes pictures"):
        controlled(ImageAutoencoder((1, 8, 8)), Picture("edges"))
    with pytest.raises(ValueError, match="distilled"):
        controlled(Distilled(plain), Picture("edges"))
