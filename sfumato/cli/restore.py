"""`sfumato edit inpaint | superres | deblur | colorize | restyle`: pictures out of what was seen of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.arrays import first, fits, on_sheet
from sfumato.cli.numbers import Count, Range, Seed, whole_number
from sfumato.cli.parsing import UsageError, file_name, loaded, parse, sampler_of, some_pictures, view_of
from sfumato.cli.results import asked, beside, of_images, of_weights, output_folder, place, store
from sfumato.shapes import only_images

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.data.pictures import View
    from sfumato.inverse import Operator
    from sfumato.models.model import Model
    from sfumato.models.restoration import Restored


@dataclass(frozen=True)
class RestoreArguments:
    """Pictures of which something is known; writes before, what is known, and several draws of what may have been."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: Annotated[str | None, tyro.conf.arg(aliases=["--source"])] = None
    """The pictures, a data spec or one picture file; by default the :test split of what the model was trained on."""
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 4
    """How many of them, spread over the set."""
    draws: Annotated[int, Range(1, 10_000)] = 4
    """How many answers a picture; their mean and their deviation are written, too."""
    method: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """mmps, pigdm, dps, diffpir, replacement, repaint, ilvr or sdedit, with options as in mmps?iterations=3. auto is
    mmps, the least biased at twice the cost of sampling."""
    noise: Annotated[float, Range(0, 1000)] = 0.0
    """Deviation of the noise in what was seen, where pictures are in [-1, 1]."""
    steps: str = "auto"
    """Moves from noise to a picture; auto is the model's usual number."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """A sampler, as for `sfumato sample`; auto is ddim?eta=1, or the own of score-based models."""
    classes: tuple[str, ...] = ()
    """Class names or numbers, one a picture, taken in turn; by default those of the data, where the model has any."""
    guidance: str | None = None
    """As for `sfumato sample`, such as "interval?scale=2"."""
    seed: Seed = 0
    """Decides what is made up."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default inside the run folder, or edits/ for a checkpoint."""


@dataclass(frozen=True)
class InpaintArguments(RestoreArguments):
    """Fill in what a mask leaves open."""

    mask: Path | None = None
    """A grey picture of the images' size: white stays, black is filled in."""


@dataclass(frozen=True)
class SuperresArguments(RestoreArguments):
    """Enlarge pictures: those of a data set are shrunk first; a picture file that is small already is taken so."""

    factor: Annotated[int, Range(2, 4096)] = 2
    """How many times."""
    by: Literal["mean-pool", "bicubic"] = "mean-pool"
    """How small pictures come about."""


@dataclass(frozen=True)
class DeblurArguments(RestoreArguments):
    """Sharpen pictures: they are blurred first, unless they are blurred already."""

    std: Annotated[float, Range(0, 1000, above=True)] = 1.0
    """Deviation of the Gaussian blur, in pixels."""
    blurred: bool = False
    """The pictures are blurred already."""
    noise: Annotated[float, Range(0, 1000)] = 0.02
    """Deviation of the noise in what was seen, where pictures are in [-1, 1]; it is added, too."""


@dataclass(frozen=True)
class RestyleArguments(RestoreArguments):
    """Make other pictures of the same layout: noise up to a level, then down again (SDEdit, Meng et al. 2022)."""

    strength: Annotated[float, Range(0, 1, above=True)] = 0.5
    """How much noise, from 0 to 1: 0.3 keeps most of a picture, 0.6 little."""


def _model(parsed: RestoreArguments) -> Model:
    """The model of the words, which makes images."""
    model = loaded(parsed.target, parsed.weights, parsed.device)
    only_images(model.recipe.shape, "restoring", "edit reconstruct and edit interpolate are for all")
    return model


