"""`sfumato evaluate` from words: what is taken for what, wrong words in one line, and sampling by several processes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from sfumato import papers
from sfumato.cli.evaluate import EvaluateArguments, measured
from sfumato.cli.measuring import default_cache, default_reference, stored_spec
from sfumato.conditioning import Attributes, Labels
from sfumato.data import open_source, pictures
from sfumato.data.splits import other_split, test_split
from sfumato.evaluate.samples import sampled
from sfumato.models import Guide, Request, load_model
from sfumato.models.guidance import Interval
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.runtime import checkpoint
from sfumato.runtime.weights import fingerprint
from sfumato.samplers import DDIM, name
from tests.models import small

UNET: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "dropout": 0.0}
RECIPE = DDPM((1, 8, 8), HoUNet(**UNET), Labels(10), steps=20)


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A checkpoint of a tiny model with random weights."""
    torch.manual_seed(0)
    network = RECIPE.model()
    path = tmp_path_factory.mktemp("model") / "tiny.safetensors"
    about = {
        "recipe": papers.to_json(RECIPE),
        "data": {"spec": "digits", "classes": list("0123456789")},
        "progress": {"images": 7},
        "ema": [],
    }
    tensors = {f"model/{name}": value + 0.05 * torch.randn_like(value) for name, value in network.state_dict().items()}
    checkpoint.save(path, tensors, about)
    return path


def run(target: object, **options: Any) -> dict[str, Any]:
    """The JSON file that the command wrote."""
    assert measured(EvaluateArguments(str(target), device="cpu", out=Path("out"), **options)) == 0
    return json.loads(Path("out/evaluation.json").read_text())


# ---------------------------------------------------------------- what is evaluated


def test_a_checkpoint(trained: Path, capsys: pytest.CaptureFixture[str]) -> None:
    found = run(trained, n=40, steps=3, precision="float32")
    how = found["protocol"]["how"]
    assert how == {
        "sampler": name(load_model(trained).sampler()), "steps": 3, "network_evaluations": 3, "seed": 0,
        "precision": "float32", "weights": "online", "images_seen": 7,
    }  # fmt: skip
    assert found["protocol"]["reference"] == "digits:test"
    assert found["protocol"]["quantiser"] == "[-1, 1] to the nearest of 256 levels, clamped"
    assert set(found["metrics"]) >= {"frechet", "kernel", "precision", "coverage", "class_accuracy", "copies_pixels"}
    printed = capsys.readouterr().out
    assert "FD-digits-c5b001fa" in printed
    assert "out/{evaluation.json,nearest.png}" in printed
    assert Path("out/nearest.png").is_file()


def test_an_npz_and_a_folder_hold_the_same_pictures() -> None:
    images = open_source("digits").images[:60]
    pictures.save_npz(Path("images.npz"), images)
    Path("folder").mkdir()
    for i, image in enumerate(images):
        pictures.save_png(Path("folder") / f"{i:03}.png", image)
    found = [run(target, reference="digits:test") for target in ("images.npz", "folder", "digits?limit=60")]
    for metric_name, metric in found[0]["metrics"].items():
        for other in found[1:]:
            assert other["metrics"][metric_name]["value"] == pytest.approx(metric["value"], rel=1e-5, abs=1e-5)
    assert len({f["protocol"]["samples_sha256"] for f in found}) == 1


def test_chosen_metrics() -> None:
    found = run("digits", reference="digits:test", n=100, metrics=("fd", "pr"), training="none")
    assert set(found["metrics"]) == {"frechet", "precision", "recall", "class_accuracy"}
    assert not Path("out/nearest.png").exists()
    official = run("digits", n=100, official=True, training="none")["metrics"]
    assert official["precision"]["note"] == "k 3, half-precision distances"
    assert official["inception_score"]["note"] == "splits of 5000"


