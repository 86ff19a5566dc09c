"""The splits of a data set: from the spec of one to that of the other, in words alone; nothing is opened."""

from __future__ import annotations

from sfumato.data.sources import SPLIT


def has_splits(spec: str) -> bool:
    """Whether a spec names a data set that comes as training and test images."""
    name, split, _ = _parts(spec)
    return name in SPLIT and split in ("", "train", "test")


def test_split(spec: str) -> str | None:
    """The spec of the test split beside a training split, with the same options; None where there is none."""
    name, split, options = _parts(spec)
    return f"{name}:test{options}" if name in SPLIT and split in ("", "train") else None


def other_split(spec: str) -> str | None:
    """The split of the same data set that a spec is not; None where there is none."""
    if not has_splits(spec):
        return None
    return with_split(spec, "train" if _parts(spec)[1] == "test" else "test")


def with_split(spec: str, split: str) -> str:
    """The spec with another split; options about numbers of images are left out."""
    name, _, options = _parts(spec)
    kept = "&".join(part for part in options.removeprefix("?").split("&") if part and not part.startswith("limit="))
    return f"{name}{'' if split == 'train' else ':test'}{f'?{kept}' if kept else ''}"


def _parts(spec: str) -> tuple[str, str, str]:
    """Name, split and ?options."""
    body, mark, options = spec.partition("?")
    name, _, split = body.partition(":")
    return name, split, mark + options


test_split.__test__ = False  # type: ignore[attr-defined]
