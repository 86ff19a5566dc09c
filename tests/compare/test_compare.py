"""The comparison: who takes part, one model from training to its row, and tables that say what the results say."""

from __future__ import annotations

import json
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from sfumato.cli import main
from sfumato.cli.train import train_command
from sfumato.compare import report, runner
from sfumato.compare.entries import NUMBERS, entries, presets
from sfumato.papers.presets import PRESETS
from sfumato.samplers import by_name, evaluations

RESULTS = sorted((Path(runner.__file__).parent / "results").glob("*.json"))


def test_every_paper_takes_part_on_fashion() -> None:
    every = entries("fashion")
    papers = {one.preset.split("/")[0] for one in every}
    assert papers >= {"ncsn", "ncsnv2", "ddpm", "iddpm", "score_sde", "adm"}
    assert len({one.name for one in every}) == len(every)
    assert {one.how for one in every if one.preset == "ddpm/fashion"} == {"ancestral", "DDIM"}
    assert "adm_classifier/fashion" in presets("fashion")
    assert all(PRESETS[name].data.startswith("fashion") for name in presets("fashion"))
    names = [one.name for one in entries("fashion", "heun?churn=5")]
    assert "ncsn/fashion, heun?churn=5" in names
    assert not any(one.name == "score_sde/fashion, heun" for one in entries("fashion", "heun"))  # it is there already
    with pytest.raises(ValueError, match="no presets of all papers for 'cheese'"):
        entries("cheese")


def test_one_model_from_training_to_its_row(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(runner, "HELD_OUT", 4)
    monkeypatch.setattr(runner, "bound_of", partial(runner.bound_of, steps=20))
    monkeypatch.setattr(runner, "training_cost", partial(runner.training_cost, few=32, many=96))
    said: list[str] = []
    comparison = runner.Comparison("digits", tmp_path / "runs", tmp_path / "digits.json", train_command, 256,
                                      numbers=(5, 20), pictures=12, say=said.append)  # fmt: skip
    comparison.train("ncsn/digits")
    comparison.train("ddpm/digits")
    comparison.score("ddpm/digits")
    comparison.score("ncsn/digits")
    comparison.score("ddpm/digits, dpmpp-2m", sampler="dpmpp-2m")
    found = json.loads((tmp_path / "digits.json").read_text())
    facts = found["models"]["ddpm/digits"]["0"]
    assert facts["images"] == 256
    assert 0 < facts["bound"]["bits"] < 20
    assert "refused" in found["models"]["ncsn/digits"]["0"]["bound"]
    row = found["scores"]["ddpm/digits, DDIM"]["20"]["0"]
    assert row["evaluations"] == 20
    assert row["frechet"] > row["floor"] >= 0
    assert 0 < facts["ode"]["bits"] < 20
    assert "refused" in found["models"]["ncsn/digits"]["0"]["ode"]
    assert found["scores"]["ddpm/digits, dpmpp-2m"]["20"]["0"]["evaluations"] == 20
    before = len(said)
    comparison.train("ddpm/digits")
    comparison.score("ddpm/digits")
    assert len(said) == before  # nothing is done twice
    swift = replace(comparison, results=tmp_path / "swift.json", numbers=(5,), likelihood=False, say=[].append)
    swift.score("ddpm/digits")
    assert not {"bound", "ode"} & set(swift.found()["models"]["ddpm/digits"]["0"])
    assert any("| - | - |" in line for line in report.tables(swift.found()))
    other = replace(comparison, images=512)
    with pytest.raises(ValueError, match=r"digits.json is of 256 images, not of 512: name other --runs"):
        other.train("ddpm/digits")
    other = replace(other, results=tmp_path / "other.json")
    with pytest.raises(ValueError, match=r"runs/digits/ncsn-digits is of 256 images"):
        other.train("ddpm/digits")
    assert len(said) == before
    table = "\n\n".join(report.tables(found))
    assert f"{row['frechet']:.2f}" in table
    assert "evaluations | 5 | 20 |" in table
    rows = [line.split(" |")[0] for line in table.splitlines() if line.startswith("| ddpm/digits, ")]
    assert rows[:3] == ["| ddpm/digits, ancestral", "| ddpm/digits, DDIM", "| ddpm/digits, dpmpp-2m"]
    assert "| pictures scored | 12 | 12 |" in table
    capsys.readouterr()
    assert (
        main(["compare", "digits", "--results", str(tmp_path / "digits.json"), "--plot", str(tmp_path / "p.png")]) == 0
    )
    assert capsys.readouterr().out.strip() == table.strip()
    assert (tmp_path / "p.png").read_bytes().startswith(b"\x89PNG")


def test_a_guided_row_counts_both_passes_without_a_classifier() -> None:
    """Classifier-free guidance asks the network twice a step, and the steps are halved for it."""
    free = next(one for one in entries("fashion") if "classifier-free" in one.how)
    assert free.steps(100) == 50
    assert free.steps(1) == 0


def test_a_row_of_heun_has_the_evaluations_that_it_says() -> None:
    """Its last step is one of Euler's, so n steps cost 2 n - 1."""
    heun = next(one for one in entries("fashion") if one.how == "ODE by Heun")
    process = PRESETS[heun.preset].recipe.build().gaussian
    for number in (5, 10, 20, 100):
        cost = evaluations(by_name(heun.sampler), process, heun.steps(number))
        assert number - 1 <= cost <= number


@pytest.mark.parametrize("path", RESULTS, ids=lambda path: path.stem)
def test_what_ships_can_be_told(path: Path) -> None:
    found: dict[str, Any] = json.loads(path.read_text())
    models, by_evaluations, _ = report.tables(found)
    assert len(models.splitlines()) > 5
    numbers = [int(cell) for cell in by_evaluations.splitlines()[0].split("|")[2:-1]]
    assert set(numbers) <= set(NUMBERS)
    assert 100 in numbers
    page = (Path(__file__).parents[2] / "docs" / "comparison.md").read_text("utf-8")
    for table in report.tables(found):
        assert table in page, "docs/comparison.md says something else than the stored results: run make comparison"


def test_what_is_not_there_is_said(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["compare", "cheese"]) == 2
    assert "there are for" in capsys.readouterr().err
    assert main(["compare", "fashion", "--results", str(tmp_path / "none.json")]) == 2
    assert "make one with --run" in capsys.readouterr().err
    assert main(["compare", "fashion", "--images", "7k"]) == 2
    assert "no comparison on fashion with 7k images is stored; there are 100,000" in capsys.readouterr().err
    assert main(["compare", "fashion", "--images", "100k"]) == 0
    assert "| 100,032 |" in capsys.readouterr().out
    assert main(["compare", "fashion", "--run", "--seeds", "0"]) == 2
    assert main(["compare", "fashion", "--run", "--evaluations", "7"]) == 2
    assert "evaluations are among 5, 10" in capsys.readouterr().err
