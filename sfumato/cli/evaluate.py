"""`sfumato evaluate`: from words to samples, reference, net and measures, and back to a table and a JSON file.

Everything that can be wrong with the words is said in one line before anything is sampled or measured.
"""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from sfumato.cli.numbers import Count, Moves, Processes, Seed, checked
from sfumato.cli.parsing import device_of, file_name, parse, sampler_help, sampler_of
from sfumato.cli.results import writable
from sfumato.data.sources import SPLIT
from sfumato.data.splits import has_splits, other_split, with_split
from sfumato.runtime.checkpoint import PARTS

if TYPE_CHECKING:
    from sfumato.evaluate.features import FeatureNet
    from sfumato.evaluate.measures import Measure
    from sfumato.evaluate.samples import Samples
    from sfumato.models.generate import Request
    from sfumato.models.model import Model

MOST = 10_000
"""Pictures of a model, unless -n says otherwise."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Measure pictures against real images: distances, precision and recall, copies; with their protocol and floor."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint or a shipped model (which samples now), an npz, a folder of images, or a data spec."""
    reference: str | None = None
    """The real images, or an npz of statistics; by default the test split of the model's data."""
    net: str = "auto"
    """digits, fashion, emoji32, lite0 or inception[:FILE]; auto takes that of the reference, or else lite0."""
    metrics: tuple[Literal["fd", "sfd", "kd", "is", "pr", "dc"], ...] = ()
    """Frechet, spatial Frechet and kernel distances, Inception score, precision and recall, density and coverage;
    by default all that apply."""
    other: str | None = None
    """Real images outside the reference, for the floor; by default its other split, or else halves of it."""
    training: str | None = None
    """Images to look for copies of; by default the training split that belongs to the reference; `none` skips it."""
    official: bool = False
    """Precision and recall by half-precision distances and Inception score in parts of 5000, as ADM's evaluator."""
    n: Annotated[Count | None, tyro.conf.arg(aliases=["-n"])] = None
    """How many pictures, of a file spread over it; by default all in a file, or 10,000 of a model, but no more than
    the reference holds."""
    steps: Moves | None = None
    """Moves from noise to a picture; by default 50, 100 in continuous time, and all for NCSN, NCSNv2 and 2015."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """A sampler with its options, such as ddim or "heun?churn=40": the list stands at the end of --help."""
    seed: Seed = 0
    """Picture i depends on (seed, i) alone."""
    classes: tuple[str, ...] = ()
    """Class names or numbers to sample, taken in turn; by default all in turn."""
    batch: Count = 64
    """Pictures at a time."""
    weights: str | None = None
    """`online`, or an EMA rate; by default the first EMA."""
    precision: Literal["auto", "bf16", "float32"] = "auto"
    """Of the sampling; the feature net is always float32."""
    device: str = "auto"
    """cpu, cuda, mps; auto takes a GPU where there is one."""
    processes: Processes = 1
    """How many share the sampling."""
    cache: Path | None = None
    """Where statistics of real images are kept; by default ~/.cache/sfumato/references."""
    out: Path | None = None
    """Where evaluation.json and nearest.png go; by default inside the run folder, or evaluations/."""


def evaluate_command(arguments: list[str]) -> int:
    return measured(parse(EvaluateArguments, arguments, "sfumato evaluate", about=sampler_help(arguments)))


def measured(parsed: EvaluateArguments) -> int:
    """Run the command; returns the exit code.

    Raises:
        ValueError: anything that the words get wrong, before the work.
        OSError: files that cannot be read or written.
    """
    from tqdm import tqdm

    from sfumato.data import Images, open_source, pictures
    from sfumato.evaluate import sets
    from sfumato.evaluate.run import evaluate, memorisation_sheet, planned
    from sfumato.evaluate.samples import from_images
    from sfumato.models.generate import plan
    from sfumato.models.loading import load_model

    device = device_of(parsed.device)
    checked(parsed)
    sampler_of(parsed.sampler)
    stored = stored_spec(parsed.target)
    model = None if stored else load_model(parsed.target, weights=parsed.weights)
    trained_on = None if model is None else str(model.about.get("data", {}).get("spec", ""))
    spec = parsed.reference or default_reference(stored, trained_on)
    real = sets.read(Path(spec)) if is_statistics(spec) else open_source(spec)
    images = real if isinstance(real, Images) else None
    net = net_for(parsed.net, spec, None if images is None else images.shape, device)
    wanted = (parsed.other or other_split(spec), training_split(spec, parsed.training))
    opened = {name: images if name == spec else open_source(name) for name in dict.fromkeys(filter(None, wanted))}
    other, training = (opened.get(name or "") for name in wanted)
    samples = from_images(open_source(stored), parsed.n) if stored else None
    count = parsed.n or min(MOST, MOST if images is None else len(images))
    request = None if model is None else request_for(parsed, model, count)
    if model is not None and request is not None:
        plan(model, request)
        shape = tuple(model.recipe.shape)
    elif samples is not None:
        count, *rest = samples.images.shape
        shape = tuple(rest)
    measures = planned(count, shape, real, net, measures=measures_for(parsed), other=other, training=training)
    out = writable(parsed.out or default_folder(parsed))

    started = time.perf_counter()
    if samples is None:
        assert request is not None
        samples = _made_now(parsed, request, device)
    with tqdm(unit="image", desc=f"features of {net.name}", disable=None, leave=False) as bar:
        result = evaluate(
            samples, real, net, measures=measures, other=other, training=training,
            cache=parsed.cache or default_cache(), progress=bar.update,
        )  # fmt: skip
    result.save(out / "evaluation.json")
    written = ["evaluation.json"]
    if training is not None:
        sheet = memorisation_sheet(samples.images, training.images, result.nearest)
        pictures.save_png(out / "nearest.png", sheet)
        written.append("nearest.png")
    print(f"{result}\n\n{time.perf_counter() - started:.0f} s; {out}/{{{','.join(written)}}}")
    return 0


def _made_now(parsed: EvaluateArguments, request: Request, device: str) -> Samples:
    """Pictures of the model."""
    from tqdm import tqdm

    from sfumato.evaluate.samples import sampled

    with tqdm(total=request.n, unit="picture", desc="sampling", disable=None, leave=False) as bar:
        return sampled(
            parsed.target, request, classes=parsed.classes or None, weights=parsed.weights, device=device,
            processes=parsed.processes, progress=bar.update,
        )  # fmt: skip


# ---------------------------------------------------------------- from words to objects


def stored_spec(target: str) -> str | None:
    """The data spec of a target that holds pictures; None where it is a model's."""
    path = Path(target)
    if path.is_dir():
        return None if (path / "config.json").is_file() or path.suffix == PARTS else f"folder:{target}"
    if path.is_file():
        return f"npz:{target}" if path.suffix in (".npz", ".npy") else None
    name = target.partition("?")[0].partition(":")[0]
    return target if name in (*SPLIT, "folder", "npz") else None


