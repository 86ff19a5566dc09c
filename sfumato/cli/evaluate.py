"""`sfumato evaluate`: from words to samples, reference, net and measures, and back to a table and a JSON file.

Everything that can be wrong with the words is said in one line before anything is sampled or measured.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from sfumato.cli.arrays import fits
from sfumato.cli.measuring import (
    cache_folder,
    default_reference,
    is_statistics,
    net_for,
    stored_spec,
    training_split,
)
from sfumato.cli.numbers import Count, Moves, Processes, Seed, checked
from sfumato.cli.parsing import device_of, file_name, parse, sampler_help, sampler_of
from sfumato.cli.results import Asked, asked, beside, of_weights, output_folder, place, store
from sfumato.data.splits import other_split

if TYPE_CHECKING:
    from sfumato.data import Images
    from sfumato.evaluate.features import FeatureNet
    from sfumato.evaluate.measures import Measure
    from sfumato.evaluate.samples import Samples
    from sfumato.evaluate.sets import FeatureSet
    from sfumato.models.generate import Request
    from sfumato.models.model import Model

MOST = 10_000
"""Pictures of a model, unless -n says otherwise."""


@dataclass(frozen=True)
class EvaluateArguments:
    """Measure pictures against real images: distances, precision and recall, copies; with their protocol and floor."""

    target: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="TARGET")]
    """A run folder, a checkpoint, a folder of diffusers or a shipped model (which samples now); an npz, a folder of
    images, tar shards, or any data spec."""
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
    """Moves from noise to a picture; by default 10 by the usual sampler, DPM-Solver++(2M) on Karras' grid; by others
    50, or the paper's own number; and all for NCSN, NCSNv2 and 2015."""
    sampler: Annotated[str, tyro.conf.arg(metavar="SPEC")] = "auto"
    """A sampler with its options, such as ddim or "heun?churn=40": the list stands at the end of --help."""
    seed: Seed = 0
    """Picture i depends on (seed, i) alone."""
    classes: tuple[str, ...] = ()
    """Class names or numbers to sample, taken in turn; by default all in turn."""
    batch: Count = 64
    """Pictures at a time."""
    weights: str | None = None
    """`online`, an EMA rate, a length sigma_rel such as 0.05, or `best`; by default the first EMA."""
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


@dataclass(frozen=True)
class Work:
    """What the words stood for: everything that is compared, opened and found fit.

    Attributes:
        samples: pictures that are there already, or None for those of `request`.
        count: how many are measured.
    """

    model: Model | None
    samples: Samples | None
    request: Request | None
    count: int
    real: Images | FeatureSet
    net: FeatureNet
    measures: tuple[Measure, ...]
    other: Images | None
    training: Images | None


def measured(parsed: EvaluateArguments) -> int:
    """Run the command; returns the exit code.

    Raises:
        ValueError: anything that the words get wrong, before the work.
        OSError: files that cannot be read or written.
    """
    from tqdm import tqdm

    from sfumato.data import pictures
    from sfumato.data.sources import view_of
    from sfumato.evaluate.run import evaluate, memorisation_sheet

    device = device_of(parsed.device)
    checked(parsed)
    sampler_of(parsed.sampler)
    cache = cache_folder(parsed.cache)
    work = prepared(parsed, device)
    whole = asked_of(parsed, work, device)
    with place(parsed.out or default_folder(parsed, whole.digest), whole) as out:
        started = time.perf_counter()
        samples = work.samples or _made_now(parsed, work, device)
        with tqdm(unit="image", desc=f"features of {work.net.name}", disable=None, leave=False) as bar:
            result = evaluate(
                samples, work.real, work.net, measures=work.measures, other=work.other, training=work.training,
                cache=cache, progress=bar.update,
            )  # fmt: skip
        written = ["evaluation.json", *(["nearest.png"] if work.training is not None else [])]
        result.save(out / "evaluation.json")
        store(out, whole, written)
        if work.training is not None:
            with beside(out / "evaluation.json"):
                show = view_of(stored_spec(parsed.target), work.training.spec)
                sheet = memorisation_sheet(samples.images, work.training.images, result.nearest, show=show)
                pictures.save_png(out / "nearest.png", sheet)
    print(f"{result}\n\n{time.perf_counter() - started:.0f} s; {out}/{{{','.join(written)}}}")
    return 0


def prepared(parsed: EvaluateArguments, device: str) -> Work:
    """Open whatever the words name. ValueError where it does not fit together, before any work."""
    from sfumato.data import Images, open_source
    from sfumato.evaluate import sets
    from sfumato.evaluate.run import planned
    from sfumato.evaluate.samples import from_images
    from sfumato.models.generate import plan
    from sfumato.models.loading import load_model

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
        shape = tuple(model.recipe.shape)
        fits(count, shape, "pictures", copies=1)
        plan(model, request)
        model.labels(parsed.classes or None, 1)
    else:
        assert samples is not None
        count, *rest = samples.images.shape
        shape = tuple(rest)
    measures = planned(count, shape, real, net, measures=measures_for(parsed), other=other, training=training)
    return Work(model, samples, request, count, real, net, measures, other, training)


def asked_of(parsed: EvaluateArguments, work: Work, device: str) -> Asked:
    """The whole request: the words, and what they stood for."""
    from sfumato.data import Images

    found: dict[str, Any] = {"net": work.net.sha256, "count": work.count, "device": device.partition(":")[0]}
    for name, real in (("reference", work.real), ("other", work.other), ("training", work.training)):
        found[name] = real.card.fingerprint if isinstance(real, Images) else real and real.sha256
    if work.samples is not None:
        found["samples"] = work.samples.sha256
    elif work.model is not None and work.request is not None:
        found |= {"weights": of_weights(work.model.network), "precision": work.request.precision_on(work.model.device)}
    return asked("evaluate", parsed, **found)


def _made_now(parsed: EvaluateArguments, work: Work, device: str) -> Samples:
    """Pictures of the model."""
    from tqdm import tqdm

    from sfumato.evaluate.samples import sampled

    request = work.request
    assert request is not None
    with tqdm(total=request.n, unit="picture", desc="sampling", disable=None, leave=False) as bar:
        return sampled(
            parsed.target, request, classes=parsed.classes or None, weights=parsed.weights, device=device,
            processes=parsed.processes, progress=bar.update,
        )  # fmt: skip


# ---------------------------------------------------------------- from words to objects


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


def default_folder(parsed: EvaluateArguments, digest: str) -> Path:
    """Inside the run folder, or evaluations/NAME, one for each request."""
    if stored_spec(parsed.target) is not None:
        return output_folder(parsed.target, "evaluations", digest)
    made = f"{file_name(parsed.sampler)}-{parsed.steps or 'auto'}-seed{parsed.seed}-{digest}"
    return output_folder(parsed.target, "evaluations", made)
