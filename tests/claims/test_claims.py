"""Every claim at its fast setting, and the judging of claims itself."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from sfumato.claims import CLAIMS, Claim, Measured, judge
from sfumato.cli import main


@pytest.mark.parametrize("name", CLAIMS)
def test_a_claim_comes_out_as_recorded(name: str) -> None:
    verdict = judge(CLAIMS[name], fast=True)
    assert verdict.as_expected, "\n".join(verdict.lines())
    assert set(CLAIMS[name].bounds) <= set(verdict.measured[0].values)


def test_claims_are_named_after_their_paper_and_say_where_it_stands() -> None:
    for name, claim in CLAIMS.items():
        assert name == claim.name
        assert name.count("/") == 1
        assert "section" in claim.source or "figure" in claim.source
        assert claim.holds or claim.note  # what does not hold says why


def test_a_verdict_needs_every_bound() -> None:
    def run(seed: int, fast: bool) -> Measured:
        return Measured({"a": float(seed), "b": 5.0})

    def claim(**bounds: tuple[float, float]) -> Claim:
        return Claim("x/y", "figure 1", "numbers are numbers", run, bounds, seeds=3)

    assert judge(claim(a=(0.9, 1.1))).holds  # the mean of 0, 1, 2
    assert not judge(claim(a=(0.9, 1.1), b=(0, 4))).holds
    verdict = judge(claim(a=(2, 3)), seeds=1)
    assert not verdict.holds
    assert not verdict.as_expected
    assert "does not hold" in verdict.lines()[-1]
    assert judge(claim(a=(0, 9))).spread("a") == 1


def test_reproduce_from_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["reproduce"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in CLAIMS)
    assert main(["reproduce", "ddim/inversion", "--fast", "--seeds", "1", "--out", str(tmp_path / "r.json")]) == 0
    assert "holds at this scale" in capsys.readouterr().out
    (record,) = json.loads((tmp_path / "r.json").read_text())
    assert record["holds"]
    for wrong, words in ((["ddim/inversoin"], "did you mean ddim/inversion"), (["ddim", "--seeds", "0"], "--seeds")):
        assert main(["reproduce", *wrong]) == 2
        assert words in capsys.readouterr().err
