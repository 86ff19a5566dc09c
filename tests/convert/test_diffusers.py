"""diffusers' configurations: the published one is read, and whatever would change an output or a step is refused."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch

from sfumato.convert import diffusers, foreign
from sfumato.convert.files import ForeignError
from sfumato.networks.unet import HoUNet
from sfumato.networks.unet2d import UNet2D
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
        ({"use_flow_sigmas": True}, "use_flow_sigmas is True"),
        ({"beta_schedule": ["linear"]}, "no recipe here has the beta schedule"),
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


SMALL: dict[str, Any] = {
    "sample_size": 16, "block_out_channels": (32, 48, 64), "layers_per_block": 1,
    "down_block_types": ("DownBlock2D", "AttnDownBlock2D", "AttnDownBlock2D"),
    "up_block_types": ("AttnUpBlock2D", "AttnUpBlock2D", "UpBlock2D"), "norm_num_groups": 16,
}  # fmt: skip
"""A small UNet2DModel with the library's defaults."""
UNETS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "one head": {"attention_head_dim": None},
    "zeros after": {"downsample_padding": 0, "norm_eps": 1e-6},
    "sines first": {"flip_sin_to_cos": False},
    "rates to the end": {"freq_shift": 1},
    "classes": {"num_class_embeds": 5},
    "a pair": {"sample_size": (16, 24)},
    "ho": {"downsample_padding": 0, "norm_eps": 1e-6, "flip_sin_to_cos": False, "freq_shift": 1,
           "attention_head_dim": None, "block_out_channels": (32, 64, 64), "norm_num_groups": 32},
}  # fmt: skip


@pytest.mark.parametrize("name", UNETS)
def test_unets_of_the_library_say_the_same_here(name: str, tmp_path: Path) -> None:
    theirs = pytest.importorskip("diffusers").UNet2DModel(**SMALL | UNETS[name])
    theirs.save_pretrained(tmp_path)
    opened = foreign.open_folder(tmp_path)
    height, width = opened.recipe.shape[1:]
    x, t = torch.randn(2, 3, height, width), torch.tensor([3, 700])
    labels = {"y": torch.tensor([0, 4])} if name == "classes" else {}
    with torch.no_grad():
        wanted = theirs(x, t, *labels.values()).sample
        found = opened.network(x, t.float(), **labels)
    assert torch.allclose(found, wanted, atol=2e-5 * float(wanted.abs().max()))
    assert isinstance(opened.recipe.network, HoUNet if name == "ho" else UNet2D)


@pytest.mark.parametrize("name", ["defaults", "zeros after", "a pair"])
def test_networks_of_the_library_return_to_it(name: str, tmp_path: Path) -> None:
    library = pytest.importorskip("diffusers")
    library.UNet2DModel(**SMALL | UNETS[name]).save_pretrained(tmp_path / "theirs")
    opened = foreign.open_folder(tmp_path / "theirs")
    foreign.save_folder(opened.recipe, opened.network, tmp_path / "ours")
    back = foreign.open_folder(tmp_path / "ours")
    assert back.recipe == opened.recipe
    theirs = library.UNet2DModel.from_pretrained(tmp_path / "ours", subfolder="unet")
    x, t = torch.randn(1, 3, 16, 16), torch.tensor([300])
    assert torch.allclose(theirs(x, t).sample, opened.network(x, t.float()), atol=1e-4)


@pytest.mark.parametrize("options", [
    {"variant": "fp16"}, {"max_shard_size": "200KB"}, {"max_shard_size": "200KB", "variant": "fp16"},
    {"safe_serialization": False}, {"safe_serialization": False, "max_shard_size": "200KB"},
])  # fmt: skip
def test_every_way_in_which_the_library_saves(options: dict[str, Any], tmp_path: Path) -> None:
    theirs = pytest.importorskip("diffusers").UNet2DModel(**SMALL)
    half = "variant" in options
    (theirs.half() if half else theirs).save_pretrained(tmp_path / "unet", **options)
    opened = foreign.open_folder(tmp_path)
    plain = dict(theirs.float().named_parameters())
    for key in diffusers.keys(opened.network):
        assert torch.equal(key.read(opened.network.state_dict()[key.ours]), plain[key.official])


SCHEDULERS = ["DDIMScheduler", "PNDMScheduler", "EulerDiscreteScheduler", "DPMSolverMultistepScheduler",
              "DPMSolverSinglestepScheduler", "UniPCMultistepScheduler", "DEISMultistepScheduler"]  # fmt: skip


@pytest.mark.parametrize("name", SCHEDULERS)
def test_other_samplers_on_the_same_levels_are_read(name: str, tmp_path: Path) -> None:
    theirs = pytest.importorskip("diffusers")
    getattr(theirs, name)().save_pretrained(written(tmp_path) / "scheduler")
    recipe = foreign.open_folder(tmp_path).recipe
    assert isinstance(recipe, DDPM)
    assert (recipe.steps, recipe.betas, recipe.prediction) == (1000, "linear", "eps")


