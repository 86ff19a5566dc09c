"""`sfumato sample`: pictures from a run, a checkpoint or a shipped model, with every sampler, grid and guidance."""

from __future__ import annotations

import json
import os
import time
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sfumato.cli.arrays import MOST_FRAMES, MOST_PIXELS, deep_files, first, fits, on_sheet, seen_depth, sheets, streamed
from sfumato.cli.inputs import Inputs, agreement, chosen, colour_error, sheet, unread
from sfumato.cli.numbers import Count, Processes, Range, Scale, Seed
from sfumato.cli.parsing import (
    UsageError,
    device_of,
    file_name,
    parse,
    sampler_help,
    sampler_of,
    sides_of,
    steps_of,
    view_of,
)
from sfumato.cli.results import Asked, asked, beside, of_images, of_weights, output_folder, place, store
from sfumato.version import __version__

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from sfumato.core.schedules import Steps
    from sfumato.data.pictures import View
    from sfumato.models.generate import Request, Sampled
    from sfumato.models.model import Model
    from sfumato.runtime.workers import WorkerPool


@dataclass(frozen=True)
class SampleArguments:
    """Make pictures: a PNG grid and an npz with the images (N, H, W, C), uint8; of a model of 16 bits uint16, of real
    numbers float32, and the shown ones as files of that depth in pictures/."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    n: Annotated[Count | None, tyro.conf.arg(aliases=["-n"])] = None
    """How many pictures; by default 64, or one of each input."""
    steps: str = "auto"
    """Moves from noise to a picture, at most the model's number of levels; or Improved DDPM's respacing: 10,10,10 or
    ddim50. auto is 10 by the usual sampler, DPM-Solver++(2M) on Karras' grid; by others 50, or the paper's own number,
    such as 100 for Score-SDE and 18 for EDM; all of the model's own for NCSN, NCSNv2 and 2015."""
    spacing: Literal["auto", "quadratic", "sections", "ddim-uniform", "ddim-quadratic"] = "auto"
    """How the steps are spread: as the sampler does, evenly or by its ?grid=; dense near the picture; or as published,
    quirks included: Improved DDPM's one section, DDIM's two grids."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """A sampler with its options, such as ddim or "heun?churn=40": the list stands at the end of --help."""
    seed: Seed = 0
    """Picture i depends on (seed, i) alone, whatever the batch."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, taken in turn; by default all in turn, where the model has classes."""
    size: Annotated[str | None, tyro.conf.arg(metavar="WIDTHxHEIGHT")] = None
    """Another size than that of training, as 48x32: for a model that was trained in buckets of several."""
    attributes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="smiling,-hat")] = ()
    """For a model with attributes: those of a picture with commas between, NAME=0 or -NAME for absent ones, NAME=? for
    not known; several such words in turn. By default pictures of any."""
    text: Annotated[tuple[str, ...], tyro.conf.arg(metavar='"a red heart"')] = ()
    """For a model with text conditioning: captions, one a word of the shell, in turn."""
    scale: Scale | None = None
    """Classifier-free guidance (trained with label dropout): 1, the default, is none; by a --guide-model it is 2."""
    guidance: Annotated[str | None, tyro.conf.arg(metavar="SPEC")] = None
    """Another kind of guidance than --scale, with its options, such as "interval?scale=2&high=1.5": the list stands at
    the end of --help."""
    guide_model: str | None = None
    """A worse model of the same images, smaller or less trained, which guides: autoguidance, or as --guidance says."""
    guide_weights: str | None = None
    """The guide's weights, as --weights; without --guide-model they are other weights of TARGET."""
    classifier: str | None = None
    """A run folder or checkpoint of a classifier of noisy images, to guide the model to the classes."""
    classifier_scale: Scale = 1.0
    """How strongly the classifier guides."""
    low_res: str | None = None
    """For an upsampler: the images to enlarge, a data spec, an npz or a folder; the middle of larger ones is shrunk."""
    inputs: str | None = None
    """For a model with pictures as inputs: a folder, which is brought to its size, or a data spec such as
    pair:INPUTS|TARGETS. One output for each."""
    originals: str | None = None
    """The same, but the inputs are made of these whole pictures as in training: emoji32:test, say."""
    control_scale: Annotated[float, Range(0, 10)] = 1.0
    """For a model with a control (ControlNet): how much of it counts; 0 is the frozen model alone."""
    batch: Count = 64
    """Pictures at a time; bounds the memory."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """bf16 where the machine is fast at it."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    processes: Processes = 1
    """How many share the work, a batch at a time; the pictures are the same."""
    animation: bool = False
    """Also write the trajectory from noise to pictures as an animation, and the pictures predicted along the way."""
    out: Path | None = None
    """Where to; by default inside the run folder, or samples/ for a checkpoint."""


