"""What every lesson is made of besides its own story: notation tables, source code beside equations, derivations,
links, quiz cards.

All of it is Markdown or marimo's own elements, so that a lesson reads well without them too.
"""

from __future__ import annotations

import contextlib
import html
import inspect
import textwrap
from collections.abc import Callable, Sequence
from typing import Any

import marimo as mo

from sfumato.claims import Verdict
from sfumato.learn import derivations as derived
from sfumato.learn import kept
from sfumato.learn.catalogue import CATALOGUE, REFERENCE, lesson
from sfumato.learn.exercises import Exercise
from sfumato.learn.export import still
from sfumato.learn.languages import tr, web
from sfumato.learn.widgets import Answer


def md(text: str, **values: Any) -> mo.Html:
    """Markdown in the language of the page; with values the text is a format string, as `tr` takes it."""
    return mo.md(tr(text, **values))


def source(thing: Any, equation: str) -> mo.Html:
    """The very lines that compute an equation, read from the library, so that they cannot drift."""
    code = textwrap.dedent(inspect.getsource(thing))
    module = inspect.getmodule(thing)
    where = f"{getattr(module, '__name__', '')}.{getattr(thing, '__qualname__', '')}"
    return mo.md(f"{tr(equation)}\n\n```python\n{code}```\n\n*`{where}`*")


def notation(rows: Sequence[tuple[str, str, str, str]]) -> mo.Html:
    """A table: meaning, the paper's symbol, ours, and what the blogs and codes that learners know call it."""
    head = tr("| meaning | paper | sfumato | elsewhere |") + "\n|---|---|---|---|\n"
    return mo.md(head + "\n".join(f"| {' | '.join(map(tr, row))} |" for row in rows))


def derivation(title: str, markdown: str, source: str = "", anchor: str = "") -> str:
    """Markdown of a derivation that is folded until its title is clicked; `source` is the paper and its equations."""
    where = f" *({tr(source)})*" if source else ""
    named = f"id: {anchor}, " if anchor else ""
    return f"/// details | {tr(title)}{where}\n    attrs: {{{named}class: sf-derivation}}\n\n{tr(markdown)}\n///\n"


IN_ONE_NOTATION = (
    r"In one notation throughout: $x_t = \alpha_t x_0 + \sigma_t\epsilon$, so that DDPM's $\bar\alpha_t$ is "
    r"$\alpha_t^2$; $s < t$ is the next level down. See also [all formulas](/lesson/formulas/) and "
    "[all words](/lesson/glossary/)."
)


def derivations(name: str) -> mo.Html:
    """The derivations of a lesson, each folded."""
    folds = [derivation(d.title, d.text, d.source, d.anchor) for d in derived.of(name)]
    return mo.md(f"## {tr('Derived, line by line')}\n\n{tr(IN_ONE_NOTATION)}\n\n" + "\n".join(folds))


def links(name: str) -> mo.Html:
    """Where one goes from a lesson: all lessons, its neighbours, its papers, and the code that it is about."""
    here = lesson(name)
    around = [("/", tr("All lessons"))]
    around += [(f"/lesson/{n.name}/", f"← {n.number}. {tr(n.title)}") for n in CATALOGUE if n.number == here.number - 1]
    around += [(f"/lesson/{n.name}/", f"{n.number}. {tr(n.title)} →") for n in CATALOGUE if n.number == here.number + 1]
    papers = [(f"https://arxiv.org/abs/{number}", f"{title}, arXiv {number}") for title, number in here.papers]
    code = [(f"/code/{path}", path) for path in here.code]
    rows = (("", around), (tr("Paper") if len(papers) == 1 else tr("Papers"), papers), (tr("Code"), code))
    inner = "".join(_row(*row) for row in rows if row[1])
    return _navigation(inner, here.title)


def reference(name: str) -> mo.Html:
    """Where one goes from a page to look things up in."""
    here = next(page for page in REFERENCE if page.name == name)
    return _navigation(_row("", [("/", tr("All lessons"))]), here.title)


def _navigation(inner: str, title: str) -> mo.Html:
    """Links under each other, with the other languages where a server has them; the page's title is read from here."""
    languages = "" if still.active() else f"<p>{web.switch()}</p>"
    named = f'aria-label="{html.escape(tr("Lessons"))}" data-title="{html.escape(tr(title))}"'
    return mo.Html(f'<nav class="sf-links" {named}>{inner}{languages}</nav>')


def _row(label: str, entries: Sequence[tuple[str, str]]) -> str:
    """Links beside each other; those to other machines open a page of their own."""
    parts = [
        f'<a href="{html.escape(to)}"{OUTSIDE if to.startswith("https:") else ""}>{html.escape(words)}</a>'
        for to, words in entries
    ]
    return f"<p>{html.escape(label)} {' '.join(parts)}</p>"


