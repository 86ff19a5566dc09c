"""The teacher's edition: for each lesson its plan, notes for class, and the solution of every task, as one page.

`sfumato learn --teacher` serves it; without that option its address does not exist. The solutions are part of the
package all the same, so this keeps them out of sight, not secret.
"""

from __future__ import annotations

import html

from sfumato.learn.catalogue import CATALOGUE, Lesson
from sfumato.learn.exercises import Exercise
from sfumato.learn.languages import tr, web
from sfumato.learn.syllabus import plan
from sfumato.learn.teacher.notes import NOTES

STYLE = """
:root { color-scheme: light dark; --soft: light-dark(#5a626e, #a6acb4); --line: light-dark(#e4e1dc, #33373d); }
body { margin: 0; font: 17px/1.6 system-ui, sans-serif; background: light-dark(#faf9f7, #17191c); color: light-dark(#23282f, #e6e3de); }
main { max-width: 760px; margin: 0 auto; padding: 2rem 1.2rem 4rem; }
h1, h2 { font-family: Georgia, serif; line-height: 1.2; } h2 { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 1rem; }
a { color: light-dark(#a4481f, #e08a5f); } .soft { color: var(--soft); } table { border-collapse: collapse; width: 100%; }
th, td { text-align: left; padding: .25rem .6rem .25rem 0; border-bottom: 1px solid var(--line); vertical-align: top; }
pre { overflow-x: auto; border-left: 4px solid var(--line); padding: .3rem 1rem; font-size: .85rem; }
nav { display: flex; flex-wrap: wrap; gap: 1rem; justify-content: space-between; }
.wide { overflow-x: auto; } .wide th, .wide td:nth-child(5) { white-space: nowrap; }
:lang(zh) body { font-family: system-ui, "PingFang SC", "Microsoft YaHei", "Noto Sans CJK SC", "Source Han Sans SC", "WenQuanYi Micro Hei", sans-serif; }
summary { cursor: pointer; font-weight: 600; }
"""


LEAD = (
    "The whole path takes {first:g} hours, and {second:g} more with derivations and programming tasks. These are "
    "estimates; no class has been timed. Solutions are part of the package: this page is not shown to learners, but it is "
    "no secret."
)


def page() -> str:
    """The whole page."""
    rows, known = [], [(lesson, plan(lesson.name)) for lesson in CATALOGUE]
    for lesson, planned in known:
        hours = (f"{planned.hours[0]:g}", f"{planned.hours[1]:g}", tr(planned.difficulty)) if planned else ("", "", "")
        needs = ", ".join(planned.needs) if planned else ""
        rows.append(
            f'<tr><td>{lesson.number}</td><td><a href="#{lesson.name}">{html.escape(tr(lesson.title))}</a></td>'
            + "".join(f"<td>{cell}</td>" for cell in (*hours, needs)) + "</tr>"
        )  # fmt: skip
    first, second = (sum(planned.hours[i] for _, planned in known if planned) for i in (0, 1))
    names = (tr("number"), tr("lesson"), tr("hours"), tr("more"), tr("difficulty"), tr("builds on"))
    head = "".join(f'<th scope="col">{name}</th>' for name in names)
    return (
        f'<!doctype html><html lang="{web.tag()}"><head><meta charset="utf-8">'
        f"<title>{tr('sfumato: for teachers')}</title>"
        '<link rel="icon" href="data:,">'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{STYLE}</style></head><body><main>'
        f'<nav><a href="./{web.suffix()}">{tr("All lessons")}</a> {web.switch()}</nav><h1>{tr("For teachers")}</h1>'
        f"<p>{tr(LEAD, first=first, second=second)}</p>"
        f'<div tabindex="0" role="region" aria-label="{tr("syllabus")}" class="wide"><table><thead><tr>{head}</tr>'
        f"</thead><tbody>{''.join(rows)}</tbody></table></div>{''.join(_lesson(lesson) for lesson in CATALOGUE)}"
        "</main></body></html>"
    )


def _lesson(lesson: Lesson) -> str:
    """A lesson's plan, notes and solutions."""
    planned = plan(lesson.name)
    parts = [f'<h2 id="{lesson.name}">{lesson.number}. {html.escape(tr(lesson.title))}</h2>']
    if planned:
        parts.append(f'<p class="soft">{planned.line}. {html.escape(tr(planned.knowledge))}</p>')
        parts.append(f"<p>{tr('Afterwards a learner can')}</p>" + _list(planned.goals))
    if notes := NOTES.get(lesson.name, ()):
        parts.append(f"<h3>{tr('Notes')}</h3>" + _list(notes))
    parts.append(f"<h3>{tr('Solutions')}</h3>" + "".join(_solution(task) for task in lesson.tasks))
    return "".join(parts)


def _list(entries: tuple[str, ...]) -> str:
    return f"<ul>{''.join(f'<li>{html.escape(tr(entry))}</li>' for entry in entries)}</ul>"


def _solution(task: Exercise) -> str:
    hints = _list(task.hints) if task.hints else ""
    return (
        f"<details><summary>{html.escape(task.key)}: {html.escape(tr(task.title))}</summary>{hints}"
        f'<pre tabindex="0" aria-label="{html.escape(tr("solution of {key}", key=task.key))}">{html.escape(task.solution)}</pre></details>'
    )
