"""The words of `sfumato evaluate`: which pictures a target holds, what they are compared with, by which net.

Nothing here samples or measures; ValueError says in one line what a word cannot stand for.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.numbers import UsageError
from sfumato.data.sources import READERS
from sfumato.data.splits import has_splits, other_split, with_split

if TYPE_CHECKING:
    from sfumato.evaluate.features import FeatureNet


def stored_spec(target: str) -> str | None:
    """The data spec of a target that holds pictures; None where it is a model's."""
    from sfumato.models.loading import holds_model

    path = Path(target)
    if path.is_dir():
        return None if holds_model(path) else f"folder:{target}"
    if path.is_file():
        kind = {".npz": "npz", ".npy": "npz", ".tar": "wds"}.get(path.suffix.lower())
        return None if kind is None else f"{kind}:{target}"
    return target if target.partition("?")[0].partition(":")[0] in READERS else None


def is_statistics(spec: str) -> bool:
    """Whether a reference is a file of statistics rather than images."""
    from sfumato.data import npz

    path = Path(spec)
    if path.suffix != ".npz":
        return False
    if not path.is_file():
        raise ValueError(f"no file {spec!r} (for images in an npz write npz:{spec})")
    with npz.arrays(path) as file:
        return "mu" in file.names


def default_reference(stored: str | None, trained_on: str | None) -> str:
    """The test split of what a model was trained on, or the other split of a data set."""
    spec = trained_on or stored or ""
    if not has_splits(spec):
        what = f"{spec} has no test split here" if spec else "this model does not say what it was trained on"
        raise ValueError(f"{what}; choose what to compare with: --reference SPEC")
    return with_split(spec, "test") if trained_on else str(other_split(spec))


def training_split(spec: str, wanted: str | None) -> str | None:
    """Where to look for copies: as wanted, or the training split of a reference's data set; None for `none`."""
    if wanted is not None:
        return None if wanted == "none" else wanted
    return with_split(spec, "train") if has_splits(spec) else None


def net_for(text: str, reference: str, shape: tuple[int, ...] | None, device: str) -> FeatureNet:
    """The feature net by its word."""
    from sfumato.evaluate import features

    shipped = features.SHIPPED
    word, _, path = text.partition(":")
    if word == "auto":
        return features.usual(reference, shape or (), device)
    if word == "inception":
        return features.inception2015(path or None, device)
    if path or word not in (*shipped, "lite0"):
        raise ValueError(f"unknown feature net {text!r}; known: {', '.join(shipped)}, lite0, inception, inception:FILE")
    return features.lite0(device) if word == "lite0" else features.in_domain(word, device)


def default_cache() -> Path:
    """The user's own cache folder."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato" / "references"


def cache_folder(chosen: Path | None) -> Path:
    """Where statistics are kept. UsageError where nothing can be written there, before the work."""
    folder = chosen or default_cache()
    there = next(path for path in (folder, *folder.absolute().parents) if path.exists())  # it is made when it is needed
    why = "there is a file" if not there.is_dir() else "" if os.access(there, os.W_OK) else "no permission to write"
    if why:
        raise UsageError(f"no statistics can be kept in {folder} ({why}: {there}); choose another folder: --cache DIR")
    return folder
