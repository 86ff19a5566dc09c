"""`sfumato train`: a preset and its overrides, or a run to go on with, become a recipe, images and a training."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, TypeVar

import tyro

from sfumato.cli.parsing import UsageError, parse
from sfumato.cli.trained import report
from sfumato.data.splits import test_split
from sfumato.papers.training import BUDGET, TrainConfig

if TYPE_CHECKING:
    from sfumato.data import Images

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
    source: Annotated[str | None, tyro.conf.arg(name="from")] = None
    """Begin at the weights of this model: a run folder, a checkpoint, a shipped model, an official or diffusers file.
    The learning rate is then a fifth of the preset's and rises over 500 steps, unless they are named."""
    from_weights: str | None = None
    """Which of its weights: `online`, or an EMA rate; by default the first EMA."""
    size: str | None = None
    """tiny, small, base, or paper: the network of the paper's own preset, for these images (docs/training.md)."""
    dry_run: bool = False
    """Check everything and say what would run and what it costs here; write nothing."""


@dataclass(frozen=True)
class ResumeArguments:
    """Go on with an interrupted run, with the options it was started with, or with another budget."""

    resume: Path
    """The run folder."""
    train: TrainConfig = TrainConfig()
    """Another budget (whichever is named is the whole of it), other ways to watch the run, or what suits a machine."""


def train_command(arguments: list[str]) -> int:
    if any(a == "--resume" or a.startswith("--resume=") for a in arguments):
        return _resume_command(arguments)
    if not arguments or set(arguments[:1]) & {"-h", "--help"}:
        if arguments:
            print(HELP)
            return 0
        raise UsageError("train needs a preset, for example: sfumato train ddpm/digits (see: sfumato presets)")
    from sfumato.runtime.processes import started

    size, words = _taken(arguments, "--size")
    name, default, rest = _defaults(words)
    images = None
    if size is not None and not {"-h", "--help"} & set(words):
        default, images = _sized(name, default, size, words)
    default, rest = _with_parts(default, rest)
    kind: Any = TrainArguments
    parsed: TrainArguments[Any] = parse(kind[type(default.recipe)], rest, f"sfumato train {name}", default)
    named = {word.partition("=")[0].removeprefix("--train.") for word in rest}
    if "--from" in named:
        parsed = replace(parsed, train=default.train.rewarmed(parsed.train, named))
    if parsed.out is None and int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise UsageError("several processes need one run folder: --out DIR")
    if parsed.out and started(parsed.out, parsed.train.device):
        return _resume(parsed.out)
    out = parsed.out or Path("runs") / f"{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _train(parsed, name, out, images=images)


def _sized(
    name: str, default: TrainArguments[Any], size: str, words: list[str]
) -> tuple[TrainArguments[Any], Images]:  # fmt: skip
    """The defaults with a network of another size for the images, which are opened for it."""
    from sfumato.data.stream import open_for_training
    from sfumato.papers.presets import check_size, with_size

    check_size(size)
    if any(word.partition("=")[0] == "--recipe.network" for word in words):
        raise UsageError("--size scales the network of the preset, and --recipe.network names another; leave one out")
    images = open_for_training(_taken(words, "--data")[0] or default.data)
    return replace(default, recipe=with_size(name, default.recipe, size, images.shape), size=size), images


def _with_parts(default: TrainArguments[Any], words: list[str]) -> tuple[TrainArguments[Any], list[str]]:
    """The defaults with the parts that flags name; returns the other flags as well."""
    recipe, rest = with_parts(default.recipe, words)
    return replace(default, recipe=recipe), rest


