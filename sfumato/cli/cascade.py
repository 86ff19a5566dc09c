"""`sfumato cascade`: a model of small images and upsamplers as one model; and `sfumato sample` of such a cascade."""

from __future__ import annotations

import json
import shlex
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.numbers import Count, Range, Seed
from sfumato.cli.parsing import UsageError, device_of, parse, sampler_of, steps_of

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.evaluate.cascades import AtLevel
    from sfumato.models.cascade import Cascade

Level = Annotated[float, Range(0, 1)]
"""Deviation of the noise on an upsampler's input."""
Scales = Annotated[float, Range(-10_000, 10_000)]
USUAL = 0.1


@dataclass(frozen=True)
class CascadeArguments:
    """Make a cascade of a model of small images and an upsampler, or several: a folder that sfumato sample takes."""

    stages: Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="MODEL UPSAMPLER [UPSAMPLER ...]")]
    """Run folders, checkpoints or shipped models, the smallest images first; or a cascade alone, with --measure."""
    out: Path
    """The folder of the cascade."""
    level: tuple[Level, ...] = ()
    """Noise on the inputs of the upsamplers (noise-conditioning augmentation), one number or one for each; by default
    0.1, or half of what an upsampler was trained with where that is less."""
    measure: tuple[Level, ...] = ()
    """Instead, levels to try for the last upsampler: the Frechet distance at each is printed, and the least is kept."""
    reference: str | None = None
    """Real images for --measure; by default the test split of the last upsampler's data."""
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 1000
    """Pictures for each level of --measure."""
    seed: Seed = 0
    """Of the pictures of --measure."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""


@dataclass(frozen=True)
class CascadeSampleArguments:
    """Make pictures with a cascade: a PNG grid, the stages side by side, and an npz with uint8 images (N, H, W, C)."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="CASCADE")]
    """The folder of a cascade."""
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 64
    """How many pictures."""
    steps: str = "auto"
    """Moves from noise to a picture, in every stage; as in sfumato sample."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """A sampler with its options, for every stage."""
    seed: Seed = 0
    """Picture i depends on (seed, i) alone, whatever the batch."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, taken in turn; by default all in turn, where the models have classes."""
    scale: tuple[Scales, ...] = (1.0,)
    """Classifier-free guidance: one number, or one for each stage."""
    level: tuple[Level, ...] = ()
    """Noise on the inputs of the upsamplers, one number or one for each; by default as the cascade has it."""
    batch: Count = 64
    """Pictures at a time; bounds the memory."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """bf16 where the machine is fast at it."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default inside the cascade's folder."""


def cascade_command(arguments: list[str]) -> int:
    from sfumato.models.cascade import Cascade, is_cascade, load_cascade
    from sfumato.models.loading import load_model

    parsed = parse(CascadeArguments, arguments, "sfumato cascade")
    device = device_of(parsed.device)
    if parsed.out.exists() and (not parsed.out.is_dir() or any(parsed.out.iterdir())):
        raise UsageError(f"{parsed.out} is there already; choose another folder for the cascade")
    if len(parsed.stages) == 1 and is_cascade(parsed.stages[0]):
        made = load_cascade(parsed.stages[0], device)
    else:
        made = Cascade(tuple(load_model(stage, device=device) for stage in parsed.stages))
        if not parsed.level:
            made = made.with_levels([min(USUAL, most / 2) for most in _learned(made)])
    if parsed.level:
        made = made.with_levels(parsed.level)
    if parsed.measure:
        made = _measured(parsed, made)
    made.save(parsed.out)
    sizes = " -> ".join(f"{model.recipe.shape[2]}x{model.recipe.shape[1]}" for model in made.stages)
    print(f"cascade  {sizes}, noise on the inputs {', '.join(f'{level:g}' for level in made.levels)}")
    print(f"sfumato sample {shlex.quote(str(parsed.out))}")
    return 0


def _learned(cascade: Cascade) -> list[float]:
    """The most noise that each upsampler was trained with."""
    return [model.recipe.conditioning.noise for model in cascade.stages[1:]]


