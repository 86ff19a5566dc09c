"""Paired images for image-to-image training: `pair:INPUTS|TARGETS`, matched by file stem (as pix2pix and Palette use).

Each side is a folder or another spec, with options of its own; those behind the last ? are of both sides where these
do not say otherwise. A picture without a partner is an error: nothing is left out without a word.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

import torch

from sfumato.data.card import with_inputs
from sfumato.data.images import Images
from sfumato.data.spec import DataError, Spec
from sfumato.shapes import kind
from sfumato.spec import parse

SHOWN = 5
"""Names in an error."""

OF_PAIRS = ("limit", "classes", "show", "window")
"""Options that choose among the pairs, or say how they are shown."""


def read(spec: Spec, known: Sequence[str], opened: Callable[[str], Images]) -> Images:
    """The targets of a spec, in their order, each with its input.

    Args:
        known: names of data sets; what begins otherwise is a folder.
        opened: spec -> images.

    Raises: DataError where there are not two sides, or pictures have no partner.
    """
    sides = spec.rest.split("|")
    if len(sides) != 2 or not all(sides):
        raise DataError(f"{spec.text!r} has no two sides: pairs are written pair:INPUTS|TARGETS, in quotes")
    common = {name: value for name, value in spec.options.items() if name not in OF_PAIRS}
    inputs, targets = (opened(_side(side, known, common)) for side in sides)
    there, here = _stems(inputs), _stems(targets)
    if unmatched := _unmatched(here, there):
        raise DataError(f"{spec.text}: {unmatched}")
    for side in (inputs, targets):
        if len(side.shape) != 3:
            raise DataError(f"{spec.text}: pairs are of images, and {side.spec} holds {kind(side.shape)}")
    if inputs.are_points or targets.are_points:
        raise DataError(f"{spec.text}: points are no pictures, so they make no pairs")
    chosen = inputs.images[torch.tensor([there[stem] for stem in here])]
    return replace(targets, inputs=chosen, card=with_inputs(replace(targets.card, spec=spec.text), chosen))


def _side(text: str, known: Sequence[str], common: Mapping[str, str]) -> str:
    """The spec of a side."""
    head, mark, query = text.partition("?")
    name = head.partition(":")[0]
    if name not in known:
        head, name = f"folder:{head}", "folder"
    if name == "pair":
        raise DataError("a side of pairs cannot be pairs")
    try:
        own = parse(f"{name}?{query}")[1] if mark else {}
    except ValueError as error:
        raise DataError(str(error)) from None
    options = "&".join(f"{option}={value}" for option, value in {**common, **own}.items())
    return f"{head}?{options}" if options else head


def _stems(images: Images) -> dict[str, int]:
    """Where each picture is, by its name without the suffix; of what is in no files, by its number."""
    if images.spec.partition(":")[0] not in ("folder", "wds", "hf"):
        return {str(i): i for i in range(len(images))}
    stems = [str(PurePosixPath(Path(key).as_posix()).with_suffix("")) for key in images.keys]
    if twice := [stem for stem, n in Counter(stems).items() if n > 1]:
        raise DataError(f"{images.spec} has {len(twice):,} names twice, with other suffixes: {_some(twice)}")
    return {stem: i for i, stem in enumerate(stems)}


def _unmatched(targets: Mapping[str, int], inputs: Mapping[str, int]) -> str:
    """What has no partner, in words; nothing where all have one."""
    parts = [
        f"{len(alone):,} of {len(mine):,} {kind} have no {other} of the same name: {_some(alone)}"
        for kind, other, mine, theirs in (("inputs", "target", inputs, targets), ("targets", "input", targets, inputs))
        if (alone := [stem for stem in mine if stem not in theirs])
    ]
    return "; ".join(parts)


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:SHOWN]) + (", ..." if len(names) > SHOWN else "")
