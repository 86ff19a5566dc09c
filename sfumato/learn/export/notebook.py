"""A lesson as a Jupyter notebook that runs where sfumato is installed with its lessons: text as Markdown, code as code.

The first cell (`here`) makes Jupyter show marimo's elements as `still` writes them and adds the magic `%%answer KEY`,
which checks an exercise as the learning path does. Controls stand at their first value: change it in the code.
"""

from __future__ import annotations

import ast
import json
import os
import re
import textwrap
from pathlib import Path
from typing import Any

from sfumato.learn import languages
from sfumato.learn.languages import tr

FIRST = "from sfumato.learn.export import notebook\n\nnotebook.here({language})"


def notebook(path: Path) -> str:
    """The JSON of a notebook (nbformat 4.5) made from the marimo notebook of that path."""
    text = path.read_text(encoding="utf-8")
    asked = languages.language()
    cells = [_cell("code", FIRST.format(language="" if asked == languages.SOURCE else f'"{asked}"'), 0)]
    for node in ast.parse(text).body:
        cells += _cells(node, text, len(cells))
    about = {"kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
             "language_info": {"name": "python"}}  # fmt: skip
    return json.dumps({"cells": cells, "metadata": about, "nbformat": 4, "nbformat_minor": 5}, indent=1) + "\n"


def _cells(node: ast.stmt, text: str, number: int) -> list[dict[str, Any]]:
    """The cells of a statement of a marimo notebook; none where it is no cell."""
    if isinstance(node, ast.With):  # app.setup
        lines = text.splitlines()[node.body[0].lineno - 1 : node.end_lineno]
        return [_cell("code", textwrap.dedent("\n".join(lines)), number)]
    if not (isinstance(node, ast.FunctionDef) and node.decorator_list):
        return []
    body = [part for part in node.body if not isinstance(part, ast.Return)]
    if len(body) == 1 and isinstance(body[0], ast.Expr) and (words := _markdown(body[0].value)) is not None:
        return [_cell("markdown", words, number)]
    lines = text.splitlines()[body[0].lineno - 1 : body[-1].end_lineno] if body else []
    code = textwrap.dedent("\n".join(lines)).strip()
    if found := re.fullmatch(r"story\.(?:exercise\(EXERCISES\[(\d+)\]\)|program\(\"(\w+)\"\))", code):
        return _exercise(code, found, text, number)
    return [_cell("code", code, number)] if code else []


def _exercise(code: str, found: re.Match[str], text: str, number: int) -> list[dict[str, Any]]:
    """An exercise: what is asked, and a cell with the stub that is checked when it runs."""
    from sfumato.learn.catalogue import lesson

    named = re.search(r"from sfumato\.learn\.checks\.(\w+) import EXERCISES", text)
    known = lesson(found[2] or (named[1] if named else ""))
    asked = known.exercises[int(found[1])] if found[1] else known.program
    if asked is None:
        return [_cell("code", code, number)]
    return [
        _cell("markdown", f"### {tr(asked.title)}\n\n{tr(asked.task)}", number),
        _cell("code", f"%%answer {asked.key}\n{asked.stub.rstrip()}", number + 1),
    ]


def _markdown(node: ast.expr) -> str | None:
    """The text of mo.md("...") or story.md("..."); None for anything else."""
    if (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "md"
        and len(node.args) == 1
        and not node.keywords
        and isinstance(node.args[0], ast.Constant)
    ):
        return tr(textwrap.dedent(str(node.args[0].value)).strip())
    return None


def _cell(kind: str, source: str, number: int) -> dict[str, Any]:
    cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{number}", "metadata": {}}
    cell["source"] = source.splitlines(keepends=True)
    return cell | ({"execution_count": None, "outputs": []} if kind == "code" else {})


# ---------------------------------------------------------------- in Jupyter


def here(language: str = "") -> None:
    """Make this IPython show the elements of a lesson, and check answers by `%%answer KEY`, in that language."""
    if language:
        os.environ[languages.SETTING] = language
    from IPython import get_ipython
    from marimo import Html

    from sfumato.learn.export import still

    shell = get_ipython()  # type: ignore[no-untyped-call, unused-ignore]
    if shell is None:
        raise RuntimeError("notebook.here() is for Jupyter and IPython")
    still.start()
    formatter = shell.display_formatter.formatters["text/html"]
    formatter.for_type(Html, lambda shown: shown_in_jupyter(shown.text))
    shell.register_magic_function(answer, magic_kind="cell", magic_name="answer")


def answer(key: str, code: str) -> None:
    """Check the code of a cell as the answer to an exercise, and print what is said of it."""
    from sfumato.learn import answering
    from sfumato.learn.catalogue import exercise
    from sfumato.learn.workshop import WORKSHOP

    asked = exercise(key.strip())
    verdict = WORKSHOP.judge(asked, code)
    print(verdict.printed + verdict.words + answering.note(asked, code, verdict))


def shown_in_jupyter(text: str) -> str:
    """HTML of marimo for Jupyter, which typesets TeX between its own delimiters, with each figure's module."""
    from sfumato.learn.export import document, still

    plain = still.relinked(still.static(text), {})
    plain = re.sub(r'<span class="sf-tex">(.*?)</span>', r"\\(\1\\)", plain, flags=re.DOTALL)
    plain = re.sub(r'<div class="sf-tex">(.*?)</div>', r"\\[\1\\]", plain, flags=re.DOTALL)
    modules = sorted(set(re.findall(r'class="sf-widget" data-module="(\w+)"', plain)))
    return plain + "".join(f'<script type="module">{document.started(module)}</script>' for module in modules)
