"""Results of requests: a folder each, the request beside them, arrays before sheets, and memory that stays bounded."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import arrays, main
from sfumato.conditioning import Labels
from sfumato.data import pictures
from tests.models.small import RECIPES, made


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("models") / "adm.safetensors"
    made(replace(RECIPES["adm"], conditioning=Labels(3, 0.2)), ("a", "b", "c")).save(path)
    return str(path)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


def sampled(model: str, *options: str) -> Path:
    """The folder, out of what there was none of before."""
    before = set(Path("samples").glob("*"))
    common = ["-n", "3", "--steps", "2"] if "-n" not in options else ["--steps", "2"]
    assert main(["sample", model, *common, *options]) == 0
    (made,) = set(Path("samples").glob("*")) - before
    return made


OTHERS: list[list[str]] = [
    [], ["--classes", "b"], ["--scale", "2"], ["-n", "4"], ["--spacing", "quadratic"], ["--sampler", "ddim?eta=1"],
    ["--sampler", "ddim?eta=0.5"], ["--guidance", "interval?scale=2"], ["--guidance", "interval?scale=3"],
    ["--seed", "1"], ["--precision", "bf16"], ["--weights", "online"],
]  # fmt: skip


def test_requests_that_differ_never_share_a_folder(model: str) -> None:
    folders = [sampled(model, *options) for options in OTHERS]
    assert len(set(folders)) == len(OTHERS)
    for folder in folders:
        request = json.loads((folder / "request.json").read_text())
        assert folder.name.endswith(request["digest"])
        assert request["options"]["target"] == model
        assert {path.name for path in folder.iterdir()} == {"images.npz", "grid.png", "sample.json", "request.json"}


def test_the_same_request_has_the_same_folder_whoever_shares_the_work(
    model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = sampled(model)
    first = (folder / "images.npz").read_bytes()
    capsys.readouterr()
    copy = shutil.copy(model, "adm.safetensors")
    for again in ([model, "--batch", "1"], [str(copy), "--device", "cpu"], [model, "--animation"], [model]):
        assert main(["sample", *again, "-n", "3", "--steps", "2"]) == 0
        assert "this very request" in capsys.readouterr().out
        assert (folder / "images.npz").read_bytes() == first
    assert list(Path("samples").iterdir()) == [folder]
    assert "trajectory.webp" in json.loads((folder / "request.json").read_text())["files"]


def test_other_weights_are_another_request(tmp_path: Path) -> None:
    folders = []
    for shift in (0.0, 0.1):
        one = made(RECIPES["ddpm"])
        with torch.no_grad():
            next(iter(one.network.parameters())).add_(shift)
        one.save(tmp_path / "same-name.safetensors")
        folders.append(sampled("same-name.safetensors"))
    assert len(set(folders)) == 2


def test_a_folder_of_ones_own_keeps_nothing_of_another_request(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    common = ["sample", model, "-n", "2", "--steps", "2", "--out", "out"]
    assert main([*common, "--animation"]) == 0
    Path("out/mine.txt").write_text("not theirs")
    capsys.readouterr()
    assert main([*common, "--seed", "5"]) == 0
    assert "another request" in capsys.readouterr().out
    assert {p.name for p in Path("out").iterdir()} == {
        "images.npz", "grid.png", "sample.json", "request.json", "mine.txt"
    }  # fmt: skip


def test_a_request_file_of_strangers_removes_nothing(model: str) -> None:
    Path("out").mkdir()
    Path("out/thesis.txt").write_text("mine")
    Path("beside.png").write_text("mine")
    names: list[Any] = ["thesis.txt", "../beside.png", 3, ["x"], "."]
    Path("out/request.json").write_text(json.dumps({"digest": "0", "files": names}))
    assert main(["sample", model, "-n", "2", "--steps", "2", "--out", "out"]) == 0
    assert Path("out/thesis.txt").exists()
    assert Path("beside.png").exists()
    for text in ("[" * 100_000, "7", '{"files": 7}', "\x00"):
        Path("out/request.json").write_text(text)
        assert main(["sample", model, "-n", "2", "--steps", "2", "--out", "out"]) == 0


EDITS: dict[str, tuple[list[str], list[list[str]]]] = {
    "interpolate": (
        ["--points", "3", "-n", "1"],
        [["--temperature", "0.5"], ["--points", "4"], ["--data", "digits:test"], ["--seed", "1"]],
    ),
    "reconstruct": (["--data", "digits:test", "-n", "2"], [["-n", "3"], ["--data", "digits"], ["--steps", "3"]]),
    "deblur": (
        ["--data", "digits:test", "-n", "1", "--draws", "2", "--method", "dps"],
        [["--std", "2"], ["--noise", "0.1"], ["--seed", "1"], ["--draws", "1"], ["--method", "dps?scale=2"]],
    ),
}  # fmt: skip


@pytest.fixture
def plain(tmp_path: Path) -> str:
    """A model without classes."""
    made(RECIPES["ddpm"]).save(tmp_path / "m.safetensors")
    return "m.safetensors"


@pytest.mark.parametrize("verb", EDITS)
def test_edits_have_a_folder_each(verb: str, plain: str) -> None:
    common, others = EDITS[verb]
    for more in ([], [], *others):
        assert main(["edit", verb, plain, "--steps", "2", *common, *more]) == 0
    folders = list(Path("edits").iterdir())
    assert len(folders) == 1 + len(others)
    assert all((folder / "request.json").is_file() for folder in folders)


# ---------------------------------------------------------------- arrays first, sheets capped


def test_arrays_survive_a_sheet_that_cannot_be_made(
    plain: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fails(*_: object, **__: object) -> None:
        raise MemoryError

    monkeypatch.setattr(pictures, "save_png", fails)
    assert main(["sample", plain, "-n", "3", "--steps", "2", "--out", "out"]) == 2
    assert "out/images.npz is written, but not what is made from it: not enough memory" in capsys.readouterr().err
    with np.load("out/images.npz") as file:
        assert file["arr_0"].shape == (3, 8, 8, 1)
    for verb, file_name in (("interpolate", "images"), ("reconstruct", "images"), ("deblur", "draws")):
        assert main(["edit", verb, plain, "--steps", "2", *EDITS[verb][0], "--out", verb]) == 2
        assert f"{verb}/{file_name}.npz is written" in capsys.readouterr().err
        assert Path(verb, "images.npz").exists()


def test_the_sheet_shows_the_first_and_says_so(
    model: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(arrays, "MOST_PICTURES", 4)
    assert main(["sample", model, "-n", "9", "--steps", "2", "--batch", "3", "--out", "out", "--animation"]) == 0
    said = capsys.readouterr().out
    assert "grid.png (the first 4)" in said
    assert "trajectory.webp (the first 4)" in said
    with Image.open("out/grid.png") as sheet:
        assert sheet.size == (176, 176)  # 2 x 2 pictures of 8 pixels with 2 between them, each pixel 8 times
    with np.load("out/images.npz") as file:
        assert len(file["arr_0"]) == len(file["arr_1"]) == 9


def test_few_batches_are_in_memory_at_a_time(model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each batch is in the file before the next one begins."""
    from sfumato.models import generate

    told: list[str] = []
    write, make = arrays.streamed, generate.sampled

    def made_now(*given: Any, **more: Any) -> Any:
        told.append("made")
        return make(*given, **more)

    class Watched:
        def __init__(self, inner: Any) -> None:
            self.inner = inner

        def __enter__(self) -> Any:
            keep = self.inner.__enter__()
            return lambda images: (told.append("kept"), keep(images))

        def __exit__(self, *error: Any) -> Any:
            return self.inner.__exit__(*error)

    monkeypatch.setattr(generate, "sampled", made_now)
    monkeypatch.setattr("sfumato.cli.sample.streamed", lambda *given: Watched(write(*given)))
    assert main(["sample", model, "-n", "6", "--steps", "2", "--batch", "2", "--out", "out"]) == 0
    assert told == ["made", "kept"] * 3


