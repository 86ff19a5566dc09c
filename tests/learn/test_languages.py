"""The path in its languages: catalogues are whole and agree with the texts, and pages are in the language asked for."""

from __future__ import annotations

import html
import json
import re
import threading
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from urllib.request import Request

import pytest
import serving

from sfumato.cli import main
from sfumato.learn import languages, server, teacher
from sfumato.learn.catalogue import CATALOGUE, exercise, lesson
from sfumato.learn.languages import tr, using
from sfumato.learn.syllabus import SYLLABUS
from sfumato.learn.teacher.notes import NOTES
from sfumato.learn.workshop import WORKSHOP

polib = pytest.importorskip("polib")
pytest.importorskip("marimo")
ROOT = Path(__file__).parents[2]
CHINESE = re.compile("[\u4e00-\u9fff]")
LESSONS = [known.name for known in CATALOGUE]


# ---------------------------------------------------------------- one message


def test_a_message_is_in_the_language_that_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(languages.SETTING, raising=False)
    assert (tr("Right."), languages.language(), languages.named()) == ("Right.", "en", None)
    with using("zh"):
        chinese = tr("Right.")
        assert CHINESE.search(chinese)
        assert tr("\n    Right.\n    ") == chinese
        assert tr("{n} things that nobody translated", n=3) == "3 things that nobody translated"
        assert tr(r"no such text: \frac{a}{b}") == r"no such text: \frac{a}{b}"
        with using("en"):
            assert tr("Right.") == "Right."
        assert CHINESE.search(tr("Hint {n} of {all}", n=2, all=3))
        assert "2" in tr("Hint {n} of {all}", n=2, all=3)
    assert tr("Right.") == "Right."
    monkeypatch.setenv(languages.SETTING, "zh")
    assert tr("Right.") == chinese
    monkeypatch.setenv(languages.SETTING, "tlh")
    assert tr("Right.") == "Right."
    with pytest.raises(ValueError, match="no language"), using("tlh"):
        pass


