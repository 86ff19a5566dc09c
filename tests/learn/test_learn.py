"""The learning path: every lesson runs head to tail, every check accepts its solution and refuses its stub."""

from __future__ import annotations

import ast
import inspect
import re
from importlib import import_module
from pathlib import Path
from pkgutil import resolve_name
from types import SimpleNamespace

import pytest
import serving

from sfumato.learn.catalogue import CATALOGUE, Lesson
from sfumato.learn.exercises import Exercise
from sfumato.learn.workshop import WORKSHOP

EXERCISES = [task for lesson in CATALOGUE for task in lesson.tasks]
every_lesson = pytest.mark.parametrize("lesson", CATALOGUE, ids=lambda lesson: lesson.name)


@pytest.fixture(autouse=True)
def own_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SFUMATO_PROGRESS", str(tmp_path / "progress.json"))
    return tmp_path / "progress.json"


# ---------------------------------------------------------------- exercises and progress


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda e: e.key)
def test_a_check_accepts_the_solution_and_refuses_the_stub(exercise: Exercise) -> None:
    assert WORKSHOP.judge(exercise, exercise.solution).words == "Right."
    stub = WORKSHOP.judge(exercise, exercise.stub)
    assert not stub.right
    assert len(stub.words) > 20  # a hint, not a shrug
    assert not WORKSHOP.judge(exercise, "raise SystemError('no')").right
    assert not WORKSHOP.judge(exercise, "def (").right
    assert "define a function" in WORKSHOP.judge(exercise, "x = 1").words


# ---------------------------------------------------------------- lessons


def test_the_path_is_in_order_and_every_key_is_its_own() -> None:
    numbers = [lesson.number for lesson in CATALOGUE]
    assert numbers == list(range(len(CATALOGUE)))
    assert len({exercise.key for exercise in EXERCISES}) == len(EXERCISES)


@pytest.mark.parametrize(
    "name",
    [pytest.param(known.name, marks=pytest.mark.slow if known.name in serving.LONG else ()) for known in CATALOGUE],
)
def test_a_lesson_runs_with_its_controls_swept(name: str) -> None:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    app = import_module(f"sfumato.learn.lessons.{name}").app
    outputs, definitions = app.run()
    assert len([o for o in outputs if o is not None]) > 10
    sliders = {name: e for name, e in definitions.items() if type(e).__name__ == "slider"}
    assert sliders
    for end in ("start", "stop"):
        app.run(defs={name: SimpleNamespace(value=getattr(e, end)) for name, e in sliders.items()})


