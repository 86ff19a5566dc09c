"""Every lesson has a plan and notes; what it builds on comes before it; the teacher's page is served on demand."""

from __future__ import annotations

from urllib.error import HTTPError

import pytest
import serving

from sfumato.learn import teacher
from sfumato.learn.catalogue import CATALOGUE
from sfumato.learn.server import catalogue_page
from sfumato.learn.syllabus import DIFFICULTIES, SYLLABUS
from sfumato.learn.teacher.notes import NOTES


def test_every_lesson_is_planned_and_builds_on_earlier_ones() -> None:
    names = [lesson.name for lesson in CATALOGUE]
    assert set(SYLLABUS) == set(NOTES) == set(names)
    for at, name in enumerate(names):
        plan = SYLLABUS[name]
        assert set(plan.needs) <= set(names[:at]), name
        assert plan.difficulty in DIFFICULTIES
        assert plan.hours[0] > 0
        assert len(plan.goals) >= 3
        assert len(NOTES[name]) >= 2
    assert all(SYLLABUS[name].line in catalogue_page() for name in names)


def test_the_teachers_page_has_every_solution_and_the_catalogue_none() -> None:
    page = teacher.page()
    assert all(task.key in page for lesson in CATALOGUE for task in lesson.tasks)
    assert page.count("<details>") == sum(len(lesson.tasks) for lesson in CATALOGUE)
    assert "teacher" not in catalogue_page().lower()
    assert "/teacher" in catalogue_page(teaching=True) or 'href="teacher' in catalogue_page(teaching=True)


def test_learners_are_served_no_teachers_page(tmp_path: object, address: str) -> None:
    visitor = serving.visitor()
    visitor.open(address).read()
    with pytest.raises(HTTPError) as refused:
        visitor.open(address.partition("?")[0] + "teacher")
    assert refused.value.code == 404