def sample_command(arguments: list[str]) -> int:
    words = [word for before, word in zip(["", *arguments], arguments, strict=False) if word and before != "--out"]
    if any(os.path.isfile(Path(word).expanduser() / "cascade.json") for word in words if not word.startswith("-")):
        from sfumato.cli.cascade import sample_cascade

        return sample_cascade(arguments)
    parsed = parse(SampleArguments, arguments, "sfumato sample", about=_help(arguments))
    from sfumato.models.generate import plan
    from sfumato.runtime.workers import WorkerPool

    device = device_of(parsed.device)
    load = partial(_loaded, parsed.target, parsed.weights, parsed.control_scale, sides_of(parsed.size))
    pool, model = WorkerPool(load, parsed.processes, device), load(device=device)
    given = chosen(parsed.n, parsed.low_res, parsed.inputs, parsed.originals, model)
    parsed = replace(parsed, n=given.n)
    request = _request(parsed, model, given, device)
    asker = request.guide.classifier if request.guide else model
    taken = given.labels if given.labels is not None and not parsed.classes and not request.guide else None
    labels = asker.labels(parsed.classes or None, given.n) if taken is None else taken
    moves = plan(model, request)
    fits(min(given.n, parsed.batch), model.recipe.shape, "pictures at a time (--batch)")
    whole = _asked(parsed, model, request)
    name = f"{file_name(parsed.sampler)}-{file_name(parsed.steps)}-seed{parsed.seed}-{whole.digest}"
    folder = parsed.out or output_folder(parsed.target, "samples", name)
    started = time.perf_counter()
    with place(folder, whole) as out:
        made = _made(parsed, model, request, labels, moves, pool if pool.processes > 1 else None, out)
        seconds = time.perf_counter() - started
        store(out, whole, _files(parsed, request, len(model.recipe.shape) == 4))
        kept = None if given.pictures is None else agreement(model, made.images, given.pictures)
        drift = None if given.targets is None else colour_error(made.images, given.targets)
        _record(parsed, model, made, moves, seconds, {"colour_error": drift, "agreement": kept}, out)
        with beside(out / "images.npz"):
            written = _sheets(out, made, given, view_of(None, model))
            written += deep_files(out, made.images, given.n, model)
    print(f"{given.n} pictures, {_cost(request, model, made, moves)}, in {seconds:.1f} s "
          f"({given.n / seconds:.1f} pictures/s)")  # fmt: skip
    if kept is not None:
        print(f"inputs   made again of the outputs: correlation {kept['correlation']:.3f} with those given, mean "
              f"difference {kept['absolute']:.1f} (of 0..255)")  # fmt: skip
    if drift is not None:
        mean, absolute = (", ".join(f"{v:.1f}" for v in values) for values in drift.values())
        print(f"colour   mean error of each channel {mean}; absolute, of a picture's own mean, {absolute} (of 0..255)")
    depth = seen_depth(model)
    print(end=unread(model, parsed.text) + (f"depth    {depth}\n" if depth else ""))
    print(f"{out}/{{{','.join(written)}}}")
    return 0


def _loaded(
    target: str, weights: str | None, control: float, sides: tuple[int, int] | None, device: torch.device | str
) -> Model:
    """The model that is asked for, which each process loads."""
    from sfumato.models.loading import load_model

    model = load_model(target, weights=weights, device=device)
    model = model if sides is None else model.sized(*sides)
    return model if control == 1 else model.controlled(control)


def _files(parsed: SampleArguments, request: Request, clips: bool) -> list[str]:
    """What is written beside the request."""
    films = ["trajectory.webp", "predictions.webp"] if parsed.animation else []
    more = [*(["clips.gif"] if clips else []), *(["pairs.png"] if request.picture is not None else [])]
    return ["images.npz", "sample.json", "grid.png", *more, *films]


def _asked(parsed: SampleArguments, model: Model, request: Request) -> Asked:
    """The whole request: the words, and what they stood for."""
    found = {
        "weights": of_weights(model.network), "device": model.device.type, "low_res": of_images(request.picture),
        "precision": request.precision_on(model.device),
    }  # fmt: skip
    if request.guide:
        found["classifier"] = of_weights(request.guide.classifier.network)
    if request.guide_model:
        found["guide_model"] = of_weights(request.guide_model.network)
    return asked("sample", parsed, **found)


