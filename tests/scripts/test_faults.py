"""`make faults`: its comparison finds what it is there for, and its table counts.

The slow tests carry out rows of it: kills, and a lack of room.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="module")
def scripts() -> Iterator[tuple[ModuleType, ModuleType]]:
    """scripts/faults.py and scripts/faults_jobs.py."""
    sys.path.insert(0, str(ROOT / "scripts"))
    try:
        import faults  # type: ignore[import-not-found]
        import faults_jobs  # type: ignore[import-not-found]

        yield faults, faults_jobs
    finally:
        sys.path.remove(str(ROOT / "scripts"))


def carried_out(tmp_path: Path, *only: str) -> dict[str, Any]:
    """Rows of it, in a process of their own."""
    if not hasattr(os, "fork"):
        pytest.skip("processes cannot be forked here")
    results = tmp_path / "faults.json"
    command = [sys.executable, "scripts/faults.py", "--results", str(results), "--only", *only]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=280)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    rows: dict[str, Any] = json.loads(results.read_text())["rows"]
    return rows


@pytest.mark.slow
def test_a_training_that_is_killed_twice_and_one_without_room(tmp_path: Path) -> None:
    rows = carried_out(tmp_path, "train / kill 01", "train / limit 00")
    assert list(rows) == ["train / kill 01", "train / limit 00"]
    assert rows["train / kill 01"]["kills"] >= 1
    assert "no file above" in rows["train / limit 00"]["how"][0]


@pytest.mark.slow
def test_a_row_of_every_command(tmp_path: Path) -> None:
    rows = carried_out(tmp_path, "kill 00")
    assert len(rows) == 12
    assert sum(row["kills"] for row in rows.values()) >= 12


def test_there_are_a_hundred_kills_and_every_fault_of_every_command(scripts: tuple[ModuleType, ModuleType]) -> None:
    faults, jobs = scripts
    rows = faults.rows()
    assert sum(row.fault == "kill" for row in rows) == 100
    assert len({row.name for row in rows}) == len(rows)
    for name, job in jobs.JOBS.items():
        wanted = {"kill", "disk", "limit", "read-only"} if job.processes == 1 else {"kill"}
        assert {row.fault for row in rows if row.job.name == name} == wanted


def test_the_comparison_sees_what_differs_but_for_times(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    _, jobs = scripts
    about = json.dumps({"progress": {"images": 64, "seconds": 1.5}})

    def left(name: str, images: int, seconds: float, weight: int, stray: str = "") -> dict[str, str]:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "metrics.jsonl").write_text(json.dumps({"images": images, "images_per_second": seconds}) + "\n")
        (folder / "sample.json").write_text(json.dumps({"n": 4, "seconds": seconds}))
        header = {"__metadata__": {"sfumato": about.replace("1.5", str(seconds))}}
        header |= {"model/w": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1]}}
        text = json.dumps(header).encode()
        (folder / "a.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes([weight]))
        (folder / "report.html").write_text(f"<html>{seconds}</html>\n")
        if stray:
            (folder / stray).touch()
        found: dict[str, str] = jobs.contents(folder)
        return found

    one = left("one", 64, 1.5, 7)
    assert jobs.differences(left("slower", 64, 22.75, 7), one) == []
    assert jobs.differences(left("other", 64, 1.5, 8), one) == ["differs: a.safetensors"]
    assert jobs.differences(left("less", 32, 1.5, 7), one) == ["differs: metrics.jsonl"]
    assert jobs.differences(left("stray", 64, 1.5, 7, ".x.0a1b2c3d.tmp"), one) == ["stray: .x.*.tmp"]
    assert jobs.differences({}, one)[0] == "lost: a.safetensors"
    (tmp_path / "one" / "report.html").write_text("<html>cut")
    assert jobs.differences(jobs.contents(tmp_path / "one"), one) == ["differs: report.html"]


def test_a_command_that_fails_must_say_why_in_one_line(scripts: tuple[ModuleType, ModuleType]) -> None:
    faults, _ = scripts

    def wrong(code: int, error: str, hung: bool = False) -> list[str]:
        verdict = faults.Verdict(0, [], [])
        faults._refused(faults.Ended(code, False, error, 0, 1.0, hung), verdict)
        found: list[str] = verdict.wrong
        return found

    assert not wrong(2, "sfumato: No space left on device: x\n")
    assert not wrong(0, "")
    assert wrong(2, "sfumato: one\nsfumato: two\n")
    assert wrong(1, "sfumato: internal error: KeyError: 'x'\n")
    assert wrong(2, "Traceback (most recent call last):\n")
    assert wrong(2, "sfumato: x", hung=True)


def test_the_table_counts_and_the_page_quotes_it(scripts: tuple[ModuleType, ModuleType], tmp_path: Path) -> None:
    faults, jobs = scripts
    held, not_held = {"kills": 2, "wrong": []}, {"kills": 1, "wrong": ["lost: x"]}
    rows = {"train / kill 00": held, "train / kill 01": not_held, "sample / disk 00": held | {"kills": 0}}
    text = jobs.table(rows)
    assert "| train | 3 | 0 | 0 | 0 | 1 of 2 | 1 |" in text
    assert text.splitlines()[-1] == "| all | 3 | 1 | 0 | 0 | 2 of 3 | 1 |"
    page = tmp_path / "page.md"
    page.write_text(f"before\n\n{jobs.HEAD}\n|---|\n| old | 1 |\n\nafter\n")
    jobs.quote(text, page)
    assert page.read_text() == f"before\n\n{text}\n\nafter\n"
    stored = json.loads(faults.RESULTS.read_text())["rows"]
    assert jobs.table(stored) in jobs.PAGE.read_text()
    assert set(stored) <= {row.name for row in faults.rows()}
