"""A model card, README.md with a YAML head as model hubs read it (Mitchell et al. 2019): use, training, data, measures.

Every figure is the run's own: budgets and images from its checkpoint, distances from `sfumato evaluate` with the floor
of real images at the same N beside them.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from sfumato import samplers
from sfumato.evaluate import Metric, Result
from sfumato.fields import shown
from sfumato.hub.facts import Facts
from sfumato.models import Autoencoder, Classifier, Loaded, Model
from sfumato.models.inputs import KINDS
from sfumato.runtime.printable import printable
from sfumato.shapes import described, extent, kind
from sfumato.version import __version__

HUB_NAMES = {"fashion": "fashion_mnist", "mnist": "mnist", "cifar10": "cifar10", "cifar100": "cifar100"}
"""Data sets whose names on model hubs are others than, or the same as, ours."""
TASK = "unconditional-image-generation"
WHAT = {
    Model: "A diffusion model",
    Classifier: "A classifier of noisy images",
    Autoencoder: "An autoencoder for latent diffusion",
}
USE = {
    Classifier: "sample MODEL --classifier THIS_FOLDER",
    Autoencoder: 'train PRESET --recipe.space "latents?of=THIS_FOLDER"',
}
"""The command that uses what makes no pictures itself."""


@dataclass(frozen=True)
class Sheets:
    """What was made beside the card.

    Attributes:
        samples: how the samples of samples.png were made, in words; empty where there are none.
        nearest: what nearest.png shows, in words; empty where there is none.
        remarks: why something is missing.
    """

    samples: str = ""
    nearest: str = ""
    remarks: tuple[str, ...] = ()


def card(
    model: Loaded, facts: Facts, licence: str | None, sheets: Sheets, sha256: str, dataset: str = ""
) -> str:  # fmt: skip
    """The text of README.md; dataset: what a hub calls the training data, where it is not the usual name."""
    parts = [
        "\n".join(_head(model, facts, licence, dataset or dataset_name(facts.spec))),
        f"# {facts.name}\n\n{_lead(model, facts)}",
        f"![Samples](samples.png)\n\n{sheets.samples}" if sheets.samples else "",
        _use(model),
        _training(model, facts),
        _data(facts),
        _measured(facts),
        _nearest(sheets),
        _licence(licence),
        f"`model.safetensors`: sha256 `{sha256}`. Written by sfumato {__version__}.",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


# ---------------------------------------------------------------- the head


def _head(model: Loaded, facts: Facts, licence: str | None, dataset: str) -> Iterator[str]:
    """YAML; its values are written as JSON, which is YAML too."""
    paper, network = facts.config["recipe"]["paper"], facts.config["recipe"].get("network", {}).get("kind")
    kind = "class-conditional" if model.recipe.conditioning.classes else "unconditional"
    tags = ["diffusion", "image-generation", "pytorch", paper, *([network] if network else []), kind]
    yield "---"
    if licence:
        yield f"license: {json.dumps(licence)}"
    yield "library_name: sfumato"
    if isinstance(model, Model):
        yield f"pipeline_tag: {TASK}"
    yield "tags:"
    yield from (f"- {json.dumps(tag)}" for tag in dict.fromkeys(tags))
    if dataset:
        yield "datasets:"
        yield f"- {json.dumps(dataset)}"
    if facts.results:
        yield "model-index:"
        yield f"- name: {json.dumps(facts.name)}"
        yield "  results:"
        for result in facts.results.values():
            yield from _indexed(result)
    yield "---"


def _indexed(result: Result) -> Iterator[str]:
    reference = result.protocol.reference
    yield f"  - task: {{type: {TASK}}}"
    yield f"    dataset: {{name: {json.dumps(reference)}, type: {json.dumps(dataset_name(reference) or 'own')}}}"
    yield "    metrics:"
    for name, metric in result.metrics.items():
        yield f"    - {{type: {json.dumps(name)}, name: {json.dumps(metric.label)}, value: {metric.value:.6g}}}"


def dataset_name(spec: str) -> str:
    """What a hub calls the data of a spec; empty for files of one's own, whose paths are nobody's business."""
    body = spec.partition("?")[0]
    name, _, rest = body.partition(":")
    if name == "hf" and not rest.startswith((".", "/", "~")):
        return rest
    return HUB_NAMES.get(name, "")


# ---------------------------------------------------------------- the text


def _lead(model: Loaded, facts: Facts) -> str:
    shape = model.recipe.shape
    count = sum(p.numel() for p in model.network.parameters())
    of = f"{kind(shape)} of {described(shape)}"
    if len(shape) == 3:
        colours = {1: "grey", 3: "colour"}.get(shape[0], f"{shape[0]}-channel")
        of = f"{extent(shape[1:])} {colours} images"
    what = WHAT[type(model)]
    depth = {256: "", 65536: " of 16 bits", 0: " of real numbers"}[model.recipe.space.levels]
    labels = f", conditioned on {len(model.classes)} classes" if model.classes else ""
    if model.classes and len(model.classes) <= 20:
        labels += f" ({', '.join(map(printable, model.classes))})"
    return (
        f"{what} of {of}{depth}{labels}: {type(model.recipe).__name__}, {count / 1e6:.2f}M "
        "parameters, trained with sfumato."
    )


def _use(model: Loaded) -> str:
    if not isinstance(model, Model):
        return f"## Use\n\n```\nsfumato {USE[type(model)]}\n```"
    usual = model.diffusion.usual(model.sampler())
    steps = f"{usual} steps of " if isinstance(usual, int) else ""
    return (
        '## Use\n\n```python\nimport sfumato\n\nmodel = sfumato.load("THIS_FOLDER")  # the folder of this file\n'
        f"images = model.sample(16, seed=0)  # {_kind(model)} (16, C, H, W)\n```\n\n"
        f"By default {steps}`{samplers.name(model.sampler())}`; `sfumato sample THIS_FOLDER -n 16` does the same from "
        "the command line, and `sfumato samplers THIS_FOLDER` lists what else fits."
    )


def _kind(model: Model) -> str:
    """What samples are held as, and what -1 and 1 stand for in real numbers."""
    space = model.recipe.space
    if space.levels:
        return KINDS[space.levels]
    low, high = space.values
    return f"{KINDS[0]}, -1 and 1 for {low:g} and {high:g} of the data,"


def _training(model: Loaded, facts: Facts) -> str:
    about, config = model.about, facts.config
    train: Mapping[str, Any] = config.get("train", {})
    minutes = about["seconds"] / 60 if "seconds" in about else None
    origin = config.get("from") or {}
    recipe = {key: value for key, value in config["recipe"].items() if not isinstance(value, dict)}
    rows = [
        ("preset", config.get("preset")),
        ("images seen", f"{about['images']:,}" if about.get("images") else None),
        ("minutes of training", f"{minutes:.1f}" if minutes else None),
        ("weights", _weights(about.get("weights"))),
        ("batch, learning rate", f"{train['batch']}, {train['learning_rate']:g}" if train else None),
        ("network", _named(config["recipe"].get("network"))),
        ("conditioning", _named(config["recipe"].get("conditioning"))),
        ("recipe", ", ".join(f"{key} {shown(value)}" for key, value in recipe.items() if key != "paper")),
        ("began at", f"{origin['source']}, sha256 {origin['fingerprint'][:16]}" if origin else None),
    ]
    lines = ["## Training", "", "| | |", "|---|---|", *(f"| {k} | {_cell(v)} |" for k, v in rows if v)]
    if config.get("command"):
        lines += ["", "The exact command:", "", "```", printable(str(config["command"])), "```"]
    return "\n".join(lines)


def _weights(kind: Any) -> str | None:
    known = str(kind or "")
    return f"moving average, rate {known}" if known.replace(".", "").isdigit() else known or None


def _named(part: Any) -> str | None:
    """A part of a recipe in one line."""
    if not isinstance(part, Mapping):
        return None
    values = ", ".join(f"{key} {shown(value)}" for key, value in part.items() if key != "kind")
    return f"{part['kind']}: {values}" if values else str(part["kind"])


def _data(facts: Facts) -> str:
    text = "not known" if facts.card is None else str(facts.card)
    return f"## Training data\n\n```\n{text}\n```"


def _measured(facts: Facts) -> str:
    lines = ["## Measurements", ""]
    if not facts.results:
        return "\n".join([*lines, "None yet of these weights: `sfumato evaluate RUN` stores them for this card."])
    lines.append(
        "`real v real` is the floor: the same measure between real images at the same N. Numbers compare only where "
        "net, reference and N agree."
    )
    for result in facts.results.values():
        p = result.protocol
        how = ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in p.how.items())
        lines += ["", f"N {p.count:,} against `{p.reference}` ({p.reference_count:,} images); net {p.net}; {how}.", ""]
        lines += ["| measure | value | real v real | |", "|---|---|---|---|"]
        lines += [_row(metric) for metric in result.metrics.values()]
        lines += ["", f"Floor: {p.floor}."]
    return "\n".join(lines)


def _row(metric: Metric) -> str:
    better = f"{metric.better} is better" if metric.better else ""
    floor = "" if metric.floor is None else f"{metric.floor:.4g}"
    note = ", ".join(filter(None, (better, metric.note)))
    return f"| {_cell(metric.label)} | {metric.value:.4g} | {floor} | {_cell(note)} |"


def _nearest(sheets: Sheets) -> str:
    if not sheets.nearest and not sheets.remarks:
        return ""
    lines = ["## Copies of training pictures"]
    if sheets.nearest:
        lines += ["", "![Samples above the training pictures nearest to them](nearest.png)", "", sheets.nearest]
    lines += [line for remark in sheets.remarks for line in ("", f"Left out: {printable(remark)}.")]
    return "\n".join(lines)


def _licence(licence: str | None) -> str:
    said = f"The weights: {licence}." if licence else "None was given for the weights; ask whoever made them."
    return f"## Licence\n\n{said} The training data have their own, see above."


def _cell(text: Any) -> str:
    return printable(str(text)).replace("|", "\\|")
