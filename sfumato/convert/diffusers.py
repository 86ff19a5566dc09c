"""The folders of Hugging Face's diffusers: `UNet2DModel` as DDPM's network, with the configuration of its scheduler.

Read and written without that library; what they hold is Ho et al.'s U-Net (2020, appendix B) under other names.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sfumato.conditioning import Labels, Unconditional
from sfumato.convert.files import read_state
from sfumato.convert.foreign_unets import check_numbers
from sfumato.convert.keys import Key, same
from sfumato.convert.state import ForeignError, State
from sfumato.networks.blocks import Attention
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import Trainable

BLOCK = {
    "norm1": "norm1",
    "conv1": "conv1",
    "time_emb_proj": "emb",
    "norm2": "norm2",
    "conv2": "conv2",
    "conv_shortcut": "shortcut",
}
FIXED: dict[str, Any] = {
    "center_input_sample": False,
    "time_embedding_type": "positional",
    "freq_shift": 1,
    "flip_sin_to_cos": False,
    "mid_block_scale_factor": 1,
    "downsample_padding": 0,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "norm_num_groups": 32,
    "norm_eps": 1e-6,
    "resnet_time_scale_shift": "default",
    "add_attention": True,
}
"""What makes a UNet2DModel Ho et al.'s network; their defaults differ in three places."""
UNSET: dict[str, Any] = {"class_embed_type": None, "attn_norm_num_groups": None, "mid_block_type": "UNetMidBlock2D"}
"""Later options of theirs, which must stand as they do by default."""
DEFAULTS: dict[str, Any] = {
    **FIXED,
    **UNSET,
    "freq_shift": 0,
    "flip_sin_to_cos": True,
    "downsample_padding": 1,
    "norm_eps": 1e-5,
}
BETAS = {"linear": "linear", "squaredcos_cap_v2": "cosine"}
PREDICTIONS = {"epsilon": "eps", "sample": "x0", "v_prediction": "v"}
SIMPLE: dict[str, Any] = {"thresholding": False, "rescale_betas_zero_snr": False, "clip_sample_range": 1.0}
"""What a scheduler that DDPM's recipe can stand for says, where it says anything."""
VARIANCES = {"fixed_small": "small", "fixed_small_log": "small", "fixed_large": "large", "fixed_large_log": "large"}
OPEN = {"steps", "betas", "prediction", "variance"}
"""What can be chosen, where there is no scheduler's configuration, or to override it."""
WEIGHTS = ("diffusion_pytorch_model.safetensors", "diffusion_pytorch_model.bin")


def keys(net: Any) -> Iterator[Key]:
    """The key map: their name of each of our parameters."""
    yield from same("time_embedding.linear_1", "time_mlp.0", net.time_mlp[0])
    yield from same("time_embedding.linear_2", "time_mlp.2", net.time_mlp[2])
    if net.label_embedding is not None:
        yield Key("class_embedding.weight", "label_embedding.weight")
    yield from same("conv_in", "conv_in", net.conv_in)
    last = len(net.down) - 1
    for i, (path, level) in enumerate([("down", lv) for lv in net.down] + [("up", lv) for lv in net.up]):
        ours = i if path == "down" else i - last - 1
        theirs = f"{path}_blocks.{ours if path == 'down' else last - ours}"  # on the way up they count from the bottom
        for j, block in enumerate(level.block):
            yield from _block(f"{theirs}.resnets.{j}", f"{path}.{ours}.block.{j}", block)
        for j, attention in enumerate(level.attention):
            yield from _attention(f"{theirs}.attentions.{j}", f"{path}.{ours}.attention.{j}", attention)
        if level.resample is not None:
            yield from same(f"{theirs}.{path}samplers.0", f"{path}.{ours}.resample", level.resample)
    for j in (0, 1):
        yield from _block(f"mid_block.resnets.{j}", f"middle.block.{j}", net.middle.block[j])
    yield from _attention("mid_block.attentions.0", "middle.attention.0", net.middle.attention[0])
    yield from same("conv_norm_out", "norm_out", net.norm_out)
    yield from same("conv_out", "conv_out", net.conv_out)


def _block(theirs: str, ours: str, block: nn.Module) -> Iterator[Key]:
    for foreign, name in BLOCK.items():
        yield from same(f"{theirs}.{foreign}", f"{ours}.{name}", block.get_submodule(name))


def _attention(theirs: str, ours: str, attention: nn.Module) -> Iterator[Key]:
    if not isinstance(attention, Attention):
        return
    yield from same(f"{theirs}.group_norm", f"{ours}.norm", attention.norm)
    width = attention.out.in_features
    for i, name in enumerate(("to_q", "to_k", "to_v")):
        rows = slice(i * width, (i + 1) * width)
        yield Key(f"{theirs}.{name}.weight", f"{ours}.qkv.weight", rows)
        yield Key(f"{theirs}.{name}.bias", f"{ours}.qkv.bias", rows)
    yield from same(f"{theirs}.to_out.0", f"{ours}.out", attention.out)


