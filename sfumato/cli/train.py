"""`sfumato train`: a preset and its overrides, or a run to go on with, become a recipe, images and a training."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Generic, TypeVar

from sfumato.cli.parsing import UsageError, parse, shrunk, test_split
from sfumato.train.config import TrainConfig

R = TypeVar("R")


@dataclass(frozen=True)
class TrainArguments(Generic[R]):
    """Train a model. Every option of the recipe and the training can be overridden."""

    recipe: R
    """The paper's choices."""
    train: TrainConfig
    """The training numbers."""
    data: str
    """The training images, for example digits, fashion, dead_leaves, folder:PATH or npz:PATH."""
    validation: str | None = None
    """Images for the loss by noise level; by default the :test split where the data have one."""
    out: Path | None = None
    """The run folder; by default runs/PAPER-DATA-TIME."""


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with an interrupted run, with the options it was started with."""

    resume: Path
    """The run folder."""


def train_command(arguments: list[str]) -> int:
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        return _resume(parse(ResumeArguments, arguments, "sfumato train"))
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print(HELP)
            return 0
        raise UsageError("train needs a preset, for example: sfumato train ddpm/digits (see: sfumato presets)")
    from sfumato.presets import preset
    from sfumato.runtime.processes import begun

    name, rest = arguments[0], arguments[1:]
    chosen = preset(name)
    budgets = {flag.partition("=")[0] for flag in rest}
    if "--train.images" in budgets and "--train.minutes" not in budgets:  # one's own budget replaces the preset's
        chosen = replace(chosen, train=replace(chosen.train, minutes=None))
    default = TrainArguments(chosen.recipe, chosen.train, chosen.data)
    kind: Any = TrainArguments.__class_getitem__(type(chosen.recipe))  # type: ignore[attr-defined]
    parsed: TrainArguments[Any] = parse(kind, rest, f"sfumato train {name}", default)
    if parsed.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes need one run folder: --out DIR")
    if parsed.out and begun(parsed.out):
        return _resume(ResumeArguments(parsed.out))
    out = parsed.out or Path("runs") / f"{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _train(parsed, name, out, resume=False)


def _resume(arguments: ResumeArguments) -> int:
    from sfumato import papers
    from sfumato.runtime.folder import RunFolder

    config = RunFolder.open(arguments.resume).config()
    recipe = papers.from_json(config["recipe"])
    parsed = TrainArguments(recipe, TrainConfig.from_json(config["train"]), config["data"], config["validation"])
    return _train(parsed, config["preset"], arguments.resume, resume=True)


def _train(arguments: TrainArguments[Any], name: str, out: Path, *, resume: bool) -> int:
    from sfumato import papers
    from sfumato.data import open_source
    from sfumato.data.loader import to_float
    from sfumato.data.stream import open_for_training
    from sfumato.model import Model
    from sfumato.papers.recipe import Classifying, Nonequilibrium, low_res_side
    from sfumato.train.loop import train
    from sfumato.train.report import write_report

    images = open_for_training(arguments.data)
    recipe = fit_to_data(arguments.recipe, images.shape, images.classes, images.labels is not None)
    if isinstance(recipe, Nonequilibrium) and not resume:
        recipe = recipe.standardised(to_float(images.images))
    validation_spec = arguments.validation or test_split(arguments.data)
    validation = open_source(validation_spec) if validation_spec else None
    if validation is not None and validation.shape != images.shape:
        raise UsageError(f"validation images are {validation.shape}, training images {images.shape}")
    command = shlex.join(["sfumato", *sys.argv[1:]])
    config = {
        "preset": name,
        "recipe": papers.to_json(recipe),
        "data": arguments.data,
        "validation": validation_spec,
        "command": command,
        "parameters": sum(p.numel() for p in recipe.model().parameters()),
    }

    count, steps = arguments.train.preview_images, arguments.train.preview_steps
    side = low_res_side(recipe)
    small = shrunk((validation or images).images[:count], side) if side else None

    def preview(network: Any) -> Any:
        model = Model(recipe, network, images.classes)
        return model.sample(min(count, len(images)), steps=min(steps, recipe.steps), seed=1, low_res=small)

    result = train(
        recipe,
        images,
        arguments.train,
        out,
        config=config,
        validation=validation,
        preview=None if isinstance(recipe, Classifying) else preview,
        resume=resume,
    )
    if not result.main_process:
        return 0
    if result.interrupted:
        print(f"\nStopped at {result.images:,} images; everything is saved in {out}")
        print(f"sfumato train --resume {shlex.quote(str(out))}")
        return result.exit_code
    print(f"Report:  {write_report(out)}\n")
    if isinstance(recipe, Classifying):
        print(f"sfumato sample MODEL --classifier {shlex.quote(str(out))}")
    elif side:
        print(f"sfumato sample {shlex.quote(str(out))} --low-res {shlex.quote(validation_spec or arguments.data)}")
    else:
        print(f"sfumato sample {shlex.quote(str(out))}")
    return 0


def fit_to_data(recipe: Any, shape: tuple[int, int, int], classes: Sequence[str], labelled: bool) -> Any:
    """The recipe with the data's shape and classes; a preset that wants labels takes them where there are any.

    Raises: ValueError where the recipe cannot do without labels, or enlarges what is not smaller.
    """
    from sfumato.papers.recipe import Classifying, low_res_side

    if isinstance(recipe, Classifying) and not labelled:
        raise UsageError("a classifier needs labelled data: classes are sub-folders, for example")
    side = low_res_side(recipe)
    if side and (shape[1] != shape[2] or side >= shape[1]):
        raise UsageError(f"an upsampler of {side}x{side} images needs larger, square training images, not {shape}")
    wanted: dict[str, Any] = {"shape": shape, "classes": len(classes) if recipe.classes and labelled else 0}
    if recipe.classes and not labelled:
        print("These data have no labels: training without classes.")
        if getattr(recipe, "label_dropout", 0):
            wanted["label_dropout"] = 0.0
    return replace(recipe, **wanted)


HELP = """sfumato train PRESET [--data SPEC] [--out DIR] [--train.minutes M | --train.images N] [--recipe.OPTION ...]
sfumato train --resume RUN

sfumato presets lists the presets; sfumato train PRESET --help lists every option with the preset's value.
Data specs: digits, emoji32, fashion, mnist, swiss_roll, heartbeat, dead_leaves (with :train or :test), folder:PATH,
npz:PATH, with ?size=64 and the like.
"""