@pytest.mark.parametrize(
    ("stored", "trained_on", "reference"),
    [
        (None, "fashion", "fashion:test"),
        (None, "fashion?limit=50000", "fashion:test"),
        (None, "emoji32?classes=Flags", "emoji32:test?classes=Flags"),
        ("digits", None, "digits:test"),
        ("digits:test", None, "digits"),
    ],
)
def test_default_reference(stored: str | None, trained_on: str | None, reference: str) -> None:
    assert default_reference(stored, trained_on) == reference
    assert other_split(reference) is not None
    assert other_split("npz:x.npz") is None


def test_splits_of_a_data_set() -> None:
    assert test_split("fashion?limit=5") == "fashion:test?limit=5"
    assert test_split("fashion:test") is test_split("folder:x") is None
    assert other_split("fashion:test?limit=5&size=14") == "fashion?size=14"


def test_what_a_target_is(trained: Path) -> None:
    Path("run").mkdir()
    Path("run/config.json").write_text("{}")
    Path("pictures").mkdir()
    Path("a.npz").write_bytes(b"")
    targets = ("run", "pictures", "a.npz", "digits:test", "npz:b.npz", str(trained), "ddpm/emoji32")
    assert [stored_spec(t) for t in targets] == [
        None, "folder:pictures", "npz:a.npz", "digits:test", "npz:b.npz", None, None
    ]  # fmt: skip


# ---------------------------------------------------------------- sampling


@pytest.mark.parametrize(("sampler", "cost"), [("ddim", 4), ("own", 4), (DDIM(0.5), 4), ("heun?churn=2", 7)])
def test_pictures_are_those_of_sample(trained: Path, sampler: Any, cost: int) -> None:
    model = load_model(trained)
    request = Request(7, 4, sampler, seed=3, batch=3, precision="float32")
    found = sampled(trained, request, classes=["2", "5"])
    expected = model.sample(7, steps=4, sampler=sampler, seed=3, classes=["2", "5"], batch=3, precision="float32")
    assert torch.equal(found.images, expected)
    assert found.labels is not None
    assert found.labels.tolist() == [2, 5, 2, 5, 2, 5, 2]
    assert found.how["network_evaluations"] == cost
    assert found.how["classes"] == ["2", "5"]


def test_the_protocol_says_what_guided_the_pictures() -> None:
    """Each of these makes other pictures, so no two may have the same protocol."""
    recipe = replace(small.RECIPES["adm"], conditioning=Labels(3, 0.1))
    model, worse = small.made(recipe, ("a", "b", "c")), small.made(recipe, ("a", "b", "c"))
    classifier = small.made(small.CLASSIFIER, ("a", "b", "c"))
    with torch.no_grad():
        worse.network.conv_out.bias.add_(0.1)
    requests: list[dict[str, Any]] = [
        {}, {"scale": 3.0}, {"guidance": "apg?scale=4"}, {"guidance": Interval(scale=4.0)}, {"guide_model": worse},
        {"guide_model": worse, "scale": 3.0}, {"guide_model": model, "scale": 3.0},
        {"guide": Guide(classifier, 2.0)}, {"guide": Guide(classifier, 3.0)},
    ]  # fmt: skip
    found = [sampled(model, Request(2, 2, precision="float32", **request)).how for request in requests]
    assert len({json.dumps(how) for how in found}) == len(found)
    assert found[1]["guidance_scale"] == 3.0
    assert [how.get("guidance") for how in found[2:7]] == [
        "apg?scale=4", "interval?scale=4", "autoguidance", "autoguidance?scale=3", "autoguidance?scale=3",
    ]  # fmt: skip
    assert found[4]["guide_model"] == f"as given, sha256 {fingerprint(worse.network.state_dict())[:16]}"
    assert found[7]["classifier"] == f"as given, sha256 {fingerprint(classifier.network.state_dict())[:16]}"
    told = small.made(replace(recipe, conditioning=Attributes(names=("hat", "beard"))))
    rows = [torch.tensor([row, row], dtype=torch.int8) for row in ((1, 0), (-1, 0))]
    hows = [sampled(told, Request(2, 2, precision="float32", attributes=row)).how for row in (None, *rows)]
    assert "attributes" not in hows[0]
    assert hows[1]["attributes"] != hows[2]["attributes"]


