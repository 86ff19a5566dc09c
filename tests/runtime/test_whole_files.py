"""Files that appear whole: their permissions are those of any new file, and nothing is left of one that failed."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from sfumato.runtime.files import sweep, whole_file, whole_folder


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o077, 0o600), (0o002, 0o664)])
def test_the_umask_decides_who_may_read(mask: int, mode: int, tmp_path: Path) -> None:
    before = os.umask(mask)
    try:
        with whole_file(tmp_path / "a.json") as file:
            file.write(b"{}")
    finally:
        os.umask(before)
    assert (tmp_path / "a.json").stat().st_mode & 0o777 == mode


def test_a_failure_leaves_what_was_there(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"before")
    with pytest.raises(TypeError), whole_file(tmp_path / "a") as file:
        file.write("no bytes")  # type: ignore[arg-type]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
    assert (tmp_path / "a").read_bytes() == b"before"


def test_what_a_killed_process_left_is_swept_and_what_is_being_written_stays(tmp_path: Path) -> None:
    stray, fresh, own = (tmp_path / name for name in (".a.npz.0123abcd.tmp", ".b.npz.0123abcd.tmp", ".mine.tmp"))
    for path in (stray, fresh, own):
        path.write_bytes(b"half")
    earlier = time.time() - 10
    with whole_file(tmp_path / "c") as file:
        (written,) = tmp_path.glob(".c.*.tmp")
        for path in (stray, own, written):
            os.utime(path, (earlier, earlier))
        sweep(tmp_path)
        file.write(b"whole")
    assert sorted(path.name for path in tmp_path.iterdir()) == [fresh.name, own.name, "c"]
    assert (tmp_path / "c").read_bytes() == b"whole"


def test_a_folder_appears_whole(tmp_path: Path) -> None:
    with whole_folder(tmp_path / "new" / "out") as folder:
        (folder / "sub").mkdir()
        (folder / "sub" / "a").write_bytes(b"whole")
        assert not (tmp_path / "new" / "out").exists()
    assert (tmp_path / "new" / "out" / "sub" / "a").read_bytes() == b"whole"
    assert [path.name for path in (tmp_path / "new").iterdir()] == ["out"]


def fill(path: Path, then: Callable[[], object]) -> None:
    with whole_folder(path) as folder:
        (folder / "a").write_bytes(b"ours")
        then()


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), ValueError("no")])
def test_a_folder_that_fails_leaves_nothing(error: BaseException, tmp_path: Path) -> None:
    def fail() -> None:
        raise error

    with pytest.raises(type(error)):
        fill(tmp_path / "out", fail)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_never_takes_the_place_of_what_is_there(tmp_path: Path) -> None:
    """Not even of something that came while it was written; only an empty folder is nothing."""
    theirs = tmp_path / "out" / "theirs"
    with pytest.raises(OSError, match="out"):
        fill(tmp_path / "out", lambda: (theirs.parent.mkdir(), theirs.touch()))
    assert list(tmp_path.rglob("*")) == [theirs.parent, theirs]
    with pytest.raises(FileExistsError, match="theirs"):
        fill(theirs, lambda: None)
    theirs.unlink()
    fill(theirs.parent, lambda: None)
    assert (theirs.parent / "a").read_bytes() == b"ours"


def test_a_folder_that_a_killed_process_left_is_swept(tmp_path: Path) -> None:
    stray = tmp_path / ".out.0123abcd.tmp"
    (stray / "unet").mkdir(parents=True)
    with whole_folder(tmp_path / "out") as folder:
        (folder / "a").write_bytes(b"whole")
        earlier = time.time() - 10
        for path in (stray, folder):
            os.utime(path, (earlier, earlier))
        sweep(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
