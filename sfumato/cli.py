"""The command line: `sfumato train | sample | inspect`, the only place where strings become objects.

Bad input ends in one clear line on standard error and exit code 2; an interrupted run in its resume command and 130
(Ctrl-C) or 143 (terminated).
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Literal, TypeVar

import tyro

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.times import Steps
    from sfumato.model import Model, Sampler

from sfumato import __version__
from sfumato.data.sources import SPLIT
from sfumato.train.config import TrainConfig, parse_count

T = TypeVar("T")
R = TypeVar("R")

USAGE = f"""sfumato {__version__}: eight diffusion papers, one core

  sfumato train PRESET [--data SPEC] [--out DIR]    train a model; finishes with the command that samples from it
  sfumato train --resume RUN                        go on with an interrupted run
  sfumato sample TARGET [-n N] [--steps K]          pictures from a run folder, a checkpoint or a shipped model
  sfumato likelihood TARGET [--data SPEC]           bits per dimension, term by term
  sfumato inspect WHAT                              a preset, run, checkpoint or data set: size, cost, contents
  sfumato presets                                   the list of presets and shipped models

Each takes --help. Data specs: digits, emoji32, fashion, mnist (with :train or :test), folder:PATH, npz:PATH.
"""


class UsageError(ValueError):
    """Something the user typed."""


# ---------------------------------------------------------------- train


@dataclass(frozen=True)
class TrainArguments(Generic[R]):
    """Train a model. Every option of the recipe and the training can be overridden."""

    recipe: R
    """The paper's choices."""
    train: TrainConfig
    """The training numbers."""
    data: str
    """The training images: digits, emoji32, fashion, mnist, folder:PATH or npz:PATH."""
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
        return _resume(_parse(ResumeArguments, arguments, "sfumato train"))
    if not arguments or arguments[0].startswith("-"):
        if set(arguments) & {"-h", "--help"}:
            print(USAGE)
            return 0
        raise UsageError("train needs a preset, for example: sfumato train ddpm/digits (see: sfumato presets)")
    from sfumato.presets import preset

    name, rest = arguments[0], arguments[1:]
    chosen = preset(name)
    budgets = {flag.partition("=")[0] for flag in rest}
    if "--train.images" in budgets and "--train.minutes" not in budgets:  # one's own budget replaces the preset's
        chosen = replace(chosen, train=replace(chosen.train, minutes=None))
    default = TrainArguments(chosen.recipe, chosen.train, chosen.data)
    kind: Any = TrainArguments.__class_getitem__(type(chosen.recipe))  # type: ignore[attr-defined]
    parsed: TrainArguments[Any] = _parse(kind, rest, f"sfumato train {name}", default)
    out = parsed.out or Path("runs") / f"{name.replace('/', '-')}-{time.strftime('%Y%m%d-%H%M%S')}"
    return _train(parsed, name, out, resume=False)


def _resume(arguments: ResumeArguments) -> int:
    from sfumato import papers
    from sfumato.train.run import RunFolder

    config = RunFolder.open(arguments.resume).config()
    recipe = papers.from_json(config["recipe"])
    parsed = TrainArguments(recipe, TrainConfig.from_json(config["train"]), config["data"], config["validation"])
    return _train(parsed, config["preset"], arguments.resume, resume=True)


def _train(arguments: TrainArguments[Any], name: str, out: Path, *, resume: bool) -> int:
    from sfumato import papers
    from sfumato.data import open_source
    from sfumato.model import Model
    from sfumato.papers.recipe import Classifying, low_res_side
    from sfumato.train.loop import train
    from sfumato.train.report import write_report

    images = open_source(arguments.data)
    recipe = fit_to_data(arguments.recipe, images.shape, images.classes, images.labels is not None)
    validation_spec = arguments.validation or _test_split(arguments.data)
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


def shrunk(images: Tensor, side: int) -> Tensor:
    """uint8 (N, C, H, W) -> uint8 (N, C, side, side), by the mean over areas, as an upsampler is trained."""
    from torch.nn.functional import interpolate

    return interpolate(images.float(), side, mode="area").round().byte()


