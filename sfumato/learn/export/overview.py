"""The learning path as a page of Markdown for the docs site: each lesson's title, first words and exercises.

In several languages it is a page in each, with a link at every lesson to the same lesson of the other page.
"""

from __future__ import annotations

import ast
from collections.abc import Collection, Sequence

from sfumato.learn.catalogue import CATALOGUE, Lesson
from sfumato.learn.export import file_of
from sfumato.learn.languages import LANGUAGES, TAGS, language, tr

NAME = "lessons"
"""Of the page, and of the folder beside it in which exported lessons lie."""


def overview(spoken: Sequence[str], exported: Collection[str] = ()) -> str:
    """The page in the language that is set.

    Args:
        spoken: the languages that it is written in, as `export.file_of` names their files.
        exported: the files of lessons in the folder NAME, which are linked to.
    """
    lead = tr("`sfumato learn` opens it in the browser, on this machine, without a network.")
    head = f'<div lang="{TAGS[language()]}" markdown>\n\n# {tr("The learning path")}\n'
    parts = [head, f"{_switch(spoken, '')}{lead}"]
    if (index := file_of("index", spoken)) in exported:
        where = f"[{tr('All lessons')}]({NAME}/{index})"
        parts.append("\n" + tr("Written out as they were computed, with figures that move: {where}.", where=where))
    for lesson in CATALOGUE:
        title = tr(lesson.title)
        tasks = "\n".join(f"- {exercise.key}: {tr(exercise.title)}" for exercise in lesson.tasks)
        page = file_of(lesson.name, spoken)
        read = f"[{tr('Read the lesson')}]({NAME}/{page})\n\n" if page in exported else ""
        parts.append(
            f"\n## {lesson.number}. {title} {{#{lesson.name}}}\n\n{_switch(spoken, f'#{lesson.name}')}"
            f"{opening(lesson)}\n\n{read}{tr('Exercises:')}\n\n{tasks}"
        )
    return "\n".join(parts) + "\n\n</div>\n"


def opening(lesson: Lesson) -> str:
    """The first words of a lesson, from its notebook's first Markdown cell, in the language that is set."""
    for node in ast.walk(ast.parse(lesson.path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") == "md":
            text = node.args[0]
            if isinstance(text, ast.Constant):
                lines = [line.strip() for line in tr(str(text.value)).strip().splitlines()]
                return "\n".join(line for line in lines if not line.startswith("#"))
    return ""


def _switch(spoken: Sequence[str], place: str) -> str:
    """Links to the same place of the page in its other languages, as the pages of lessons have."""
    if len(spoken) < 2:
        return ""
    parts = [f"[{LANGUAGES[one]}]({file_of(NAME, spoken, 'md', one)}{place}){{lang={TAGS[one]}}}" for one in spoken]
    parts[spoken.index(language())] = f"**{LANGUAGES[language()]}**"
    return f"{' | '.join(parts)}\n\n"
