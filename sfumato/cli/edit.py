"""`sfumato edit`: what a trained model does with pictures that exist, one sub-command each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sfumato.cli import restore
from sfumato.cli.arrays import first, fits, on_sheet
from sfumato.cli.numbers import Count, Moves, Range, Seed
from sfumato.cli.parsing import UsageError, loaded, parse, some_pictures, view_of
from sfumato.cli.results import asked, beside, of_images, of_weights, output_folder, place, store

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.models.model import Model


@dataclass(frozen=True)
class ReconstructArguments:
    """Encode pictures to noise with DDIM and decode them again; writes them side by side."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: str | None = None
    """The pictures; by default the :test split of what the model was trained on, where there is one."""
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 16
    """How many of them, spread over the set."""
    steps: Moves = 100
    """Steps each way."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default inside the run folder, or edits/ for a checkpoint."""


@dataclass(frozen=True)
class InterpolateArguments:
    """Interpolate from picture to picture; writes one row a pair."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    data: str | None = None
    """Pictures to go between; without them, random latents."""
    n: Annotated[Count, tyro.conf.arg(aliases=["-n"])] = 4
    """How many pairs."""
    points: Annotated[int, Range(2, 1000)] = 11
    """Pictures a pair, both ends included."""
    how: Literal["slerp", "linear"] = "slerp"
    """On the sphere of DDIM's latents; or DDPM's way, mixing noisy pictures at a level, which needs --data."""
    level: Annotated[float, Range(0)] = 0
    """For linear: the level to mix at, or the time of a continuous model; by default half way."""
    steps: Moves = 50
    """Steps from noise to pictures."""
    seed: Seed = 0
    """Decides latents and noise."""
    temperature: Annotated[float, Range(0, 100, above=True)] = 1.0
    """For random latents: below 1 they are shrunk, which makes pictures plainer."""
    classes: tuple[str, ...] = ()
    """For random latents: class names or numbers, one a pair, taken in turn."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    out: Path | None = None
    """Where to; by default inside the run folder, or edits/ for a checkpoint."""


def edit_command(arguments: list[str]) -> int:
    verbs = {
        "interpolate": interpolate_command, "reconstruct": reconstruct_command, "inpaint": restore.inpaint_command,
        "superres": restore.superres_command, "deblur": restore.deblur_command, "colorize": restore.colorize_command,
        "restyle": restore.restyle_command,
    }  # fmt: skip
    if not arguments or arguments[0] not in verbs:
        raise UsageError(f"edit does one of: {', '.join(verbs)}; for example: sfumato edit interpolate ddpm/emoji32")
    return verbs[arguments[0]](arguments[1:])


def reconstruct_command(arguments: list[str]) -> int:
    parsed = parse(ReconstructArguments, arguments, "sfumato edit reconstruct")
    import torch

    from sfumato.data import pictures
    from sfumato.models.editing import Editor

    model = loaded(parsed.target, parsed.weights, parsed.device)
    images, labels = some_pictures(parsed.data, model, parsed.n)
    editor = Editor(model, parsed.steps, labels)
    whole = asked("edit reconstruct", parsed, weights=of_weights(model.network), device=model.device.type,
                  images=of_images(images))  # fmt: skip
    name = f"reconstruct-{parsed.steps}-{whole.digest}"
    with place(parsed.out or output_folder(parsed.target, "edits", name), whole) as out:
        back, error = editor.reconstruct(images)
        pictures.save_npz(out / "images.npz", back, labels, values=model.recipe.space.values)
        store(out, whole, ["images.npz", "pairs.png"])
        with beside(out / "images.npz"):
            shown = on_sheet(2 * len(images), images.shape[1:]) // 2 or 1
            pairs = torch.stack([images[:shown], back[:shown]], dim=1).flatten(0, 1)
            show = view_of(parsed.data, model)
            pictures.save_png(out / "pairs.png", pictures.grid(pairs, columns=8, show=show))
    print(f"{len(images)} pictures, {parsed.steps} steps each way: mean squared error {error.mean():.2e} of [0, 1]")
    print(f"{out}/{{{first('pairs.png', shown, len(images))},images.npz}}")
    return 0


def interpolate_command(arguments: list[str]) -> int:
    parsed = parse(InterpolateArguments, arguments, "sfumato edit interpolate")
    from sfumato.data import pictures

    if parsed.how == "linear" and not parsed.data:
        raise UsageError("--how linear mixes pictures: say which with --data")
    if parsed.data and parsed.temperature != 1:
        raise UsageError("--temperature belongs to random latents, without --data")
    model = loaded(parsed.target, parsed.weights, parsed.device)
    images, rows = _rows(parsed, model)
    whole = asked("edit interpolate", parsed, weights=of_weights(model.network), device=model.device.type,
                  images=of_images(images))  # fmt: skip
    name = f"interpolate-{parsed.how}-seed{parsed.seed}-{whole.digest}"
    n, points = parsed.n, parsed.points
    with place(parsed.out or output_folder(parsed.target, "edits", name), whole) as out:
        found = rows()
        pictures.save_npz(out / "images.npz", found.flatten(0, 1), values=model.recipe.space.values)
        store(out, whole, ["images.npz", "rows.png"])
        with beside(out / "images.npz"):
            shown = max(1, on_sheet(n * points, found.shape[2:]) // points)
            sheet = pictures.grid(found[:shown].flatten(0, 1), points, show=view_of(parsed.data, model))
            pictures.save_png(out / "rows.png", sheet)
    print(f"{n} pairs, {points} pictures each, {parsed.steps} steps")
    print(f"{out}/{{{first('rows.png', shown, n)},images.npz}}")
    return 0


def _rows(parsed: InterpolateArguments, model: Model) -> tuple[Tensor | None, Callable[[], Tensor]]:
    """The pictures to go between, where there are any, and what makes the rows, uint8 (n, points, C, H, W).

    Raises: ValueError, before any work.
    """
    from sfumato.core.randomness import ImageNoise
    from sfumato.models.editing import Editor

    n = parsed.n
    fits(2 * n, model.recipe.shape, "pictures", copies=parsed.points)
    if not parsed.data:
        editor = Editor(model, parsed.steps, model.labels(parsed.classes or None, n), parsed.seed)
        prior = model.diffusion.prior((2 * n, *model.recipe.space.shape(model.recipe.shape)))
        latents = parsed.temperature * prior.sample(ImageNoise(parsed.seed, range(2 * n)))
        return None, lambda: editor.between(latents[:n], latents[n:], parsed.points)
    images, labels = some_pictures(parsed.data, model, 2 * n)
    editor = Editor(model, parsed.steps, None if labels is None else labels.reshape(2, n), parsed.seed)
    if parsed.how == "linear":
        top = editor.levels()[0].item()
        level = editor.mixing(parsed.level or (top // 2 if isinstance(top, int) else top / 2))
        return images, lambda: editor.mixtures(images[:n], images[n:], level, parsed.points)

    def between() -> Tensor:
        latents = Editor(model, parsed.steps, labels, parsed.seed).encode(images).cpu()
        return editor.between(latents[:n], latents[n:], parsed.points)

    model.check_images(images, labels, "editing")
    return images, between
