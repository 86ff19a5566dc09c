"""Catalogues of the path's translations are whole, agree with the texts and each other, and hold all the Chinese."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from sfumato.claims import CLAIMS
from sfumato.learn.catalogue import CATALOGUE

polib = pytest.importorskip("polib")
ROOT = Path(__file__).parents[2]
WHOLE = ("pages", "reference", "teacher", *(known.name for known in CATALOGUE))
"""The catalogues: what is shared, and one a lesson."""
CHINESE = re.compile("[\u4e00-\u9fff]")


@pytest.fixture(scope="module")
def messages() -> Iterator[Any]:
    """scripts/messages.py."""
    sys.path.insert(0, str(ROOT / "scripts"))
    yield import_module("messages")
    sys.path.remove(str(ROOT / "scripts"))


@pytest.mark.parametrize("name", WHOLE)
def test_a_catalogue_is_whole_and_agrees_with_the_texts(messages: Any, name: str) -> None:
    """Every message, with the placeholders, formulas, code, links and table cells of the English."""
    assert messages.check("zh", name) == []


def test_catalogues_agree_with_each_other(messages: Any) -> None:
    assert messages.conflicts("zh") == []


def test_values_of_a_message_are_named_by_what_they_are() -> None:
    """A second value is not the name of the first with a number after it."""
    for path in sorted((ROOT / "sfumato/learn/languages/zh").glob("*.po")):
        for entry in polib.pofile(str(path)):
            names = set(re.findall(r"{(\w+)[:}]", entry.msgid)) if "python-brace-format" in entry.flags else set()
            assert not {name for name in names if name.rstrip("23456789") in names - {name}}, (path, entry.msgid)


@pytest.mark.parametrize(
    ("text", "said", "fault"),
    [
        ("the slope $\\mu + v$ here", "斜率 $\\mu - v$", "other formulas"),
        ("the slope $\\mu + v$ here", "斜率", "other formulas"),
        ("call `step` once", "调用 `steps` 一次", "other code"),
        ("see [all words](/lesson/glossary/)", "见[词汇](/lesson/words/)", "other links"),
        ("| a | b |\n|---|---|", "| 甲 |\n|---|---|", "other cells"),
        ("one paragraph", "一个\n段落", "a paragraph is broken"),
        ("line: ", "行：", "spaces or line breaks"),
        ("{n:.2f} of {all}", "{all} 中的 {n:.3f}", "other values"),
        ("{n} of {all}", "{all} 中的 {count}", "other values"),
        ("{n} of {{all}}", "{n} 中的 {all", "not a format string"),
    ],
)
def test_a_wrong_translation_is_found(messages: Any, text: str, said: str, fault: str) -> None:
    entry = polib.POEntry(msgid=text, msgstr=said, flags=[messages.FORMAT] if "{" in text else [])
    assert [found for found in messages.faults(entry) if found.startswith(fault)]
    assert not list(messages.faults(polib.POEntry(msgid=text, msgstr=text, flags=entry.flags)))


def test_texts_that_cannot_be_translated_are_found(messages: Any) -> None:
    import ast

    from messages_found import Finder, Found

    text = """
mo.md("words")
mo.ui.slider(1, 2, label="steps")
story.md(f"so many: {n}")
story.md("so many: " + rows)
story.md("so many: {n}", n=3)
guesses = {"this": "no", f"that {n}": "yes"}
assert n, f"not {n}"
assert n, "not this"
Scrubber.of({"a run": x, "$x_0$": y})
"""
    found = Found()
    Finder("lessons/one.py", ast.parse(text), found)
    assert [re.search(r":(\d+):", problem)[1] for problem in found.problems] == ["2", "3", "4", "5", "7"]
    assert list(found.places) == ["so many: {n}", "this", "no", "yes", "a run"]
    assert found.formats == {"so many: {n}"}
    found = Found()
    Finder("checks/one.py", ast.parse(text), found)
    assert "not this" in found.places
    assert any(problem.startswith("checks/one.py:8:") for problem in found.problems)


def test_chinese_stands_in_the_catalogues_alone() -> None:
    package = ROOT / "sfumato"
    found = {
        path.relative_to(package).as_posix(): CHINESE.findall(path.read_text(encoding="utf-8"))
        for path in package.rglob("*")
        if path.suffix in (".py", ".js", ".html", ".css") and ".min." not in path.name
    }
    assert {name: "".join(signs) for name, signs in found.items() if signs} == {"learn/languages/__init__.py": "中文"}


@pytest.mark.parametrize(
    ("lesson", "claim", "parts"),
    [
        ("edm", "solvers/third-order", ("statement", "note")),
        ("score_sde", "score_sde/corrector", ("statement", "note")),
        ("iddpm", "iddpm/skipping", ("note",)),
    ],
)
def test_what_a_lesson_says_of_a_claim_is_what_the_claim_says(lesson: str, claim: str, parts: tuple[str, ...]) -> None:
    """These lessons quote a claim, so that the quotation can be translated."""
    said = [entry.msgid for entry in polib.pofile(str(ROOT / f"sfumato/learn/languages/zh/{lesson}.po"))]
    quoting = " ".join(text for text in said if f"`{claim}`" in text)
    for part in parts:
        assert getattr(CLAIMS[claim], part) in quoting
