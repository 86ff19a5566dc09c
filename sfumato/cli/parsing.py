"""What every command shares: typed arguments in, one clear line out where they are wrong, and the words for things.

This is where strings become objects; below the command line, functions are passed, not names.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import tyro

from sfumato.data.sources import SPLIT
from sfumato.papers.training import parse_count

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.times import Steps
    from sfumato.model import Model

T = TypeVar("T")


class UsageError(ValueError):
    """Something the user typed."""


def parse(kind: type[T], arguments: list[str], program: str, default: T | None = None) -> T:
    """Typed arguments; a wrong one becomes a UsageError of one line."""
    arguments = [
        str(parse_count(value))
        if re.search(r"\.(images|warmup)$", flag) and re.fullmatch(r"[\d._]+[kKmMbB]", value)
        else value
        for flag, value in zip(["", *arguments], arguments, strict=False)
    ]
    heard = io.StringIO()
    try:
        with contextlib.redirect_stderr(heard):
            if default is None:
                return tyro.cli(kind, args=arguments, prog=program)
            return tyro.cli(kind, args=arguments, prog=program, default=default)
    except SystemExit as stop:
        if stop.code in (0, None):
            raise
        plain = re.sub(r"\x1b\[[0-9;]*m|[^\x20-\x7e\n]|[-+|]{3,}", " ", heard.getvalue()).partition(
            "For full helptext"
        )[0]
        text = " ".join(plain.replace("Parsing error", " ").replace("|", " ").split())
        raise UsageError(f"{text} (see: {program} --help)") from None


# ---------------------------------------------------------------- steps, models, images, folders


def steps_of(text: str, spacing: str = "even") -> Steps:
    """A number of evenly spaced steps, or one of the published grids."""
    from sfumato.core import times

    if not re.fullmatch(r"-?\d+", text):
        if spacing not in ("even", "sections") or not re.fullmatch(r"(ddim)?\d+(,\d+)*", text):
            raise UsageError(f"--steps is a number, or a respacing such as 10,10,10 or ddim50, not {text!r}")
        return partial(times.respace, text=text)
    n = int(text)
    if spacing == "sections":
        return partial(times.sections, counts=[n])
    grids = {"quadratic": times.trailing_quadratic, "ddim-uniform": times.ddim_uniform,
             "ddim-quadratic": times.ddim_quadratic}  # fmt: skip
    return partial(grids[spacing], n=n) if spacing in grids else n


def device_of(word: str) -> str:
    """cpu, cuda or mps; "auto" takes a GPU where there is one."""
    from sfumato.runtime.precision import best_device

    return best_device() if word == "auto" else word


def loaded(target: str, weights: str | None, device: str) -> Model:
    """The model of a TARGET, on the device; "auto" takes a GPU where there is one."""
    from sfumato.model import load

    return load(target, weights=weights, device=device_of(device))


def test_split(spec: str) -> str | None:
    """The spec of the test split beside a training split; None where there is none."""
    body, mark, options = spec.partition("?")
    name, _, split = body.partition(":")
    return f"{name}:test{mark}{options}" if name in SPLIT and split in ("", "train") else None


def known_images(spec: str | None, model: Model) -> Any:
    """The images of a spec, or of the test split of what the model was trained on."""
    from sfumato.data import open_source

    trained_on = model.about.get("data", {}).get("spec", "")
    chosen = spec or test_split(trained_on) or trained_on
    if not chosen:
        raise UsageError("say which images: --data fashion:test, for example")
    return open_source(chosen)


def some_pictures(spec: str | None, model: Model, n: int) -> tuple[Tensor, Tensor | None]:
    """n pictures spread over a set, and their labels where the model has classes."""
    import torch

    images = known_images(spec, model)
    if not 1 <= n <= len(images):
        raise UsageError(f"{n} pictures are asked for, {images.spec} has {len(images)}")
    if images.shape != model.recipe.shape:
        raise UsageError(f"the model makes {model.recipe.shape} images, {images.spec} has {images.shape}")
    if model.recipe.classes and (images.labels is None or images.classes != model.classes):
        raise UsageError(f"the model was trained with classes that {images.spec} does not have")
    chosen = torch.arange(n) * len(images) // n
    return images.images[chosen], images.labels[chosen] if model.recipe.classes else None


def shrunk(images: Tensor, side: int) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, C, side, side), by the mean over areas, as an upsampler is trained."""
    from torch.nn.functional import interpolate

    return interpolate(images.float(), side, mode="area").round().byte()


def output_folder(target: str, kind: str, name: str) -> Path:
    """Where what is made from a TARGET goes: inside its run folder, or into KIND/ here for anything else."""
    path = Path(target)
    if (path / "config.json").is_file():
        return path / kind / name
    return Path(kind) / f"{path.stem if path.exists() else target.replace('/', '-')}-{name}"


def writable(folder: Path) -> Path:
    if folder.exists() and not folder.is_dir():
        raise UsageError(f"{folder} is a file, not a folder for the results")
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UsageError(f"no permission to write in {folder}")
    return folder
