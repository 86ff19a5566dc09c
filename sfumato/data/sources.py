"""Where images come from: one spec string, `NAME[:SPLIT or PATH][?option=value&...]`, opens any of them.

digits and emoji32 ship with the package; swiss_roll, heartbeat, dead_leaves, signals and moving_digits are made;
fashion, mnist and emoji128 are read from where they are installed; cifar10, cifar100, svhn, celeba, imagenet and lsun
from what was downloaded by hand, wherever it lies (`places`); folder:, npz:, npy:, map:, reflow:, wds: and hf: are the
user's own, and a path follows, in which ~ is the home folder; pair:INPUTS|TARGETS are two sources (`pairs`). Options
begin at the last ?.
?size=64 or ?size=48x32 (width and height) brings pictures to one size, with crop, resize and pad (`framing`). Nothing
downloads: a set that is missing says which command gets it.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch

from sfumato.data import (
    arrays,
    celeba,
    cifar,
    emoji,
    folders,
    given,
    hub,
    imagenet,
    included,
    installed,
    lsun,
    maps,
    pairs,
    reflow,
    shards,
    svhn,
)
from sfumato.data.card import make_card
from sfumato.data.collect import collected
from sfumato.data.images import Example, Images
from sfumato.data.pictures import View
from sfumato.data.reading import Shelf
from sfumato.data.spec import OPTIONS, OWN, PATHS, DataError, Spec
from sfumato.spec import parse, unknown

__all__ = ["OPTIONS", "READERS", "SPLIT", "DataError", "Example", "Images", "open_source", "parse_spec"]


LONGEST = 4096
"""Letters of a spec: a path and its options."""


def parse_spec(text: str) -> Spec:
    """`NAME[:REST][?key=value&...]`; DataError for an unknown name or option."""
    if len(text) > LONGEST:
        raise DataError(f"{text[:60]!r}... is no data spec: it has {len(text):,} letters")
    body, query = _cut(text)
    try:
        _, options = parse(f"{body.replace('?', '')}?{query}")
    except ValueError as error:
        raise DataError(str(error)) from None
    name, _, rest = body.partition(":")
    if name not in READERS:
        missing = f"; nor is there a folder or file {body!r}" if "/" in body else ""
        hint = f"; for images in a folder write folder:{text}" if Path(body).exists() else missing
        raise DataError(unknown("data set", name, READERS) + hint)
    known = (*OPTIONS, *OWN.get(name, ()))
    for option in options:
        if option not in known:
            raise DataError(f"unknown option {option!r} in {text!r}; known: {', '.join(o + '=...' for o in known)}")
    spec = Spec(text, name, os.path.expanduser(rest) if name in PATHS and name != "pair" else rest, options)
    spec.check()
    return spec


def view_of(*texts: str | None) -> View | None:
    """What sheets show, by the first of these specs, of a checkpoint for example, that chooses channels or a window."""
    for text in texts:
        try:
            if text and ((spec := parse_spec(text)).show or spec.window):
                return View(spec.show, spec.window)
        except DataError:
            continue
    return None


def _cut(text: str) -> tuple[str, str]:
    """What stands before the options, and the options. A path may have `?`: its options begin at the last one."""
    name, _, rest = text.partition(":")
    if name not in PATHS:
        body, _, query = text.partition("?")
        return body, query
    path, mark, query = rest.rpartition("?")
    of_a_side = name == "pair" and "|" in query
    if mark and not of_a_side and (not query or re.match(r"[A-Za-z_]+=", query)):
        return f"{name}:{path}", query
    return text, ""


def open_source(spec: str) -> Images:
    """The images that a spec names, ready to train on.

    Options: `size=S` (shorter side to S, then a centre crop), `channels=1|3`, `background=white|black|R,G,B` (under
    transparent images), `limit=N` (the first N), `classes=a,b` (only these).

    Raises:
        DataError: unknown name, split or option; nothing there; images that do not fit together.
    """
    images = opened(parse_spec(spec))
    if images.buckets:
        sizes = " or ".join(f"bucket={part.shape[2]}x{part.shape[1]}" for part in images.buckets)
        raise DataError(f"{spec} has pictures of several sizes, which training alone takes: choose one, &{sizes}")
    return images


def opened(parsed: Spec) -> Images:
    """As `open_source`, but images may be in buckets of several sizes."""
    images = READERS[parsed.name](parsed)
    if images.buckets and "classes" in parsed.options:
        raise DataError(f"classes in {parsed.text!r} are not chosen from several buckets: leave them out, or &bucket=")
    if "classes" in parsed.options:
        images = _only_classes(images, parsed.options["classes"].split(","))
    if parsed.limit is not None and parsed.limit < len(images):
        kept = images.take(torch.arange(parsed.limit))
        note = f"?limit keeps the first {parsed.limit:,} of {len(images):,}"
        images = replace(kept, card=replace(kept.card, notes=(note, *kept.card.notes)))
    return images


def _only_classes(images: Images, names: list[str]) -> Images:
    if images.labels is None:
        raise DataError(f"{images.spec} has no classes to choose from")
    if missing := [n for n in names if n not in images.classes]:
        raise DataError(unknown("class", missing[0], images.classes[:200]) + f" (of {images.spec})")
    if len(set(names)) < len(names):
        raise DataError(f"classes in {images.spec!r} names one twice")
    chosen = torch.tensor([images.classes.index(n) for n in names])
    kept = images.take(torch.isin(images.labels, chosen).nonzero()[:, 0])
    assert kept.labels is not None
    labels = (kept.labels[:, None] == chosen).int().argmax(1).long()
    if not len(labels):
        raise DataError(f"{images.spec} has no image of {', '.join(names)}")
    card = kept.card
    fresh = make_card(
        card.spec, kept.images, labels, tuple(names), bits=card.bits, sizes=card.sizes, corrupt=card.corrupt,
        notes=card.own_notes, licence=card.licence, values=card.values,
    )  # fmt: skip
    return replace(kept, labels=labels, classes=tuple(names)).carded(fresh)


# ---------------------------------------------------------------- the table

SHELVES: dict[str, Callable[[Spec], Shelf]] = {
    "folder": folders.shelf,
    "celeba": celeba.shelf,
    "imagenet": imagenet.shelf,
    "lsun": lsun.shelf,
    "wds": shards.shelf,
    "hf": hub.shelf,
}
"""The sources that can be read block by block."""

CHOOSING = ("imagenet",)
"""Those that leave out what ?classes= does not name by themselves, unread; of the others they are chosen afterwards."""

STREAMED = ("imagenet", "lsun", "wds", "hf")
"""Those that training reads as it goes, since they can be larger than memory."""


def _collected(spec: Spec) -> Images:
    """The pictures of a folder, of tar shards or of a datasets folder, in memory."""
    shelf = SHELVES[spec.name](spec)
    return collected(shelf if spec.name not in ("wds", "hf") else shelf.limited())


def _pairs(spec: Spec) -> Images:
    """Targets with their inputs."""
    return pairs.read(spec, tuple(READERS), open_source)


SPLIT = (
    "digits", "emoji32", "emoji128", "fashion", "mnist", "cifar10", "cifar100", "svhn", "celeba", "swiss_roll",
    "heartbeat", "dead_leaves", "signals", "moving_digits"
)  # fmt: skip
"""The sets with a train and a test split."""

READERS: dict[str, Callable[[Spec], Images]] = {
    "digits": included.digits,
    "emoji32": included.emoji32,
    "emoji128": emoji.emoji128,
    "fashion": installed.fashion,
    "mnist": installed.mnist,
    "swiss_roll": included.swiss_roll,
    "heartbeat": included.heartbeat,
    "dead_leaves": included.dead_leaves,
    "signals": included.signals,
    "moving_digits": included.moving_digits,
    "cifar10": cifar.read,
    "cifar100": cifar.read,
    "svhn": svhn.read,
    "celeba": _collected,
    "imagenet": _collected,
    "lsun": _collected,
    "folder": _collected,
    "npz": arrays.npz,
    "npy": arrays.npz,
    "map": maps.read,
    "reflow": reflow.read,
    "wds": _collected,
    "hf": _collected,
    "memory": given.memory,
    "pair": _pairs,
}
"""Every data set, by the name that a spec begins with."""