@pytest.fixture
def catalogues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A folder of Chinese catalogues, with two messages in it, read instead of the ones that ship."""
    folder = tmp_path / "zh"
    folder.mkdir()
    (folder / "good.po").write_text('msgid "Right."\nmsgstr "正确。"\n', encoding="utf-8")
    (folder / "values.po").write_text('msgid "{n} of {all}"\nmsgstr "{al} 中的 {n}"\n', encoding="utf-8")
    monkeypatch.setattr(languages, "CATALOGUES", tmp_path)
    cached = (languages.messages, languages.of_file, languages.entries, languages._read)
    for function in cached:
        function.cache_clear()
    yield folder
    for function in cached:
        function.cache_clear()


@pytest.mark.parametrize(
    "content",
    [
        b'msgid "a"\nnonsense here\n',
        b'msgid "a"\nmsgstr "\xff\xfe"\n',
        b'"Content-Type: text/plain; charset=klingon\\n"\n',
        b"",
    ],
)
def test_a_damaged_catalogue_is_named_and_its_texts_are_english(catalogues: Path, content: bytes) -> None:
    broken = catalogues / "broken.po"
    with using("zh"):
        assert languages.damaged("zh") == []
        assert "broken.po" not in server.catalogue_page()
        broken.write_bytes(content)
        languages.entries.cache_clear()
        assert (tr("Right."), tr("Predict first")) == ("正确。", "Predict first")
        assert tr("{n} of {all}", n=2, all=3) == "2 of 3"  # whose translation names a value that there is not
        assert languages.damaged("zh") == [broken]
        assert f"The translations in {broken} cannot be read" in server.catalogue_page()
    assert languages.damaged("en") == []


def test_a_language_that_there_is_not_is_refused_by_the_command(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv(languages.SETTING, "zh_CN.UTF-8")
    assert main(["learn", "--export", "spiral"]) != 0
    assert "SFUMATO_LANGUAGE is one of en, zh, not 'zh_CN.UTF-8'" in capsys.readouterr().err


def test_threads_have_a_language_each() -> None:
    gate, said = threading.Barrier(2), {}

    def speak(name: str) -> None:
        with using(name):
            for _ in range(200):
                gate.wait(10)
                said.setdefault(name, set()).add(tr("Right."))

    both = [threading.Thread(target=speak, args=(name,)) for name in ("en", "zh")]
    for thread in both:
        thread.start()
    for thread in both:
        thread.join(30)
    assert said["en"] == {"Right."}
    assert len(said["zh"]) == 1
    assert said["zh"] != said["en"]


# ---------------------------------------------------------------- lessons, answers and pages


def english(shown: str) -> set[str]:
    """Four lower-case English words in a row, in what a page shows beside links, code, formulas and italics."""
    for kind in ("nav", "code", "pre", "em", "marimo-tex", "script", "style"):
        shown = re.sub(rf"<{kind}\b.*?</{kind}>", " ", shown, flags=re.DOTALL)
    held = re.findall(r"data-(?:label|options|labels)='([^']*)'", shown)
    names = [json.dumps(json.loads(html.unescape(name)), ensure_ascii=False).replace("null", "") for name in held]
    text = html.unescape(re.sub("<[^>]*>", " ", shown)) + " ".join(names)
    plain = re.sub("<[^>]*>", " ", text)
    return set(re.findall(r"(?:\b[a-z]{2,}\b[ ,.:]+){3,}[a-z]{2,}", plain))


def test_english_that_is_left_is_found() -> None:
    option = "<marimo-radio data-options='[&quot;on every turn that&quot;]'></marimo-radio>"
    for shown in ("<p>so this was left here</p>", option):
        assert english(shown)
    assert not english("<nav>all of it in links</nav><p>这是 <code>a = b if c else d</code></p>")


@pytest.mark.parametrize(
    "name", [name if name == "spiral" else pytest.param(name, marks=pytest.mark.slow) for name in LESSONS]
)
def test_a_lesson_runs_in_chinese(name: str) -> None:
    """No sentence of its catalogue is left in English, with the figure after a guess too."""
    pytest.importorskip("anywidget")
    app = import_module(f"sfumato.learn.lessons.{name}").app
    with using("zh"):
        outputs, definitions = app.run()
        guesses = definitions["guesses"]
        guessed, _ = app.run(defs={"guess": SimpleNamespace(value=next(iter(guesses))), "guesses": guesses})
    shown = "\n".join(output.text for output in (*outputs, *guessed) if output is not None)
    shown = re.sub(r'<a href="https://arxiv[^>]*>.*?</a>', "", shown)  # titles of papers stay English
    entries = [entry for entry in polib.pofile(str(languages.CATALOGUES / "zh" / f"{name}.po")) if not entry.obsolete]
    plain = [entry.msgid for entry in entries if len(entry.msgid) > 20 and re.fullmatch(r"[\w ,.:;-]+", entry.msgid)]
    assert len(plain) > 5
    assert [text for text in plain if text in shown] == []
    assert sorted(english(shown)) == []
    heading = next(entry.msgstr for entry in entries if entry.msgid.startswith("# "))
    assert heading.splitlines()[0].removeprefix("# ") in shown


def test_titles_are_the_same_in_number_and_level() -> None:
    """By which the switch of an exported page keeps the place (`export/place.js`)."""

    def titles(text: str) -> list[str]:
        return re.findall(r"^(#+) ", re.sub(r"```.*?```", "", text, flags=re.DOTALL), re.MULTILINE)

    found = [(titles(entry.msgid), titles(entry.msgstr), entry.msgid[:60]) for entry in languages.entries("zh")]
    assert sum(bool(english) for english, _, _ in found) > 100
    assert [text for english, translated, text in found if english != translated] == []


def test_an_answer_is_judged_in_the_language_of_its_page() -> None:
    asked = exercise("spiral.1")
    with using("zh"):
        wrong, right = WORKSHOP.judge(asked, asked.stub), WORKSHOP.judge(asked, asked.solution)
        loop = WORKSHOP.judge(asked, "x = 1")
        fault = WORKSHOP.judge(asked, "\n1 / 0")
    for verdict in (wrong, right, loop):
        assert CHINESE.search(verdict.words)
    assert "0.7071" in wrong.words
    assert "product" in loop.words
    assert fault.words.endswith("ZeroDivisionError: division by zero")
    assert CHINESE.search(fault.words)
    assert WORKSHOP.judge(asked, asked.solution).words == "Right."


def test_the_server_speaks_what_the_address_names_and_remembers_it(tmp_path: Path) -> None:
    with serving.served(tmp_path / "progress.json") as address:
        base, visitor = address.partition("?")[0], serving.visitor()

        def get(path: str) -> tuple[str, str]:
            with visitor.open(base + path) as answer:
                return answer.geturl().removeprefix(base), answer.read().decode()

        visitor.open(address).close()
        assert get("")[0] == ""
        assert '<html lang="en">' in get("")[1]
        assert 'href="lesson/spiral/?lang=en"' in get("")[1]  # whatever another tab will choose
        _, page = get("?lang=zh")
        assert '<html lang="zh-CN">' in page
        assert 'href="lesson/spiral/?lang=zh"' in page
        with using("zh"):
            assert tr(lesson("spiral").title) in page
        assert get("")[0] == "?lang=zh"  # remembered
        assert get("lesson/spiral/")[0] == "lesson/spiral/?lang=zh"
        assert '<html lang="en">' in get("?lang=en")[1]
        assert get("")[0] == ""
        assert get("?lang=tlh")[0] == "?lang=tlh"
        assert '<html lang="en">' in get("?lang=tlh")[1]
        hints = json.loads(get("answer/spiral.program?lang=zh")[1])["hints"]
        assert all(CHINESE.search(hint) for hint in hints)
        body = json.dumps({"code": "x = 1"}).encode()
        asked = Request(f"{base}answer/spiral.1?lang=zh", body, {"content-type": "application/json"}, method="POST")
        with visitor.open(asked) as answer:
            assert CHINESE.search(json.loads(answer.read())["words"])
        halves = {"spiral.1": r'print("\ud800")', "spiral.2": 'x = "\ud800"'}  # of surrogate pairs, which UTF-8 has not
        for key, code in halves.items():
            body = json.dumps({"code": code}).encode()
            asked = Request(f"{base}answer/{key}", body, {"content-type": "application/json"}, method="POST")
            with visitor.open(asked) as answer:
                assert json.loads(answer.read())["right"] is False
            json.loads(get(f"answer/{key}")[1])["code"].encode()
        played = get("playground/?lang=zh")[1]
        assert '<html lang="zh-CN">' in played
        assert 'href="../?lang=zh"' in played
        held = json.loads(re.search(r'id="messages">(.*?)</script>', played)[1])
        with using("zh"):
            assert f"<h1>{tr('The playground')}</h1>" in played
            assert held["play"] == tr("play")
        models = json.loads(get("playground/models?lang=zh")[1])
        assert len(models) > 10
        assert all(CHINESE.search(model["about"]) for model in models)
        assert '<script type="application/json" id="messages">{}</script>' in get("playground/?lang=en")[1]


def test_the_teachers_page_is_in_chinese() -> None:
    with using("zh"):
        page = teacher.page()
        chinese = tr(NOTES["ddim"][0])
    assert '<html lang="zh-CN">' in page
    assert chinese in page
    shown = re.sub("<pre.*?</pre>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert [note for notes in NOTES.values() for note in notes if note in shown] == []
    assert [goal for planned in SYLLABUS.values() for goal in planned.goals if goal in shown] == []


def test_a_lesson_is_exported_in_chinese(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("anywidget")
    monkeypatch.setenv(languages.SETTING, "en")  # which the command sets, and which is put back afterwards
    assert main(["learn", "--export", "spiral", "--language", "zh", "--out", str(tmp_path)]) == 0
    assert main(["learn", "--export", "spiral", "--language", "zh", "--to", "ipynb", "--out", str(tmp_path)]) == 0
    page, book = ((tmp_path / f"spiral.{kind}").read_text(encoding="utf-8") for kind in ("html", "ipynb"))
    with using("zh"):
        title, task = tr(lesson("spiral").title), tr(exercise("spiral.2").title)
        option = tr("on every turn that the line cuts")
    assert '<html lang="zh-CN">' in page
    for words in (title, task, option, f"<title>{title}</title>"):
        assert words in page
    assert "Choose first" not in page
    assert "data-language" not in page  # there is no other file to lead to
    cells = ["".join(cell["source"]) for cell in json.loads(book)["cells"]]
    assert cells[0].endswith('notebook.here("zh")')
    assert any(cell.startswith(f"# {title}") for cell in cells)
    assert any(task in cell for cell in cells)


def test_a_server_starts_in_the_language_that_is_set(tmp_path: Path) -> None:
    with serving.served(tmp_path / "progress.json", SFUMATO_LANGUAGE="zh") as address:
        visitor = serving.visitor()
        with visitor.open(address) as answer:
            assert answer.geturl().endswith("/?lang=zh")
            assert '<html lang="zh-CN">' in answer.read().decode()
        base = address.partition("?")[0]
        with visitor.open(f"{base}?lang=en") as answer:
            assert '<html lang="en">' in answer.read().decode()
        with visitor.open(base) as answer:  # English was chosen, and is named since it is not the default
            assert answer.geturl().endswith("/?lang=en")