def is_statistics(spec: str) -> bool:
    """Whether a reference is a file of statistics rather than images."""
    import numpy as np

    path = Path(spec)
    if path.suffix != ".npz":
        return False
    if not path.is_file():
        raise ValueError(f"no file {spec!r} (for images in an npz write npz:{spec})")
    try:
        with np.load(path, allow_pickle=False) as file:
            return "mu" in file
    except Exception as error:  # numpy and zipfile raise many kinds for a damaged file
        raise ValueError(f"{spec} is damaged: {error}") from None


def default_reference(stored: str | None, trained_on: str | None) -> str:
    """The test split of what a model was trained on, or the other split of a data set."""
    spec = trained_on or stored or ""
    if not has_splits(spec):
        what = f"{spec} has" if spec else "these pictures have"
        raise ValueError(f"{what} no test split here; choose what to compare with: --reference SPEC")
    return with_split(spec, "test") if trained_on else str(other_split(spec))


def training_split(spec: str, wanted: str | None) -> str | None:
    """Where to look for copies: as wanted, or the training split of a reference's data set; None for `none`."""
    if wanted is not None:
        return None if wanted == "none" else wanted
    return with_split(spec, "train") if has_splits(spec) else None


def net_for(text: str, reference: str, shape: tuple[int, int, int] | None, device: str) -> FeatureNet:
    """The feature net by its word."""
    from sfumato.evaluate import features

    shipped = features.SHIPPED
    word, _, path = text.partition(":")
    if word == "auto":
        name = reference.partition("?")[0].partition(":")[0]
        word = name if name in shipped and shape == shipped[name].shape else "lite0"
    if word == "inception":
        return features.inception2015(path or None, device)
    if path or word not in (*shipped, "lite0"):
        raise ValueError(f"unknown feature net {text!r}; known: {', '.join(shipped)}, lite0, inception, inception:FILE")
    return features.lite0(device) if word == "lite0" else features.in_domain(word, device)


def measures_for(parsed: EvaluateArguments) -> tuple[Measure, ...] | None:
    """The measures by their words; None for all that apply."""
    from sfumato.evaluate import measures
    from sfumato.evaluate.neighbours import half_precision_distances

    if not parsed.metrics and not parsed.official:
        return None
    neighbours = measures.PrecisionRecall(distances=half_precision_distances)
    made: dict[str, Measure] = {
        "fd": measures.FrechetDistance(),
        "sfd": measures.SpatialFrechetDistance(),
        "kd": measures.KernelDistance(),
        "is": measures.InceptionScore(size=5000) if parsed.official else measures.InceptionScore(),
        "pr": neighbours if parsed.official else measures.PrecisionRecall(),
        "dc": measures.DensityCoverage(),
    }
    return tuple(made[word] for word in dict.fromkeys(parsed.metrics or ("fd", "sfd", "is", "pr")))


def request_for(parsed: EvaluateArguments, model: Model, n: int) -> Request:
    """What is asked of a model."""
    from sfumato.models.generate import Request

    sampler = sampler_of(parsed.sampler)
    steps = model.diffusion.usual(model.sampler(sampler)) if parsed.steps is None else parsed.steps
    return Request(n, steps, sampler, parsed.seed, batch=parsed.batch, precision=parsed.precision)


def default_cache() -> Path:
    """The user's own cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato" / "references"


def default_folder(parsed: EvaluateArguments) -> Path:
    """Inside the run folder, or evaluations/NAME."""
    target = Path(parsed.target)
    made = f"{file_name(parsed.sampler)}-{parsed.steps or 'auto'}-seed{parsed.seed}"
    if (target / "config.json").is_file():
        return target / "evaluations" / made
    if stored_spec(parsed.target) is not None:
        return Path("evaluations") / (target.stem if target.exists() else _plain(parsed.target))
    return Path("evaluations") / f"{target.stem if target.exists() else _plain(parsed.target)}-{made}"


def _plain(text: str) -> str:
    """A name for a folder."""
    return "".join(c if c.isalnum() else "-" for c in text)
