"""`sfumato train`: a preset and its overrides, or a run to go on with, become a recipe, images and a training."""

from __future__ import annotations

import os
import shlex
import sys
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from sfumato.cli.parsing import UsageError, parse, shrunk
from sfumato.data.splits import test_split
from sfumato.papers.training import TrainConfig

if TYPE_CHECKING:
    from torch import Tensor, nn

    from sfumato.data import Images
    from sfumato.train.loop import TrainResult
    from sfumato.train.session import Preview

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
    from sfumato.papers.presets import preset
    from sfumato.runtime.processes import started

    name, chosen = arguments[0], preset(arguments[0])
    recipe, rest = with_parts(chosen.recipe, arguments[1:])
    budgets = {flag.partition("=")[0] for flag in rest}
    if "--train.images" in budgets and "--train.minutes" not in budgets:  # one's own budget replaces the preset's
        chosen = replace(chosen, train=replace(chosen.train, minutes=None))
    default = TrainArguments(recipe, chosen.train, chosen.data)
    kind: Any = TrainArguments
    parsed: TrainArguments[Any] = parse(kind[type(recipe)], rest, f"sfumato train {name}", default)
    if parsed.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes need one run folder: --out DIR")
    if parsed.out and started(parsed.out):
        return _resume(ResumeArguments(parsed.out))
    out = parsed.out or Path("runs") / f"{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _train(parsed, name, out, resume=False)


def with_parts(recipe: Any, arguments: list[str]) -> tuple[Any, list[str]]:
    """The recipe with other parts where a flag names one, as in --recipe.network "ncsnpp?channels=64".

    Returns: the recipe, and the arguments without those flags.
    """
    from sfumato.papers import PARTS
    from sfumato.spec import construct

    parts, rest, words = {}, [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        part = flag.removeprefix("--recipe.")
        if flag == part or part not in PARTS:
            rest.append(word)
        else:
            parts[part] = construct(PARTS[part], value if equals else next(words, ""), part)
    return replace(recipe, **parts), rest


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
    from sfumato.data.stream import open_for_training
    from sfumato.train.loop import train

    images = open_for_training(arguments.data)
    recipe = fit_to_data(arguments.recipe, images, moments=not resume)
    validation_spec = arguments.validation or test_split(arguments.data)
    validation = open_source(validation_spec) if validation_spec else None
    if validation is not None and validation.shape != images.shape:
        raise UsageError(f"validation images are {validation.shape}, training images {images.shape}")
    config = {
        "preset": name,
        "recipe": papers.to_json(recipe),
        "data": arguments.data,
        "validation": validation_spec,
        "command": shlex.join(["sfumato", *sys.argv[1:]]),
        "parameters": sum(p.numel() for p in recipe.model().parameters()),
    }
    result = train(
        recipe, images, arguments.train, out, config=config, validation=validation,
        preview=_preview(recipe, arguments.train, images, validation or images), resume=resume,
    )  # fmt: skip
    if result.main_process:
        _report(result, recipe, validation_spec or arguments.data)
    return result.exit_code if result.main_process else 0


def _preview(recipe: Any, settings: TrainConfig, images: Images, held_out: Images) -> Preview | None:
    """What makes pictures from a network while it trains; None for a classifier, which makes none."""
    from sfumato.models import Model

    if recipe.build().sampler is None:
        return None
    side, count = recipe.conditioning.picture, min(settings.preview_images, len(images))
    small = shrunk(held_out.images[:count], side) if side else None

    def preview(network: nn.Module) -> Tensor:
        model = Model(recipe, network, images.classes)
        return model.sample(count, steps=min(settings.preview_steps, recipe.steps), seed=1, low_res=small)

    return preview


def _report(result: TrainResult, recipe: Any, pictures: str) -> None:
    """Say what came of a run, and the command that uses it or goes on with it."""
    from sfumato.train.report import write_report

    out = shlex.quote(str(result.folder))
    if result.interrupted:
        print(f"\nStopped at {result.images:,} images; everything is saved in {result.folder}")
        print(f"sfumato train --resume {out}")
        return
    print(f"Report:  {write_report(result.folder)}\n")
    if recipe.build().sampler is None:
        print(f"sfumato sample MODEL --classifier {out}")
    elif recipe.conditioning.picture:
        print(f"sfumato sample {out} --low-res {shlex.quote(pictures)}")
    else:
        print(f"sfumato sample {out}")


def fit_to_data(recipe: Any, images: Images, *, moments: bool = True) -> Any:
    """The recipe with the shape, the classes and, where asked, the moments of the data.

    Raises: ValueError where the recipe cannot do without labels, or enlarges what is not smaller.
    """
    from sfumato.data import to_float

    labelled, shape, conditioning = images.labels is not None, images.shape, recipe.conditioning
    if recipe.build().sampler is None and not labelled:
        raise UsageError("a classifier needs labelled data: classes are sub-folders, for example")
    side = conditioning.picture
    if side and (shape[1] != shape[2] or side >= shape[1]):
        raise UsageError(f"an upsampler of {side}x{side} images needs larger, square training images, not {shape}")
    if conditioning.classes and not labelled:
        print("These data have no labels: training without classes.")
    space = recipe.space
    if moments and space.has_moments:
        space = space.fitted(to_float(images.images))
    return replace(recipe, shape=shape, conditioning=conditioning.fitted(len(images.classes), labelled), space=space)


HELP = """sfumato train PRESET [--data SPEC] [--out DIR] [--train.minutes M | --train.images N] [--recipe.OPTION ...]
sfumato train --resume RUN

sfumato presets lists the presets; sfumato train PRESET --help lists every option with the preset's value.
Data specs: digits, emoji32, fashion, mnist, swiss_roll, heartbeat, dead_leaves (with :train or :test), folder:PATH,
npz:PATH, with ?size=64 and the like. Options of a part: --recipe.network.channels 64; another part:
--recipe.network "ncsnpp?channels=64", --recipe.conditioning "labels?dropout=0.1".
"""