def _made(
    parsed: SampleArguments, model: Model, request: Request, labels: Tensor | None, moves: int,
    pool: WorkerPool[Model] | None, out: Path,
) -> Sampled:  # fmt: skip
    """Make the pictures and write each batch at once; returns those of the sheets."""
    from tqdm import tqdm

    from sfumato.models.generate import Film, in_batches, joined

    shape, n, space = tuple(model.recipe.shape), request.n, model.recipe.space
    room = on_sheet(n, shape)
    every = -(-(moves + 1) // MOST_FRAMES)
    film = Film(on_sheet(room, shape, 4 * MOST_PIXELS * every // (moves + 1)), every) if parsed.animation else None
    shown: list[Sampled] = []
    with (
        streamed(out / "images.npz", n, shape, labels, space.levels, space.values) as keep,
        tqdm(total=n * moves, unit="step", disable=None, leave=False, smoothing=0) as bar,
    ):
        for part in in_batches(model, request, labels, film=film, pool=pool, progress=bar.update):
            keep(part.images)
            left = room - sum(len(before.images) for before in shown)
            if left > 0:
                shown.append(replace(part, images=part.images[:left]))
    return joined(shown)


def _help(arguments: list[str]) -> str | None:
    """What `--help` says of samplers and of guidance; None where help is not asked for."""
    about = sampler_help(arguments)
    if about is None:
        return None
    from sfumato.models import guidance

    lines = ("--guidance SPEC takes one of these, with options, as rescale?scale=3&share=0.5:", guidance.listed())
    return "\n\n".join((about, *lines))


def _request(parsed: SampleArguments, model: Model, given: Inputs, device: str) -> Request:
    """What is asked of the model."""
    from sfumato.models.classifier import Guide
    from sfumato.models.generate import Request
    from sfumato.models.loading import load_classifier

    guide = None
    if not parsed.classifier and parsed.classifier_scale != 1:
        raise UsageError("--classifier-scale is that of a classifier, which --classifier names")
    if parsed.classifier:
        guide = Guide(load_classifier(parsed.classifier, device=device), parsed.classifier_scale)
    return Request(
        given.n, _steps(parsed, model), sampler_of(parsed.sampler), parsed.seed, parsed.scale, guide,
        given.pictures, parsed.batch, parsed.precision, parsed.guidance, _guide_model(parsed, device),
        model.described(parsed.attributes, parsed.text, given.n),
    )  # fmt: skip


def _guide_model(parsed: SampleArguments, device: str) -> Model | None:
    """The model that guides, where one is asked for."""
    from sfumato.models.loading import load_model

    if parsed.guide_model is None and parsed.guide_weights is None:
        return None
    return load_model(parsed.guide_model or parsed.target, weights=parsed.guide_weights, device=device)


def _steps(parsed: SampleArguments, model: Model) -> Steps:
    if parsed.steps != "auto":
        return steps_of(parsed.steps, parsed.spacing)
    usual = model.diffusion.usual(model.sampler(sampler_of(parsed.sampler)))
    return steps_of(str(usual), parsed.spacing) if isinstance(usual, int) else usual


def _sheets(out: Path, made: Sampled, given: Inputs, show: View | None) -> list[str]:
    """Write what is made from the pictures; returns the names of all files, with what they show of many."""
    from sfumato.data import pictures

    images, n = made.images, given.n
    names = sheets(out, images, n, show)
    if given.pictures is not None:
        some = images[: max(1, len(images) // (2 if given.targets is None else 3))] if len(images) < n else images
        pictures.save_png(out / "pairs.png", sheet(given, some, show))
        names.append(first("pairs.png", len(some), n))
    for name, film in (("trajectory", made.frames), ("predictions", made.predictions)):
        if film:
            pictures.save_animation(out / f"{name}.webp", [pictures.grid(frame, show=show) for frame in film])
            names.append(first(f"{name}.webp", len(film[0]), n))
    return names


def _record(
    parsed: SampleArguments, model: Model, made: Sampled, moves: int, seconds: float,
    found: dict[str, object], out: Path,
) -> None:  # fmt: skip
    """Write what was asked for and what it took, sample.json."""
    from sfumato.data import pictures

    record = {
        **vars(parsed), "out": str(out), "moves": moves, "network_evaluations": made.evaluations,
        "seconds": round(seconds, 2), "about": model.about, "version": __version__,
        **{name: value for name, value in found.items() if value is not None},
    }  # fmt: skip
    pictures.write_text(out / "sample.json", json.dumps(record, indent=2, default=str))


def _cost(request: Request, model: Model, made: Sampled, moves: int) -> str:
    """Steps as they were asked for, and network evaluations as they were counted, both a picture."""
    from sfumato import samplers

    steps = min(request.steps, moves) if isinstance(request.steps, int) else moves
    name = samplers.name(model.sampler(request.sampler))
    evaluations = f"{made.evaluations:g} network evaluation{'s' if made.evaluations != 1 else ''}"
    return f"{steps} step{'s' if steps != 1 else ''}, {evaluations} of {name}"