OLD = {".query.": ".to_q.", ".key.": ".to_k.", ".value.": ".to_v.", ".proj_attn.": ".to_out.0."}
"""Names in attention before diffusers 0.15, as in the first checkpoints on the hub."""


# ---------------------------------------------------------------- reading


def read(folder: Path, choices: Mapping[str, Any]) -> tuple[DDPM, State, str]:
    """(the recipe, weights by their present names, where the noise levels come from).

    Args:
        choices: fields of the recipe, of `OPEN`, which override what the folder says.

    Raises:
        OSError: files missing.
        ForeignError: not a UNet2DModel, or one that is not DDPM's; a choice that does not exist.
    """
    if unknown := sorted(set(choices) - OPEN):
        raise ForeignError(f"unknown choice {unknown[0]!r} for a diffusers folder; it says the rest itself")
    check_numbers(choices)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = unet / "config.json"
    try:
        fields = recipe_fields(_json(config))
    except (KeyError, TypeError) as error:
        raise ForeignError(f"{config} is no whole configuration of a UNet2DModel: {error}") from None
    scheduler = next((p for p in (folder / "scheduler" / "scheduler_config.json", folder / "scheduler_config.json")
                      if p.is_file()), None)  # fmt: skip
    source = "noise levels as DDPM's (no scheduler beside it)"
    if scheduler is not None:
        fields |= schedule_fields(_json(scheduler))
        source = f"noise levels from {scheduler.name}"
    weights = next((unet / name for name in WEIGHTS if (unet / name).is_file()), None)
    if weights is None:
        raise ForeignError(f"{unet} holds no weights; looked for {' and '.join(WEIGHTS)}")
    state = _safetensors(weights) if weights.suffix == ".safetensors" else read_state(weights)[0]
    try:
        recipe = DDPM(**{**fields, **choices})
    except ValueError as error:
        raise ForeignError(str(error)) from None
    return recipe, {_renamed(name): value for name, value in state.items()}, source


def recipe_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A UNet2DModel's configuration as fields of the DDPM recipe; ForeignError says what does not fit."""
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ForeignError(f"this folder holds a {config['_class_name']}; only UNet2DModel is DDPM's network")
    for name, wanted in (FIXED | UNSET).items():
        value = config.get(name, DEFAULTS[name])
        if value != wanted and not (name == "norm_eps" and abs(value - wanted) < 1e-9):
            raise ForeignError(f"this UNet2DModel is not DDPM's network: {name} is {value!r} instead of {wanted!r}")
    widths, down, up = (config[k] for k in ("block_out_channels", "down_block_types", "up_block_types"))
    known = {"DownBlock2D", "AttnDownBlock2D"}
    if set(down) - known or len(down) != len(widths) or [t.replace("Down", "Up") for t in reversed(down)] != list(up):
        blocks = f"blocks {', '.join(down)} and {', '.join(up)} of {len(widths)} widths"
        raise ForeignError(f"this UNet2DModel is not DDPM's network: {blocks}")
    attention = tuple(2**i for i, kind in enumerate(down) if kind.startswith("Attn"))
    attended = [width for width, kind in zip(widths, down, strict=True) if kind.startswith("Attn")] + [widths[-1]]
    head = config.get("attention_head_dim", 8)
    if head is not None and any(width != head for width in attended):
        raise ForeignError(f"this UNet2DModel is not DDPM's network: attention heads of {head} channels")
    if config["in_channels"] != config["out_channels"]:
        raise ForeignError(f"{config['in_channels']} channels in and {config['out_channels']} out: no plain DDPM")
    side = config.get("sample_size") or 32
    height, width = (side, side) if isinstance(side, int) else side
    classes = config.get("num_class_embeds") or 0
    multipliers: Any = tuple(w // widths[0] if w % widths[0] == 0 else w / widths[0] for w in widths)
    return {
        "shape": (config["in_channels"], height, width),
        "network": HoUNet(widths[0], multipliers, config.get("layers_per_block", 2), attention, dropout=0.0),
        "conditioning": Labels(classes) if classes else Unconditional(),
    }


def schedule_fields(config: Mapping[str, Any]) -> dict[str, Any]:
    """A scheduler's configuration as fields of the DDPM recipe."""
    if "beta_schedule" not in config:
        raise ForeignError(f"the noise levels of {config.get('_class_name', 'this scheduler')} are no table of betas")
    kind, start, end = config["beta_schedule"], config.get("beta_start"), config.get("beta_end")
    if config.get("trained_betas") is not None:
        raise ForeignError("this scheduler carries betas of its own, which the DDPM recipe cannot")
    if kind == "linear" and (start, end) not in ((1e-4, 0.02), (None, None)):
        raise ForeignError(f"this scheduler's betas go from {start} to {end}; DDPM's from 0.0001 to 0.02")
    for name, wanted in SIMPLE.items():
        if config.get(name, wanted) != wanted:
            raise ForeignError(f"this scheduler's {name} is {config[name]!r}, which the DDPM recipe cannot express")
    betas = BETAS.get(kind)
    prediction = PREDICTIONS.get(config.get("prediction_type", "epsilon"))
    if betas is None or prediction is None:
        raise ForeignError(f"no recipe here has the beta schedule {kind!r} with {config.get('prediction_type')!r}")
    variance = VARIANCES.get(config.get("variance_type", "fixed_small"))
    if variance is None:
        raise ForeignError(f"a variance of the kind {config['variance_type']!r} is not read from diffusers")
    return {"steps": config.get("num_train_timesteps", 1000), "betas": betas, "prediction": prediction,
            "variance": variance, "clip": config.get("clip_sample", True)}  # fmt: skip


def _renamed(name: str) -> str:
    for old, new in OLD.items():
        name = name.replace(old, new)
    return name


def _json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, UnicodeDecodeError):
        raise ForeignError(f"{path} is no JSON text") from None
    if not isinstance(found, dict):
        raise ForeignError(f"{path} is no configuration")
    return found


