"""The folders of Hugging Face's diffusers: `UNet2DModel` as DDPM's network, with the configuration of its scheduler.

Read and written without that library; what they hold is Ho et al.'s U-Net (2020, appendix B) under other names.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sfumato.conditioning import Labels, Unconditional
from sfumato.convert.diffusers_levels import schedule_fields, scheduler_of
from sfumato.convert.diffusers_weights import WEIGHTS, read_weights
from sfumato.convert.foreign_unets import check_numbers
from sfumato.convert.keys import Key, same
from sfumato.convert.pixels import check_space
from sfumato.convert.state import ForeignError, State
from sfumato.networks.backbone import Backbone
from sfumato.networks.blocks import Attention
from sfumato.networks.unet import HoUNet
from sfumato.networks.unet2d import UNet2D
from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import Trainable
from sfumato.runtime import tensor_file
from sfumato.runtime.files import whole_folder
from sfumato.runtime.json_file import read_object
from sfumato.shapes import kind

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
    "mid_block_scale_factor": 1,
    "downsample_type": "conv",
    "upsample_type": "conv",
    "act_fn": "silu",
    "resnet_time_scale_shift": "default",
    "add_attention": True,
}
"""What makes a UNet2DModel a U-Net of these layers, as by default."""
UNSET: dict[str, Any] = {
    "class_embed_type": None, "attn_norm_num_groups": None, "mid_block_type": "UNetMidBlock2D",
    "time_embedding_dim": None,
}  # fmt: skip
"""Later options of theirs, which must stand as they do by default."""
HO: dict[str, Any] = {"freq_shift": 1, "flip_sin_to_cos": False, "downsample_padding": 0, "norm_eps": 1e-6,
                      "norm_num_groups": 32}  # fmt: skip
"""What makes it Ho et al.'s network."""
DEFAULTS: dict[str, Any] = {"freq_shift": 0, "flip_sin_to_cos": True, "downsample_padding": 1, "norm_eps": 1e-5,
                            "norm_num_groups": 32}  # fmt: skip
"""The same by default in the library: `networks.unet2d`."""
CHOICES = {"size", "steps", "betas", "prediction", "variance"}
"""What can be chosen, where there is no scheduler's configuration or no size of images, or to override them."""


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
        folder: of a pipeline, or of the network alone, beside which `scheduler/` may lie.
        choices: fields of the recipe, of `CHOICES`, which override what the folder says.

    Raises:
        OSError: files missing.
        ForeignError: not a UNet2DModel, or one that is not DDPM's; a choice that is missing or does not exist.
    """
    if unknown := sorted(set(choices) - CHOICES):
        raise ForeignError(f"unknown choice {unknown[0]!r} for a diffusers folder; it says the rest itself")
    check_numbers(choices)
    unet = folder / "unet" if (folder / "unet").is_dir() else folder
    config = unet / "config.json"
    try:
        fields = recipe_fields(read_object(config, ForeignError), choices.get("size"))
    except ForeignError:
        raise
    except (LookupError, TypeError, ValueError, ArithmeticError) as error:
        raise ForeignError(f"{config} is no whole configuration of a UNet2DModel: {error}") from None
    fields, source = _with_levels(fields, folder)
    state, which = read_weights(unet)
    try:
        recipe = DDPM(**{**fields, **{name: value for name, value in choices.items() if name != "size"}})
    except (TypeError, ValueError) as error:
        raise ForeignError(f"{folder}: {error}") from None
    return recipe, {_renamed(name): value for name, value in state.items()}, source + which


def _with_levels(fields: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """The fields with a scheduler's, in or beside the folder, and where the noise levels come from."""
    beside = folder.parent / "scheduler" if folder.name == "unet" else folder
    for path in (folder / "scheduler", folder, beside):
        scheduler = path / "scheduler_config.json"
        if scheduler.is_file():
            try:
                return fields | schedule_fields(
                    read_object(scheduler, ForeignError)
                ), f"noise levels from {scheduler.name}"
            except (TypeError, ValueError) as error:
                raise ForeignError(f"{scheduler}: {error}") from None
    return fields, "noise levels as DDPM's (no scheduler beside it)"