def test_two_processes_make_the_same_pictures(trained: Path) -> None:
    done: list[int] = []
    request = Request(10, 2, batch=2, precision="float32")
    shared = sampled(trained, request, processes=2, progress=done.append)
    alone = sampled(trained, request)
    assert (shared.images.int() - alone.images.int()).abs().max() <= 1  # to rounding
    assert sum(done) == 10
    assert shared.how == alone.how


# ---------------------------------------------------------------- wrong words


@pytest.mark.parametrize(
    ("target", "options", "message"),
    [
        ("nothing", {}, "nothing: no such run folder or checkpoint"),
        ("digits", {"n": 0}, "-n is between 1 and"),
        ("digits", {"n": 5000}, "holds 1,498 images, not 5,000"),
        ("digits", {"sampler": "ddim?eta=2"}, "eta lies between 0 and 1"),
        ("MODEL", {"sampler": "huen"}, "unknown sampler 'huen'; did you mean heun"),
        ("MODEL", {"sampler": "euler-ode", "steps": 5}, "separate noise levels"),
        ("digits", {"net": "vgg"}, "unknown feature net 'vgg'; known: digits, fashion, emoji32, lite0"),
        ("digits", {"net": "fashion"}, "is for images of 28x28 with 1 channel, not 8x8"),
        ("digits", {"net": "inception:gone.pth"}, r"no file gone\.pth"),
        ("digits", {"reference": "emoji32", "net": "digits"}, "the images to measure are"),
        ("digits", {"reference": "gone.npz"}, r"no file 'gone\.npz'"),
        ("digits", {"reference": "broken.npz"}, "is damaged"),
        ("digits", {"reference": "stats.npz", "net": "digits"}, "needs the 2015 Inception"),
        ("digits", {"reference": "nonsense"}, "unknown data set"),
        ("digits", {"out": Path("broken.npz")}, "is a file, not a folder"),
        ("digits", {"cache": Path("broken.npz/x")}, "choose another folder: --cache DIR"),
        ("MODEL", {"cache": Path("broken.npz")}, "choose another folder: --cache DIR"),
        ("MODEL", {"out": Path("broken.npz/x")}, "Not a directory"),
        ("MODEL", {"classes": ("11",)}, "unknown class '11'"),
        ("MODEL", {"device": "banana"}, "unknown device 'banana'"),
        ("digits", {"device": "cpu:9"}, "there is no cpu:9 here"),
        ("MODEL", {"n": 10**8}, "GB are free here"),
        ("images.npz", {}, r"npz:images\.npz has no test split here; choose"),
        ("MODEL", {"steps": 0}, "--steps is between 1 and"),
        ("MODEL", {"steps": 21}, "steps must lie between"),
        ("MODEL", {"reference": "emoji32:test", "net": "digits", "steps": 5}, "the images to measure are"),
    ],
)
def test_wrong_words_are_one_line_before_any_work(
    trained: Path, monkeypatch: pytest.MonkeyPatch, target: str, options: dict[str, Any], message: str
) -> None:
    Path("broken.npz").write_bytes(b"PK")
    np.savez("stats.npz", mu=np.zeros(64), sigma=np.eye(64))
    pictures.save_npz(Path("images.npz"), open_source("digits").images[:20])

    def work(*_: object, **__: object) -> None:
        raise AssertionError("work was begun")

    monkeypatch.setattr("sfumato.evaluate.samples.sampled", work)
    monkeypatch.setattr("sfumato.evaluate.run.evaluate", work)
    arguments = {"device": "cpu", "out": Path("out"), **options}
    with pytest.raises((ValueError, OSError), match=message) as caught:
        measured(EvaluateArguments(str(trained) if target == "MODEL" else target, **arguments))
    assert "\n" not in str(caught.value)


def test_the_cache_is_where_it_is_told(tmp_path: Path) -> None:
    assert default_cache() == tmp_path / "cache" / "sfumato" / "references"
    run("digits", n=50, cache=Path("elsewhere"), metrics=("fd",), training="none")
    assert list(Path("elsewhere").glob("digits-c5b001fa-*.npz"))
    assert not default_cache().exists()