def _test_split(spec: str) -> str | None:
    """The spec of the test split beside a training split; None where there is none."""
    body, mark, options = spec.partition("?")
    name, _, split = body.partition(":")
    return f"{name}:test{mark}{options}" if name in SPLIT and split in ("", "train") else None


# ---------------------------------------------------------------- sample


@dataclass(frozen=True)
class SampleArguments:
    """Make pictures: a PNG grid and an npz with the uint8 images (N, H, W, C)."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many pictures."""
    steps: str = "50"
    """Steps a picture, at most the model's number of levels; or Improved DDPM's respacing: 10,10,10 or ddim50."""
    spacing: Literal["even", "quadratic", "sections", "ddim-uniform", "ddim-quadratic"] = "even"
    """How the steps are spread: even or dense near the picture; or as published, quirks included: Improved DDPM's one
    section, DDIM's two grids."""
    sampler: Literal["ddim", "ancestral"] = "ddim"
    """DDIM, or the recipe's own ancestral steps."""
    eta: float = 0.0
    """DDIM's noise: 0 is deterministic, 1 ancestral."""
    seed: int = 0
    """Picture i depends on (seed, i) alone, whatever the batch."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, taken in turn; by default all in turn, where the model has classes."""
    scale: float = 1.0
    """Classifier-free guidance: 1 is none, more exaggerates the class (for models trained with label dropout)."""
    classifier: str | None = None
    """A run folder or checkpoint of a classifier of noisy images, to guide the model to the classes."""
    classifier_scale: float = 1.0
    """How strongly the classifier guides."""
    low_res: str | None = None
    """For an upsampler: the images to enlarge, a data spec, an npz or a folder; larger ones are shrunk first."""
    batch: int = 64
    """Pictures at a time; bounds the memory."""
    weights: str | None = None
    """`online`, or an EMA rate; by default the first EMA."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """bf16 where the machine is fast at it."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    animation: bool = False
    """Also write the walk from noise to pictures as an animation, and the pictures foreseen along the way."""
    out: Path | None = None
    """Where to; by default inside the run folder, or samples/ for a checkpoint."""


def sample_command(arguments: list[str]) -> int:
    parsed = _parse(SampleArguments, arguments, "sfumato sample")
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.model import Guide, Request, load
    from sfumato.train.precision import best_device

    device = best_device() if parsed.device == "auto" else parsed.device
    model = load(parsed.target, weights=parsed.weights, device=device)
    guide = Guide(load(parsed.classifier, device=device), parsed.classifier_scale) if parsed.classifier else None
    asker = guide.classifier if guide else model
    labels = asker.labels(parsed.classes or None, parsed.n)
    low_res = _low_res(parsed, model)
    asked: dict[str, Any] = {
        "steps": _steps(parsed.steps, parsed.spacing), "sampler": _sampler(parsed), "seed": parsed.seed,
        "scale": parsed.scale, "guide": guide, "low_res": low_res, "batch": parsed.batch,
        "precision": parsed.precision,
    }  # fmt: skip
    moves = model.plan(Request(parsed.n, **asked))
    out = _writable(parsed.out or _sample_folder(parsed))
    frames: list[Any] | None = [] if parsed.animation else None
    predictions: list[Any] | None = [] if parsed.animation else None
    started = time.perf_counter()
    with tqdm(total=parsed.n * moves, unit="step", disable=None, leave=False, smoothing=0) as bar:
        images = model.sample(
            parsed.n, classes=labels, frames=frames, predictions=predictions, progress=bar.update, **asked
        )
    seconds = time.perf_counter() - started
    pictures.save_png(out / "grid.png", pictures.grid(images))
    pictures.save_npz(out / "images.npz", images, labels)
    written = ["grid.png", "images.npz"]
    if low_res is not None:
        import torch
        from torch.nn.functional import interpolate

        before = interpolate(low_res[: parsed.n].float(), images.shape[-1], mode="nearest").byte()
        pairs = torch.stack([before, images], dim=1).flatten(0, 1)
        pictures.save_png(out / "pairs.png", pictures.grid(pairs, columns=8))
        written.append("pairs.png")
    for name, film in (("walk", frames), ("foreseen", predictions)):
        if film:
            pictures.save_animation(out / f"{name}.webp", [pictures.grid(frame) for frame in film])
            written.append(f"{name}.webp")
    record = {
        **vars(parsed),
        "out": str(out),
        "moves": moves,
        "seconds": round(seconds, 2),
        "about": model.about,
        "version": __version__,
    }
    pictures.write_text(out / "sample.json", json.dumps(record, indent=2, default=str))
    print(
        f"{parsed.n} pictures, {moves} steps of {parsed.sampler}, in {seconds:.1f} s "
        f"({parsed.n / seconds:.1f} pictures/s)"
    )
    print(f"{out}/{{{','.join(written)}}}")
    return 0


