"""Train a diffusion model in one call from Python, `sfumato.fit`: images in, a run folder and a trained model out."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from sfumato import papers
from sfumato.data import Images, open_source
from sfumato.data.attributes import Attributed
from sfumato.data.given import given
from sfumato.data.sources import parse_spec
from sfumato.data.splits import test_split
from sfumato.data.stream import open_for_training
from sfumato.fitting import check_out, prepare
from sfumato.models import Model
from sfumato.models.loading import load_model
from sfumato.papers.presets import check_size, with_size
from sfumato.papers.training import BUDGET, TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.spec import unknown
from sfumato.starting import preset_from, start_from
from sfumato.train.report import write_report
from sfumato.train.trackers import Watcher


@dataclass(frozen=True)
class _Plan:
    """What is trained and how, before the images are opened."""

    preset: str
    recipe: Any
    settings: TrainConfig
    resume: bool = False
    source: str | None = None
    """The model that a preset begins at where none is named."""
    said: Mapping[str, Any] | None = None
    """What config.json holds besides; before, what a run that goes on has recorded."""


def fit(
    data: Any,
    preset: str | None = None,
    *,
    minutes: float | None = None,
    out: str | Path | None = None,
    labels: Any = None,
    classes: Sequence[str] | None = None,
    attributes: Mapping[str, Any] | None = None,
    values: tuple[float, float] | None = None,
    options: str = "",
    validation: Any = None,
    recipe: Mapping[str, Any] | None = None,
    size: str | None = None,
    start: str | Path | None = None,
    callbacks: Watcher | Sequence[Watcher] = (),
    resume: bool = False,
    quiet: bool = False,
    **settings: Any,
) -> Model:
    """Train a diffusion model on images, and return it: `sfumato train` as a function.

    Args:
        data: array or tensor, uint8, uint16 or floats, (N, H, W, C), (N, C, H, W) or (N, H, W), or of clips or signals
            (docs/data.md); a list of Pillow's images; or a data spec such as "folder:my/pictures?size=32".
        preset: what to train, such as "ddpm/emoji32"; `sfumato presets` lists them. Shape and classes are the data's.
        minutes: of training; by default the preset's. `images=N` is a budget in images instead.
        out: the run folder, new or empty; by default runs/PRESET-TIME.
        labels, classes: one an image, numbers from 0 or words, and the numbers' names; a data spec has its own.
        attributes: several an image, columns of 1 and 0 by their names, for recipe={"conditioning": "attributes"}.
        values: (0, 1) or (-1, 1): what black and white are, needed where images are of floats.
        options: of a data spec, such as "size=32&channels=3", by which images from memory are brought to one size.
        validation: held-out images, as `data`, or a pair of these and labels; by default a data spec's own test split.
        recipe: other choices than the preset's, by field, such as {"network": "dit?patch=4", "prediction": "x0"}.
        size: tiny, small, base or paper: the preset's network smaller or larger (docs/training.md).
        start: a trained model to begin at (whatever `sfumato.load` takes), with gentler numbers (docs/own_pictures.md).
        callbacks: called with every line of metrics, a dict with "kind" and "images"; a preview's has "pictures",
            (N, C, H, W) of the "online" and "ema" weights. One that returns True ends the run.
        resume: go on with the run in `out`, on the same images; `minutes` is the budget of the whole run then.
        quiet: print nothing.
        settings: training numbers by name (`TrainConfig`), such as batch=32, flip=True, learning_rate=1e-3.

    Returns: the model, with its first average of the weights; as it stands, where a callback or Ctrl-C ended the run.

    Raises:
        ValueError: what does not fit together, in one line, before anything is written.
    """
    if minutes is not None:
        settings = {"minutes": minutes, **settings}
    plan = _resumed(preset, recipe, start, out, settings) if resume else _planned(preset, recipe, start, settings)
    folder = Path(out) if out is not None else Path("runs") / f"{plan.preset.replace('/', '-')}-{_now()}"
    if not resume:
        check_out(folder)
    _check_size(size, "network" in (recipe or {}) or resume)
    images = _described(_opened(data, labels, classes, values, options, open_for_training), attributes)
    if size is not None:
        plan = replace(plan, recipe=with_size(plan.preset, plan.recipe, size, images.shape))
    held_out = _held_out(validation, data, images, values, options)
    plan = replace(plan, said={**_said(plan, images, held_out, _call(data, preset, settings)), **(plan.said or {})})
    return _trained(plan, folder, images, held_out, start, callbacks, quiet)


def _check_size(size: str | None, own: bool) -> None:
    """ValueError for an unknown size, and for any where the network is said otherwise."""
    if size is not None and own:
        raise ValueError("size scales the network of a preset; leave out recipe={'network': ...} and resume")
    if size is not None:
        check_size(size)


def _said(plan: _Plan, images: Images, held_out: Images | None, command: str) -> dict[str, Any]:
    """What config.json holds besides recipe and training numbers."""
    validation = None if held_out is None else held_out.spec
    return {"preset": plan.preset, "data": images.spec, "validation": validation, "command": command}


def _trained(
    plan: _Plan, folder: Path, images: Images, held_out: Images | None, start: str | Path | None,
    callbacks: Watcher | Sequence[Watcher], quiet: bool,
) -> Model:  # fmt: skip
    """Train as planned. ValueError where things do not fit together, before anything is written."""
    begin = plan.source if start is None else str(start)
    initial = None if begin is None else start_from(begin)
    training = prepare(
        plan.recipe, images, plan.settings, plan.said or {}, validation=held_out,
        resume=folder if plan.resume else None, initial=initial,
    )  # fmt: skip
    for line in () if quiet else training.remarks:
        print(line)
    watch = [callbacks] if callable(callbacks) else [*callbacks]
    training.run(folder, resume=plan.resume, watch=watch, quiet=quiet)
    report = write_report(folder)
    if not quiet:
        print(f"Report:  {report}")
    return load_model(folder)


def _now() -> str:
    return time.strftime("%Y%m%d-%H%M%S")


# ---------------------------------------------------------------- what is trained


def _planned(
    name: str | None, changes: Mapping[str, Any] | None, start: str | Path | None, given: Mapping[str, Any]
) -> _Plan:
    """A preset with these changes. ValueError for what is unknown, and for what makes no pictures."""
    if name is None:
        raise ValueError('fit needs a preset, for example: sfumato.fit(images, "ddpm/emoji32")')
    chosen = preset_from(name, None if start is None else str(start))
    recipe = _changed(chosen.recipe, changes or {})
    if recipe.build().sampler is None:
        raise ValueError(f"{name} makes no pictures by itself; train it by: sfumato train {name}")
    numbers = _numbers(chosen.train, given)
    numbers = numbers if start is None else chosen.train.rewarmed(numbers, given)
    return _Plan(name, recipe, numbers, source=chosen.source)


def _resumed(
    name: str | None, changes: Mapping[str, Any] | None, start: str | Path | None, out: str | Path | None,
    given: Mapping[str, Any],
) -> _Plan:  # fmt: skip
    """The run in a folder. ValueError where it cannot go on with these numbers, or is another one."""
    if out is None:
        raise ValueError("resume goes on with the run in a folder: say out=")
    if changes or start is not None:
        raise ValueError("a run goes on with its own recipe and weights; leave out recipe= and start=")
    run = RunFolder.open(out)
    config = run.config()
    if name not in (None, config["preset"]):
        raise ValueError(f"{out} is a run of {config['preset']}, not {name}")
    before = TrainConfig.from_json(config["train"])
    after = _numbers(before, given)
    if after != before:
        saved = run.latest()
        progress = saved.progress if saved else {}
        before.check_resumed(after, progress.get("images", 0), progress.get("seconds", 0.0))
    kept: dict[str, Any] = {key: config[key] for key in ("command", "from") if key in config}
    return _Plan(config["preset"], papers.from_json(config["recipe"]), after, True, said=kept)


def _changed(recipe: Any, changes: Mapping[str, Any]) -> Any:
    """The recipe with other fields; parts may be specs. ValueError for unknown ones."""
    known = [field.name for field in fields(recipe)]
    made = {}
    for key, value in changes.items():
        if key not in known:
            raise ValueError(unknown("option of the recipe", key, known))
        made[key] = papers.part_of(key, value) if key in papers.PARTS and isinstance(value, str) else value
    return replace(recipe, **made)


def _numbers(before: TrainConfig, given: Mapping[str, Any]) -> TrainConfig:
    """Training numbers, some of them others; whichever budget is named is the whole of it."""
    known = [field.name for field in fields(TrainConfig)]
    for key in given:
        if key not in known:
            raise ValueError(unknown("argument of fit", key, known))
    none: dict[str, Any] = dict.fromkeys(BUDGET) if set(given) & set(BUDGET) else {}
    return replace(before, **{**none, **given})


# ---------------------------------------------------------------- the images


def _opened(
    data: Any, labels: Any, classes: Sequence[str] | None, values: tuple[float, float] | None, options: str,
    opener: Callable[[str], Images],
) -> Images:  # fmt: skip
    if isinstance(data, Images):
        return data
    if isinstance(data, str | Path):
        if labels is not None or classes is not None or values is not None or options:
            raise ValueError("labels, classes, values and options are for images in memory; a data spec says its own")
        return opener(str(data))
    return given(parse_spec(f"memory?{options}" if options else "memory"), data, labels, classes, values)


def _described(images: Images, attributes: Mapping[str, Any] | None) -> Images:
    """Images with attributes, a column each, beside them."""
    if attributes is None:
        return images
    return replace(images, attributes=Attributed.of(attributes, len(images))).carded(images.card)


def _held_out(
    validation: Any, data: Any, images: Images, values: tuple[float, float] | None, options: str
) -> Images | None:  # fmt: skip
    """Images for the loss by noise level; None for the training images."""
    if validation is None:
        spec = test_split(str(data)) if isinstance(data, str) else None
        return open_source(spec) if spec else None
    if isinstance(validation, str | Path | Images):
        return _opened(validation, None, None, None, "", open_source)
    pair = isinstance(validation, tuple) and len(validation) == 2
    held, labels = validation if pair else (validation, None)
    if images.labels is not None and labels is None:
        raise ValueError("the images have labels, so validation is a pair of images and labels")
    return _opened(held, labels, images.classes or None if labels is not None else None, values, options, open_source)


def _call(data: Any, preset: str | None, settings: Mapping[str, Any]) -> str:
    """The call as it may be written again."""
    what = repr(data) if isinstance(data, str) else "images"
    return f"sfumato.fit({', '.join([what, repr(preset), *(f'{key}={value!r}' for key, value in settings.items())])})"
