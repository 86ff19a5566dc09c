"""`sfumato sample`: pictures from a run, a checkpoint or a shipped model, with every sampler, grid and guidance."""

from __future__ import annotations

import json
import time
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.parsing import UsageError, device_of, output_folder, parse, shrunk, steps_of, writable
from sfumato.version import __version__

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.core.times import Steps
    from sfumato.model import Model, Sampler


@dataclass(frozen=True)
class SampleArguments:
    """Make pictures: a PNG grid and an npz with the uint8 images (N, H, W, C)."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, or a shipped model such as ddpm/emoji32."""
    n: Annotated[int, tyro.conf.arg(aliases=["-n"])] = 64
    """How many pictures."""
    steps: str = "auto"
    """Steps a picture, at most the model's number of levels; or Improved DDPM's respacing: 10,10,10 or ddim50. auto is
    50, 100 in continuous time, and all of the model's own for NCSN, NCSNv2 and 2015."""
    spacing: Literal["even", "quadratic", "sections", "ddim-uniform", "ddim-quadratic"] = "even"
    """How the steps are spread: even or dense near the picture; or as published, quirks included: Improved DDPM's one
    section, DDIM's two grids."""
    sampler: Literal["auto", "ddim", "ancestral", "sigma-hat", "heun", "reverse-diffusion", "euler-maruyama",
                     "flow", "predictor-corrector", "annealed-langevin"] = "auto"  # fmt: skip
    """DDIM; the recipe's own ancestral steps (for score-based models: their own sampler); ancestral steps with the
    large variance, DDIM's sigma-hat; or any model by Heun's second-order flow, reverse diffusion, Euler-Maruyama or
    Euler's flow (continuous time only), predictor and corrector, or annealed Langevin dynamics (five moves a step).
    auto is DDIM, or the recipe's own for score-based models."""
    eta: float = 0.0
    """DDIM's noise: 0 is deterministic, 1 ancestral."""
    snr: float | None = None
    """The corrector's step beside the noise, 0.16 by default; predictor-corrector only."""
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
    processes: int = 1
    """How many share the work, a batch at a time; the pictures are the same."""
    animation: bool = False
    """Also write the walk from noise to pictures as an animation, and the pictures foreseen along the way."""
    out: Path | None = None
    """Where to; by default inside the run folder, or samples/ for a checkpoint."""


def sample_command(arguments: list[str]) -> int:
    parsed = parse(SampleArguments, arguments, "sfumato sample")
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.model import Guide, Request, load
    from sfumato.runtime.workers import WorkerPool

    device = device_of(parsed.device)
    team = WorkerPool(partial(load, parsed.target, weights=parsed.weights), parsed.processes, device)
    model = load(parsed.target, weights=parsed.weights, device=device)
    guide = Guide(load(parsed.classifier, device=device), parsed.classifier_scale) if parsed.classifier else None
    asker = guide.classifier if guide else model
    labels = asker.labels(parsed.classes or None, parsed.n)
    low_res = _low_res(parsed, model)
    asked: dict[str, Any] = {
        "steps": _steps(parsed, model), "sampler": _sampler(parsed, model), "seed": parsed.seed,
        "scale": parsed.scale, "guide": guide, "low_res": low_res, "batch": parsed.batch,
        "precision": parsed.precision,
    }  # fmt: skip
    moves = model.plan(Request(parsed.n, **asked))
    out = writable(parsed.out or output_folder(parsed.target, "samples", _name(parsed)))
    frames: list[Any] | None = [] if parsed.animation else None
    predictions: list[Any] | None = [] if parsed.animation else None
    started = time.perf_counter()
    with tqdm(total=parsed.n * moves, unit="step", disable=None, leave=False, smoothing=0) as bar:
        images = model.sample(
            parsed.n, classes=labels, frames=frames, predictions=predictions, progress=bar.update,
            team=team if team.processes > 1 else None, **asked,
        )  # fmt: skip
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
        f"{parsed.n} pictures, {moves} steps of {_word(parsed, model)}, in {seconds:.1f} s "
        f"({parsed.n / seconds:.1f} pictures/s)"
    )
    print(f"{out}/{{{','.join(written)}}}")
    return 0


def _steps(parsed: SampleArguments, model: Model) -> Steps:
    from sfumato.model import usual_steps

    if parsed.steps != "auto":
        return steps_of(parsed.steps, parsed.spacing)
    usual = usual_steps(model.recipe)
    return steps_of(str(usual), parsed.spacing) if isinstance(usual, int) else usual


def _sampler(parsed: SampleArguments, model: Model) -> Sampler:
    from sfumato import lenses
    from sfumato.model import ancestral, ddim_sampler, sigma_hat, usual

    if parsed.snr is not None and parsed.sampler != "predictor-corrector":
        raise UsageError("--snr belongs to --sampler predictor-corrector")
    if parsed.snr is not None and not parsed.snr > 0:
        raise UsageError(f"--snr is above 0, not {parsed.snr}")
    if parsed.sampler not in ("auto", "ddim") and parsed.eta:
        raise UsageError("--eta belongs to --sampler ddim")
    if not 0 <= parsed.eta <= 1:
        raise UsageError(f"--eta lies between 0 and 1, not {parsed.eta}")
    if parsed.sampler == "auto" and not parsed.eta:
        return usual(model.recipe)
    return {
        "auto": ddim_sampler(parsed.eta),
        "ancestral": ancestral,
        "sigma-hat": sigma_hat,
        "ddim": ddim_sampler(parsed.eta),
        "heun": lenses.heun(),
        "reverse-diffusion": lenses.reverse_diffusion(),
        "euler-maruyama": lenses.euler_maruyama(),
        "flow": lenses.euler_maruyama(flow=True),
        "predictor-corrector": lenses.predictor_corrector(snr=0.16 if parsed.snr is None else parsed.snr),
        "annealed-langevin": lenses.annealed_langevin(),
    }[parsed.sampler]


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


def _word(parsed: SampleArguments, model: Model) -> str:
    from sfumato.papers.recipe import Bounded

    return parsed.sampler if parsed.sampler != "auto" else "ddim" if isinstance(model.recipe, Bounded) else "its own"


def _name(parsed: SampleArguments) -> str:
    return f"{parsed.sampler}-{parsed.steps}-seed{parsed.seed}"
