"""A prepared set is the source: pixels, labels, texts and keys; killed at any instant, it goes on or is not there."""

from __future__ import annotations

import json
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.cli import main
from sfumato.data import DataError, Images, open_source
from sfumato.data import prepare as module
from sfumato.data.prepare import prepare


def folder(root: Path, n: int = 40, side: int = 12) -> str:
    """n pictures in two classes, one of them damaged, with some captions; returns the spec."""
    dice = np.random.default_rng(0)
    for i in range(n):
        path = root / ("cats" if i % 3 else "dogs") / f"{i:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(dice.integers(0, 256, (side, side + i % 2, 3), dtype=np.uint8)).save(path)
        if i % 5 == 0:
            path.with_suffix(".txt").write_text(f"number {i}")
    (root / "cats" / "004.png").write_bytes(b"\x89PNG and no more")
    return f"folder:{root}?size=8"


def same(a: Images, b: Images) -> bool:
    assert a.labels is not None
    assert b.labels is not None
    return (a.texts, a.keys, a.classes) == (b.texts, b.keys, b.classes) and all(
        torch.equal(x, y) for x, y in ((a.images, b.images), (a.labels, b.labels))
    )


def test_a_memory_map_is_the_source(tmp_path: Path) -> None:
    source = folder(tmp_path / "pictures")
    made, whole = prepare(source, tmp_path / "out"), open_source(source)
    assert isinstance(made, Images)
    assert same(made, whole)
    assert made.card.fingerprint == whole.card.fingerprint
    assert (made.card.corrupt, made.card.sizes) == (whole.card.corrupt, whole.card.sizes)
    assert made.card.corrupt == ("cats/004.png",)
    assert torch.equal(torch.from_numpy(np.load(tmp_path / "out" / "images.npy")), whole.images)
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"images.npy", "rows.jsonl", "set.json"}


@pytest.mark.parametrize("spec", ["digits?limit=50", "emoji32?classes=Flags,Objects&limit=30"])
def test_any_set_can_be_mapped(spec: str, tmp_path: Path) -> None:
    assert same(prepare(spec, tmp_path / "out"), open_source(spec))  # type: ignore[arg-type]


def test_nothing_is_read_before_it_is_asked_for(tmp_path: Path) -> None:
    """A sparse file of 4 GB opens at once, and a batch of it takes the memory of a batch."""
    import resource

    prepare("digits?limit=4", tmp_path / "out")
    n = 4 << 20
    rows = (tmp_path / "out" / "rows.jsonl").read_text().splitlines()[0]
    about = json.loads((tmp_path / "out" / "set.json").read_text())
    about["card"]["shape"], about["card"]["count"] = [1, 1024, 1024], 4096
    (tmp_path / "out" / "set.json").write_text(json.dumps(about))
    (tmp_path / "out" / "rows.jsonl").write_text((rows + "\n") * 4096)
    with (tmp_path / "out" / "images.npy").open("r+b") as file:
        file.write(module.maps.header((4096, 1, 1024, 1024)))
        file.truncate(module.maps.HEADER + 1024 * n)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    images = open_source(f"map:{tmp_path / 'out'}").images
    batch = images[torch.tensor([4095, 0, 2048])]
    assert batch.shape == (3, 1, 1024, 1024)
    assert (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) < 100_000  # kB


