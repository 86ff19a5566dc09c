"""The run folder takes only a run, never mixes two, and forgets what is later than the checkpoint it goes back to."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.folder import RunError, RunFolder


def folder(path: Path, *images: int) -> RunFolder:
    run = RunFolder.create(path, {"recipe": {}})
    for n in images:
        run.save_checkpoint(n, {"model/a": torch.full((50,), float(n))}, {"recipe": {}}, keep=9)
    return run


def test_a_new_run(tmp_path: Path) -> None:
    run = folder(tmp_path / "deep" / "er")
    assert run.config() == {"recipe": {}}
    assert run.metrics() == []
    assert run.latest() is None
    assert run.latest_checkpoint() is None
    assert RunFolder.open(run.path) == run


def test_a_folder_that_is_in_use_is_refused(tmp_path: Path) -> None:
    run = folder(tmp_path / "my run")
    with pytest.raises(RunError, match=r"holds a run already; go on with: sfumato train --resume '.*my run'$"):
        RunFolder.create(run.path, {})
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").touch()
    with pytest.raises(RunError, match="is not empty and holds no run"):
        RunFolder.create(tmp_path / "full", {})
    with pytest.raises(RunError, match="is a file, not a folder"):
        RunFolder.create(tmp_path / "full" / "thesis.tex", {})
    with pytest.raises(RunError, match="is not a run folder: it has no config"):
        RunFolder.open(tmp_path / "full")
    (run.path / "config.json").write_text("{")
    with pytest.raises(RunError, match="is no JSON text"):
        run.config()


def test_only_the_newest_checkpoints_stay(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", 10, 20)
    run.save_checkpoint(1_000_000_000, {}, {"recipe": {}}, keep=2)
    assert [path.stem for path in run.checkpoints()] == ["1000000000", "000000020"]


def test_a_damaged_checkpoint_gives_way_to_the_one_before(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    run = folder(tmp_path / "run", 10, 20, 30)
    for path in run.checkpoints()[:2]:
        path.write_bytes(path.read_bytes()[:-3])
    latest = run.latest()
    assert latest is not None
    assert latest.path.stem == "000000010"
    heard = capsys.readouterr().err
    assert "000000030.safetensors is truncated" in heard
    assert "going back to 000000010.safetensors" in heard
    run.checkpoints()[2].write_bytes(b"")
    with pytest.raises(CheckpointError, match=r"000000030.safetensors is truncated"):
        run.latest()


def test_going_back_forgets_what_is_later(tmp_path: Path) -> None:
    run = folder(tmp_path / "run", 10, 20)
    for images in (10, 15, 20, 25):
        numbers = {"images": images, "step": 1, "seconds": 1.0, "loss": 0.5, "learning_rate": 1e-3}
        run.append({"kind": "train" if images % 10 else "preview", **numbers})
        run.save_picture(f"{images:09d}-ema", b"PNG")
    with (run.path / "metrics.jsonl").open("a") as file:
        file.write('{"kind": "tra')
    (run.path / "checkpoints" / ".000000030.safetensors.x1y2.tmp").touch()
    (run.path / "samples" / "data.png").touch()
    (run.path / "samples" / "mine").mkdir()
    (run.path / ".gitignore").touch()
    assert len(run.metrics()) == 4
    run.rewind(20)
    assert [r["images"] for r in run.metrics()] == [10, 15, 20]
    assert [r["images"] for r in run.metrics("preview")] == [10, 20]
    assert sorted(path.name for path in (run.path / "samples").iterdir()) == [
        "000000010-ema.png", "000000015-ema.png", "000000020-ema.png", "data.png", "mine",
    ]  # fmt: skip
    assert sorted(path.name for path in (run.path / "checkpoints").iterdir()) == [
        "000000010.safetensors", "000000020.safetensors",
    ]  # fmt: skip
    assert (run.path / ".gitignore").exists()
    run.rewind(0)
    assert run.metrics() == run.checkpoints() == []


def test_metrics_that_are_a_device_are_refused_and_not_read(tmp_path: Path) -> None:
    folder = RunFolder(tmp_path)
    (tmp_path / "metrics.jsonl").symlink_to("/dev/zero")
    with pytest.raises(OSError, match="a pipe, socket or device"):
        folder.metrics()


@pytest.mark.parametrize("line", ["[]", "1", "{}", '{"kind": "train", "images": 16, "step": 1, "seconds": 1.0}'])
def test_a_line_that_is_no_record_is_named(tmp_path: Path, line: str) -> None:
    (tmp_path / "metrics.jsonl").write_text(line + "\n")
    with pytest.raises(RunError, match="is damaged: line 1 holds no metrics"):
        RunFolder(tmp_path).metrics()
