"""The programming tasks: solutions are accepted and drawn, stubs refused; tests/learn/programs holds other answers."""

from __future__ import annotations

from pathlib import Path

import programming
import pytest

from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.exercises import Exercise

PROGRAMS = [lesson.program for lesson in CATALOGUE if lesson.program]


@pytest.mark.parametrize("program", PROGRAMS, ids=lambda program: program.key)
def test_the_solution_is_accepted_and_drawn_and_the_stub_refused(program: Exercise) -> None:
    programming.accepted(program.lesson, program.solution)
    programming.refused(program.lesson, program.stub, "")
    assert len(program.hints) >= 2
    assert program.key == f"{program.lesson}.program"
    assert Path(__file__).with_name("programs").joinpath(f"test_program_of_{program.lesson}.py").exists()


def test_every_file_of_a_program_is_one_of_a_lesson() -> None:
    from sfumato.learn import programs

    files = {path.stem for path in Path(programs.__file__).parent.glob("*.py")} - {"__init__", "facts"}
    assert files == {program.lesson for program in PROGRAMS}
