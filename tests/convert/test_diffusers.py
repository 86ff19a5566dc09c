"""diffusers' configurations: the published one is read, and whatever would change an output or a step is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.convert import diffusers, foreign
from sfumato.convert.files import ForeignError
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM

CIFAR10: dict[str, Any] = {
    "_class_name": "UNet2DModel", "_diffusers_version": "0.0.4", "act_fn": "silu", "attention_head_dim": None,
    "block_out_channels": [128, 256, 256, 256], "center_input_sample": False,
    "down_block_types": ["DownBlock2D", "AttnDownBlock2D", "DownBlock2D", "DownBlock2D"], "downsample_padding": 0,
    "flip_sin_to_cos": False, "freq_shift": 1, "in_channels": 3, "layers_per_block": 2, "mid_block_scale_factor": 1,
    "norm_eps": 1e-06, "norm_num_groups": 32, "out_channels": 3, "sample_size": 32, "time_embedding_type": "positional",
    "up_block_types": ["UpBlock2D", "UpBlock2D", "AttnUpBlock2D", "UpBlock2D"],
}  # fmt: skip
"""What a DDPM of 32x32 images says in the library's first versions."""
LEVELS: dict[str, Any] = {
    "_class_name": "DDPMScheduler", "beta_end": 0.02, "beta_schedule": "linear", "beta_start": 0.0001,
    "clip_sample": True, "num_train_timesteps": 1000, "trained_betas": None, "variance_type": "fixed_large",
}  # fmt: skip


def test_the_first_versions_are_ddpm_on_cifar10() -> None:
    fields = diffusers.recipe_fields(CIFAR10) | diffusers.schedule_fields(LEVELS)
    assert DDPM(**fields) == DDPM(network=HoUNet(dropout=0.0))


def test_old_names_in_attention() -> None:
    with torch.device("meta"):
        names = [key.official for key in diffusers.keys(DDPM().model())]
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    for name in names:
        was = name
        for new, before in old.items():
            was = was.replace(f".{new}.", f".{before}.")
        assert diffusers._renamed(was) == name


@pytest.mark.parametrize(
    "change",
    [
        {"attn_norm_num_groups": 16},
        {"class_embed_type": "identity"},
        {"class_embed_type": "timestep"},
        {"mid_block_type": None},
        {"block_out_channels": [128, 256, 256]},
        {"time_embedding_type": "fourier"},
        {"downsample_type": "resnet"},
    ],
)
def test_what_makes_another_network_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ForeignError, match="not DDPM's network"):
        diffusers.recipe_fields({**CIFAR10, **change})


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"thresholding": True}, "thresholding is True"),
        ({"rescale_betas_zero_snr": True}, "rescale_betas_zero_snr"),
        ({"clip_sample_range": 2.0}, "clip_sample_range is 2.0"),
        ({"trained_betas": [0.1, 0.2]}, "betas of its own"),
        ({"beta_end": 0.012}, "from 0.0001 to 0.012"),
        ({"beta_schedule": "scaled_linear"}, "scaled_linear"),
        ({"variance_type": "learned_range"}, "learned_range"),
        ({"prediction_type": "flow"}, "flow"),
    ],
)
def test_what_makes_another_step_is_refused(change: dict[str, Any], words: str) -> None:
    with pytest.raises(ForeignError, match=words):
        diffusers.schedule_fields({**LEVELS, **change})


def test_levels_without_betas_are_refused() -> None:
    with pytest.raises(ForeignError, match="noise levels of ScoreSdeVeScheduler are no table of betas"):
        diffusers.schedule_fields({"_class_name": "ScoreSdeVeScheduler", "num_train_timesteps": 2000, "snr": 0.15})


@pytest.mark.parametrize("change", [{"block_out_channels": None}, {"down_block_types": 3}, {"in_channels": ...}])
def test_a_broken_configuration_is_one_clear_line(change: dict[str, Any], tmp_path: Path) -> None:
    config = {name: value for name, value in {**CIFAR10, **change}.items() if value is not ...}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / diffusers.WEIGHTS[0]).write_bytes(b"")
    with pytest.raises(ForeignError, match=r"config.json is no whole configuration"):
        foreign.open_folder(tmp_path)


@pytest.mark.parametrize(
    ("choices", "words"),
    [({"betas": "foo"}, "betas is one of"), ({"steps": 0}, "whole number"), ({"heads": 2}, "unknown choice 'heads'")],
)
def test_choices_are_checked(choices: dict[str, Any], words: str, tmp_path: Path) -> None:
    with pytest.raises(ForeignError, match=words):
        foreign.open_folder(written(tmp_path), choices)


def written(folder: Path) -> Path:
    """A tiny pipeline."""
    recipe = DDPM((3, 16, 16), HoUNet(channels=32, multipliers=(1, 2), blocks=1))
    foreign.save_folder(recipe, recipe.model(), folder)
    return folder


@pytest.mark.parametrize("name", ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_other_samplers_on_the_same_levels_are_read(name: str, tmp_path: Path) -> None:
    theirs = pytest.importorskip("diffusers")
    getattr(theirs, name)().save_pretrained(written(tmp_path) / "scheduler")
    recipe = foreign.open_folder(tmp_path).recipe
    assert isinstance(recipe, DDPM)
    assert (recipe.steps, recipe.betas, recipe.prediction) == (1000, "linear", "eps")
