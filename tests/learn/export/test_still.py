"""Lessons as files: marimo's elements have plain forms, links lead to what is there, a notebook runs."""

from __future__ import annotations

import contextlib
import io
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("marimo")
pytest.importorskip("anywidget")

import marimo as mo
import torch

from sfumato.cli import main
from sfumato.learn import export, languages
from sfumato.learn.catalogue import CATALOGUE, REFERENCE, lesson
from sfumato.learn.export import document, notebook, still
from sfumato.learn.widgets import Live, Scrubber

EXPORTED = "noise"
"""A lesson that is quick to run."""


def test_elements_of_marimo_become_plain_html() -> None:
    widget = mo.ui.anywidget(Scrubber.of({"a </script>": torch.zeros(3, 4, 2)}))
    shown = mo.vstack([mo.md("$a<b$"), widget, mo.ui.slider(0, 9, value=3, label="steps"), mo.callout(mo.md("look"))])
    plain = still.static(shown.text)
    assert "marimo-" not in plain
    assert '<span class="sf-tex">a&lt;b</span>' in plain
    assert ": <b>3</b>" in plain
    assert 'class="sf-callout"' in plain
    data = re.search(r'data-module="scrubber"><script type="application/json">(.*?)</script>', plain, re.DOTALL)
    assert data is not None
    traits = json.loads(data[1])
    assert traits["runs"][0]["name"] == "a </script>"
    assert traits["runs"][0]["states"] == 3
    assert ": <b>1, 3</b>" in still.static(mo.ui.range_slider(0, 7, value=[1, 3], label="from, to").text)
    assert "sf-widget" not in still.static(mo.ui.anywidget(Live(words="nothing yet")).text)
    question = still.static(mo.ui.radio(["one", "two"], label="which?").text)
    assert "<li>one</li><li>two</li>" in question
    with pytest.raises(ValueError, match="marimo-matrix"):
        still.static("<marimo-matrix data-label='null'></marimo-matrix>")


def test_links_lead_to_what_was_written_and_nowhere_else() -> None:
    text = (
        '<a href="/lesson/ddim/#x">one</a> <a href="/lesson/adm/">two</a> <a href="https://arxiv.org/abs/1">three</a>'
    )
    led = still.relinked(text, {"/lesson/ddim/": "ddim.html"})
    assert led == '<a href="ddim.html#x">one</a> two <a href="https://arxiv.org/abs/1">three</a>'


def test_a_lesson_as_one_file_holds_everything_and_no_solution(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["learn", "--export", EXPORTED, "--out", str(tmp_path)]) == 0
    assert re.search(rf"{EXPORTED}\.html: \d+ s, \d+\.\d MB", capsys.readouterr().out)
    written = (tmp_path / f"{EXPORTED}.html").read_text(encoding="utf-8")
    assert "<marimo-" not in written
    assert document.POLICY in written
    assert not re.search(
        r"""(?:src|href)=["'](?!https://arxiv\.org|#|data:)[^"']""",
        written.partition("<main>")[2].partition("</main>")[0],
    )
    assert "url(fonts" not in written
    for task in lesson(EXPORTED).exercises:
        assert task.key in written
        assert task.solution.strip() not in written
    assert "What comes out" in written  # the prediction's answer, folded


def test_a_site_in_two_languages_has_each_page_in_both(tmp_path: Path) -> None:
    """Links keep to their language, the switch leads to the other file of the same page, and every file is there."""
    written = export.write_html(REFERENCE, tmp_path, spoken=("en", "zh"))
    names = [path.name for path in written]
    assert names[:2] == ["index.html", "index.zh.html"]
    assert set(names[2:]) == {f"{known.name}{end}" for known in REFERENCE for end in (".html", ".zh.html")}
    for path in written:
        text, chinese = path.read_text(encoding="utf-8"), ".zh." in path.name
        assert f'<html lang="{"zh-CN" if chinese else "en"}">' in text
        assert re.search(r"<h1[^>]*>[^<]*[\u4e00-\u9fff]", text) is not None if chinese else "<h1" in text
        other = path.name.replace(".zh.", ".") if chinese else path.name.replace(".html", ".zh.html")
        (switch,) = re.findall(r'<a href="([^"]*)"[^>]* data-language>', text)
        assert switch == other
        led = set(re.findall(r'href="(?!https:|assets/)([^"#]+)', text)) - {switch}
        assert led
        assert all((".zh." in name) == chinese and (tmp_path / name).is_file() for name in led)
        assert not re.search(r"""(?:src|href)=["'](?:https?:)?//(?!arxiv\.org)""", text)


