"""Files that appear whole: their permissions are those of any new file, and nothing is left of one that failed."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from sfumato.runtime.files import sweep, whole_file


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
