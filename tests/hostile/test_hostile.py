"""Whatever the bytes are, and whichever door they come through: one line and exit code 2, no code run, nothing left
behind, under 4 GB and 20 seconds. The default tests run a fixed 150 of the cases, the slow ones all.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tests.hostile import judge
from tests.hostile.case import ACCEPT, CANARY, EITHER, REFUSE, Case
from tests.hostile.cases import FIXED, all_cases, fixed


def _holds(found: Sequence[judge.Verdict], capsys: pytest.CaptureFixture[str]) -> None:
    """Print the table; every verdict must be without faults."""
    with capsys.disabled():
        print(f"\n{judge.table(found)}")
    wrong = [verdict for verdict in found if verdict.faults]
    assert not wrong, "\n".join(map(str, wrong[:100]))


def test_fixed_inputs_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _holds(list(judge.verdicts(fixed(), tmp_path)), capsys)


@pytest.mark.slow
@pytest.mark.timeout(3 * 3600)
def test_all_inputs_end_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _holds(judge.shared(all_cases(), tmp_path, os.cpu_count() or 1), capsys)


def test_there_are_enough_inputs_and_each_door_has_its_share() -> None:
    kinds = {case.kind for case in all_cases()}
    assert len(all_cases()) >= 1_500
    assert len(fixed()) == FIXED
    assert {case.kind for case in fixed()} == kinds
    assert [case.full_name for case in fixed()] == [case.full_name for case in fixed()]


# ---------------------------------------------------------------- the judge can say no

CAME = {"name": "x", "ready": True, "error": "", "code": 2, "seconds": 0.1, "peak": 1 << 20, "changed": [], "gone": [],
        "new": [],
        "temporary": [], "stdout": "", "stderr": "sfumato: this is wrong\n", "words": ["inspect", "x"]}
"""What came of a case that was refused as it should be."""


def _sorts(expect: str = REFUSE, **came: Any) -> list[str]:
    case = Case("kind", "name", lambda folder: [], expect, lambda work, said: "bad" if "bad" in said else None)
    return [sort for sort, _ in judge.judged(case, {**CAME, **came}, Path()).faults]


@pytest.mark.parametrize(
    ("sort", "came"),
    [
        ("accepted", {"code": 0}),
        ("refused", {"expect": ACCEPT}),
        ("wrong", {"code": 0, "expect": EITHER, "stdout": "bad"}),
        ("exit code", {"code": 1}),
        ("exit code", {"code": -11}),
        ("time", {"code": None}),
        ("time", {"code": -24}),
        ("memory", {"peak": 5 << 30}),
        ("memory", {"stderr": "sfumato: not enough memory; a smaller --batch, size or number needs less\n"}),
        ("code ran", {"new": [f"below/{CANARY}"]}),
        ("last net", {"code": 1, "stderr": "sfumato: internal error: TypeError\n"}),
        ("traceback", {"stderr": "Traceback (most recent call last):\nTypeError\n"}),
        ("not one line", {"stderr": "a warning\nsfumato: this is wrong\n"}),
        ("not one line", {"stderr": "this is wrong\n"}),
        ("not one line", {"stderr": "sfumato: \n"}),
        ("not one line", {"stderr": f"sfumato: {'x' * 9000}\n"}),
        ("not one line", {"stderr": ""}),
        ("terminal", {"stderr": "sfumato: \x1b[31mred\n"}),
        ("terminal", {"code": 0, "expect": ACCEPT, "stdout": "a\u202eb"}),
        ("left behind", {"changed": ["out/grid.png"]}),
        ("left behind", {"gone": ["images.npz"]}),
        ("left behind", {"temporary": ["tmp123"]}),
        ("the case itself fails", {"ready": False}),
    ],
)
def test_the_judge_finds(sort: str, came: dict[str, Any]) -> None:
    assert sort in _sorts(**came)


def test_the_judge_lets_pass() -> None:
    assert not _sorts()
    assert not _sorts(EITHER, code=0, stderr="", stdout="fine\n", new=["out"], changed=["out"])


def test_the_forks_run_the_command_and_see_what_it_leaves(tmp_path: Path) -> None:
    """A command that leaves something behind, one that runs out of time, and code that is run are seen."""
    from tests.hostile import forks

    def came(function: str, seconds: int = 20) -> dict[str, Any]:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(forks, "_run", eval(function))
            patch.setattr(forks, "WAIT", seconds)
            return forks.run("command line/help sample", tmp_path / "case")

    assert CANARY in came(f"lambda words: open('{CANARY}', 'w').close() or 2")["new"]
    assert came("lambda words: __import__('time').sleep(30)", 1)["code"] is None
    assert came("lambda words: len(b'x' * (1 << 30)) and 2")["peak"] > 1 << 30
    assert came("lambda words: len(b'x' * (16 << 30)) and 2")["error"].strip().endswith("MemoryError")