def _measured(parsed: CascadeArguments, cascade: Cascade) -> Cascade:
    """The cascade with the level of the least distance, of those that are tried."""
    from tqdm import tqdm

    from sfumato.data import open_source
    from sfumato.data.splits import test_split
    from sfumato.evaluate.cascades import by_level
    from sfumato.evaluate.features import usual

    data = cascade.stages[-1].about.get("data", {}).get("spec")
    spec = parsed.reference or (test_split(data) or data if data else None)
    if not spec:
        raise UsageError("say against which images the pictures are measured: --reference fashion:test, for example")
    reference = open_source(spec)
    net = usual(reference.spec, reference.shape, device_of(parsed.device))
    found: list[AtLevel] = []
    with tqdm(unit="step", disable=None, leave=False) as bar:
        rows = by_level(cascade, parsed.measure, parsed.n, reference, net, seed=parsed.seed, progress=bar.update)
        for row in rows:
            if not found:
                print(f"{net.distance} of {parsed.n:,} pictures against {len(reference):,} of {spec}")
                print("level    cascade   upsampler of real images")
            print(f"{row.level:<8g} {row.distance:<9.3f} {row.real:.3f}")
            found.append(row)
    best = min(found, key=lambda row: row.distance)
    about: dict[str, Any] = {
        "measure": net.distance, "reference": spec, "n": parsed.n, "seed": parsed.seed,
        "levels": [row.level for row in found], "distances": [round(row.distance, 4) for row in found],
    }  # fmt: skip
    chosen = cascade.with_levels((*cascade.levels[:-1], best.level))
    return replace(chosen, about={**cascade.about, "measured": about})


# ---------------------------------------------------------------- sample


def sample_cascade(arguments: list[str]) -> int:
    """`sfumato sample CASCADE`."""
    from sfumato.cli.arrays import fits, streamed
    from sfumato.cli.results import asked, beside, of_weights, place, store
    from sfumato.models.cascade import load_cascade

    parsed = parse(CascadeSampleArguments, arguments, "sfumato sample")
    device = device_of(parsed.device)
    cascade = load_cascade(parsed.target, device)
    cascade = cascade.with_levels(parsed.level) if parsed.level else cascade
    labels = cascade.stages[0].labels(parsed.classes or None, parsed.n)
    steps: Any = "usual" if parsed.steps == "auto" else steps_of(parsed.steps)
    moves = cascade.moves(parsed.n, steps, sampler_of(parsed.sampler), parsed.scale)
    fits(parsed.n, cascade.shape, "pictures")
    found = {f"stage {i + 1}": of_weights(model.network) for i, model in enumerate(cascade.stages)}
    whole = asked("sample", parsed, **found, levels=cascade.levels)
    folder = parsed.out or Path(parsed.target).expanduser() / "samples" / f"seed{parsed.seed}-{whole.digest}"
    started, stages, space = time.perf_counter(), list[Any](), cascade.stages[-1].recipe.space
    with place(folder, whole) as out:
        images = _drawn(parsed, cascade, labels, steps, moves, stages)
        seconds = time.perf_counter() - started
        with streamed(out / "images.npz", parsed.n, cascade.shape, labels, space.levels, space.values) as keep:
            keep(images)
        store(out, whole, ["images.npz", "sample.json", "grid.png", "rows.png"])
        record = {**vars(parsed), "levels": cascade.levels, "moves": moves, "seconds": round(seconds, 2)}
        (out / "sample.json").write_text(json.dumps(record, indent=2, default=str), "utf-8")
        with beside(out / "images.npz"):
            _sheets(out, images, stages)
    width, height = cascade.shape[2], cascade.shape[1]
    print(f"{parsed.n} pictures of {width}x{height}, {len(stages)} stages, {moves} steps in all, in {seconds:.1f} s")
    print(f"{out}/{{grid.png,rows.png,images.npz}}")
    return 0


def _drawn(
    parsed: CascadeSampleArguments, cascade: Cascade, labels: Tensor | None, steps: Any, moves: int,
    stages: list[Tensor],
) -> Tensor:  # fmt: skip
    from tqdm import tqdm

    with tqdm(total=parsed.n * moves, unit="step", disable=None, leave=False, smoothing=0) as bar:
        return cascade.sample(
            parsed.n, steps=steps, sampler=sampler_of(parsed.sampler), seed=parsed.seed, classes=labels,
            scale=parsed.scale, batch=parsed.batch, precision=parsed.precision, stages=stages, progress=bar.update,
        )  # fmt: skip


def _sheets(out: Path, images: Tensor, stages: list[Tensor]) -> None:
    """All pictures, and of some every stage side by side."""
    import torch
    from torch.nn.functional import interpolate

    from sfumato.cli.arrays import on_sheet
    from sfumato.data import pictures
    from sfumato.data.loader import eight_bits

    shown, size = on_sheet(len(images), tuple(images.shape[1:])), tuple(images.shape[2:])
    pictures.save_png(out / "grid.png", pictures.grid(images[:shown]))
    alike = [interpolate(eight_bits(stage[:32]).float(), size, mode="nearest").byte() for stage in stages]
    together = torch.stack(alike, dim=1).flatten(0, 1)
    pictures.save_png(out / "rows.png", pictures.grid(together, columns=len(stages) * max(1, 8 // len(stages))))