def inpaint_command(arguments: list[str]) -> int:
    parsed = parse(InpaintArguments, arguments, "sfumato edit inpaint")
    from sfumato.inverse import Mask

    if parsed.mask is None:
        raise UsageError("say what is known: --mask FILE.png, where white stays and black is filled in")
    model = _model(parsed)
    return _restored(parsed, "inpaint", model, Mask(_mask(parsed.mask, tuple(model.recipe.shape[1:]))))


def superres_command(arguments: list[str]) -> int:
    parsed = parse(SuperresArguments, arguments, "sfumato edit superres")
    from sfumato import inverse

    model = _model(parsed)
    return _restored(parsed, "superres", model, inverse.operator(f"{parsed.by}?factor={parsed.factor}"))


def deblur_command(arguments: list[str]) -> int:
    parsed = parse(DeblurArguments, arguments, "sfumato edit deblur")
    from sfumato.inverse import Blur

    model = _model(parsed)
    return _restored(parsed, "deblur", model, Blur(parsed.std), already=parsed.blurred)


def colorize_command(arguments: list[str]) -> int:
    parsed = parse(RestoreArguments, arguments, "sfumato edit colorize")
    from sfumato.inverse import Grey

    model = _model(parsed)
    if model.recipe.shape[0] != 3:
        raise UsageError(f"colouring needs a model of colour images; {parsed.target} makes grey ones")
    return _restored(parsed, "colorize", model, Grey())


def restyle_command(arguments: list[str]) -> int:
    parsed = parse(RestyleArguments, arguments, "sfumato edit restyle")
    import torch

    from sfumato.inverse import Mask, SDEdit

    if parsed.method not in ("auto", "sdedit"):
        raise UsageError("restyle is done by sdedit, whose strength is --strength")
    model = _model(parsed)
    return _restored(parsed, "restyle", model, Mask(torch.tensor(True)), method=SDEdit(parsed.strength))


def _restored(
    parsed: RestoreArguments, verb: str, model: Model, operator: Operator, method: Any = None, already: bool = False
) -> int:
    """Measure the pictures, draw, and write what was drawn."""
    from sfumato.data import pictures
    from sfumato.models.restoration import restore

    before, seen, labels = _seen(parsed, model, operator, already)
    if parsed.classes:
        labels = model.labels(parsed.classes, len(seen))
    fits(len(seen), model.recipe.shape, "pictures", copies=2 * parsed.draws)
    whole = asked(f"edit {verb}", parsed, weights=of_weights(model.network), device=model.device.type,
                  images=of_images(before), seen=of_images(seen))  # fmt: skip
    name = f"{verb}-{file_name(parsed.method)}-{whole.digest}"
    with place(parsed.out or output_folder(parsed.target, "edits", name), whole) as out:
        found = restore(
            model, seen, operator, labels=labels, noise=parsed.noise, draws=parsed.draws, seed=parsed.seed,
            method=method or (None if parsed.method == "auto" else parsed.method), guidance=parsed.guidance,
            steps="usual" if parsed.steps == "auto" else whole_number(parsed.steps, "--steps"),
            sampler=sampler_of(parsed.sampler),
        )  # fmt: skip
        pictures.save_npz(out / "draws.npz", found.draws.flatten(0, 1), values=model.recipe.space.values)
        pictures.save_npz(out / "images.npz", found.draws[:, 0], values=model.recipe.space.values)
        store(out, whole, ["draws.npz", "images.npz", *SHEETS])
        with beside(out / "draws.npz"):
            show = view_of(parsed.data, model)
            shown = _sheets(out, before, operator.pinv(seen), found, show)
    print(f"{len(seen)} pictures, {parsed.draws} draws each; triples.png: before, what is known, after")
    error, deviation = found.error.mean(), found.deviation.mean()
    print(f"on the scale [0, 1]: error on what was seen {error:.4f}, deviation of the draws {deviation:.4f}")
    print(f"{out}/{{{','.join([*shown, 'images.npz', 'draws.npz'])}}}")
    return 0


