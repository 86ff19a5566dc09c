"""A step as one CUDA graph is the step: whole runs beside plain ones, by a stand-in that replays on a CPU.

`recorded` has the stand-in; tests/gpu asks the same of a device.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import papers
from sfumato.cli import main
from sfumato.conditioning import Augmented, SelfConditioned
from sfumato.core.randomness import ImageNoise
from sfumato.cost.network import some_labels, some_times
from sfumato.data import open_source
from sfumato.noising import Optimal
from sfumato.papers.presets import PRESETS
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train import captured
from sfumato.train.loop import train
from sfumato.train.state import NonFiniteError
from tests.train import recorded, toy

EXACT = {"learning_rate": 2**-9, "warmup": 0, "decay": "constant", "profiles": ()}
"""A rate that float32 holds as it is: on the device a graph reads it so, where plain steps have it in float64."""


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> None:
    """Graphs on this CPU."""
    monkeypatch.setattr(captured, "DEVICES", ("cpu",))
    monkeypatch.setattr(captured, "graphed", recorded.graphed)


# ---------------------------------------------------------------- the stand-in itself


def test_a_replay_takes_nothing_from_the_host() -> None:
    """Numbers of Python stay as they were, buffers are read anew, results are written where they were."""
    held, scale = torch.ones(3), [2.0]
    weight = torch.ones(3, requires_grad=True)

    def work() -> Tensor:
        weight.grad = None
        loss = (scale[0] * held * weight.square()).sum()
        loss.backward()
        with torch.no_grad():
            weight.sub_(weight.grad)
        return loss.detach()

    with recorded.Recorder() as recorder:
        loss = work()
    assert (float(loss), weight.tolist()) == (6.0, [-3.0] * 3)
    held.fill_(0.5)
    scale[0] = 7.0
    recorder.replay()
    assert (float(loss), weight.tolist()) == (27.0, [3.0] * 3)  # by 2, not by 7


def test_draws_of_the_host_are_seen() -> None:
    with recorded.Recorder(), pytest.raises(RuntimeError, match="randn"):
        torch.randn(3, generator=torch.Generator())


# ---------------------------------------------------------------- runs beside plain runs


def both(tmp_path: Path, go: Callable[..., Any]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Everything in the checkpoints of a plain run and of a captured one."""
    for name, capture in (("plain", False), ("captured", True)):
        go(tmp_path / name, capture=capture)
    plain, replayed = (toy.tensors(tmp_path / name) for name in ("plain", "captured"))
    assert toy.train_losses(tmp_path / "plain").keys() == toy.train_losses(tmp_path / "captured").keys()
    return plain, replayed


def digits(preset: str, **changes: Any) -> Callable[..., Any]:
    """Twenty steps of a preset's recipe with a small network."""
    recipe: Any = PRESETS[preset].recipe
    small = {name: value for name, value in (("channels", 8), ("head_channels", 8)) if hasattr(recipe.network, name)}
    if preset.startswith("ncsn"):
        small = {}
    recipe = replace(recipe, network=replace(recipe.network, **small), **changes)
    settings = TrainConfig(
        images=80, batch=4, **EXACT, precision="float32", preview_images=0, validation_images=0,
        checkpoint_every=1e9, threads=1, flip=True,
    )  # type: ignore[arg-type]  # fmt: skip
    images = open_source("digits?limit=40")

    def go(out: Path, **more: Any) -> Any:
        changed = replace(settings, **more)
        return train(recipe, images, changed, out, config={"recipe": papers.to_json(recipe)}, quiet=True)

    return go


RUNS: dict[str, tuple[str, dict[str, Any]]] = {
    "ddpm": ("ddpm/digits", {}),
    "iddpm, levels by their losses": ("iddpm/digits", {"objective": "vlb", "importance": True, "steps": 4}),
    "adm, labels": ("adm/digits", {}),
    "ncsn": ("ncsn/digits", {}),
    "edm": ("edm/digits", {}),
    "dpm, learned levels": ("dpm/digits", {}),
    "forced weight normalisation": ("mp/digits", {}),
    "autoencoder": ("autoencoder/digits", {}),
}
SLOW = ("adm_classifier", "ncsnv2", "score_sde", "flow", "dit", "mixed", "continuous")


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("preset", "changes"),
    [*(pytest.param(*values, id=name) for name, values in RUNS.items()),
     *(pytest.param(f"{name}/digits", {}, id=name, marks=pytest.mark.slow) for name in SLOW)],
)  # fmt: skip
def test_a_captured_run_is_the_plain_run(tmp_path: Path, preset: str, changes: dict[str, Any]) -> None:
    """Weights, moments, averages, losses and what times learned, bit for bit."""
    plain, replayed = both(tmp_path, digits(preset, **changes))
    assert toy.same(plain, replayed)
    seen = plain.get("times/seen")
    assert seen is None or int(seen.min()) >= 10  # levels were no longer drawn evenly


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize("changes", [{}, {"uncertainty": True, "clip": 0.0, "profiles": ()}])
def test_a_rate_that_falls(tmp_path: Path, changes: dict[str, Any]) -> None:
    """With dropout, labels, flips and two averages: to the rounding of the rate."""
    plain, replayed = both(tmp_path, lambda out, **more: toy.run(out, **changes, **more))
    assert plain.keys() == replayed.keys()
    for name, value in plain.items():
        torch.testing.assert_close(replayed[name], value, rtol=1e-4, atol=1e-6, msg=name)


