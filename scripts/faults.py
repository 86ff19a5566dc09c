"""Kill every command at random instants, fill the disk, forbid writing; then finish, and compare with undisturbed runs.

    make faults                              what is missing in benchmarks/results/faults.json, then the table, which
                                             docs/security.md quotes
    python scripts/faults.py --minutes 10    at most so long; the next call goes on
    python scripts/faults.py --only sample   rows whose name contains this
    python scripts/faults.py --again         all rows anew

A row is one fault of one command. Killed is what SIGKILL ends, at an instant or before one of its changes of files;
every second of these rows is killed while it goes on, too. A row holds if what is there in the end is bit for bit what
an undisturbed run leaves, apart from measured times, with no file beside it; if a failed command says why in one line
and exits with 2; and if a run in training never goes back behind a checkpoint that was complete before the fault.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import faults_children as children
import faults_jobs as jobs
from faults_children import Ended, Fault, ran
from faults_jobs import JOBS, OUT, Job, contents, differences

RESULTS = Path(__file__).parents[1] / "benchmarks" / "results" / "faults.json"
KILLS = {"train": 24, "train, 2 processes": 8, "train, 2 processes, sharded": 6, "prepare, memory map": 10,
         "prepare, shards": 8, "convert to sfumato": 4, "convert to official": 4, "convert to diffusers": 7,
         "convert to onnx": 5, "sample": 10, "sample, 2 workers": 2, "evaluate": 12}  # fmt: skip
"""Rows with a kill of each command: 100."""
FULL = 2
"""Rows of each command with a full disk, and as many with a limit on files; with a read-only folder there is one."""
ROOM = 1 << 30
ALONE = {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
"""No threads and no GPU, neither of which a forked process could use; set before torch is imported."""
PAUSE = 1.2
"""Seconds between a fault and what goes on: files a second old are nobody's work in progress."""


@dataclass(frozen=True)
class Row:
    """A fault of a command; `fault` is kill, disk, limit or read-only."""

    job: Job
    fault: str
    number: int

    @property
    def name(self) -> str:
        return f"{self.job.name} / {self.fault} {self.number:02d}"


def rows() -> list[Row]:
    """All of them, in the order of the table."""
    found = [Row(job, "kill", i) for name, job in JOBS.items() for i in range(KILLS[name])]
    for job in JOBS.values():
        if job.processes == 1:
            found += [Row(job, fault, i) for fault in ("disk", "limit") for i in range(FULL)]
            found.append(Row(job, "read-only", 0))
    return found


@dataclass(frozen=True)
class Undisturbed:
    """What a command leaves, how long it takes, how many changes of files it makes, and how many bytes it writes."""

    contents: dict[str, str]
    seconds: float
    changes: int
    total: int
    largest: int


class Bench:
    """A folder to work in, with what the commands read, and an undisturbed run of each command that is asked for."""

    def __init__(self, work: Path) -> None:
        self.work = work
        self._known: dict[str, Undisturbed] = {}

    def _must(self, words: tuple[str, ...], folder: Path, processes: int = 1) -> Ended:
        ended = ran(words, folder, self.work / "logs", processes)
        if ended.code:
            raise RuntimeError(f"undisturbed, {' '.join(words)} ends with {ended.code}: {ended.error}")
        return ended

    def undisturbed(self, job: Job) -> Undisturbed:
        """Of a command, run twice: both must leave the same."""
        if job.name not in self._known:
            jobs.inputs(job, self.work, self._must)
            left = []
            for _ in range(2):
                folder = self.fresh()
                ended = self._must(job.words, folder, job.processes)
                left.append(contents(folder / "disk"))
            if differing := differences(*left):
                raise RuntimeError(f"two undisturbed runs of {job.name} differ: {differing}")
            sizes = [path.stat().st_size for path in (folder / "disk").rglob("*") if path.is_file()]
            self._known[job.name] = Undisturbed(left[0], ended.seconds, ended.changes, sum(sizes), max(sizes))
        return self._known[job.name]

    def fresh(self) -> Path:
        """An empty folder for a command, with disk/ in it."""
        folder = self.work / "row"
        shutil.rmtree(folder, ignore_errors=True)
        (folder / "disk").mkdir(parents=True)
        return folder


