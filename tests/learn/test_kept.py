"""What is kept of a learner: code, guesses, tries and successes, over restarts and damaged files; and over HTTP."""

from __future__ import annotations

import contextlib
import http.client
import json
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attacking
import pytest

from sfumato.learn import kept, progress
from sfumato.learn.answering import note, state
from sfumato.learn.catalogue import exercise
from sfumato.learn.exercises import TRIES
from sfumato.learn.workshop import WORKSHOP, Verdict

SIGMA = exercise("ddim.1")


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


def test_entries_are_kept_and_forgotten(own_progress: Path) -> None:
    assert kept.get("ddim", "code", "ddim.1") is None
    kept.put("ddim", "code", "ddim.1", "x = 1")
    kept.put("ddim", "guesses", "what?", "this")
    assert kept.location("ddim") == own_progress.with_name("progress-answers") / "ddim.json"
    assert kept.get("ddim", "code", "ddim.1") == "x = 1"
    kept.put("ddim", "code", "ddim.1", None)
    assert kept.get("ddim", "code", "ddim.1") is None
    assert kept.get("ddim", "guesses", "what?") == "this"
    with pytest.raises(ValueError, match="at most 65536"):
        kept.put("ddim", "code", "ddim.1", "x" * 65537)


def test_many_at_once_lose_nothing() -> None:
    threads = [threading.Thread(target=kept.put, args=("ddim", "code", str(n), "x")) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(json.loads(kept.location("ddim").read_text())["code"]) == 20


@pytest.mark.parametrize("damage", ["{ damaged", "[1, 2]", "\x00\x00"])
def test_damaged_files_are_set_aside_and_said(own_progress: Path, damage: str) -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import server

    progress.record("first", 1)
    kept.put("ddim", "code", "ddim.1", "x = 1")
    assert "set aside" not in server.catalogue_page()
    for path in (own_progress, kept.location("ddim")):
        path.write_text(damage)
    assert progress.solved() == {}
    assert state(SIGMA)["code"] == SIGMA.stub
    progress.record("again", 1)
    assert set(progress.solved()) == {"again"}
    aside = own_progress.with_suffix(".damaged")
    assert aside.read_text() == damage
    assert progress.damaged() == sorted([aside, kept.location("ddim").with_suffix(".damaged")])
    assert f"set aside as {aside}" in server.catalogue_page()
    own_progress.write_text("{ once more")
    assert progress.solved() == {}
    assert aside.read_text() == damage
    assert len(progress.damaged()) == 3


def test_the_solution_is_shown_after_success_or_enough_tries() -> None:
    wrong = Verdict(False, "no")
    note(SIGMA, SIGMA.stub, wrong)  # no try of one's own
    note(SIGMA, "x = 1", Verdict(False, "stopped", judged=False))
    for n in range(TRIES):
        assert (state(SIGMA)["tries"], state(SIGMA)["solution"]) == (n, None)
        note(SIGMA, f"x = {n}", wrong)
    assert state(SIGMA)["solution"] == SIGMA.solution
    other = exercise("ddim.2")
    assert state(other)["solution"] is None
    note(other, "x = 1", Verdict(True, "Right."))
    assert (state(other)["solved"], state(other)["solution"]) == (True, other.solution)
    assert other.done


def test_a_folder_that_cannot_be_written_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "file" / "progress.json"))
    assert "could not be noted" in note(SIGMA, SIGMA.solution, Verdict(True, "Right."))


def test_a_guess_is_kept(own_progress: Path) -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import story

    options = {"a": "Yes", "b": "No"}
    asked = story.predict("ddim", "Which?", options)
    assert asked.value is None
    asked._on_change("b")  # type: ignore[misc]
    assert story.predict("ddim", "Which?", options).value == "b"
    assert story.predict("ddim", "Which?", {"c": "other options now"}).value is None


