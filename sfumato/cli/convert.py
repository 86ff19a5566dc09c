"""`sfumato convert`: checkpoints between this library, the official codes and diffusers, saying what was found."""

from __future__ import annotations

import os
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from sfumato.cli.numbers import Count, Moves, Range, Sigma
from sfumato.cli.parsing import UsageError, parse


@dataclass(frozen=True)
class ConvertArguments:
    """Convert a checkpoint; without --out, only say what it is."""

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SOURCE")]
    """A run folder, one of our checkpoints, a shipped model, an official file (.pt, .pth.tar, .safetensors), or a
    folder of diffusers."""
    to: Literal["sfumato", "official", "diffusers", "lucidrains", "onnx", "hub"] = "sfumato"
    """Our safetensors file; the official code's state dict; what the Trainer of denoising-diffusion-pytorch writes; a
    folder for DDPMPipeline.from_pretrained; a folder of ONNX graphs: the network's prediction, each sampler's steps,
    and their plans; or a folder for a model hub, with a model card, which `sfumato.load` reads."""
    out: Path | None = None
    """Where to: a .safetensors file, a .pt file, or a new folder."""
    weights: str | None = None
    """Of ours: `online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    half: bool = False
    """To sfumato and to a hub: store float16."""
    licence: str | None = None
    """To a hub: the licence of the weights, such as mit, apache-2.0, cc-by-4.0 or other."""
    dataset: str = ""
    """To a hub: what the hub calls the training data, where sfumato does not know it."""
    pictures: Annotated[int, Range(0, 1024), tyro.conf.arg(metavar="N")] = 36
    """To a hub: samples to make for the card; 0 makes none."""
    nearest: bool = True
    """To a hub: show the training pictures nearest to the samples, where the data are here; --no-nearest where these
    may not be shown."""
    write_order: Literal["legacy", "new"] | None = None
    """To official: the order of q, k and v to write; by default as it was read, or legacy."""
    size: Count | None = None
    """Height and width of the images, where an official file is of no published network, or diffusers does not say."""
    heads: Count | None = None
    """Attention heads, likewise."""
    head_channels: Count | None = None
    """Channels of a head, instead of heads."""
    order: Literal["legacy", "new"] | None = None
    """Order of q, k and v: guided-diffusion's --use_new_attention_order True is new."""
    steps: Moves | None = None
    """T, the number of noise levels."""
    betas: Literal["linear", "cosine", "sigmoid"] | None = None
    """The noise schedule; sigmoid is lucidrains'."""
    rescale_times: bool | None = None
    """Whether the network is conditioned on 1000 t / T."""
    low_res: Count | None = None
    """Height and width of an upsampler's small images."""
    variance: Literal["small", "large"] | None = None
    """The variance of a step, where it is not learned."""
    prediction: Literal["eps", "x0", "v"] | None = None
    """What the network returns."""
    attention_norm: Literal["layer", "rms"] | None = None
    """Of a file of lucidrains' before 1.8: the norm of its attention, layer up to 1.6."""
    sde: Literal["ve", "vp", "subvp"] | None = None
    """Of a score_sde file outside its official folder: how noise comes."""
    continuous: bool | None = None
    """Likewise: whether it was trained on all times."""
    first_sigma: Sigma | None = None
    """Of an NCSN file of no published network: the largest noise, for images in [0, 1]."""
    last_sigma: Sigma | None = None
    """Likewise: the smallest."""


OF_HUB = ("licence", "dataset", "pictures", "nearest")
"""Options that only a folder for a hub has."""
FOREIGN = ("official", "diffusers", "lucidrains")
"""What is written for other codes, whose files say nothing of the depth of pictures."""
OWN = ("source", "to", "out", "weights", "half", "write_order", *OF_HUB)


def convert_command(arguments: list[str]) -> int:
    parsed = parse(ConvertArguments, arguments, "sfumato convert")
    from sfumato.convert import foreign, lucidrains_written
    from sfumato.convert.onnx import export
    from sfumato.hub import give
    from sfumato.models import load
    from sfumato.models.loading import home
    from sfumato.runtime.files import sweep

    _check_hub(parsed)
    out = None if parsed.out is None else home(parsed.out)
    if out is not None:
        _check_place(out, parsed.to)
        if out.parent.is_dir():
            sweep(out.parent)
    said = {f.name: getattr(parsed, f.name) for f in fields(parsed) if f.name not in OWN}
    choices: dict[str, Any] = {name: value for name, value in said.items() if value is not None}
    model = load(parsed.source, weights=parsed.weights, **choices)
    recipe: Any = model.recipe
    count = sum(p.numel() for p in model.network.parameters())
    print(f"{parsed.source}: {type(recipe).__name__}, {count / 1e6:.2f}M parameters, {model.about['weights']}")
    for line in model.about.get("found", ()):
        print(f"  {line}")
    if out is None:
        print("Nothing written; give --out to convert it.")
        return 0
    if parsed.to in FOREIGN and recipe.space.levels != 256:
        depth = "16 bits" if recipe.space.levels else "real numbers"
        print(f"  a file of this kind tells no depth: it is read again as of 8 bits, and this model is of {depth}")
    if parsed.to == "onnx":
        export(recipe, model.network, out, classes=model.classes, say=lambda line: print(f"  {line}"))
    elif parsed.to == "hub":
        give(
            model, out, parsed.source, licence=parsed.licence, dataset=parsed.dataset, count=parsed.pictures,
            show_training=parsed.nearest, half=parsed.half, say=lambda line: print(f"  {line}"),
        )  # fmt: skip
    elif parsed.to == "diffusers":
        foreign.save_folder(recipe, model.network, out)
    elif parsed.to == "lucidrains":
        foreign.save_official(out, lucidrains_written.training_state(recipe, model.network))
    elif parsed.to == "official":
        order = parsed.write_order or model.about.get("order", "legacy")
        state = foreign.official_state(recipe, model.network, order)
        foreign.save_official(out, state)
        if any(name.endswith("qkv.weight") for name in state):
            print(f"  q, k and v are in the {order} order: --use_new_attention_order {order == 'new'}")
    else:
        model.save(out, half=parsed.half)
    print(out)
    return 0


def _check_hub(parsed: ConvertArguments) -> None:
    """UsageError for options of a hub's folder elsewhere, and for what they cannot be, before anything is read."""
    defaults = {f.name: f.default for f in fields(ConvertArguments)}
    given = [name for name in OF_HUB if getattr(parsed, name) != defaults[name]]
    if given and parsed.to != "hub":
        raise UsageError(f"--{given[0]} is an option of --to hub")
    if parsed.licence is not None:
        from sfumato.hub.licences import licence_of

        licence_of(parsed.licence)


def _check_place(out: Path, to: str) -> None:
    """UsageError where something is there already, or the ending is another; before anything is read."""
    if os.path.lexists(out):
        raise UsageError(f"{out} exists already")
    suffix = {"sfumato": ".safetensors", "official": ".pt", "lucidrains": ".pt"}.get(to)
    if suffix and out.suffix.lower() != suffix:
        raise UsageError(f"--to {to} writes a {suffix} file, not {out.name}")
    if suffix and not out.parent.is_dir():
        raise UsageError(f"{out.parent} is no folder, so that nothing can be written in it")