@pytest.mark.parametrize("shard", [None, 7])
def test_killed_at_any_instant_it_goes_on(shard: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each failure is at another place between two writes; the bytes are those of an undisturbed run."""
    if shard:
        pytest.importorskip("webdataset")
    monkeypatch.setattr(module, "STRIDE", 7)
    source, whole, out = folder(tmp_path / "pictures"), tmp_path / "whole", tmp_path / "out"
    prepare(source, whole, shard=shard)
    left = 0

    class Killed(BaseException):
        pass

    def dying(name: str) -> None:
        original = getattr(module.os if name in ("fsync", "rename") else module, name)

        def call(*arguments: object) -> object:
            nonlocal left
            left -= 1
            if left == 0:
                raise Killed
            return original(*arguments)

        monkeypatch.setattr(module.os if name in ("fsync", "rename") else module, name, call)

    for name in ("fsync", "write_text", "rename"):
        dying(name)
    known = False
    for survived in range(100):
        assert not out.exists()
        left = survived + 1
        try:
            prepare(source, out, shard=shard)
            break
        except Killed:
            continue
        finally:
            journal = (tmp_path / "out.partial" / "journal.json").exists()
            assert journal or out.exists() or not known  # what is done stays known until the set has its name
            known = journal
    assert survived > 5
    for path in whole.iterdir():
        assert path.name == "set.json" or path.read_bytes() == (out / path.name).read_bytes()
    assert not (tmp_path / "out.partial").exists()


@pytest.mark.slow
def test_a_real_kill(tmp_path: Path) -> None:
    source, whole, out = folder(tmp_path / "pictures", 3000, 200), tmp_path / "whole", tmp_path / "out"
    prepare(source, whole)
    dice = random.Random(0)
    for kills in range(60):
        child = subprocess.Popen([sys.executable, "-m", "sfumato", "prepare", source, str(out)])
        try:
            child.wait(1.5 + dice.random() * (1 + kills))
            break
        except subprocess.TimeoutExpired:
            child.send_signal(signal.SIGKILL)
            child.wait()
            time.sleep(0.01)
    assert child.returncode == 0
    assert kills > 0
    assert (whole / "images.npy").read_bytes() == (out / "images.npy").read_bytes()
    assert (whole / "rows.jsonl").read_bytes() == (out / "rows.jsonl").read_bytes()


def test_what_cannot_be_prepared_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    source = folder(tmp_path / "pictures")
    (tmp_path / "there").mkdir()
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    for spec, out, words in (
        (source, "there", "exists"),
        (source, "loop", "exists"),
        ("swiss_roll", "out", "points"),
        (source.replace("?size=8", ""), "mixed", "mixes image sizes"),
        ("map:nothing", "out", "no prepared set"),
    ):
        with pytest.raises(DataError, match=words):
            prepare(spec, tmp_path / out)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["loop", "pictures", "there"]

    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare(source, tmp_path / "begun", progress=stop)
    with pytest.raises(DataError, match="another set"):
        prepare("digits", tmp_path / "begun")
    prepare("digits?limit=4", tmp_path / "small")
    with pytest.raises(DataError, match="as it is"):
        open_source(f"map:{tmp_path / 'small'}?size=4")
    (tmp_path / "small" / "rows.jsonl").write_text("")
    with pytest.raises(DataError, match="damaged"):
        open_source(f"map:{tmp_path / 'small'}")
    assert main(["prepare", "digits?limit=4", str(tmp_path / "cli")]) == 0
    assert f"--data map:{tmp_path / 'cli'}" in capsys.readouterr().out
    assert main(["prepare", "digits", str(tmp_path / "cli")]) == 2


def test_what_a_killed_run_left_is_gone(tmp_path: Path) -> None:
    """Temporary files, and shards of another set that was whole but for its name, would become part of this one."""
    partial = tmp_path / "out.partial"
    partial.mkdir()
    (partial / ".journal.json.ab12.tmp").write_bytes(b"x")
    (partial / ".images.npy.zz.tmp").write_bytes(b"x")
    (partial / "000007.tar").write_bytes(b"of another set")
    (partial / "images.npy").write_bytes(bytes(10**6))
    assert same(prepare("digits?limit=40", tmp_path / "out"), open_source("digits?limit=40"))  # type: ignore[arg-type]
    assert {p.name for p in (tmp_path / "out").iterdir()} == {"images.npy", "rows.jsonl", "set.json"}
    partial = tmp_path / "other.partial"
    partial.mkdir()
    (partial / "thesis.tex").write_text("mine")
    with pytest.raises(DataError, match=r"holds thesis\.tex, which is no part of a set"):
        prepare("digits", tmp_path / "other")
    assert (partial / "thesis.tex").read_text() == "mine"


def test_one_process_at_a_time(tmp_path: Path) -> None:
    def again(done: int, total: int) -> None:
        with pytest.raises(DataError, match="being written by another process"):
            prepare("digits?limit=9", tmp_path / "out")

    prepare("digits?limit=9", tmp_path / "out", progress=again)
    assert len(open_source(f"map:{tmp_path / 'out'}")) == 9


def test_nothing_is_left_of_what_cannot_be_prepared(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "pictures")
    monkeypatch.setattr(module, "STRIDE", 1)
    for path in (tmp_path / "pictures").rglob("*.txt"):
        path.unlink()
    with pytest.raises(DataError, match="mixes image sizes"):
        prepare(source.replace("?size=8", ""), tmp_path / "out")
    for path in (tmp_path / "pictures").rglob("*.png"):
        path.write_bytes(b"x")
    with pytest.raises(DataError, match=r"none of the 40 images .* the first is cats/001\.png"):
        prepare(source, tmp_path / "out")
    assert {p.name for p in tmp_path.iterdir()} == {"pictures"}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("journal.json", "["),
        ("journal.json", "[]"),
        ("journal.json", None),
        ("images.npy", "short"),
        ("rows.jsonl", None),
    ],
)
def test_a_damaged_beginning_is_said(name: str, content: str | None, tmp_path: Path) -> None:
    def stop(done: int, total: int) -> None:
        if done:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        prepare("digits?limit=40", tmp_path / "out", progress=stop)
    path = tmp_path / "out.partial" / name
    path.unlink()
    if content is not None:
        path.write_text(content)
    if name == "journal.json" and content is None:  # it begins again
        assert len(prepare("digits?limit=40", tmp_path / "out")) == 40
        return
    with pytest.raises(DataError, match=r"out\.partial is damaged .*remove it first"):
        prepare("digits?limit=40", tmp_path / "out")


def test_large_pictures_are_read_few_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, sizes = folder(tmp_path / "pictures"), []
    original = module._append

    def counted(partial: Path, journal: dict[str, object], rows: module.Rows) -> None:
        sizes.append(len(rows))
        original(partial, journal, rows)

    monkeypatch.setattr(module, "_append", counted)
    monkeypatch.setattr(module, "TOGETHER", 6 * 3 * 64)
    assert same(prepare(source, tmp_path / "out"), open_source(source))  # type: ignore[arg-type]
    assert max(sizes) == 6
    for path in sorted((tmp_path / "pictures").rglob("*.png"))[1:]:
        path.unlink()
    shelf = module.open_shelf(source.replace("?size=8", ""))
    assert module._together(module.Reader(shelf.spec), shelf) == 2


def test_a_path_with_a_question_mark(tmp_path: Path) -> None:
    made = prepare("digits?limit=4", tmp_path / "what?")
    assert isinstance(made, Images)
    assert made.spec == f"map:{tmp_path}/what??"
    assert len(open_source(made.spec + "limit=2")) == 2
