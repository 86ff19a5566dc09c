"""The Frechet distance by the length of the average: recorded, taken by `best`, drawn, and refused before any work."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.cli import main
from sfumato.data import Images, open_source
from sfumato.data.splits import with_split
from sfumato.evaluate import evaluate, features
from sfumato.evaluate.lengths import curve
from sfumato.evaluate.measures import FrechetDistance
from sfumato.evaluate.samples import sampled
from sfumato.models import load_model
from sfumato.models.generate import Request
from sfumato.runtime import weights
from sfumato.runtime.folder import RunFolder
from tests.scripts.test_scaling import script

REQUEST = Request(24, 3, "ddim", batch=24)
LENGTHS = (0.15, 0.05, 0.1)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny run on digits, with its snapshots."""
    out = tmp_path_factory.mktemp("by_length") / "run"
    options = {"images": 96, "batch": 8, "validation-images": 16, "preview-images": 2, "preview-steps": 2, "threads": 1}
    words = [word for name, value in options.items() for word in (f"--train.{name}", str(value))]
    words += ["--train.precision", "float32", "--recipe.network.channels", "32"]
    assert main(["train", "ddpm/digits", "--out", str(out), *words]) == 0
    return out


@pytest.fixture(scope="module")
def real() -> Images:
    return open_source(with_split("digits", "test")).take(torch.arange(200))


def test_the_curve_is_recorded_and_best_takes_its_least(run: Path, real: Images) -> None:
    before, net = RunFolder.open(run).metrics(), features.in_domain("digits", "cpu")
    told: list[float] = []
    found = curve(run, LENGTHS, real, net, REQUEST, progress=lambda length, _: told.append(length))
    assert told == list(found.lengths) == sorted(LENGTHS)
    assert all(value > 0 for value in found.fd)
    *kept, record = RunFolder.open(run).metrics()
    assert kept == before
    assert (record["kind"], record["images"], record["fd"]) == ("lengths", 96, list(found.fd))
    assert (record["distance"], record["n"], record["how"]["steps"]) == (net.distance, 24, 3)
    saved = RunFolder.open(run).latest()
    assert saved is not None
    assert weights.choose(saved, "best").name == f"sigma_rel {found.best:g}"
    page = (run / "report.html").read_text()
    assert f"{net.distance} of 24 pictures of each average" in page
    assert "Validation loss (mean over the levels" in page
    assert "or --weights best" not in page, "the distance has chosen"


def test_it_is_the_distance_of_the_pictures_of_that_average(run: Path, real: Images) -> None:
    net = features.in_domain("digits", "cpu")
    found = curve(run, [0.1], real, net, REQUEST)
    made = sampled(load_model(run, weights=0.1), REQUEST)
    metric = evaluate(made, real, net, measures=(FrechetDistance(),)).metrics["frechet"]
    assert found.fd == (pytest.approx(metric.value, rel=1e-9),)


@pytest.mark.parametrize(
    ("lengths", "message"), [((0.1, 0.29), "no weights|no average"), ((), "no lengths"), ((0.1, 0.9), "no average")]
)
def test_what_cannot_be_measured_is_refused_before_any_work(
    run: Path, real: Images, lengths: tuple[float, ...], message: str
) -> None:
    before = (run / "metrics.jsonl").read_bytes()
    with pytest.raises(ValueError, match=message):
        curve(run, lengths, real, features.in_domain("digits", "cpu"), REQUEST)
    assert (run / "metrics.jsonl").read_bytes() == before


def test_the_script(
    run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    module = script("scripts", "ema_curve")
    words = ["--n", "16", "--sampler", "dpmpp-2m?grid=karras", "--lengths", "0.05", "0.1"]
    assert module.main([str(run), *words]) == 0
    said = capsys.readouterr().out
    assert "sigma_rel  FD-digits-" in said
    assert f"sfumato sample {run} --weights best" in said
    assert module.main([str(tmp_path), *words]) == 2
    assert capsys.readouterr().err.count("\n") == 1
