"""`sfumato.fit`: arrays of every layout and range are the same images, callbacks see and stop, and a run goes on."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import sfumato
from sfumato.data.given import given
from sfumato.data.sources import DataError, open_source, parse_spec
from sfumato.runtime.folder import RunError, RunFolder
from tests.train import toy

MEMORY = parse_spec("memory")
PIXELS = np.arange(5 * 8 * 12 * 3, dtype=np.uint32).astype(np.uint8).reshape(5, 8, 12, 3)
TINY: dict[str, Any] = {
    "images": 64, "batch": 16, "precision": "float32", "preview_images": 2, "preview_steps": 2, "validation_images": 8,
    "threads": 1, "quiet": True, "log_every": 0.2, "profiles": (),
}  # fmt: skip


def pillow(modes: str = "RGB") -> list[Image.Image]:
    return [Image.fromarray(picture).convert(modes) for picture in PIXELS]


@pytest.mark.parametrize(
    ("images", "values"),
    [
        (PIXELS, None),
        (PIXELS.transpose(0, 3, 1, 2), None),
        (list(PIXELS), None),
        (torch.from_numpy(PIXELS), None),
        (torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()), None),
        (PIXELS.astype(np.float64) / 255, (0, 1)),
        (torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()) / 127.5 - 1, (-1, 1)),
        (torch.from_numpy(PIXELS).double().div(255).half(), (0, 1)),
        (pillow(), None),
    ],
)
def test_every_form_is_the_same_images(images: Any, values: Any) -> None:
    made = given(MEMORY, images, values=values)
    assert torch.equal(made.images, torch.from_numpy(PIXELS.transpose(0, 3, 1, 2).copy()))
    assert made.card.fingerprint == given(MEMORY, PIXELS).card.fingerprint
    assert made.labels is None


def test_grey_and_options() -> None:
    grey = PIXELS[..., 0]
    assert given(MEMORY, grey).shape == (1, 8, 12)
    assert given(parse_spec("memory?size=4&channels=1"), PIXELS).shape == (1, 4, 4)
    mixed = [pillow()[0], pillow()[1].resize((30, 20))]
    assert given(parse_spec("memory?size=6"), mixed).shape == (3, 6, 6)
    with pytest.raises(DataError, match="images mixes 2 image sizes"):
        given(MEMORY, mixed)
    assert given(MEMORY, pillow("CMYK")).shape == (3, 8, 12)


def test_labels_are_numbers_or_words() -> None:
    words = given(MEMORY, PIXELS, ["b", "a", "b", "c", "a"])
    assert words.classes == ("a", "b", "c")
    assert words.labels is not None
    assert words.labels.tolist() == [1, 0, 1, 2, 0]
    numbers = given(MEMORY, pillow(), np.array([0, 2, 0, 1, 2]), ("x", "y", "z"))
    assert numbers.classes == ("x", "y", "z")
    assert numbers.labels is not None
    assert numbers.labels.tolist() == [0, 2, 0, 1, 2]
    assert given(MEMORY, PIXELS, torch.tensor([0, 1, 0, 1, 1])).classes == ("0", "1")


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda: given(MEMORY, PIXELS / 255.0), r"images of floats need values=\(0, 1\) or values=\(-1, 1\)"),
        (lambda: given(MEMORY, PIXELS / 255.0, values=(0, 255)), r"not \(0.0, 255.0\)"),
        (lambda: given(MEMORY, PIXELS / 127.5 - 1, values=(0, 1)), r"images are from -1 to 1, outside of"),
        (lambda: given(MEMORY, np.full((2, 4, 4, 3), np.nan), values=(0, 1)), "from nan to nan"),
        (lambda: given(MEMORY, PIXELS, values=(0, 1)), "these images are uint8"),
        (lambda: given(MEMORY, PIXELS.astype(np.int64)), "images are uint8"),
        (lambda: given(MEMORY, PIXELS[0]), "one image"),
        (lambda: given(MEMORY, []), "images are an array or tensor"),
        (lambda: given(MEMORY, PIXELS, [0, 1]), "there are 5 images and 2 labels"),
        (lambda: given(MEMORY, PIXELS, [0, 1, 2, 3, -1]), "one is -1"),
        (lambda: given(MEMORY, PIXELS, [0.5] * 5), "labels are whole numbers from 0, or words"),
        (lambda: given(MEMORY, PIXELS, [0, 1, 2, 3, 4], ["a"]), "names 1 classes, and a label is 4"),
        (lambda: given(MEMORY, PIXELS, ["a"] * 5, ["b"]), "'a' is none of"),
        (lambda: given(MEMORY, [pillow()[0], PIXELS[1]]), "images.1. is a ndarray"),
        (lambda: given(parse_spec("memory?limit=3"), PIXELS), "limit in"),
        (lambda: open_source("memory"), "given from Python"),
    ],
)
def test_what_is_no_set_of_images_is_one_line(call: Any, said: str) -> None:
    with pytest.raises(DataError, match=said) as error:
        call()
    assert "\n" not in str(error.value)


def bars(n: int = 48) -> tuple[np.ndarray, list[int]]:
    held = toy.images(n)
    assert held.labels is not None
    return held.images.numpy(), held.labels.tolist()


def test_a_run_is_a_model_that_loads_again(tmp_path: Path) -> None:
    pixels, labels = bars()
    rows: list[Mapping[str, Any]] = []
    model = sfumato.fit(
        pixels, "ddpm/digits", out=tmp_path / "run", labels=labels, classes=["low", "mid", "high"],
        validation=(pixels[:9], labels[:9]), callbacks=rows.append, **TINY,
    )  # fmt: skip
    assert model.classes == ("low", "mid", "high")
    assert model.recipe.shape == (1, 8, 8)
    assert torch.equal(model.sample(2, steps=2), sfumato.load(tmp_path / "run").sample(2, steps=2))
    written = RunFolder.open(tmp_path / "run").metrics()
    assert [{k: v for k, v in row.items() if k != "pictures"} for row in rows] == written
    shown = [row["pictures"] for row in rows if row["kind"] == "preview"]
    assert shown
    assert shown[-1]["ema"].shape == (2, 1, 8, 8)
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert (config["preset"], config["data"], config["validation"]) == ("ddpm/digits", "memory", "memory")
    assert config["command"].startswith("sfumato.fit(images, 'ddpm/digits', images=64, batch=16")
    assert (tmp_path / "run" / "report.html").is_file()


def test_a_callback_ends_a_run_which_goes_on_bit_for_bit(tmp_path: Path) -> None:
    pixels, labels = bars()

    def stop(row: Mapping[str, Any]) -> bool:
        return row["kind"] == "train" and row["images"] >= 32

    first = sfumato.fit(pixels, "ddpm/digits", out=tmp_path / "a", labels=labels, callbacks=[stop], **TINY)
    assert 32 <= first.about["images"] < 64
    on = {key: value for key, value in TINY.items() if key in ("quiet", "images")}
    again = sfumato.fit(pixels, out=tmp_path / "a", labels=labels, resume=True, **on)
    sfumato.fit(pixels, "ddpm/digits", out=tmp_path / "b", labels=labels, **TINY)
    assert again.about["images"] == 64
    assert toy.same(toy.tensors(tmp_path / "a"), toy.tensors(tmp_path / "b"))
    for wrong, said in (({"learning_rate": 1.0}, "another learning_rate"), ({"preset": "edm/digits"}, "is a run of")):
        with pytest.raises(ValueError, match=said):
            sfumato.fit(pixels, out=tmp_path / "a", labels=labels, resume=True, **wrong)
    with pytest.raises(RunError, match="trained on other images"):
        sfumato.fit(pixels[::-1].copy(), out=tmp_path / "a", labels=labels, resume=True, images=128, quiet=True)


def test_a_spec_other_parts_and_weights_to_begin_at(tmp_path: Path) -> None:
    small = "ddpm-unet?channels=32&multipliers=1&blocks=1&attention=none"
    model = sfumato.fit("digits?limit=64", "ddpm/digits", out=tmp_path / "a", recipe={"network": small}, **TINY)
    assert model.recipe.network.multipliers == (1,)
    assert json.loads((tmp_path / "a" / "config.json").read_text())["validation"] == "digits:test?limit=64"
    begun = sfumato.fit(
        "digits?limit=64", "ddpm/digits", out=tmp_path / "b", recipe={"network": small}, start=tmp_path / "a", **TINY
    )
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["from"]["source"] == str(tmp_path / "a")
    assert config["train"]["learning_rate"] == pytest.approx(2e-3 / 5)
    assert begun.about["images"] == 64


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ({}, "fit needs a preset"),
        ({"preset": "ddpm/digit"}, "did you mean ddpm/digits"),
        ({"preset": "ddpm/digits", "minuts": 3}, "unknown argument of fit 'minuts'; did you mean minutes"),
        ({"preset": "ddpm/digits", "recipe": {"networks": "dit"}}, "did you mean network"),
        ({"preset": "ddpm/digits", "recipe": {"network": "unets"}}, "unknown network 'unets'"),
        ({"preset": "adm_classifier/digits"}, "makes no pictures by itself"),
        ({"preset": "ddpm/digits", "resume": True}, "say out="),
        ({"preset": "ddpm/digits", "validation": np.zeros((3, 8, 8), np.uint8)}, "a pair of images and labels"),
        ({"preset": "ddpm/digits", "batch": 0}, "batch is"),
    ],
)
def test_what_does_not_fit_is_one_line_and_nothing_is_written(tmp_path: Path, words: dict[str, Any], said: str) -> None:
    pixels, labels = bars()
    out = {} if words.get("resume") else {"out": tmp_path / "run"}
    with pytest.raises(ValueError, match=said) as error:
        sfumato.fit(pixels, labels=labels, **out, **words)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


def test_the_name_alone_imports_nothing_heavy() -> None:
    code = "import sys, sfumato; print([m for m in ('torch', 'numpy', 'sfumato.one_call') if m in sys.modules])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_a_size_is_that_of_the_preset_for_these_images(tmp_path: Path) -> None:
    model = sfumato.fit("digits?limit=64", "ddpm/digits", size="tiny", out=tmp_path / "run", **TINY)
    assert (model.recipe.network.channels, model.recipe.network.multipliers) == (32, (1, 1))
    with pytest.raises(ValueError, match="did you mean tiny"):
        sfumato.fit("digits", "ddpm/digits", size="tine", out=tmp_path / "other")
    with pytest.raises(ValueError, match="leave out recipe"):
        sfumato.fit("digits", "ddpm/digits", size="tiny", recipe={"network": "dit"}, out=tmp_path / "other")