@pytest.mark.usefixtures("graphs")
def test_a_captured_run_is_its_halves(tmp_path: Path) -> None:
    """Stopped and resumed, with a graph, without, and with one again."""
    toy.run(tmp_path / "whole", **EXACT)
    for name, ways in {"captured": (True, True, True), "mixed": (True, False, True)}.items():
        for part, way in enumerate(ways):
            toy.run(tmp_path / name, resume=part > 0, capture=way, **EXACT, images=80 * (part + 1))
    wanted = {k: v for k, v in toy.tensors(tmp_path / "whole").items() if k.startswith(("model/", "optimizer/"))}
    for name in ("captured", "mixed"):
        found = toy.tensors(tmp_path / name)
        assert all(torch.equal(found[key], value) for key, value in wanted.items())


@pytest.mark.usefixtures("graphs")
def test_steps_that_are_not_finite_are_left_out_and_counted(tmp_path: Path) -> None:
    poisoned = toy.Toy(poison=90)
    plain, replayed = both(tmp_path, lambda out, **more: toy.run(out, poisoned, **EXACT, **more))
    assert toy.same(plain, replayed)
    skipped = [RunFolder.open(tmp_path / name).metrics("train")[-1]["skipped"] for name in ("plain", "captured")]
    assert skipped[0] == skipped[1]
    assert 0 < skipped[0] < 30


@pytest.mark.usefixtures("graphs")
def test_a_run_that_is_never_finite_ends_with_a_dump(tmp_path: Path) -> None:
    with pytest.raises(NonFiniteError, match="10 times in a row"):
        toy.run(tmp_path / "run", toy.Toy(poison=0), capture=True)
    assert len(list((tmp_path / "run").glob("non-finite-*.json"))) == 1


@pytest.mark.usefixtures("graphs")
def test_what_is_validated_and_shown_on_the_way_does_no_harm(tmp_path: Path) -> None:
    """Averages take the weights' place meanwhile, and the schedule is on the host again."""
    plain, replayed = both(
        tmp_path,
        lambda out, **more: toy.run(out, preview=toy.first_look, preview_images=4, validate_every=0.1, **EXACT, **more),
    )
    assert toy.same(plain, replayed)
    toy.assert_close(tmp_path / "plain", tmp_path / "captured")


# ---------------------------------------------------------------- what is refused


TINY = ["--train.images", "16", "--train.batch", "8", "--train.preview-images", "0", "--train.validation-images", "0"]


def test_without_a_graph_there_is_a_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "runs" / "mine"
    words = ["--train.capture", "--train.device", "cpu"]
    assert main(["train", "ddpm/digits", "--out", str(out), *TINY, *words]) == 2
    heard = capsys.readouterr().err
    assert "it needs a CUDA device, and this run is on cpu; leave out --train.capture" in heard
    assert heard.count("\n") == 1
    assert not out.parent.exists()


@pytest.mark.usefixtures("graphs")
@pytest.mark.parametrize(
    ("changes", "line"),
    [({"accumulate": 2}, "a batch whole"), ({"checkpoint_activations": True}, "checkpoint_activations"),
     ({"compile": True}, "compile")],
)  # fmt: skip
def test_what_a_graph_does_not_go_with(tmp_path: Path, changes: dict[str, Any], line: str) -> None:
    with pytest.raises(ValueError, match=line):
        toy.run(tmp_path / "run", capture=True, **changes)
    assert not (tmp_path / "run").exists()


class Elsewhere:
    """What accelerates several processes."""

    device, num_processes = torch.device("cuda"), 2


def test_several_processes_and_several_sizes_are_refused() -> None:
    settings, images = replace(toy.SMALL, capture=True), toy.images()
    with pytest.raises(ValueError, match="of one process, and these are 2"):
        captured.check(settings, Elsewhere, images)
    captured.check(replace(settings, capture=False), Elsewhere, images)
    alone: Any = type("Alone", (Elsewhere,), {"num_processes": 1})
    captured.check(settings, alone, images)
    with pytest.raises(ValueError, match="images of one size"):
        captured.check(settings, alone, replace(images, buckets=(images, images)))


@pytest.mark.usefixtures("graphs")
def test_a_loss_that_cannot_be_captured_leaves_no_folder(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="cannot be captured as a CUDA graph: nonzero in a captured step; leave out"):
        digits("ddpm/digits", conditioning=SelfConditioned())(tmp_path / "run", capture=True)
    assert not (tmp_path / "run").exists()