def test_streamed_is_what_save_npz_writes(tmp_path: Path) -> None:
    images = torch.arange(5 * 3 * 4 * 2, dtype=torch.uint8).reshape(5, 3, 4, 2)
    labels = torch.arange(5)
    for name in ("a", "b"):
        with arrays.streamed(tmp_path / f"{name}.npz", 5, (3, 4, 2), labels) as keep:
            for part in images.split(2):
                keep(part)
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    pictures.save_npz(tmp_path / "c.npz", images, labels)
    with np.load(tmp_path / "a.npz") as ours, np.load(tmp_path / "c.npz") as theirs:
        assert list(ours) == list(theirs)
        for name in ours:
            assert np.array_equal(ours[name], theirs[name])
            assert ours[name].dtype == theirs[name].dtype


def test_more_than_the_disk_or_the_memory_holds_is_refused_at_once(
    model: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("sfumato.runtime.opening._meminfo", lambda: 10**9)
    assert main(["sample", model, "-n", "99999999", "--batch", "99999999", "--steps", "2"]) == 2
    assert "GB are free here" in capsys.readouterr().err
    assert main(["edit", "interpolate", model, "-n", "99999999", "--steps", "2"]) == 2
    assert "GB are free here" in capsys.readouterr().err
    monkeypatch.setattr(shutil, "disk_usage", lambda _: shutil._ntuple_diskusage(10, 9, 1))  # type: ignore[attr-defined]
    assert main(["sample", model, "-n", "3", "--steps", "2"]) == 2
    assert "GB, and samples" in capsys.readouterr().err
    assert not list(Path("samples").glob("*"))


def test_how_much_a_sheet_shows() -> None:
    shown = [arrays.on_sheet(10**6, (3, side, side)) for side in (8, 32, 64, 256, 1024, 100_000)]
    assert all(a >= b for a, b in pairwise(shown))
    assert shown[0] == shown[2] == 1024
    assert shown[-1] == 1
    assert arrays.on_sheet(5, (1, 28, 28)) == 5


def test_numbers_that_are_none_are_no_pictures() -> None:
    broken = made(RECIPES["ddpm"])
    with torch.no_grad():
        for parameter in broken.network.parameters():
            parameter.mul_(1e30)
    with pytest.raises(ValueError, match="came out as nan or infinity"):
        broken.sample(2, steps=2, precision="float32")