def test_what_is_judged_of_a_quiz_card_is_kept(own_progress: Path) -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import story
    from sfumato.learn.languages import using

    cards = [("Why?", "Because."), ("How?", "So.")]
    first = story.quiz(cards, "ddim")
    assert isinstance(first, story.Cards)
    assert [judged.value for judged in first.judgements] == [None, None]
    first.judgements[1]._on_change("knew")  # type: ignore[misc]
    assert json.loads(kept.location("ddim").read_text())["quiz"] == {"How?": "knew"}
    again = story.quiz(cards, "ddim")
    assert isinstance(again, story.Cards)
    assert [judged.value for judged in again.judgements] == [None, "knew"]
    assert ("How? · I knew it" in again.text, "How? · I knew it" in first.text) == (True, False)
    assert "Why? ·" not in again.text
    again.judgements[1]._on_change("not yet")  # type: ignore[misc]
    with using("zh"):
        other = story.quiz(cards, "ddim")
    assert isinstance(other, story.Cards)
    assert other.judgements[1].value == "not yet"
    assert isinstance(story.quiz(cards, "noise"), story.Cards)
    assert not kept.location("noise").exists()
    kept.put("ddim", "quiz", "How?", "something else")
    damaged = story.quiz(cards, "ddim")
    assert isinstance(damaged, story.Cards)
    assert damaged.judgements[1].value is None


# ---------------------------------------------------------------- over HTTP


@pytest.fixture
def port(own_progress: Path) -> Iterator[int]:
    pytest.importorskip("marimo")
    from starlette.applications import Starlette
    from starlette.routing import Mount

    from sfumato.learn import answering, server
    from sfumato.learn.guard import Guarded

    listener = server.listen(0)
    number = listener.getsockname()[1]
    app = Guarded(Starlette(routes=[Mount("/answer", routes=answering.routes())]), attacking.TOKEN, number)
    with attacking.running(app, listener):
        yield number


def ask(port: int, method: str, body: Any = None, path: str = "/answer/ddim.1") -> tuple[int, Any]:
    text = None if body is None else json.dumps(body).encode()
    status, _, content = attacking.ask(port, path, method, text, Cookie=attacking.cookie(port))
    with contextlib.suppress(ValueError):
        return status, json.loads(content)
    return status, content.decode()


def test_a_page_keeps_checks_and_starts_over(port: int) -> None:
    assert ask(port, "GET")[1]["code"] == SIGMA.stub
    assert ask(port, "PUT", {"code": "x = 1"})[1]["code"] == "x = 1"
    assert ask(port, "GET")[1]["code"] == "x = 1"
    status, found = ask(port, "POST", {"code": SIGMA.solution})
    assert (status, found["right"], found["words"], found["solved"]) == (200, True, "Right.", True)
    assert ask(port, "GET")[1]["code"] == SIGMA.solution
    assert ask(port, "DELETE")[1]["code"] == SIGMA.stub
    assert progress.solved()["ddim.1"]["version"] == SIGMA.version


def test_what_is_no_answer_is_refused(port: int) -> None:
    assert ask(port, "GET", path="/answer/no.1")[0] == 404
    bodies: list[Any] = [{}, [], {"code": 3}, {"code": "x" * 70_000}]
    for body in bodies:
        assert ask(port, "PUT", body)[0] == 400
    assert attacking.ask(port, "/answer/ddim.1", "POST", b"{}")[0] == 403  # without the token


def test_a_page_that_is_left_ends_its_answer(port: int) -> None:
    ask(port, "POST", {"code": "x = 1"})
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    connection.request("POST", "/answer/ddim.1", json.dumps({"code": "while True:\n    pass"}),
                       {"Cookie": attacking.cookie(port)})  # fmt: skip
    time.sleep(0.5)
    (busy,) = [worker for worker in WORKSHOP.all if worker not in WORKSHOP.idle]
    connection.close()
    busy.process.wait(5)
    until = time.monotonic() + 5
    while busy in WORKSHOP.all and time.monotonic() < until:
        time.sleep(0.05)
    assert busy not in WORKSHOP.all