def _seen(
    parsed: RestoreArguments, model: Model, operator: Operator, already: bool
) -> tuple[Tensor, Tensor, Tensor | None]:
    """Pictures (n, C, H, W), what was seen of them in [-1, 1], and their labels."""
    from sfumato.core.randomness import ImageNoise
    from sfumato.data.loader import to_float, to_uint8

    shape = operator.check(model.recipe.shape)
    labels = None
    if parsed.data is not None and Path(parsed.data).is_file():
        images = _picture(Path(parsed.data), model.recipe.shape[0])
    else:
        images, labels = some_pictures(parsed.data, model, parsed.n)
    if tuple(images.shape[1:]) == model.recipe.shape and not already:
        seen = operator(to_float(images))
        return images, operator.seen(seen + parsed.noise * ImageNoise(parsed.seed + 1, range(len(seen)))(seen)), labels
    if tuple(images.shape[1:]) != shape:
        sizes = " or ".join("x".join(map(str, size[1:])) for size in dict.fromkeys((model.recipe.shape, shape)))
        raise UsageError(f"{parsed.data} is {images.shape[2]}x{images.shape[3]} pixels; this takes {sizes}")
    return to_uint8(operator.pinv(to_float(images))), to_float(images), labels


def _pixels(path: Path, channels: int, shape: tuple[int, ...] | None = None) -> Tensor:
    """A picture file as uint8 (C, H, W). UsageError where it is none, or not of the wanted (H, W)."""
    from sfumato.data.decoding import Unreadable
    from sfumato.data.spec import Size
    from sfumato.data.upright import OtherSizeError, single

    size = Size(shape[1], shape[0]) if shape else None
    try:
        return single(path, channels, size)
    except OtherSizeError as error:
        raise UsageError(f"{path} is {error}, the model's images are {size}") from None
    except Unreadable as error:
        raise UsageError(f"{path}: {error}") from None


def _picture(path: Path, channels: int) -> Tensor:
    """A picture file as uint8 (1, C, H, W), grey or colour. UsageError for other numbers of channels."""
    if channels not in (1, 3):
        raise UsageError(f"the model's images have {channels} channels: take --data folder:PATH?channels={channels}")
    return _pixels(path, channels)[None]


def _mask(path: Path, shape: tuple[int, ...]) -> Tensor:
    """Where a picture is white, (H, W)."""
    known = _pixels(path, 1, shape)[0] > 127
    if bool(known.all()):
        raise UsageError(f"the mask {path} is white everywhere, so there is nothing to fill in")
    return known


SHEETS = ("triples.png", "draws.png", "mean.png", "deviation.png")


def _sheets(out: Path, before: Tensor, known: Tensor, found: Restored, show: View | None) -> list[str]:
    """Write what shows the draws, of the first pictures where they are many; returns the names of the files."""
    import torch

    from sfumato.data import eight_bits, pictures

    n, draws, *shape = found.draws.shape
    shown = max(1, on_sheet(n * (draws + 4), tuple(shape)) // (draws + 4))
    before, known, mean, deviation, made = (
        part[:shown] for part in (before, known, found.mean, found.deviation, found.draws)
    )
    before, known, mean, made = (eight_bits(part, show and show.window) for part in (before, known, mean, made))
    spread = (deviation / found.deviation.max().clamp(min=1e-6) * 255).round().byte()
    triples = torch.stack([before, known, made[:, 0]], dim=1).flatten(0, 1)
    pictures.save_png(out / "triples.png", pictures.grid(triples, 3 * min(4, len(before)), show=show))
    rows = torch.stack([before, known, *made.unbind(1), mean, spread], dim=1)
    pictures.save_png(out / "draws.png", pictures.grid(rows.flatten(0, 1), rows.shape[1], show=show))
    pictures.save_png(out / "mean.png", pictures.grid(mean, show=show))
    pictures.save_png(out / "deviation.png", pictures.grid(spread, show=show))
    return [first(name, shown, n) for name in SHEETS]