def _safetensors(path: Path) -> State:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        return load_file(path)
    except SafetensorError as error:
        raise ForeignError(f"{path} is damaged: {error}") from None


# ---------------------------------------------------------------- writing


def write(folder: Path, recipe: Trainable, network: nn.Module) -> None:
    """A folder of `DDPMPipeline`, from a recipe and its network.

    Raises:
        ForeignError: another recipe or network than DDPM's; a schedule, prediction or variance that their scheduler
            lacks, or a model with labels, which their pipeline does not pass on.
        OSError: it cannot be written.
    """
    from safetensors.torch import save_file

    made = recipe.network
    if not isinstance(made, HoUNet):
        raise ForeignError(f"diffusers' UNet2DModel holds DDPM's network, not {type(made).__name__}")
    scheduler = _scheduler(recipe)
    if recipe.conditioning.classes or recipe.conditioning.picture:
        raise ForeignError(
            "DDPMPipeline passes no labels to its network, so a conditional model would not sample there"
        )
    channels, height, width = recipe.shape
    down = [f"{'Attn' if 2**i in made.attention else ''}DownBlock2D" for i in range(len(made.multipliers))]
    unet = {
        "_class_name": "UNet2DModel", **FIXED, "sample_size": height if height == width else [height, width],
        "in_channels": channels, "out_channels": channels, "layers_per_block": made.blocks, "dropout": 0.0,
        "block_out_channels": [int(m * made.channels) for m in made.multipliers],
        "down_block_types": down, "up_block_types": [kind.replace("Down", "Up") for kind in reversed(down)],
        "attention_head_dim": None,
    }  # fmt: skip
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"],
             "unet": ["diffusers", "UNet2DModel"]}  # fmt: skip
    ours: dict[str, Tensor] = {name: p.detach().float().cpu() for name, p in network.named_parameters()}
    state = {key.official: key.read(ours[key.ours]).clone().contiguous() for key in keys(network)}
    for name, values in {"unet/config.json": unet, "scheduler/scheduler_config.json": scheduler,
                         "model_index.json": index}.items():  # fmt: skip
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(values, indent=2) + "\n")
    save_file(state, folder / "unet" / WEIGHTS[0], metadata={"format": "pt"})


def _scheduler(recipe: Trainable) -> dict[str, Any]:
    """The configuration of a DDPMScheduler. ForeignError for what it cannot express."""
    if type(recipe) is not DDPM:
        raise ForeignError(f"diffusers' DDPMScheduler is DDPM's, not {type(recipe).__name__}'s")
    betas = {ours: theirs for theirs, ours in BETAS.items()}.get(recipe.betas)
    prediction = {ours: theirs for theirs, ours in PREDICTIONS.items()}.get(recipe.prediction)
    variance = {"small": "fixed_small", "large": "fixed_large"}.get(recipe.variance)
    if None in (betas, prediction, variance):
        what = ", ".join((recipe.betas, recipe.prediction, recipe.variance))
        raise ForeignError(f"diffusers' scheduler cannot express this recipe ({what})")
    return {
        "_class_name": "DDPMScheduler", "num_train_timesteps": recipe.steps, "beta_start": 1e-4, "beta_end": 0.02,
        "beta_schedule": betas, "prediction_type": prediction, "variance_type": variance,
        "clip_sample": recipe.clip, "clip_sample_range": 1.0, "timestep_spacing": "leading", "steps_offset": 0,
    }  # fmt: skip