def _sampler(parsed: SampleArguments) -> Sampler:
    from sfumato.model import ancestral, ddim_sampler

    if parsed.sampler == "ancestral" and parsed.eta:
        raise UsageError("--eta belongs to --sampler ddim")
    if not 0 <= parsed.eta <= 1:
        raise UsageError(f"--eta lies between 0 and 1, not {parsed.eta}")
    return ancestral if parsed.sampler == "ancestral" else ddim_sampler(parsed.eta)


def _steps(text: str, spacing: str = "even") -> Steps:
    """A number of evenly spaced steps, or one of the published grids."""
    from sfumato.core import times

    if not re.fullmatch(r"-?\d+", text):
        if spacing not in ("even", "sections") or not re.fullmatch(r"(ddim)?\d+(,\d+)*", text):
            raise UsageError(f"--steps is a number, or a respacing such as 10,10,10 or ddim50, not {text!r}")
        return partial(times.respace, text=text)
    n = int(text)
    if spacing == "sections":
        return lambda T: times.sections(T, [n])
    grids = {"quadratic": times.trailing_quadratic, "ddim-uniform": times.ddim_uniform,
             "ddim-quadratic": times.ddim_quadratic}  # fmt: skip
    return partial(grids[spacing], n=n) if spacing in grids else n


def _low_res(parsed: SampleArguments, model: Model) -> Tensor | None:
    """The images to enlarge, shrunk to what the model takes."""
    from sfumato.data import open_source
    from sfumato.papers.recipe import low_res_side

    side = low_res_side(model.recipe)
    if parsed.low_res is None or not side:
        return None
    path = Path(parsed.low_res)
    spec = f"folder:{path}" if path.is_dir() else f"npz:{path}" if path.suffix == ".npz" else parsed.low_res
    images = open_source(spec).images
    if len(images) < parsed.n:
        raise UsageError(f"{parsed.low_res} has {len(images)} images to enlarge; {parsed.n} are asked for (-n)")
    return shrunk(images[: parsed.n], side) if images.shape[-1] > side else images[: parsed.n]


def _sample_folder(parsed: SampleArguments) -> Path:
    name = f"{parsed.sampler}-{parsed.steps}-seed{parsed.seed}"
    target = Path(parsed.target)
    if target.is_dir():
        return target / "samples" / name
    return Path("samples") / f"{target.stem if target.exists() else parsed.target.replace('/', '-')}-{name}"


