"""Runs cases by the forking process and says of each what is wrong with what came of it, if anything."""

from __future__ import annotations

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.hostile.case import ACCEPT, CANARY, EITHER, REFUSE, Case
from tests.hostile.forks import LIMIT, SECONDS

ROOT = Path(__file__).parents[2]
"""Of the repository."""

LONGEST = 4_000
"""Letters of one line on standard error."""

ACTS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
"""What acts on a terminal, or turns its text around."""

EXHAUSTED = "a smaller --batch, size or number needs less"
"""How a command ends that asked the machine for more memory than there is: it should have known before."""


@dataclass(frozen=True)
class Verdict:
    """What is wrong with a case, as (sort, detail); empty where nothing is."""

    case: Case
    faults: tuple[tuple[str, str], ...]
    came: dict[str, Any]

    def __str__(self) -> str:
        words = shlex.join(["sfumato", *self.came["words"]]).encode("utf-8", "backslashreplace").decode()
        said = "; ".join(f"{sort}: {detail}" if detail else sort for sort, detail in self.faults)
        return f"{self.case.full_name}\n    {words[:300]!s}\n    {said}"


def judged(case: Case, came: dict[str, Any], work: Path) -> Verdict:
    """What is wrong with what came of a case."""
    return Verdict(case, tuple(_faults(case, came, work)), came)


def _faults(case: Case, came: dict[str, Any], work: Path) -> Iterator[tuple[str, str]]:
    if not came["ready"] or came["error"]:
        yield "the case itself fails", came["error"].strip().rpartition("\n")[2]
        return
    code, said = came["code"], came["stderr"]
    lines = [line for line in said.split("\n") if line]
    if code in (None, -signal.SIGXCPU):
        yield "time", f"more than {SECONDS} s" if code else "it waits for ever"
        return
    if came["peak"] > LIMIT:
        yield "memory", f"{came['peak'] / 2**30:.1f} GiB"
    if EXHAUSTED in said:
        yield "memory", lines[-1][:200]
    if any(os.path.basename(path) == CANARY for path in came["new"]):
        yield "code ran", ""
    if "internal error" in said:
        yield "last net", lines[-1][:300]
        return
    if "Traceback" in said:
        yield "traceback", lines[-1][:300]
        return
    if found := ACTS.search(came["stdout"] + said):
        yield "terminal", f"{found[0]!r} reaches it"
    if code == 2:
        yield from _refusal(case, came, lines)
    elif code == 0:
        if case.expect == REFUSE:
            yield "accepted", (came["stdout"].strip().splitlines() or [""])[-1][:200]
        elif case.check and (wrong := case.check(work, came["stdout"])):
            yield "wrong", wrong
    else:
        yield "exit code", f"{code}: {(lines or [''])[-1][:300]}"


def _refusal(case: Case, came: dict[str, Any], lines: list[str]) -> Iterator[tuple[str, str]]:
    if case.expect == ACCEPT:
        yield "refused", (lines or [""])[-1][:300]
    if len(lines) != 1 or not lines[0].startswith("sfumato: ") or not lines[0][9:].strip():
        yield "not one line", f"{len(lines)} lines: {' | '.join(lines)[:300]}"
    elif len(lines[0]) > LONGEST:
        yield "not one line", f"{len(lines[0])} letters"
    left = [path for path in (*came["changed"], *came["gone"]) if path.split("/")[0] not in case.stays]
    if left or came["temporary"]:
        yield "left behind", ", ".join([*left, *came["temporary"]])[:200]


class Forks:
    """The forking process, started at the first case; a context, after which it is ended."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __enter__(self) -> Forks:
        self.folder.mkdir(parents=True, exist_ok=True)
        tools = self.folder / "bin"
        tools.mkdir(exist_ok=True)
        (tools / "gs").write_text(f"#!/bin/sh\ntouch {CANARY}\n")  # what Pillow starts for PostScript
        (tools / "gs").chmod(0o755)
        plain = {name: value for name, value in os.environ.items()
                 if not name.startswith(("SFUMATO", "COLUMNS", "PYTHONWARN"))}
        environment = plain | {
            "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1", "PATH": f"{tools}:{os.environ['PATH']}",
            "SFUMATO_HOSTILE": str(self.folder / "materials"), "NO_COLOR": "1",
            "PYTHONPATH": str(ROOT), "LC_ALL": "C.UTF-8", "CUDA_VISIBLE_DEVICES": "",
            "TORCHINDUCTOR_CACHE_DIR": str(self.folder / "compiled"),
        }
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.hostile.forks", str(self.folder)], cwd=ROOT, env=environment, text=True,
            stdin=subprocess.PIPE, stdout=subprocess.PIPE,
        )
        self._answer()
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(30)

    def _answer(self) -> Any:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError("the forking process died")
        return json.loads(line)

    def judge(self, case: Case) -> Verdict:
        """Run one case."""
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(case.full_name) + "\n")
        self.process.stdin.flush()
        return judged(case, self._answer(), self.folder / "case" / "work")


def verdicts(cases: Iterable[Case], folder: Path) -> Iterator[Verdict]:
    """What came of each, in order."""
    with Forks(folder) as forks:
        for case in cases:
            yield forks.judge(case)


def shared(cases: Sequence[Case], folder: Path, processes: int) -> list[Verdict]:
    """What came of each, in order, by several forking processes that take them in turn."""
    with ThreadPoolExecutor(processes) as threads:
        dealt = [cases[i::processes] for i in range(processes)]
        found = list(threads.map(lambda i: list(verdicts(dealt[i], folder / str(i))), range(processes)))
    return [found[i % processes][i // processes] for i in range(len(cases))]


def table(found: Iterable[Verdict]) -> str:
    """The count of cases and of violations by kind."""
    cases, wrong, sorts = Counter[str](), Counter[str](), {}
    for verdict in found:
        cases[verdict.case.kind] += 1
        if verdict.faults:
            wrong[verdict.case.kind] += 1
            sorts.setdefault(verdict.case.kind, Counter()).update(sort for sort, _ in verdict.faults)
    width = max(map(len, cases), default=4)
    lines = [f"{'door':{width}}  inputs  violations"]
    for kind, count in cases.items():
        listed = ", ".join(f"{n} {sort}" for sort, n in sorts.get(kind, Counter()).most_common())
        lines.append(f"{kind:{width}}  {count:6,}  {wrong[kind]:10,}{f'  ({listed})' if listed else ''}")
    lines.append(f"{'all':{width}}  {cases.total():6,}  {wrong.total():10,}")
    return "\n".join(lines)


__all__ = ["EITHER", "Forks", "Verdict", "table", "verdicts"]