# ---------------------------------------------------------------- what losses ask of the host


def crossing(preset: str, **changes: Any) -> str:
    """Why the loss of a recipe cannot be captured; nothing where it can. The device holds no data (`meta`)."""
    recipe: Any = replace(PRESETS[preset].recipe, **changes)
    built, device = recipe.build(), torch.device("meta")
    with device:
        network, images = recipe.model(), torch.empty(4, *recipe.shape)
    labels = some_labels(recipe, images)
    given = {} if labels is None else {"y": labels}
    t = some_times(built.times, 4).to(device)
    noise = captured.Draws(ImageNoise(0, range(4)), device)

    def work() -> None:
        noise.again()
        built.loss(network, images, t, noise, **given).mean().backward()

    try:
        with captured.resident(built.process, device):
            captured.watched(work, device)
    except RuntimeError as error:
        return str(error)
    return ""


FREE = ("ddpm", "iddpm", "adm", "adm_classifier", "dpm", "ncsn", "ncsnv2", "score_sde", "edm", "flow", "dit", "uvit",
        "jit", "mp", "mixed", "continuous", "autoencoder")  # fmt: skip


@pytest.mark.parametrize("paper", FREE)
def test_a_loss_asks_nothing_of_the_host(paper: str) -> None:
    assert crossing(f"{paper}/digits") == ""


DRAWS, CROSSES = "it draws noise on the cpu in training", "it exchanges values between host and device"
ASKING: dict[str, tuple[str, dict[str, Any], str]] = {
    "a mean flow": ("mean_flow/digits", {}, DRAWS),
    "a shortcut model": ("shortcut/digits", {}, DRAWS),
    "self-conditioning": ("ddpm/digits", {"conditioning": SelfConditioned()}, DRAWS),
    "augmentation": ("ddpm/digits", {"conditioning": Augmented()}, DRAWS),
    "a picture that is shrunk": ("ddpm/fashion-x2", {}, CROSSES),
    "assigned noise": ("ddpm/digits", {"noising": Optimal()}, "Cannot copy out of meta tensor"),
}


@pytest.mark.parametrize(("preset", "changes", "why"), ASKING.values(), ids=ASKING)
def test_a_loss_that_asks_the_host_is_seen(preset: str, changes: dict[str, Any], why: str) -> None:
    assert crossing(preset, **changes).startswith(why)


def test_crossings_are_seen() -> None:
    device = torch.device("meta")
    x = torch.zeros(3, device=device)
    with captured.Crossings(device):
        (x * 2.0 + torch.tensor(3.0)).sum()  # numbers are part of a launch
        torch.zeros(3).sum().item()  # of the host
        for crossed in (lambda: torch.zeros(3).to(device, non_blocking=True), lambda: torch.tensor(1.0).to(device)):
            with pytest.raises(RuntimeError, match="between host and device"):
                crossed()
        with pytest.raises(RuntimeError):
            x.sum().item()


def test_a_schedule_is_as_it_was_afterwards() -> None:
    process = PRESETS["ddpm/digits"].recipe.build().process
    assert process is not None
    level = process.alpha_sigma(torch.tensor(3))
    with captured.resident(process, "meta") as tables:
        assert {table.device.type for table in tables} == {"meta"}
        assert process.alpha_sigma(torch.tensor([3, 4], device="meta"))[0].device.type == "meta"
    assert process.alpha_sigma(torch.tensor(3))[0] is level[0]  # still remembered
    assert process.alpha_sigma(torch.tensor([3]))[0].equal(level[0][None])


def test_buffers_take_values_of_their_kind_alone() -> None:
    held = torch.zeros(2, 3)
    captured.fill(held, torch.ones(2, 3))
    assert bool(held.all())
    for other in (torch.ones(1, 3), torch.ones(2, 3, dtype=torch.float64)):
        with pytest.raises(RuntimeError, match="was captured for"):
            captured.fill(held, other)


def test_draws_are_renewed_in_their_order() -> None:
    """Of a device that is named by its number or without it."""
    x, label = torch.zeros(2, 1, 4, 4), torch.zeros(2, 1)
    draws = captured.Draws(ImageNoise(0, range(2)), torch.device("cpu:0"))
    first = [draws(x).clone(), draws(label).clone()]
    draws.again()
    assert all(torch.equal(a, b) for a, b in zip(first, [draws(x), draws(label)], strict=True))
    other = ImageNoise(0, range(2, 4))
    draws.renew(ImageNoise(0, range(2, 4)))
    draws.again()
    assert [torch.equal(draws(like), other(like)) for like in (x, label)] == [True, True]
    with pytest.raises(RuntimeError, match="draws noise on the meta"):
        draws(torch.zeros(2, 1, device="meta"))