def recipe_fields(config: Mapping[str, Any], size: int | None = None) -> dict[str, Any]:
    """A UNet2DModel's configuration as fields of the DDPM recipe; ForeignError says what does not fit.

    Args:
        size: height and width of the images, where the configuration does not say, or instead.
    """
    if config.get("_class_name", "UNet2DModel") != "UNet2DModel":
        raise ForeignError(f"this folder holds a {config['_class_name']}; only UNet2DModel is DDPM's network")
    for name, wanted in (FIXED | UNSET).items():
        if (value := config.get(name, wanted)) != wanted:
            raise ForeignError(f"this UNet2DModel is not DDPM's network: {name} is {value!r} instead of {wanted!r}")
    widths, down, up = (config[k] for k in ("block_out_channels", "down_block_types", "up_block_types"))
    known = {"DownBlock2D", "AttnDownBlock2D"}
    if set(down) - known or len(down) != len(widths) or [t.replace("Down", "Up") for t in reversed(down)] != list(up):
        blocks = f"blocks {', '.join(down)} and {', '.join(up)} of {len(widths)} widths"
        raise ForeignError(f"this UNet2DModel is not DDPM's network: {blocks}")
    if not all(type(width) is int and width > 0 for width in widths):
        raise ForeignError(f"this UNet2DModel's widths are {widths!r:.100}, which are no whole numbers above 0")
    attention = tuple(2**i for i, kind in enumerate(down) if kind.startswith("Attn"))
    attended = [width for width, kind in zip(widths, down, strict=True) if kind.startswith("Attn")] + [widths[-1]]
    if config["in_channels"] != config["out_channels"]:
        raise ForeignError(f"{config['in_channels']} channels in and {config['out_channels']} out: no plain DDPM")
    side = config.get("sample_size") if size is None else size
    if side is None:
        raise ForeignError("its configuration does not say the size of the images (sample_size): choose size")
    height, width = (side, side) if isinstance(side, int) else side
    classes = config.get("num_class_embeds") or 0
    return {
        "shape": (config["in_channels"], height, width), "network": _network(config, widths, attention, attended),
        "conditioning": Labels(classes) if classes else Unconditional(),
    }  # fmt: skip


