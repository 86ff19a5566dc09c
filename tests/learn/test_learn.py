"""The learning path: every lesson runs head to tail, every check accepts its solution and refuses its stub, the server
lets in only who brings the token, and a real browser meets no other machine."""

from __future__ import annotations

import ast
import inspect
import shutil
import socket
import threading
import time
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import urlopen

import pytest

from sfumato.cli import main
from sfumato.learn import ddim_exercises, progress
from sfumato.learn.exercises import Exercise

EXERCISES = ddim_exercises.EXERCISES


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


# ---------------------------------------------------------------- exercises and progress


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.key)
def test_a_check_accepts_the_solution_and_refuses_the_stub(exercise: Exercise) -> None:
    assert exercise.judge(exercise.solution) == (True, "Right.")
    right, words = exercise.judge(exercise.stub)
    assert not right
    assert len(words) > 20  # a hint, not a shrug
    assert not exercise.judge("raise SystemError('no')")[0]
    assert not exercise.judge("def (")[0]
    assert "define a function" in exercise.judge("x = 1")[1]


def test_progress_is_kept_and_nothing_of_it_lost(own_progress: Path) -> None:
    first = EXERCISES[0]
    assert not first.done
    first.judge(first.stub, keep=True)
    assert not own_progress.exists()
    first.judge(first.solution, keep=True)
    assert first.done
    progress.record("other", 3)
    assert set(progress.solved()) == {first.key, "other"}
    own_progress.write_text("{ damaged")
    assert progress.solved() == {}
    progress.record("again", 1)
    assert set(progress.solved()) == {"again"}
    assert own_progress.with_suffix(".damaged").read_text() == "{ damaged"


# ---------------------------------------------------------------- lessons


def lessons() -> list[Any]:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    from sfumato.learn import server

    return list(server.CATALOGUE)


def test_every_lesson_runs_with_its_controls_swept() -> None:
    for lesson in lessons():
        app = import_module(f"sfumato.learn.lessons.{lesson.name}").app
        outputs, definitions = app.run()
        assert len([o for o in outputs if o is not None]) > 10
        assert lesson.path.is_file()
        sliders = {name: e for name, e in definitions.items() if type(e).__name__ == "slider"}
        assert sliders
        for end in ("start", "stop"):
            app.run(defs={name: SimpleNamespace(value=getattr(e, end)) for name, e in sliders.items()})