def _defaults(arguments: list[str]) -> tuple[str, TrainArguments[Any], list[str]]:
    """What runs where no flag says otherwise, by a preset and a file; returns its name, that, and the other flags."""
    named = None if arguments[:1] == [] or arguments[0].startswith("-") else arguments[0]
    file, words = _taken(arguments[named is not None :], "--config")
    flags = {flag.partition("=")[0] for flag in words}
    if file is not None:
        from sfumato.cli.config_file import configured

        change = TrainConfig.gentle if "--from" in flags else (lambda settings: settings)
        said = configured(Path(file), named, change)
        default = TrainArguments(
            said.recipe, said.train, said.data, said.validation, said.out, said.source, said.from_weights
        )  # fmt: skip
        name = said.name
    elif named is None:
        raise UsageError("train needs a preset, for example: sfumato train ddpm/digits (see: sfumato presets)")
    else:
        from sfumato.starting import preset_from

        chosen, name = preset_from(named, *(_taken(words, option)[0] for option in ("--from", "--from-weights"))), named
        default = TrainArguments(chosen.recipe, chosen.train, chosen.data, source=chosen.source)
    if "--train.images" in flags and "--train.minutes" not in flags:  # one's own budget replaces the preset's
        default = replace(default, train=replace(default.train, minutes=None))
    return name, default, words


def _taken(words: list[str], option: str) -> tuple[str | None, list[str]]:
    """The value of an option, and the words without it."""
    for i, word in enumerate(words):
        if word == option:
            if i + 1 == len(words):
                raise UsageError(f"{option} needs a value")
            return words[i + 1], words[:i] + words[i + 2 :]
        if word.startswith(f"{option}="):
            return word.partition("=")[2], words[:i] + words[i + 1 :]
    return None, words


def with_parts(recipe: Any, arguments: list[str]) -> tuple[Any, list[str]]:
    """The recipe with other parts where a flag names one, as in --recipe.network "ncsnpp?channels=64".

    Returns: the recipe, and the arguments without those flags. UsageError for a part that the recipe does not have.
    """
    from sfumato.papers import PARTS, part_of
    from sfumato.spec import unknown

    known = [field.name for field in fields(recipe)]
    parts, rest, words = {}, [], iter(arguments)
    for word in words:
        flag, equals, value = word.partition("=") if word.startswith("--") else (word, "", "")
        part = flag.removeprefix("--recipe.")
        if flag == part or part not in PARTS:
            rest.append(word)
        elif part not in known:
            raise UsageError(unknown("option", flag, [f"--recipe.{name}" for name in known]))
        else:
            parts[part] = part_of(part, value if equals else next(words, ""))
    return replace(recipe, **parts), rest


def _resume_command(arguments: list[str]) -> int:
    """Go on with a run: what is not named is as it was."""
    words = [part for word in arguments for part in (word.split("=", 1) if word.startswith("--resume=") else [word])]
    place = words.index("--resume") + 1
    if place == len(words) or words[place].startswith("-") or set(words) & {"-h", "--help"}:
        parse(ResumeArguments, arguments, "sfumato train")
    run = Path(words[place])
    before = TrainConfig.from_json(_config(run)["train"])
    named = {word.partition("=")[0].removeprefix("--train.") for word in words} & set(BUDGET)
    default = replace(before, images=None, minutes=None) if named else before
    return _resume(run, parse(ResumeArguments, arguments, "sfumato train", ResumeArguments(run, default)).train)


def _resume(run: Path, settings: TrainConfig | None = None) -> int:
    """Go on with a run, with its own training numbers where None."""
    from sfumato import papers
    from sfumato.runtime.folder import RunFolder
    from sfumato.runtime.lock import refuse_if_held

    refuse_if_held(run, "trained")
    config = _config(run)
    before, recipe = TrainConfig.from_json(config["train"]), papers.from_json(config["recipe"])
    if settings is not None and settings != before:
        saved = RunFolder.open(run).latest()
        progress = saved.progress if saved else {}
        before.check_resumed(settings, progress.get("images", 0), progress.get("seconds", 0.0))
    parsed = TrainArguments(recipe, settings or before, config["data"], config["validation"])
    return _train(parsed, config["preset"], run, before=config)