@pytest.mark.parametrize("kind", ["linear", "squaredcos_cap_v2", "sigmoid"])
@pytest.mark.parametrize("rescaled", [False, True])
def test_the_betas_are_the_librarys(kind: Any, rescaled: bool) -> None:
    theirs = pytest.importorskip("diffusers").DDPMScheduler(
        beta_schedule=kind, rescale_betas_zero_snr=rescaled, prediction_type="v_prediction"
    )
    recipe = DDPM(**diffusers.schedule_fields({"_class_name": "DDPMScheduler", **theirs.config}))
    left = recipe.build().gaussian.level(torch.arange(1, 1001), torch.zeros(1000)).alpha ** 2
    assert torch.allclose(left.float(), theirs.alphas_cumprod, atol=2e-5)
    assert diffusers.scheduler_of(recipe)["rescale_betas_zero_snr"] is rescaled


def test_a_scheduler_that_says_no_variance() -> None:
    assert diffusers.schedule_fields({**LEVELS, "variance_type": None})["variance"] == "small"


def test_the_network_of_a_pipeline_keeps_the_levels_beside_it(tmp_path: Path) -> None:
    recipe = DDPM((3, 16, 16), HoUNet(channels=32, multipliers=(1, 2), blocks=1), prediction="v", steps=50)
    foreign.save_folder(recipe, recipe.model(), tmp_path / "pipeline")
    assert foreign.open_folder(tmp_path / "pipeline" / "unet").recipe.prediction == "v"


def test_a_size_that_is_not_said_is_asked_for(tmp_path: Path) -> None:
    config = written(tmp_path) / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), "sample_size": None}))
    with pytest.raises(ForeignError, match=r"does not say the size .*: choose size"):
        foreign.open_folder(tmp_path)
    assert foreign.open_folder(tmp_path, {"size": 24}).recipe.shape == (3, 24, 24)


# ---------------------------------------------------------------- folders that are not what they say


def parted(folder: Path) -> Path:
    """A tiny pipeline whose weights lie in two files with an index; returns the index."""
    unet = written(folder) / "unet"
    state = safetensors.torch.load_file(unet / diffusers.WEIGHTS[0])
    (unet / diffusers.WEIGHTS[0]).unlink()
    names: dict[str, str] = {}
    for i in range(2):
        file = f"diffusion_pytorch_model-0000{i + 1}-of-00002.safetensors"
        part = dict(list(state.items())[i::2])
        safetensors.torch.save_file(part, unet / file)
        names |= dict.fromkeys(part, file)
    index = unet / "diffusion_pytorch_model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": names}), encoding="utf-8-sig")
    return index


def test_weights_in_several_files(tmp_path: Path) -> None:
    """Also where a byte order mark stands before the index."""
    parted(tmp_path)
    assert "index.json" in foreign.open_folder(tmp_path).about["found"][1]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda names: {**names, "more": next(iter(names.values()))}, "lists 'more', which .* does not hold"),
        (lambda names: dict(list(names.items())[1:]), "does not list"),
        (lambda names: {**names, "conv_in.bias": "../weights.safetensors"}, "outside of its folder"),
        (lambda names: {**names, "conv_in.bias": 3}, "lists no weights"),
        (lambda names: None, "lists no weights"),
    ],
)
def test_an_index_that_lies_is_refused(change: Callable[[Any], Any], words: str, tmp_path: Path) -> None:
    index = parted(tmp_path)
    index.write_text(json.dumps({"weight_map": change(json.loads(index.read_text("utf-8-sig"))["weight_map"])}))
    with pytest.raises(ForeignError, match=words):
        foreign.open_folder(tmp_path)


@pytest.mark.parametrize("name", ["unet/config.json", "scheduler/scheduler_config.json"])
@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"[" * 100_000, b'{"a": ' + b"9" * 5000 + b"}"])
def test_a_text_that_is_no_configuration_is_named(name: str, content: bytes, tmp_path: Path) -> None:
    (written(tmp_path) / name).write_bytes(content)
    with pytest.raises(ForeignError, match=f"{name} (is|holds) ") as caught:
        foreign.open_folder(tmp_path)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("change", [
    {"num_train_timesteps": 50.5}, {"num_train_timesteps": True}, {"num_train_timesteps": 10**12},
    {"clip_sample": "no"}, {"rescale_betas_zero_snr": 1},
])  # fmt: skip
def test_values_of_another_type_are_refused(change: dict[str, Any], tmp_path: Path) -> None:
    scheduler = written(tmp_path) / "scheduler" / "scheduler_config.json"
    scheduler.write_text(json.dumps({**json.loads(scheduler.read_text()), **change}))
    with pytest.raises(ForeignError, match=r"(steps|clip|zero_terminal_snr) is "):
        foreign.open_folder(tmp_path)


def test_a_byte_order_mark_is_no_part_of_a_text(tmp_path: Path) -> None:
    config = written(tmp_path) / "unet" / "config.json"
    config.write_text(config.read_text(), encoding="utf-8-sig")
    foreign.open_folder(tmp_path)


def test_a_scheduler_has_the_name_of_one() -> None:
    from sfumato.convert.diffusers_levels import schedule_fields

    for name in ("nonsense", ["DDPMScheduler"], ""):
        with pytest.raises(ForeignError, match="names no scheduler"):
            schedule_fields({"_class_name": name, "beta_schedule": "linear"})
    assert schedule_fields({"beta_schedule": "linear"})["betas"] == "linear"