def test_lessons_tell_a_story_and_compute_nothing_of_their_own() -> None:
    for lesson in lessons():
        text = lesson.path.read_text()
        for wanted in ("story.predict", "story.notation", "story.source", "story.quiz", "story.task", "Read on"):
            assert wanted in text, f"{lesson.name} lacks {wanted}"
        tree = ast.parse(text)
        assert not [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
        assert set(lesson.exercises) == {e.key for e in EXERCISES if e.key.startswith(lesson.name)}


def test_a_widget_carries_its_points_to_a_thousandth() -> None:
    pytest.importorskip("anywidget")
    import base64

    import numpy as np
    import torch

    from sfumato.learn.widgets import Scrubber

    states = torch.randn(5, 7, 2).clamp(-1.9, 1.9)
    widget = Scrubber.of({"run": states}, reach=2.0)
    (run,) = widget.runs
    back = np.frombuffer(base64.b64decode(run["bytes"]), np.int16).reshape(5, 7, 2) / 32767 * 2
    assert np.abs(back - states.numpy()).max() < 1e-3
    assert (run["states"], run["points"]) == (5, 7)


def test_source_is_the_librarys_own() -> None:
    pytest.importorskip("marimo")
    from sfumato.core.kernels import DDIM
    from sfumato.learn import story

    shown = story.source(DDIM.__call__, "eq").text
    assert "of_eps" in shown
    assert "sfumato.core.kernels" in shown
    assert "sigma_s" in inspect.getsource(DDIM.__call__)


# ---------------------------------------------------------------- the server


@pytest.fixture(scope="module")
def served() -> Iterator[str]:
    """The server on a free port; yields its address with the token."""
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    import uvicorn

    from sfumato.learn import server

    port = server.free_port(0)
    app, token = server.make_app()
    running = uvicorn.Server(uvicorn.Config(app, host="127.0.0.1", port=port, log_level="warning"))
    thread = threading.Thread(target=running.run, daemon=True)
    thread.start()
    for _ in range(200):
        if running.started:
            break
        time.sleep(0.05)
    yield f"http://127.0.0.1:{port}/?token={token}"
    running.should_exit = True
    thread.join(10)


def test_only_who_brings_the_token_comes_in(served: str) -> None:
    assert "The learning path" in urlopen(served).read().decode()
    base = served.partition("?")[0]
    for address in (base, f"{base}?token=wrong", f"{base}lesson/ddim/"):
        with pytest.raises(HTTPError, match="403"):
            urlopen(address)


def test_the_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("marimo")
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        for arguments, words in [
            (["learn", "--port", str(port)], "is in use"),
            (["learn", "alchemy"], "no lesson is called 'alchemy'"),
            (["learn", "--port", "-1"], "between 0 and 65535"),
        ]:
            assert main(arguments) == 2
            assert words in capsys.readouterr().err
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    assert main(["learn"]) == 2
    assert 'pip install "sfumato[learn]"' in capsys.readouterr().err


CHROMIUM = shutil.which("chromium")


@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed (Debian: chromium)")
@pytest.mark.parametrize("width", [390, 1280])
def test_a_lesson_in_a_real_browser(served: str, width: int, own_progress: Path) -> None:
    sync_api = pytest.importorskip("playwright.sync_api")
    outside: list[str] = []
    errors: list[str] = []
    with sync_api.sync_playwright() as driver:
        browser = driver.chromium.launch(
            executable_path=CHROMIUM, args=["--no-sandbox", "--disable-background-networking"]
        )
        page = browser.new_page(viewport={"width": width, "height": 900})

        def route(request: Any) -> None:
            host = urlparse(request.request.url).hostname
            if host in (None, "127.0.0.1") or request.request.url.startswith(("data:", "blob:")):
                request.continue_()
            else:
                outside.append(request.request.url)
                request.abort()

        page.route("**/*", route)
        page.on("console", lambda m: errors.append(m.text) if m.type == "error" else None)
        page.on("pageerror", lambda e: errors.append(str(e)))
        page.goto(served)
        page.get_by_text("DDIM: the same pictures").click()
        page.get_by_text("Move the slider").wait_for(timeout=90_000)
        slider = page.locator(".sf-scrub input").first
        slider.wait_for(timeout=90_000)
        page.locator(".katex").first.wait_for(timeout=30_000)  # mathematics is rendered
        caption = page.locator(".sf-scrub figcaption").first
        before = caption.inner_text()
        slider.focus()
        for _ in range(30):
            page.keyboard.press("ArrowRight")
        assert caption.inner_text() != before
        right = page.evaluate("document.documentElement.scrollWidth")
        assert right <= width + 1, f"the page is {right} wide in a window of {width}"
        page.get_by_text("nearly the same picture").click()
        page.get_by_text("This is section 5.2").wait_for(timeout=60_000)
        editor = page.locator(".cm-content").first
        button = page.get_by_role("button", name="Check ddim.1")
        button.click()
        page.get_by_text("with eta 1 this is DDPM").wait_for(timeout=30_000)
        editor.click()
        page.keyboard.press("Control+A")
        page.keyboard.press("Delete")
        page.keyboard.insert_text(EXERCISES[0].solution)
        page.wait_for_timeout(1500)
        button.click()
        page.get_by_text("Right.").wait_for(timeout=30_000)
        page.screenshot(path=str(own_progress.with_name(f"lesson-{width}.png")), full_page=True)
        browser.close()
    assert not outside
    assert not errors
    assert EXERCISES[0].done
