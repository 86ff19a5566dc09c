"""The command line end to end: train, sample, inspect on tiny runs; bad input ends in one clear line and exit code 2.

Most checks call `main` in this process; the run folder that they share is trained once.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from sfumato.cli import main
from sfumato.models import shipped
from sfumato.papers.presets import PRESETS

NETWORK = ["--recipe.network.channels", "32", "--recipe.network.multipliers", "1", "2"]
SMALL = [*NETWORK, "--recipe.steps", "40",
         "--train.precision", "float32", "--train.preview-images", "4", "--train.preview-steps", "2",
         "--train.validation-images", "8"]  # fmt: skip


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "digits"
    assert main(["train", "ddpm/digits", "--train.images", "1k", "--train.batch", "32", "--out", str(out), *SMALL]) == 0
    return out


def failing(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must fail; returns its one line."""
    capsys.readouterr()
    assert main(arguments) == 2
    lines = capsys.readouterr().err.strip().splitlines()
    assert len(lines) == 1, lines
    assert lines[0].startswith("sfumato: ")
    return lines[0]


def test_a_run_folder_holds_everything(run: Path) -> None:
    for name in ("config.json", "data_card.json", "metrics.jsonl", "report.html"):
        assert (run / name).stat().st_size > 0
    assert list((run / "checkpoints").glob("*.safetensors"))
    assert (run / "samples" / "data.png").is_file()
    assert list((run / "samples").glob("*-ema.png"))
    config = json.loads((run / "config.json").read_text())
    assert config["recipe"]["steps"] == 40
    assert config["train"]["images"] == 1000
    page = (run / "report.html").read_text()
    assert "data:image/png;base64" in page
    assert "http" not in page.replace("http://www.w3.org", "")
    assert page.count("<svg") >= 3


def test_sample_writes_grid_npz_and_animation(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "pictures"
    assert main(["sample", str(run), "-n", "5", "--steps", "3", "--out", str(out), "--animation", "--batch", "2"]) == 0
    assert str(out) in capsys.readouterr().out
    with np.load(out / "images.npz") as file:
        assert file["arr_0"].shape == (5, 8, 8, 1)
        assert file["arr_0"].dtype == np.uint8
        assert file["arr_1"].tolist() == [0, 1, 2, 3, 4]
    with Image.open(out / "trajectory.webp") as film:
        assert film.n_frames == 4  # type: ignore[attr-defined]
    assert (out / "predictions.webp").is_file()
    assert json.loads((out / "sample.json").read_text())["seed"] == 0


def test_sample_goes_into_the_run_by_default(run: Path) -> None:
    assert main(["sample", str(run), "-n", "2", "--steps", "2", "--sampler", "ancestral", "--classes", "3"]) == 0
    assert len(list((run / "samples").glob("ancestral-2-seed0-*/grid.png"))) == 1


def test_inspect_says_what_things_are(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "ddpm/digits", "--no-measure"]) == 0
    assert "parameters" in capsys.readouterr().out
    assert main(["inspect", str(run), "--no-measure"]) == 0
    assert "1,000" in capsys.readouterr().out.replace("1,024", "1,000")
    assert main(["inspect", "digits:test"]) == 0
    assert "8x8" in capsys.readouterr().out


