"""The spec string taken apart, `NAME[:REST][?option=value&...]`, and what its options mean."""

from __future__ import annotations

from typing import NamedTuple

OPTIONS = ("size", "channels", "background", "limit", "classes")
COLUMNS = ("split", "image", "label")
"""Options of hf: only."""

PATHS = ("folder", "npz", "map", "wds", "hf")
"""The sources that a path follows."""

SIDE = 4096
"""The largest `size`."""


class DataError(ValueError):
    """Data that cannot be used, in one clear line."""


class UnfitError(DataError):
    """Pictures that do not go together, or take too much, as the spec stands: to begin again would end the same."""


class Spec(NamedTuple):
    """A spec taken apart: name, what follows the colon, and the options."""

    text: str
    name: str
    rest: str
    options: dict[str, str]

    @property
    def size(self) -> int | None:
        """The side that pictures are brought to."""
        size = positive(self, "size") if "size" in self.options else None
        if size is not None and size > SIDE:
            raise DataError(f"size in {self.text!r} is at most {SIDE:,}, not {size:,}")
        return size

    @property
    def limit(self) -> int | None:
        """So many pictures, the first ones."""
        return positive(self, "limit") if "limit" in self.options else None

    @property
    def channels(self) -> int | None:
        """1, 3, or as the pictures are."""
        if self.options.get("channels", "1") not in ("1", "3"):
            raise DataError(f"channels in {self.text!r} is 1 or 3, not {self.options['channels']!r}")
        return int(self.options["channels"]) if "channels" in self.options else None

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour under transparent pictures."""
        value = self.options.get("background", "white")
        named = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}
        if value in named:
            return named[value]
        parts = value.split(",")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 4 and int(p) < 256 for p in parts):
            raise DataError(f"background in {self.text!r} is white, black, grey or R,G,B, not {value!r}")
        r, g, b = map(int, parts)
        return r, g, b


def of_path(name: str, path: str) -> str:
    """The spec of a path without options: one with `?` in it ends in another, behind which options would stand."""
    return f"{name}:{path}{'?' if '?' in path else ''}"


def positive(spec: Spec, option: str) -> int:
    """The value of an option that counts; DataError where it is no whole number above 0."""
    value = spec.options[option]
    if not (value.isascii() and value.isdigit() and len(value) < 19) or int(value) < 1:
        raise DataError(f"{option} in {spec.text!r} is a whole number above 0, not {value!r}")
    return int(value)


def split_of(spec: Spec) -> str:
    """train or test, of a set that has both. DataError for another word."""
    if spec.rest not in ("", "train", "test"):
        raise DataError(f"{spec.name} has the splits train and test, not {spec.rest!r}")
    return spec.rest or "train"