@pytest.mark.slow
@every_lesson
def test_what_a_lesson_says_of_its_figures_holds(lesson: Lesson, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the controls as they stand at first, and once a guess is made."""
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    from sfumato.learn import story

    said: list[tuple[bool, str]] = []

    def measured(holds: bool, sentence: str, otherwise: str) -> str:
        said.append((bool(holds), sentence))
        return sentence if holds else otherwise

    monkeypatch.setattr(story, "measured", measured)
    app = import_module(f"sfumato.learn.lessons.{lesson.name}").app
    _, definitions = app.run()
    guesses = definitions["guesses"]
    app.run(defs={"guess": SimpleNamespace(value=next(iter(guesses))), "guesses": guesses})
    assert said
    assert [sentence for holds, sentence in said if not holds] == []


@every_lesson
def test_a_lesson_tells_a_story_and_computes_nothing_of_its_own(lesson: Lesson) -> None:
    text = lesson.path.read_text()
    for wanted in ("story.predict", "story.notation", "story.source", "story.quiz", "story.exercise", "Read on"):
        assert wanted in text, f"{lesson.name} lacks {wanted}"
    tree = ast.parse(text)
    assert not [n for n in ast.walk(tree) if isinstance(n, ast.ClassDef)]
    assert ("story.program" in text) == (lesson.program is not None)
    assert [e.key for e in lesson.exercises] == [f"{lesson.name}.{n + 1}" for n in range(len(lesson.exercises))]


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
    states[2, 3, 1] = 2.1  # outside: not drawn, rather than drawn on the edge
    (run,) = Scrubber.of({"run": states}, reach=2.0).runs
    coded = np.frombuffer(base64.b64decode(run["bytes"]), np.int16).reshape(5, 7, 2)
    assert (coded[2, 3] == -32768).all()
    assert (coded == -32768).sum() == 2


def test_source_is_the_librarys_own() -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import story
    from sfumato.samplers.ddim import DDIMStep, coefficients

    shown = story.source(DDIMStep.__call__, "eq").text
    assert "of_eps" in shown
    assert "sfumato.samplers.ddim" in shown
    assert "of_eps" in inspect.getsource(DDIMStep.__call__)
    shown = story.source(coefficients, "eq").text
    assert "sigma_s" in shown
    assert "sfumato.samplers.ddim.coefficients" in shown


def test_a_film_carries_its_pixels_exactly() -> None:
    pytest.importorskip("anywidget")
    import base64

    import torch

    from sfumato.learn.widgets import Frames

    film = torch.randint(0, 256, (4, 3, 5, 6), dtype=torch.uint8)
    (run,) = Frames.of({"run": film}).runs
    back = torch.frombuffer(bytearray(base64.b64decode(run["bytes"])), dtype=torch.uint8).reshape(4, 5, 6, 3)
    assert torch.equal(back.permute(0, 3, 1, 2), film)
    with pytest.raises(ValueError, match="uint8"):
        Frames.of({"run": film.float()})


def test_a_field_carries_what_its_denoiser_predicts_and_refuses_scaled_levels() -> None:
    pytest.importorskip("anywidget")
    import base64

    import numpy as np
    import torch

    from sfumato.claims.toys import linear, ring
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.schedules import from_sigmas
    from sfumato.learn.widgets import Field

    process = GaussianDiffusion(from_sigmas(torch.tensor([0.3, 1.0], dtype=torch.float64)))
    denoise = ring().denoise(process)
    widget = Field.of(denoise, torch.tensor([1, 2]), torch.zeros(3, 2), cells=5)
    predicted = np.frombuffer(base64.b64decode(widget.predictions), np.int16).reshape(2, 5, 5, 2) / 32767 * 2
    corner = denoise(torch.tensor([[2.0, -1.0]], dtype=torch.float64), torch.tensor(2)).x0[0].numpy()
    assert np.abs(predicted[1, 1, 4] - corner).max() < 1e-3  # row 1 is y = -1, column 4 is x = 2
    assert widget.sigmas == pytest.approx([0.3, 1.0])
    with pytest.raises(ValueError, match="from_sigmas"):
        Field.of(ring().denoise(linear()), torch.tensor([5]), torch.zeros(3, 2))


def test_a_drawn_schedule_makes_betas() -> None:
    """Whatever is drawn: straight between the handles, always falling, and never without signal."""
    pytest.importorskip("anywidget")
    import torch

    from sfumato.core.betas import betas_from_alpha_bar
    from sfumato.core.schedules import from_betas
    from sfumato.learn.widgets import ScheduleCurve

    for heights in ([0.999, 0.5, 0.001], [0.9, 0.9, 0.9], [0.2, 0.8, 0.1], [1.0, 0.0]):
        alpha_bar = ScheduleCurve.alpha_bar(heights, 100)
        assert alpha_bar.shape == (101,)
        table = from_betas(betas_from_alpha_bar(alpha_bar))  # which refuses betas outside (0, 1]
        assert bool((table.log_snr(torch.arange(1, 101)).diff() < 0).all())
    straight = ScheduleCurve.alpha_bar([0.9, 0.5, 0.1], 4)
    torch.testing.assert_close(
        straight, torch.tensor([0.9, 0.7, 0.5, 0.3, 0.1], dtype=torch.float64), atol=2e-6, rtol=0
    )


def test_a_brush_says_what_is_still_known() -> None:
    pytest.importorskip("anywidget")
    import torch

    from sfumato.learn.widgets import Brush

    known = torch.ones(5, 5, dtype=torch.bool)
    known[1:3, 2:] = False
    brush = Brush.of(torch.zeros(3, 5, 5, dtype=torch.uint8), known)
    assert torch.equal(Brush.known(brush.hole, brush.side), known)
    with pytest.raises(ValueError, match="uint8"):
        Brush.of(torch.zeros(3, 5, 4, dtype=torch.uint8), known)


def test_a_training_is_followed_to_its_end(tmp_path: Path) -> None:
    pytest.importorskip("anywidget")
    import base64

    from sfumato.learn.widgets import Live

    live = Live()
    few = ["--train.images", "256", "--train.threads", "1", "--train.log-every", "0.25", "--train.preview-steps", "2"]
    live.follow(["ddpm/digits", *few], tmp_path / "run")
    assert live.losses[-1][0] == 256
    assert all(loss > 0 for _, loss in live.losses)
    assert base64.b64decode(live.picture).startswith(b"\x89PNG")
    assert live.words.startswith("256 images in ")
    with pytest.raises(ValueError, match="unknown preset"):
        live.follow(["no/such"], tmp_path / "other")


# ---------------------------------------------------------------- links and pages of reference


@every_lesson
def test_a_lesson_leads_to_its_neighbours_its_papers_and_its_code(lesson: Lesson) -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import story
    from sfumato.learn.catalogue import code

    shown = story.links(lesson.name).text
    addresses = re.findall(r'href="([^"]*)"', shown)
    near = [f"/lesson/{CATALOGUE[n].name}/" for n in (lesson.number - 1, lesson.number + 1) if 0 <= n < len(CATALOGUE)]
    assert [address for address in addresses if address.startswith("/lesson/")] == near
    assert addresses[0] == "/"
    for path in lesson.code:
        assert f"/code/{path}" in addresses
        assert (code(path) or "").startswith('"""')
    for title, number in lesson.papers:
        outside = f'<a href="https://arxiv.org/abs/{number}" target="_blank" rel="noopener noreferrer">'
        assert f"{outside}{title}, arXiv {number}</a>" in shown
    assert lesson.path.read_text().count(f'story.links("{lesson.name}")') == 2


def test_an_editor_says_how_the_keyboard_leaves_it() -> None:
    from sfumato.learn import server

    assert "Escape, then Tab" in (server.WIDGETS / "answer.js").read_text()


@pytest.mark.parametrize("path", ["learn/server.py", "../README.md", "core/../core/ode.py", "/etc/hostname", ""])
def test_code_that_no_lesson_links_to_is_not_served(path: str) -> None:
    from sfumato.learn.catalogue import code

    assert code(path) is None


def test_a_derivation_is_folded_under_its_title() -> None:
    pytest.importorskip("marimo")
    from sfumato.learn import derivations, story

    shown = story.derivations("ddpm").text
    assert shown.count("<details") == shown.count("</details>") == len(derivations.of("ddpm")) > 4
    assert 'class="sf-derivation" id="ddpm-marginal"' in shown
    assert "<em>(DDPM, eq. 2 and 4)</em></summary>" in shown
    assert "/// details" not in shown


def test_every_formula_names_code_and_a_derivation_that_there_is() -> None:
    from sfumato.learn import derivations
    from sfumato.learn.reference import formulas

    known = {derivation.key for lesson in CATALOGUE for derivation in derivations.of(lesson.name)}
    rows = [row for section in formulas.SECTIONS.values() for row in section]
    assert len(rows) >= 40
    for row in rows:
        assert row.derived in known, row.what
        assert resolve_name(f"sfumato.{row.code}"), row.code


def test_the_pages_of_reference_are_as_docs_hold_them() -> None:
    """`python scripts/write_reference.py` writes them; tables have as many cells in every row."""
    from sfumato.learn.reference import formulas, glossary

    docs = Path(__file__).parents[2] / "docs"
    for name, page in (("formulas", formulas.page), ("glossary", glossary.page)):
        assert (docs / f"{name}.md").read_text(encoding="utf-8") == page(lessons=False)
        for text in (page(lessons=False), page()):
            rows = [line for line in text.splitlines() if line.startswith("|")]
            assert len({row.count("|") for row in rows}) == 1
            assert text.count("$") % 2 == 0
    words = [term.word.lower().replace("é", "e") for term in glossary.TERMS]
    assert words == sorted(words)
    assert len(set(words)) == len(words)
    for term in glossary.TERMS:
        assert term.lesson in {lesson.name for lesson in CATALOGUE}


@pytest.mark.slow
def test_all_papers_sample_in_the_first_lesson() -> None:
    pytest.importorskip("marimo")
    pytest.importorskip("anywidget")
    from sfumato.learn.lessons.first_picture import app

    _, definitions = app.run(defs={"go": SimpleNamespace(value=True)})
    runs = definitions["papers"].widget.runs
    assert [run["name"] for run in runs][:2] == ["DPM, 2015", "NCSN, 2019"]
    assert len(runs) == 9
    assert all(run["states"] == 41 for run in runs)
