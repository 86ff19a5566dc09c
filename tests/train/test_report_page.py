"""What report.html says can be done with a run: commands that this kind of model takes."""

from __future__ import annotations

import pytest

from sfumato.papers import to_json
from sfumato.papers.presets import SMALL
from sfumato.train.report import uses


@pytest.mark.parametrize(
    ("preset", "data", "said"),
    [
        ("ddpm/digits", "digits", ["sfumato sample RUN -n 64 --seed 0", "sfumato sample RUN -n 16 --animation"]),
        ("consistency/digits", "digits", ["sfumato sample RUN -n 64 --seed 0", "sfumato sample RUN -n 16 --animation"]),
        ("adm_classifier/digits", "digits", ["sfumato sample MODEL --classifier RUN"]),
        ("autoencoder/digits", "digits", ['sfumato train PRESET --recipe.space "latents?of=RUN"']),
    ],
)
def test_the_commands_are_of_what_the_run_trained(preset: str, data: str, said: list[str]) -> None:
    assert uses("RUN", {"recipe": to_json(SMALL[preset].recipe), "data": data}) == said


@pytest.mark.parametrize(
    ("preset", "data", "option"),
    [
        ("iddpm/fashion-upsampler", "fashion", "--low-res"),
        ("ddpm/fashion-fill", "fashion", "--originals"),
        ("ddpm/fashion-fill", "pair:a|b", "--inputs"),
    ],
)
def test_a_model_of_pictures_is_given_some(preset: str, data: str, option: str) -> None:
    found = uses("RUN", {"recipe": to_json(SMALL[preset].recipe), "data": data})
    assert len(found) == 2
    assert all(f"sfumato sample RUN {option} IMAGES " in line for line in found)


def test_of_a_recipe_of_ones_own_nothing_is_said() -> None:
    assert uses("RUN", {"recipe": {"paper": "mine"}, "data": "digits"}) == []