def test_a_lesson_in_every_language_is_a_file_in_each(tmp_path: Path) -> None:
    assert main(["learn", "--export", EXPORTED, "--language", "all", "--out", str(tmp_path)]) == 0
    assert main(["learn", "--export", EXPORTED, "--language", "all", "--to", "ipynb", "--out", str(tmp_path)]) == 0
    found = {path.name: path.read_text(encoding="utf-8") for path in tmp_path.iterdir()}
    assert set(found) == {f"{EXPORTED}{language}.{kind}" for language in ("", ".zh") for kind in ("html", "ipynb")}
    titles = {"": lesson(EXPORTED).title, ".zh": languages.messages("zh")[lesson(EXPORTED).title]}
    for language, other in (("", ".zh"), (".zh", "")):
        page = found[f"{EXPORTED}{language}.html"]
        assert f"<title>{titles[language]}</title>" in page
        assert document.POLICY in page
        assert f'<a href="{EXPORTED}{other}.html" ' in page
        cells = json.loads(found[f"{EXPORTED}{language}.ipynb"])["cells"]
        assert any("".join(cell["source"]).startswith(f"# {titles[language]}") for cell in cells)


def test_every_language_is_for_exports_alone(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "--language", "all", "--no-browser"]) == 2
    assert "--language all is for --export" in capsys.readouterr().err


@pytest.mark.parametrize("known", CATALOGUE, ids=lambda known: known.name)
def test_a_notebook_is_whole_and_in_an_order_that_runs(known: Any) -> None:
    """Every name is defined before it is used, and each exercise has a cell that is checked."""
    cells = json.loads(notebook.notebook(known.path))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]
    answers = [text for text in code if text.startswith("%%answer ")]
    assert [text.split()[1] for text in answers] == [task.key for task in known.tasks]
    compile("\n".join(text for text in code if text not in answers), known.name, "exec")
    assert len({cell["id"] for cell in cells}) == len(cells)
    assert sum(cell["cell_type"] == "markdown" for cell in cells) >= 5


def test_a_notebook_runs_in_ipython_and_checks_answers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    interactive = pytest.importorskip("IPython.core.interactiveshell")
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "progress.json"))
    monkeypatch.setattr(still, "_still", False)
    shell = interactive.InteractiveShell.instance()
    for cell in json.loads(notebook.notebook(lesson(EXPORTED).path))["cells"]:
        if cell["cell_type"] == "code":
            with contextlib.redirect_stdout(io.StringIO()):
                result = shell.run_cell("".join(cell["source"]))
            assert result.success, cell["source"]
    first = lesson(EXPORTED).exercises[0]
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        shell.run_cell(f"%%answer {first.key}\n{first.solution}")
    assert "Right." in said.getvalue()
    assert first.done
    shown = shell.display_formatter.format(mo.md("$x^2$"))[0]["text/html"]
    assert r"\(x^2\)" in shown
    drawn = shell.display_formatter.format(mo.ui.anywidget(Scrubber.of({"a": torch.zeros(3, 4, 2)})))[0]["text/html"]
    assert drawn.count("<script") == 2  # what it shows, and the module that draws it


def test_what_cannot_be_written_is_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["learn", "--export", "ddimm", "--out", str(tmp_path / "x")]) == 2
    assert "no lesson is called 'ddimm'" in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    assert main(["learn", "--export", "ddim", "--out", str(tmp_path / "file")]) == 2
    assert not (tmp_path / "x").exists()
    assert {known.name for known in export.chosen("all")} >= {"ddim", "formulas"}