def _network(config: Mapping[str, Any], widths: list[int], attention: tuple[int, ...], attended: list[int]) -> Backbone:
    """Ho et al.'s network where it is that, else `UNet2D`, which has more options."""
    said = {name: config.get(name, value) for name, value in DEFAULTS.items()}
    head, blocks = config.get("attention_head_dim", 8), config.get("layers_per_block", 2)
    one_head = head is None or all(width == head for width in attended)
    whole = tuple(width // widths[0] for width in widths)
    if one_head and all(width % widths[0] == 0 for width in widths) and _same(said, HO):
        return HoUNet(widths[0], whole, blocks, attention, dropout=0.0)
    if said["downsample_padding"] not in (0, 1) or not isinstance(said["flip_sin_to_cos"], bool):
        raise ForeignError(f"this UNet2DModel has options that no network here has: {said}")
    multipliers = tuple(_multiplier(width, widths[0]) for width in widths)
    return UNet2D(
        widths[0], multipliers, blocks, attention, 0 if one_head else head, 0.0,
        "cos" if said["flip_sin_to_cos"] else "sin", said["freq_shift"],
        "around" if said["downsample_padding"] else "after", said["norm_num_groups"], said["norm_eps"],
    )  # fmt: skip


def _multiplier(width: int, channels: int) -> float:
    """What times the channels is the width, once it is cut to a whole number."""
    if width % channels == 0:
        return width // channels
    exact = width / channels
    return exact if int(exact * channels) == width else math.nextafter(exact, math.inf)


def _same(said: Mapping[str, Any], wanted: Mapping[str, Any]) -> bool:
    """Whether options are these; 1e-6 has become 9.999999974752427e-07 on its way through float32 elsewhere."""
    near = type(said["norm_eps"]) is float and abs(said["norm_eps"] - wanted["norm_eps"]) < 1e-9
    return near and all(said[name] == value for name, value in wanted.items() if name != "norm_eps")


def _renamed(name: str) -> str:
    for old, new in OLD.items():
        name = name.replace(old, new)
    return name


# ---------------------------------------------------------------- writing


def write(folder: Path, recipe: Trainable, network: nn.Module) -> None:
    """A folder of `DDPMPipeline`, from a recipe and its network, which appears whole or not at all.

    Raises:
        ForeignError: another recipe or network than DDPM's; a schedule, prediction or variance that their scheduler
            lacks, a model with labels, which their pipeline does not pass on, or of other numbers than pixels in
            [-1, 1].
        OSError: it cannot be written, or exists.
    """
    made = recipe.network
    if not isinstance(made, HoUNet | UNet2D):
        raise ForeignError(f"diffusers' UNet2DModel holds DDPM's network, not {type(made).__name__}")
    if len(recipe.shape) != 3:
        raise ForeignError(f"diffusers' UNet2DModel is for images, not for {kind(recipe.shape)}")
    check_space(recipe, "DDPMPipeline")
    scheduler = scheduler_of(recipe)
    if recipe.conditioning.classes or recipe.conditioning.pictured:
        raise ForeignError(
            "DDPMPipeline passes no labels to its network, so a conditional model would not sample there"
        )
    if recipe.conditioning.numbers:
        raise ForeignError(
            "UNet2DModel holds no embedding of attributes or of an augmentation, so it cannot hold this model"
        )
    if recipe.conditioning.feeds_back:
        raise ForeignError("DDPMPipeline feeds no prediction back, so it cannot hold a self-conditioned model")
    index = {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"],
             "unet": ["diffusers", "UNet2DModel"]}  # fmt: skip
    ours: dict[str, Tensor] = {name: p.detach().float().cpu() for name, p in network.named_parameters()}
    state = {key.official: key.read(ours[key.ours]).clone().contiguous() for key in keys(network)}
    with whole_folder(folder) as unfinished:
        for name, values in {"unet/config.json": _config(recipe, made), "scheduler/scheduler_config.json": scheduler,
                             "model_index.json": index}.items():  # fmt: skip
            path = unfinished / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(json.dumps(values, indent=2) + "\n")
        tensor_file.write(unfinished / "unet" / WEIGHTS[0], state, {})


def _config(recipe: Trainable, made: HoUNet | UNet2D) -> dict[str, Any]:
    """The configuration of the UNet2DModel."""
    channels, height, width = recipe.shape
    down = [f"{'Attn' if 2**i in made.attention else ''}DownBlock2D" for i in range(len(made.multipliers))]
    options, head = HO, None
    if isinstance(made, UNet2D):
        head = made.head_channels or None
        options = {
            "freq_shift": made.shift, "flip_sin_to_cos": made.first == "cos", "norm_eps": made.epsilon,
            "downsample_padding": int(made.padding == "around"), "norm_num_groups": made.groups,
        }  # fmt: skip
    return {
        "_class_name": "UNet2DModel", **FIXED, **options, "attention_head_dim": head,
        "sample_size": height if height == width else [height, width],
        "in_channels": channels, "out_channels": channels, "layers_per_block": made.blocks, "dropout": 0.0,
        "block_out_channels": [int(m * made.channels) for m in made.multipliers],
        "down_block_types": down, "up_block_types": [kind.replace("Down", "Up") for kind in reversed(down)],
    }  # fmt: skip