OUTSIDE = ' target="_blank" rel="noopener noreferrer"'


class Cards(mo.Html):
    """Quiz cards as they are shown, which hold the judgements in them as long as they are shown themselves."""

    def __init__(self, text: str, judgements: Sequence[mo.ui.radio]) -> None:
        super().__init__(text)
        self.judgements = judgements

    def _repr_mimebundle_(self, **more: Any) -> dict[str, str]:
        """For Jupyter; and marimo keeps an output that has this method, so that its judgements are heard."""
        return {"text/html": self.text}


def quiz(cards: Sequence[tuple[str, str]], name: str) -> mo.Html:
    """Questions that open to their answers. What a learner judges of each is kept with the lesson of that name."""
    shown = [(question, mo.md(tr(answer))) for question, answer in cards]
    if still.active():
        return mo.Html("".join(still.folded(html.escape(tr(question)), answer.text) for question, answer in shown))
    judgements, opened = [], {}
    for question, answer in shown:
        before = kept.get(name, "quiz", question)
        judgements.append(_judgement(name, question, before))
        mark = " · " + tr(JUDGEMENTS[before]) if before in JUDGEMENTS else ""
        opened[tr(question) + mark] = mo.vstack([answer, judgements[-1]])
    return Cards(mo.accordion(opened).text, judgements)


JUDGEMENTS = {"knew": "I knew it", "not yet": "not yet"}
"""What a learner can say of a card -> in words."""


def _judgement(name: str, question: str, before: Any) -> mo.ui.radio:
    """What a learner who has opened a card says of it, which is kept; `before` is what was."""

    def keep(judged: str | None) -> None:
        with contextlib.suppress(OSError):
            kept.put(name, "quiz", question, judged)

    options = {tr("I knew it"): "knew", tr("not yet"): "not yet"}
    chosen = tr(JUDGEMENTS[before]) if before in JUDGEMENTS else None
    return mo.ui.radio(options, value=chosen, label=tr("Before you opened it:"), inline=True, on_change=keep)


def exercise(asked: Exercise) -> mo.Html:
    """An exercise or programming task as it stands in the lesson: its text, an editor, and what the check says."""
    text = mo.md(f"### {tr(asked.title)}\n\n{tr(asked.task)}")
    if still.active():
        hints = [
            mo.Html(still.folded(tr("Hint {n}", n=n), mo.md(tr(hint)).text)) for n, hint in enumerate(asked.hints, 1)
        ]
        return mo.vstack([text, mo.md(f"```python\n# {asked.key}\n{asked.stub}```"), *hints])
    return mo.vstack([text, mo.ui.anywidget(Answer(key=asked.key))])


def program(name: str) -> mo.Html:
    """The programming task of a lesson."""
    asked = lesson(name).program
    assert asked is not None
    text = md("## Program it yourself\n\nWhat a right answer computes is drawn below it.")
    return mo.vstack([text, exercise(asked)])


def measured(holds: bool, sentence: str, otherwise: str) -> str:
    """What the figure beside it says: the sentence where its numbers bear it out, else the other one."""
    return tr(sentence if holds else otherwise)


def predict(name: str, question: str, options: dict[str, str]) -> mo.ui.radio:
    """A question to answer before the figure is shown. The guess is kept with the lesson of that name."""
    before = None if still.active() else kept.get(name, "guesses", question)

    def keep(guess: str | None) -> None:
        with contextlib.suppress(OSError):
            kept.put(name, "guesses", question, guess)

    shown = {tr(option): option for option in options}
    return mo.ui.radio(shown, value=tr(before) if before in options else None, label=tr(question), on_change=keep)


def reveal(guess: str | None, options: dict[str, str], then: Callable[[], Any]) -> mo.Html:
    """What is shown once the learner has guessed."""
    if guess is None and still.active():
        answers = mo.md("\n\n".join(f"**{tr(option)}**: {tr(answer)}" for option, answer in options.items()))
        return mo.Html(still.folded(tr("What comes out"), f"{answers.text}{mo.as_html(then()).text}"))
    if guess is None:
        return md("*Choose first; the figure follows.*")
    return mo.vstack([md(options[guess]), then()])


def borne_out(verdict: Verdict) -> str:
    """Whether the figures of a claim, as they were just computed, lie between its bounds."""
    name = verdict.claim.name
    return measured(
        verdict.holds,
        tr("Computed just now, and within the bounds of the claim `{name}`.", name=name),
        tr("**Computed just now, and outside the bounds of the claim `{name}`**: what is said here is not borne out.",
           name=name),
    )  # fmt: skip