def _writable(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    if not os.access(folder, os.W_OK):
        raise UsageError(f"no permission to write in {folder}")
    return folder


# ---------------------------------------------------------------- likelihood


@dataclass(frozen=True)
class LikelihoodArguments:
    """How likely images are under a model, in bits per dimension, with every term of the estimate."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: str | None = None
    """The images; by default the :test split of what the model was trained on, where there is one."""
    method: Literal["bound"] = "bound"
    """The variational bound of the model's own chain."""
    limit: int = 1000
    """So many images, spread over the set; 0 takes all."""
    steps: str = "all"
    """Levels of the chain: all, a number of evenly spaced ones, or a respacing such as 10,10,10 or ddim50."""
    seed: int = 0
    """Decides the noise."""
    batch: int = 256
    """Images at a time; bounds the memory."""
    weights: str | None = None
    """`online`, or an EMA rate; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default likelihood/ inside the run folder, or in the current folder for a checkpoint."""


def likelihood_command(arguments: list[str]) -> int:
    parsed = _parse(LikelihoodArguments, arguments, "sfumato likelihood")
    from tqdm import tqdm

    from sfumato.data import open_source, pictures
    from sfumato.evaluate.likelihood import bound_of
    from sfumato.evaluate.plots import bound_plot
    from sfumato.model import load
    from sfumato.train.precision import best_device

    if parsed.limit < 0 or parsed.batch < 1:
        raise UsageError("--limit is at least 0 and --batch at least 1")
    model = load(
        parsed.target, weights=parsed.weights, device=best_device() if parsed.device == "auto" else parsed.device
    )
    trained_on = model.about.get("data", {}).get("spec", "")
    spec = parsed.data or _test_split(trained_on) or trained_on
    if not spec:
        raise UsageError("say on which images: --data fashion:test, for example")
    images = open_source(spec)
    count = min(parsed.limit or len(images), len(images))
    steps = None if parsed.steps == "all" else _steps(parsed.steps)
    with tqdm(total=count, unit="image", disable=None, leave=False, smoothing=0) as bar:
        report = bound_of(
            model, images, steps=steps, limit=count, seed=parsed.seed, batch=parsed.batch, progress=bar.update
        )
    target = Path(parsed.target)
    out = _writable(parsed.out or (target if target.is_dir() else Path()) / "likelihood")
    pictures.write_text(out / "bound.json", json.dumps(report.to_json(), indent=1))
    bound_plot(report, out / "bound.png")
    values, protocol = report.to_json(), report.protocol
    print(f"variational bound {values['total']:.4f} +- {values['standard_error']:.4f} bits/dim")
    print(f"  prior {values['prior']:.6f}, decoder {values['decoder']:.4f}, levels between "
          f"{values['total'] - values['prior'] - values['decoder']:.4f}")  # fmt: skip
    print(f"  {protocol['images']:,} images of {protocol['data']}, {protocol['levels']:,} levels, "
          f"seed {protocol['seed']}, {protocol['weights']} weights")  # fmt: skip
    print(f"{out}/{{bound.json,bound.png}}")
    return 0


# ---------------------------------------------------------------- inspect


@dataclass(frozen=True)
class InspectArguments:
    """Look before you leap: what a preset, run, checkpoint or data set is, holds and costs here."""

    what: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="WHAT")]
    """A preset (ddpm/fashion), a run folder, a checkpoint, or a data spec (fashion:test, folder:PATH)."""
    batch: int = 64
    """Images a training step, for the measured throughput."""
    measure: bool = True
    """Time a few training steps and forward passes."""


def inspect_command(arguments: list[str]) -> int:
    parsed = _parse(InspectArguments, arguments, "sfumato inspect")
    from sfumato import inspection

    for line in inspection.describe(parsed.what, batch=parsed.batch, measure=parsed.measure):
        print(line)
    return 0


def presets_command(arguments: list[str]) -> int:
    from sfumato.model import shipped
    from sfumato.presets import PRESETS

    if arguments:
        raise UsageError("presets takes no options")
    ready = shipped()
    for name, chosen in PRESETS.items():
        print(f"{name:32}{chosen.about}{'  [ships: sfumato sample ' + name + ']' if name in ready else ''}")
    return 0


# ---------------------------------------------------------------- from strings to objects


def _parse(kind: type[T], arguments: list[str], program: str, default: T | None = None) -> T:
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


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "train": train_command,
    "sample": sample_command,
    "likelihood": likelihood_command,
    "inspect": inspect_command,
    "presets": presets_command,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if words[0] in ("-V", "--version", "version"):
        print(__version__)
        return 0
    try:
        if words[0] not in COMMANDS:
            raise UsageError(f"unknown command {words[0]!r}; known: {', '.join(COMMANDS)}")
        return COMMANDS[words[0]](words[1:])
    except (ValueError, OSError) as error:
        print(f"sfumato: {_one_line(error)}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("sfumato: stopped", file=sys.stderr)
        return 130


def _one_line(error: Exception) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return " ".join(str(error).split())


if __name__ == "__main__":
    sys.exit(main())