def _config(run: Path) -> dict[str, Any]:
    """What a run was started with, as far as it is needed again. RunError where it is damaged."""
    from sfumato.runtime.folder import RunError, RunFolder

    config = RunFolder.open(run).config()
    kinds: dict[str, Any] = {"preset": str, "recipe": dict, "train": dict, "data": str, "validation": str | None}
    for name, kind in kinds.items():
        if name not in config or not isinstance(config[name], kind):
            raise RunError(f"{run / 'config.json'} is damaged: it does not say {name}")
    if "teacher" in config:
        whole = shlex.quote(str(run.absolute().parent))
        raise RunError(f"{run} is a stage of a distillation; go on with: sfumato distill --resume {whole}")
    return config


def _train(
    arguments: TrainArguments[Any], name: str, out: Path, *, before: Mapping[str, Any] | None = None,
    images: Images | None = None,
) -> int:  # fmt: skip
    """Train, or go on where the configuration `before` is given; whatever can be refused is, before `out` is made."""
    from sfumato.data import open_source
    from sfumato.data.stream import open_for_training
    from sfumato.fitting import check_out, prepare
    from sfumato.networks import NETWORKS
    from sfumato.runtime.precision import usable_device
    from sfumato.spec import written
    from sfumato.starting import start_from

    resume = before is not None
    usable_device(arguments.train.device)
    if not resume and int(os.environ.get("WORLD_SIZE", "1")) == 1:
        check_out(out)
    if arguments.from_weights and arguments.source is None:
        raise UsageError("--from-weights chooses among the weights of --from MODEL")
    initial = start_from(arguments.source, arguments.from_weights) if arguments.source else None
    images = open_for_training(arguments.data) if images is None else images
    validation = arguments.validation or test_split(arguments.data)
    said: dict[str, Any] = {
        "preset": name,
        "data": arguments.data,
        "validation": validation,
        "command": shlex.join(["sfumato", *sys.argv[1:]]) if before is None else before.get("command", ""),
    }
    if before is not None and "from" in before:
        said["from"] = before["from"]
    training = prepare(
        arguments.recipe, images, arguments.train, said, resume=out if resume else None, initial=initial,
        validation=open_source(validation) if validation else None,
    )  # fmt: skip
    for line in training.remarks:
        print(line)
    if arguments.size:
        network, count = written(NETWORKS, training.recipe.network), training.config["parameters"]
        print(f"size     {arguments.size}: {network}, {count / 1e6:.2f}M parameters (--dry-run times a step)")
    if arguments.dry_run:
        training.rehearse()
        for line in (f"run      {out}, which is not made", *training.costs()):
            print(line)
        return 0
    result = training.run(out, resume=resume)
    if result.main_process:
        report(result, training.recipe, arguments.data, validation or arguments.data)
    return result.exit_code if result.main_process else 0


HELP = """sfumato train PRESET [--data SPEC] [--out DIR] [--train.minutes M | --train.images N] [--recipe.OPTION ...]
sfumato train PRESET --size tiny|small|base|paper the network smaller or larger; paper: that of the published preset
sfumato train PRESET --from MODEL                 begin at the weights of another model (docs/own_pictures.md)
sfumato train --config FILE.toml [...]            a run's config.json, or some of its keys; flags override them
sfumato train ... --dry-run                       check everything, say what it costs here, write nothing
sfumato train --resume RUN [--train.images N | --train.minutes M]

sfumato presets lists the presets; sfumato train PRESET --help lists every option with the preset's value.
Data specs: digits, emoji32, emoji128, fashion, mnist, swiss_roll, heartbeat, dead_leaves, signals, moving_digits (with
:train or :test), folder:PATH, npz:PATH, with ?size=64 or ?size=48x32 and the like (docs/data.md). Options of a part:
--recipe.network.channels 64; another part: --recipe.network "ncsnpp?channels=64", --recipe.noising immiscible,
--recipe.conditioning "labels?dropout=0.1", or several at once: "labels+augmented?p=0.12". Image to image:
--data "pair:INPUTS|TARGETS" --recipe.conditioning picture, or "picture?by=grey" (docs/own_pictures.md).
"""
