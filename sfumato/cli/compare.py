"""`sfumato compare`: every paper's system on the same images with the same budget, from stored results or run anew."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Annotated, Any

import tyro

from sfumato.cli.numbers import MANY, Count, Range
from sfumato.cli.parsing import UsageError, parse
from sfumato.cli.results import writable
from sfumato.papers.training import parse_count


@dataclass(frozen=True)
class CompareArguments:
    """Print the stored comparison of a data set, or train and score whatever of it is missing."""

    data: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="[DATA]")] = "fashion"
    """The data set: fashion, digits or emoji32."""
    run: bool = False
    """Train and score what is missing; hours. It goes on where it stopped."""
    images: str = ""
    """Training images that every model sees, such as 20k: which stored comparison, by default the one of most, or how
    long --run trains, by default 100k."""
    seeds: Annotated[int, Range(1, 1000)] = 1
    """With --run: trainings of each model."""
    evaluations: tuple[Count, ...] = ()
    """With --run: network evaluations a picture at which each is scored; by default 5, 10, 20, 50, 100, 250, 1000."""
    pictures: Annotated[int, Range(50, MANY)] = 500
    """With --run: how many pictures of each are scored, up to 100 evaluations; half of them up to 250, then a fifth."""
    likelihood: bool = True
    """With --run: also find bits/dim of held-out images, which takes a minute to ten a model."""
    sampler: str = ""
    """With --run: also score every model by this sampler, such as dpmpp-2m (the list: sfumato sample --help)."""
    only: str = ""
    """With --run: only what begins so, such as ddpm/fashion."""
    runs: Path = Path("runs/compare")
    """With --run: the folder of the trainings."""
    results: Path | None = None
    """The file of results; by default the one of this package, and RUNS/DATA.json with --run."""
    plot: Path | None = None
    """Also draw distance against evaluations into this PNG."""


def compare_command(arguments: list[str]) -> int:
    parsed = parse(CompareArguments, arguments, "sfumato compare")
    from sfumato.compare import entries, report

    entries.entries(parsed.data, parsed.sampler)
    images = parse_count(parsed.images or "100k")
    if images < 1:
        raise UsageError(f"--images is at least 1, not {images}")
    file = parsed.results or (
        parsed.runs / f"{parsed.data}.json" if parsed.run else _stored(parsed.data, parsed.images)
    )
    for path in (file if parsed.run else None, parsed.plot):
        if path is not None:
            writable(path.parent)
    if parsed.run:
        writable(parsed.runs)
        _run(parsed, images, file)
    if not file.is_file():
        raise UsageError(f"{file} is not there: no comparison on {parsed.data} is stored (make one with --run)")
    found = stored_results(file)
    try:
        tables = "\n\n".join(report.tables(found))
    except (KeyError, TypeError, AttributeError, IndexError):
        raise UsageError(f"{file} is damaged: it does not hold what sfumato compare writes") from None
    print(tables)
    if parsed.plot:
        report.plot(found, parsed.plot)
    return 0


def stored_results(file: Path) -> dict[str, Any]:
    """The results in a file. ValueError, with its name, where it holds something else."""
    from sfumato.runtime.json_file import read_object

    found = read_object(file)
    if not all(isinstance(found.get(name), kind) for name, kind in (("data", str), ("models", dict), ("scores", dict))):
        raise UsageError(f"{file} holds no results of sfumato compare")
    return found


def _stored(data: str, images: str) -> Path:
    """The file of this package with a data set's results: DATA.json, or DATA-IMAGES.json for a smaller budget."""
    folder = Path(str(resources.files("sfumato.compare"))) / "results"
    files: dict[int, Path] = {
        stored_results(path).get("images", 0): path for path in sorted(folder.glob(f"{data}*.json"))
    }
    if images and files and parse_count(images) not in files:
        known = ", ".join(f"{number:,}" for number in sorted(files, reverse=True))
        raise UsageError(
            f"no comparison on {data} with {images} images is stored; there are {known} (or make one with --run)"
        )
    return files[parse_count(images) if images else max(files)] if files else folder / f"{data}.json"


def _run(parsed: CompareArguments, images: int, file: Path) -> None:
    """Train and score what is missing."""
    from sfumato.cli.train import train_command
    from sfumato.compare.entries import NUMBERS
    from sfumato.compare.runner import Comparison

    numbers = parsed.evaluations or NUMBERS
    if not set(numbers) <= set(NUMBERS):
        raise UsageError(f"--evaluations are among {', '.join(map(str, NUMBERS))}")
    comparison = Comparison(
        parsed.data, parsed.runs, file, train_command, images, parsed.seeds, numbers, parsed.pictures, parsed.likelihood
    )  # fmt: skip
    comparison.train(parsed.only)
    comparison.score(parsed.only, parsed.sampler)