def test_resume_goes_on_and_finishes(tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = ["train", "ddpm/digits", "--train.images", "320", "--train.batch", "32", "--out", str(out), *SMALL]
    assert main(command) == 0
    config = json.loads((out / "config.json").read_text())
    config["train"]["images"] = 640
    (out / "config.json").write_text(json.dumps(config))
    assert main(["train", "--resume", str(out)]) == 0
    assert sorted(p.stem for p in (out / "checkpoints").glob("*"))[-1].endswith("640")


def test_training_on_a_folder(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "images" / name).mkdir(parents=True)
        for i in range(6):
            pixels = np.random.default_rng(i).integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(tmp_path / "images" / name / f"{i}.png")
    out = tmp_path / "run"
    data = f"folder:{tmp_path / 'images'}?size=8"
    budget = ["--train.images", "64", "--train.batch", "16"]
    assert main(["train", "ddpm/digits", "--data", data, *budget, "--out", str(out), *SMALL]) == 0
    assert json.loads((out / "config.json").read_text())["recipe"]["shape"] == [3, 8, 8]
    assert main(["sample", str(out), "-n", "2", "--steps", "2", "--classes", "b"]) == 0


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["paint"], "unknown command"),
        (["train"], "needs a preset"),
        (["train", "ddpm/fashon"], "did you mean ddpm/fashion"),
        (["train", "ddpm/digits", "--recipe.stepps", "5"], "stepps"),
        (["train", "ddpm/digits", "--train.batch", "many"], "many"),
        (["train", "ddpm/digits", "--train.batch", "0"], "batch"),
        (["train", "ddpm/digits", "--train.ema", "1.5"], "ema"),
        (["train", "ddpm/digits", "--data", "digit"], "did you mean digits"),
        (["train", "ddpm/digits", "--data", "folder:/nowhere/at/all"], "no folder"),
        (["train", "ddpm/digits", "--recipe.betas", "wavy"], "wavy"),
        (["train", "--resume", "/nowhere/at/all"], "config.json"),
        (["sample", "/nowhere/at/all"], "no such run folder"),
        (["sample"], "target"),
        (["inspect", "nothing-of-the-kind"], "unknown data set"),
        (["presets", "--all"], "no options"),
    ],
)
def test_bad_input_is_one_line_and_code_2(arguments: list[str], words: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert words.lower() in failing(arguments, capsys).lower()


def test_what_is_wrong_is_said_once(capsys: pytest.CaptureFixture[str]) -> None:
    said = failing(["train", "ddpm/digits", "--recipe.stepps", "5"], capsys)
    assert said.count("Unrecognized options") == 1
    assert "--recipe.steps" in said  # what may have been meant


def test_no_name_of_a_preset_touches_what_is_said_of_it(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["presets"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [*PRESETS, *sorted(shipped().keys() - PRESETS.keys())]


def test_bad_sampling_options(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "none"
    for options, words in (
        (["--steps", "0"], "between 1 and 40"),
        (["--steps", "41"], "between 1 and 40"),
        (["-n", "0"], "-n is between 1 and"),
        (["--steps", "5", "--classes", "eleven"], "unknown class"),
        (["--steps", "5", "--sampler", "ddim?eta=2"], "between 0 and 1"),
        (["--sampler", "ancestral?eta=0.5"], "no option 'eta'; its options:"),
        (["--steps", "5", "--sampler", "ddmi"], "did you mean ddim?"),
        (["--steps", "5", "--weights", "0.5"], "0.5"),
    ):
        assert words in failing(["sample", str(run), "--out", str(out), *options], capsys)
        assert not out.exists()


def test_an_existing_run_is_not_overwritten(run: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(p.name for p in run.rglob("*"))
    assert "--resume" in failing(["train", "ddpm/digits", "--out", str(run), *SMALL], capsys)
    assert sorted(p.name for p in run.rglob("*")) == before


def test_bad_folders(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "empty").mkdir()
    assert "no images" in failing(["train", "ddpm/digits", "--data", f"folder:{tmp_path / 'empty'}"], capsys)
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    Image.new("L", (8, 8)).save(mixed / "grey.png")
    Image.new("RGB", (8, 8)).save(mixed / "colour.png")
    assert "channels=" in failing(["train", "ddpm/digits", "--data", f"folder:{mixed}"], capsys)


def test_a_truncated_checkpoint(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole = next((run / "checkpoints").glob("*.safetensors")).read_bytes()
    (tmp_path / "cut.safetensors").write_bytes(whole[: len(whole) // 2])
    assert "truncated" in failing(["sample", str(tmp_path / "cut.safetensors")], capsys)


def test_no_permission_and_no_traceback_as_a_user(tmp_path: Path) -> None:
    """In a process of its own, as typed."""
    file = tmp_path / "file"
    file.write_text("")
    done = subprocess.run(
        [sys.executable, "-m", "sfumato", "train", "ddpm/digits", "--out", str(file / "run"), *SMALL],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


# ---------------------------------------------------------------- the likelihood line

TINY = [*NETWORK, "--recipe.steps", "30", "--train.images", "640",
        "--train.precision", "float32", "--train.preview-images", "2", "--train.preview-steps", "2",
        "--train.validation-images", "8"]  # fmt: skip


@pytest.fixture(scope="module")
def guided(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A run of adm/digits and one of its classifier."""
    folder = tmp_path_factory.mktemp("guided")
    for name in ("adm", "adm_classifier"):
        assert main(["train", f"{name}/digits", "--out", str(folder / name), *TINY]) == 0
    return folder / "adm", folder / "adm_classifier"


def test_both_guidances_from_the_command_line(guided: tuple[Path, Path], tmp_path: Path) -> None:
    model, classifier = map(str, guided)
    pictures = {}
    for name, more in {
        "none": [],
        "free": ["--scale", "3"],
        "score": ["--classifier", classifier, "--classifier-scale", "20"],
        "mean": ["--classifier", classifier, "--classifier-scale", "20", "--sampler", "ancestral"],
    }.items():
        out = tmp_path / name
        asked = ["sample", model, "-n", "2", "--steps", "4", "--classes", "3", "--out", str(out), *more]
        assert main(asked) == 0
        with np.load(out / "images.npz") as file:
            pictures[name] = file["arr_0"].tobytes()
            assert file["arr_1"].tolist() == [3, 3]
    assert len(set(pictures.values())) == 4


def test_an_upsampler_and_importance_sampling_from_the_command_line(tmp_path: Path) -> None:
    out, sheet = tmp_path / "up", tmp_path / "sheet"
    choices = ["--recipe.conditioning", "low-res?picture=4", "--recipe.objective", "vlb", "--recipe.importance"]
    assert main(["train", "iddpm/digits", "--out", str(out), *TINY, *choices]) == 0
    assert main(["sample", str(out), "-n", "3", "--steps", "2", "--low-res", "digits:test", "--out", str(sheet)]) == 0
    assert (sheet / "pairs.png").is_file()
    with np.load(sheet / "images.npz") as file:
        assert file["arr_0"].shape == (3, 8, 8, 1)


def test_likelihood_writes_every_term(guided: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    model, _ = guided
    assert main(["likelihood", str(model), "--limit", "20", "--steps", "10"]) == 0
    assert "bits/dim" in capsys.readouterr().out
    (folder,) = (model / "likelihood").iterdir()
    found = json.loads((folder / "bound.json").read_text())
    assert len(found["terms"]) == len(found["levels"]) == 10
    assert found["total"] == pytest.approx(found["prior"] + sum(found["terms"]), rel=1e-4)
    assert found["protocol"]["data"] == "digits:test"
    assert (folder / "request.json").is_file()
    assert (folder / "bound.png").stat().st_size > 10_000


@pytest.mark.parametrize("steps", ["10,5", "ddim15"])
def test_published_respacings(guided: tuple[Path, Path], steps: str, tmp_path: Path) -> None:
    out = tmp_path / "spaced"
    asked = ["sample", str(guided[0]), "-n", "1", "--steps", steps, "--sampler", "ancestral", "--out", str(out)]
    assert main(asked) == 0
    assert json.loads((out / "sample.json").read_text())["moves"] == 15


def test_what_the_likelihood_line_refuses(
    guided: tuple[Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, classifier = map(str, guided)
    out = str(tmp_path / "nothing")
    for arguments, words in [
        (["sample", classifier], "makes no pictures"),
        (["sample", model, "--classifier", model], "a guide is a classifier"),
        (["sample", model, "--steps", "ddim17"], "no integer stride"),
        (["sample", model, "--steps", "40,40"], "cannot place"),
        (["sample", model, "--steps", "many"], "--steps is a number"),
        (["sample", model, "--classes", "12"], "unknown class"),
        (["likelihood", classifier], "makes no pictures"),
        (["likelihood", model, "--data", "fashion:tset"], "fashion"),
        (["likelihood", model, "--data", "emoji32"], "emoji32"),
        (["likelihood", model, "--steps", "1"], "two moves"),
        (["train", "iddpm/digits", "--recipe.conditioning", "low-res?picture=8"], "upsampler"),
        (["train", "iddpm/digits", "--recipe.objective", "simple"], "learned variance"),
    ]:
        where = ["--out", out] if arguments[0] != "train" else ["--out", out, "--train.images", "64"]
        assert words in failing([*arguments, *where], capsys)
        assert not Path(out).exists()


def test_editing_from_the_command_line(run: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for name, arguments in {
        "random": ["interpolate", str(run), "--points", "3", "--steps", "4", "-n", "2", "--classes", "1", "7"],
        "slerp": ["interpolate", str(run), "--data", "digits:test", "--points", "3", "--steps", "4", "-n", "2"],
        "linear": ["interpolate", str(run), "--data", "digits", "--how", "linear", "--points", "3", "--steps", "4"],
        "back": ["reconstruct", str(run), "--steps", "4", "-n", "3"],
    }.items():
        out = tmp_path / name
        assert main(["edit", *arguments, "--out", str(out)]) == 0
        with np.load(out / "images.npz") as file:
            assert file["arr_0"].shape[1:] == (8, 8, 1)
    assert "mean squared error" in capsys.readouterr().out
    for arguments, words in [
        (["edit"], "edit does one of"),
        (["edit", "interpolate", str(run), "--how", "linear"], "--data"),
        (["edit", "reconstruct", str(run), "-n", "400"], "pictures are asked for"),
        (["edit", "reconstruct", str(run), "--steps", "41"], "between 1 and 40"),
        (["edit", "reconstruct", str(run), "--data", "emoji32"], "emoji32 has"),
    ]:
        assert words in failing(
            [*arguments, "--out", str(tmp_path / "no")] if len(arguments) > 1 else arguments, capsys
        )
    assert not (tmp_path / "no").exists()
