"""Progress that is handed in: a signature that any change breaks, codes that are judged again, and a class as CSV."""

from __future__ import annotations

import csv
import hashlib
import hmac
import json
from pathlib import Path

import pytest

from sfumato.cli import main
from sfumato.learn import handed, kept, progress
from sfumato.learn.catalogue import lesson

KEY = b"a key that a teacher gives"


@pytest.fixture
def solved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two tasks are solved; the code of the second is wrong by now."""
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "progress.json"))
    first, second = lesson("ddim").exercises
    for task, code in ((first, first.solution), (second, second.stub)):
        progress.record(task.key, task.version)
        kept.put("ddim", "code", task.key, code)
    path = tmp_path / "in" / "ada.json"
    assert handed.hand_in(path, "Ada", KEY) == 2
    return path


def test_a_signature_is_hmac_sha256_of_the_canonical_text(solved: Path) -> None:
    body = json.loads(solved.read_text())
    said = body.pop("signature")
    text = json.dumps(body, sort_keys=True, separators=(",", ":"))
    assert said == hmac.new(KEY, text.encode(), hashlib.sha256).hexdigest()
    # RFC 4231's arithmetic by hand: H(key ^ opad, H(key ^ ipad, text))
    key = KEY.ljust(64, b"\0")
    inner = hashlib.sha256(bytes(k ^ 0x36 for k in key) + text.encode()).digest()
    assert said == hashlib.sha256(bytes(k ^ 0x5C for k in key) + inner).hexdigest()


def test_any_change_and_any_other_key_breaks_it(solved: Path) -> None:
    assert handed.read(solved, KEY).signature == "valid"
    assert handed.read(solved, KEY + b"x").signature != "valid"
    whole = json.loads(solved.read_text())
    for change in ({"learner": "Ben"}, {"at": "2020-01-01"}, {"tasks": {}}, {"more": 1}, {"signature": ""}):
        solved.write_text(json.dumps({**whole, **change}))
        assert handed.read(solved, KEY).signature != "valid", change
    for text in ("", "[]", "{}", "[" * 100_000, '{"tasks": 3}', "\ufeff"):
        solved.write_text(text)
        assert handed.read(solved, KEY).signature != "valid"


def test_a_class_is_read_into_a_table_and_answers_are_judged_again(solved: Path, tmp_path: Path) -> None:
    handed.hand_in(solved.with_name("formula.json"), "=1+1", KEY)
    (solved.parent / "torn.json").write_text("{")
    key = tmp_path / "class.key"
    key.write_bytes(KEY + b"\n")
    for judge, count in (((), "2"), (("--judge",), "1")):
        assert (
            main(["learn", "--read", str(solved.parent), "--class-key", str(key), "--out", str(tmp_path), *judge]) == 0
        )
        rows = list(csv.DictReader((tmp_path / "class.csv").open()))
        assert [row["learner"] for row in rows] == ["Ada", "'=1+1", ""]
        assert rows[0]["solved"] == count
        assert rows[0]["ddim.1"] == "1"
        assert rows[0]["ddim.2"] == ("0" if judge else "1")
        assert rows[2]["signature"] == "unreadable"


def test_a_key_is_made_once_and_wrong_use_is_one_line(
    tmp_path: Path, solved: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    key, out = tmp_path / "class.key", tmp_path / "out.json"
    assert main(["learn", "--new-class", str(key)]) == 0
    assert len(handed.key_of(key)) >= 32
    for words, line in (
        (["--new-class", str(key)], "there already"),
        (["--hand-in", str(out), "--name", "Ada"], "--class-key"),
        (["--hand-in", str(out), "--class-key", str(key)], "a name has"),
        (["--read", str(out), "--class-key", str(key)], "is none"),
        (["--learner", "../x", "--hand-in", str(out)], "--learner"),
    ):
        capsys.readouterr()
        assert main(["learn", *words]) == 2
        error = capsys.readouterr().err
        assert line in error
        assert error.count("\n") == 1
    assert not out.exists()
