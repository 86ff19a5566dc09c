"""`sfumato edit`: what a trained model does with pictures that exist, one sub-command each."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from sfumato.cli import restore
from sfumato.cli.numbers import Count, Moves, Range, Seed
from sfumato.cli.parsing import UsageError, loaded, output_folder, parse, some_pictures, writable


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
    """`online`, or an EMA rate; by default the first EMA."""
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
    temperature: Annotated[float, Range(0, above=True)] = 1.0
    """For random latents: below 1 they are shrunk, which makes pictures plainer."""
    classes: tuple[str, ...] = ()
    """For random latents: class names or numbers, one a pair, taken in turn."""
    weights: str | None = None
    """`online`, or an EMA rate; by default the first EMA."""
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
    out = writable(parsed.out or output_folder(parsed.target, "edits", f"reconstruct-{parsed.steps}"))
    back, error = editor.reconstruct(images)
    pairs = torch.stack([images, back], dim=1).flatten(0, 1)
    pictures.save_png(out / "pairs.png", pictures.grid(pairs, columns=8))
    pictures.save_npz(out / "images.npz", back, labels)
    print(f"{len(images)} pictures, {parsed.steps} steps each way: mean squared error {error.mean():.2e} of [0, 1]")
    print(f"{out}/{{pairs.png,images.npz}}")
    return 0


def interpolate_command(arguments: list[str]) -> int:
    parsed = parse(InterpolateArguments, arguments, "sfumato edit interpolate")
    from sfumato.core.randomness import ImageNoise
    from sfumato.data import pictures
    from sfumato.models.editing import Editor

    n = parsed.n
    if parsed.how == "linear" and not parsed.data:
        raise UsageError("--how linear mixes pictures: say which with --data")
    if parsed.data and parsed.temperature != 1:
        raise UsageError("--temperature belongs to random latents, without --data")
    model = loaded(parsed.target, parsed.weights, parsed.device)
    if parsed.data:
        images, labels = some_pictures(parsed.data, model, 2 * n)
        editor = Editor(model, parsed.steps, None if labels is None else labels.reshape(2, n), parsed.seed)
        if parsed.how == "linear":
            top = editor.levels()[0].item()
            level = parsed.level or (top // 2 if isinstance(top, int) else top / 2)
            rows = editor.mixtures(images[:n], images[n:], level, parsed.points)
        else:
            latents = Editor(model, parsed.steps, labels, parsed.seed).encode(images).cpu()
            rows = editor.between(latents[:n], latents[n:], parsed.points)
    else:
        editor = Editor(model, parsed.steps, model.labels(parsed.classes or None, n), parsed.seed)
        prior = model.diffusion.prior((2 * n, *model.recipe.space.shape(model.recipe.shape)))
        latents = parsed.temperature * prior.sample(ImageNoise(parsed.seed, range(2 * n)))
        rows = editor.between(latents[:n], latents[n:], parsed.points)
    name = f"interpolate-{parsed.how}-seed{parsed.seed}"
    out = writable(parsed.out or output_folder(parsed.target, "edits", name))
    pictures.save_png(out / "rows.png", pictures.grid(rows.flatten(0, 1), columns=parsed.points))
    pictures.save_npz(out / "images.npz", rows.flatten(0, 1))
    print(f"{n} pairs, {parsed.points} pictures each, {parsed.steps} steps")
    print(f"{out}/{{rows.png,images.npz}}")
    return 0