# ---------------------------------------------------------------- one row


@dataclass
class Verdict:
    """What came of a row: how many kills hit, what was done, and what is wrong; nothing is where it holds."""

    kills: int
    how: list[str]
    wrong: list[str]
    seconds: float = 0.0


def done(row: Row, bench: Bench, draw: random.Random) -> Verdict:
    """Disturb a command, finish it, and compare. PermissionError where the machine does not allow this fault."""
    known = bench.undisturbed(row.job)
    folder, logs, verdict = bench.fresh(), bench.work / "logs", Verdict(0, [], [])
    if row.fault == "kill":
        for attempt in range(1 + row.number % 2):
            _killed(row.job, folder, logs, known, draw, verdict, twice=attempt == 1)
        _finish(row.job, folder, logs, known, verdict)
    elif row.fault == "limit":
        fault = Fault(file_size=draw.randrange(1, max(2, known.largest)))
        verdict.how.append(f"no file above {fault.file_size:,} bytes")
        _refused(ran(row.job.words, folder, logs, fault=fault), verdict)
        _finish(row.job, folder, logs, known, verdict)
    else:
        size = max(1, draw.randrange(known.total) // 4096) * 4096 if row.fault == "disk" else ROOM
        with children.small_disk(folder / "disk", size):
            if row.fault == "disk":
                verdict.how.append(f"a disk of {size:,} bytes")
                _refused(ran(row.job.words, folder, logs), verdict)
                children.resized(folder / "disk", ROOM)
            else:
                verdict.how.append("a read-only disk")
                with children.read_only(folder / "disk"):
                    ended = ran(row.job.words, folder, logs)
                _refused(ended, verdict)
                verdict.wrong += ["writes to a read-only disk"] * (ended.code == 0)
            _finish(row.job, folder, logs, known, verdict)
    return verdict


def _killed(
    job: Job, folder: Path, logs: Path, known: Undisturbed, draw: random.Random, verdict: Verdict, *, twice: bool
) -> None:
    """Kill the command once; where it was too quick for that, the first time, take an earlier instant."""
    words, share = job.again(folder), 0.6 if twice else 1.0
    for _ in range(1 if twice else 6):
        rank = draw.choice([None, *range(job.processes)]) if job.processes > 1 else None
        if draw.random() < 0.5:
            number = draw.randint(1, max(1, int(known.changes * share)))
            fault, what = Fault(change=number, rank=rank), f"before change {number} of {known.changes}"
        else:
            at = draw.uniform(0, share)
            fault, what = Fault(seconds=at * known.seconds, rank=rank), f"at {at:.0%} of its time"
        before = _images(folder)
        ended = ran(words, folder, logs, job.processes, fault)
        verdict.wrong += ["hung after a kill"] * ended.hung
        if _images(folder) < before:
            verdict.wrong.append(f"went back from {before} to {_images(folder)} images")
        if ended.killed:
            verdict.kills += 1
            verdict.how.append(what + (f", process {rank}" if rank is not None else ""))
            return
        if ended.code or twice:
            break
        shutil.rmtree(folder / "disk")
        (folder / "disk").mkdir()
        share *= 0.6
    if not twice:
        verdict.wrong.append(f"could not be killed: {ended.code} {ended.error[-300:]}")


def _images(folder: Path) -> int:
    """How far a run in training is, by the newest checkpoint that can be read."""
    from sfumato.runtime.folder import RunFolder

    if not (folder / OUT / "config.json").is_file():
        return -1
    saved = RunFolder(folder / OUT).latest()
    return -1 if saved is None else int(saved.progress["images"])


def _refused(ended: Ended, verdict: Verdict) -> None:
    """A command that lacks room or permission ends in one line and with 2; or it did not need what it lacked."""
    lines = [line for line in ended.error.splitlines() if line.strip()]
    if ended.hung:
        verdict.wrong.append("hung")
    elif ended.code not in (0, 2) or "internal error" in ended.error or "Traceback" in ended.error:
        verdict.wrong.append(f"exit code {ended.code}: {ended.error.strip()[-300:]}")
    elif ended.code == 2 and (len(lines) != 1 or not lines[0].startswith("sfumato: ")):
        verdict.wrong.append(f"not one line: {ended.error.strip()[-300:]}")
    verdict.how.append(lines[-1][:120] if lines else "that was enough")


def _finish(job: Job, folder: Path, logs: Path, known: Undisturbed, verdict: Verdict) -> None:
    """Do it again, or go on, and compare; a command that finds its result complete may say so."""
    time.sleep(PAUSE)
    before = _images(folder)
    ended = ran(job.again(folder), folder, logs, job.processes)
    there = ended.code == 2 and "exist" in ended.error
    if ended.code and not there:
        verdict.wrong.append(f"done again, exit code {ended.code}: {ended.error.strip()[-300:]}")
    if _images(folder) < before:
        verdict.wrong.append(f"went back from {before} to {_images(folder)} images")
    verdict.wrong += differences(contents(folder / "disk"), known.contents)


# ---------------------------------------------------------------- all rows


def carried_out(
    wanted: Iterable[Row], found: dict[str, Any], work: Path, seconds: float, keep: Callable[[dict[str, Any]], None]
) -> None:
    """Do the rows until the time is up, telling and keeping each."""
    end, bench = time.monotonic() + seconds, Bench(work)
    for row in wanted:
        if time.monotonic() > end:
            print("the time is up; the next call goes on")
            return
        started = time.monotonic()
        try:
            verdict = done(row, bench, random.Random(row.name))
        except PermissionError as error:
            print(f"{row.name}: not done, {error}", flush=True)
            continue
        except (RuntimeError, TimeoutError) as error:
            verdict = Verdict(0, [], [str(error)])
        verdict.seconds = round(time.monotonic() - started, 1)
        found[row.name] = asdict(verdict)
        keep(found)
        print(f"{row.name}: {'; '.join(verdict.how)}: {'; '.join(verdict.wrong) or 'holds'}", flush=True)


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--minutes", type=float, default=60.0, help="begin no row after so many (60)")
    parser.add_argument("--only", nargs="+", default=[""], help="rows whose name contains one of these")
    parser.add_argument("--again", action="store_true", help="also rows that are known to hold")
    parser.add_argument("--results", type=Path, default=RESULTS, help="where the results lie")
    words = parser.parse_args()
    if not hasattr(os, "fork"):
        sys.exit("this takes a system on which processes can be forked, such as Linux or macOS")
    chosen = [row for row in rows() if any(part in row.name for part in words.only)]
    found = json.loads(words.results.read_text("utf-8"))["rows"] if words.results.is_file() else {}
    missing = [row for row in chosen if words.again or found.get(row.name, {"wrong": True})["wrong"]]

    def keep(found: dict[str, Any]) -> None:
        ordered = {row.name: found[row.name] for row in rows() if row.name in found}
        beside = words.results.with_suffix(".tmp")
        beside.write_text(json.dumps({"rows": ordered}, indent=1) + "\n", encoding="utf-8")
        beside.rename(words.results)

    if missing:
        children.prepared()
        with tempfile.TemporaryDirectory(prefix="sfumato-faults-") as work:
            carried_out(missing, found, Path(work).resolve(), 60 * words.minutes, keep)
    print(jobs.table(found))
    if words.results == RESULTS:
        jobs.quote(jobs.table(found))
    shown = [found[row.name] for row in chosen if row.name in found]
    return 1 if any(row["wrong"] for row in shown) or not shown else 0


if __name__ == "__main__":
    if any(os.environ.get(name) != value for name, value in ALONE.items()):
        os.execve(sys.executable, [sys.executable, *sys.argv], os.environ | ALONE)
    sys.exit(main())
