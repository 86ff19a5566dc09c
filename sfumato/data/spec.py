"""The spec string taken apart, `NAME[:REST][?option=value&...]`, and what its options mean."""

from __future__ import annotations

import math
from typing import NamedTuple

FRAMING = ("size", "cut", "crop", "resize", "pad")
"""Options of how a picture is brought to one size (`framing`)."""

OPTIONS = (*FRAMING, "channels", "show", "window", "background", "limit", "classes")

DEPTH = ("bits", "values")
"""Options of the depth, for sources that can be deeper than 8 bits (`depth`)."""

DOWNLOADED = ("cifar10", "cifar100", "svhn", "celeba", "imagenet", "lsun")
"""Sets as they are downloaded by hand: a split or a path follows."""

OWN = {
    "hf": ("split", "image", "label", *DEPTH), "folder": ("labels", "attributes", "buckets", "bucket", *DEPTH),
    **dict.fromkeys(DOWNLOADED, ("split",)), "celeba": ("split", "attributes"),
    **dict.fromkeys(("npz", "npy", "memory"), ("kind", *DEPTH)), **dict.fromkeys(("wds", "pair"), DEPTH),
}  # fmt: skip
"""Options of one source alone."""

PATHS = ("folder", "npz", "npy", "map", "reflow", "wds", "hf", *DOWNLOADED, "pair")
"""The sources that a path follows."""

BUCKETS = 64
"""Sizes of aspect-ratio bucketing, at most."""

SIDE = 4096
"""The largest side of a `size`."""

MOST_CHANNELS = 16
"""Of an image."""

CROPS = ("center", "random", "none")
"""What is kept of a picture of other proportions: its centre, a random part, or all of it."""

BITS = {"8": 256, "16": 65536, "float": 0}
"""Grey levels of a depth; 0 of real numbers."""

NO_IMAGES = ("signals", "clips")
"""What arrays hold that are of no images: the words of ?kind=, and names of arrays."""

COLOURS = {"white": (255, 255, 255), "black": (0, 0, 0), "grey": (128, 128, 128)}


class DataError(ValueError):
    """Data that cannot be used, in one clear line."""


class UnfitError(DataError):
    """Pictures that do not go together, or take too much, as the spec stands: to begin again would end the same."""


class Size(NamedTuple):
    """Width and height in pixels, in the order in which they are written: 48x32."""

    width: int
    height: int

    def __str__(self) -> str:
        return f"{self.width}x{self.height}"


class Spec(NamedTuple):
    """A spec taken apart: name, what follows the colon, and the options."""

    text: str
    name: str
    rest: str
    options: dict[str, str]

    @property
    def size(self) -> Size | None:
        """The size that pictures are brought to: `64`, a square, or `48x32`, width and height."""
        if "size" not in self.options:
            given = [option for option in FRAMING if option in self.options]
            if given and "buckets" not in self.options:
                raise DataError(f"{given[0]} in {self.text!r} goes with a size: ?size=64, or WIDTHxHEIGHT")
            return None
        return self._sides("size")

    @property
    def buckets(self) -> tuple[Size, ...]:
        """The sizes of aspect-ratio bucketing, of which each picture is brought to the nearest; empty without."""
        if "buckets" not in self.options:
            if "bucket" in self.options:
                raise DataError(f"bucket in {self.text!r} is one of buckets=..., which are missing")
            return ()
        if "size" in self.options or self.crop == "random":
            raise DataError(f"buckets in {self.text!r} are the sizes themselves: leave out size and crop=random")
        sizes = tuple(self._side(word, "buckets") for word in self.options["buckets"].split(","))
        if len(set(sizes)) < len(sizes) or len(sizes) > BUCKETS:
            raise DataError(f"buckets in {self.text!r} are up to {BUCKETS} different sizes, with commas between")
        return sizes

    @property
    def bucket(self) -> Size | None:
        """The one of the buckets whose pictures are wanted; None for all."""
        if "bucket" not in self.options:
            return None
        size, all_ = self._sides("bucket"), self.buckets
        if size not in all_:
            raise DataError(f"bucket in {self.text!r} is one of {', '.join(map(str, all_))}, not {size}")
        return size

    def size_for(self, picture: tuple[int, int]) -> Size | None:
        """The size that a picture of this width and height is brought to: of buckets, the nearest in proportions."""
        if not (sizes := self.buckets):
            return self.size
        width, height = picture
        far = [(round(abs(math.log(width * s.height / (height * s.width))), 9),
                abs(math.log(width * height / (s.width * s.height)))) for s in sizes]  # fmt: skip
        return sizes[far.index(min(far))]

    @property
    def cut(self) -> Size | None:
        """The middle that is cut out of each picture before anything else is done to it; all of it where None."""
        return self._sides("cut") if "cut" in self.options else None

    def _sides(self, option: str) -> Size:
        return self._side(self.options[option], option)

    def _side(self, word: str, option: str) -> Size:
        width, cross, height = word.partition("x")
        for side in (width, height) if cross else (width,):
            if _whole(side, f"{option} in {self.text!r} is WIDTHxHEIGHT or one side,") > SIDE:
                raise DataError(f"{option} in {self.text!r} is at most {SIDE:,}, not {int(side):,}")
        return Size(int(width), int(height if cross else width))

    @property
    def crop(self) -> str:
        """What is kept of pictures of other proportions or larger: `center`, `random` or `none`, which is all."""
        crop = self.options.get("crop", "none" if "pad" in self.options else "center")
        if crop not in CROPS:
            raise DataError(f"crop in {self.text!r} is {', '.join(CROPS[:-1])} or {CROPS[-1]}, not {crop!r}")
        if crop != "none" and "pad" in self.options:
            raise DataError(f"pad in {self.text!r} keeps the whole picture, and crop={crop} does not; leave one out")
        return crop

    @property
    def resize(self) -> int | None:
        """The shorter side of pictures before a random part of them is cut out; as they are where None."""
        if "resize" not in self.options:
            return None
        if self.crop != "random":
            raise DataError(f"resize in {self.text!r} is for crop=random; otherwise pictures are resized to size alone")
        side, size = positive(self, "resize"), self.size
        if side > SIDE or (size is not None and side < min(size)):
            raise DataError(f"resize in {self.text!r} is from the shorter side of size to {SIDE:,}, not {side:,}")
        return side

    @property
    def pad(self) -> tuple[int, int, int] | None:
        """The colour beside whole pictures of other proportions; where None they are not padded."""
        return self._colour("pad") if "pad" in self.options else None

    @property
    def limit(self) -> int | None:
        """So many pictures, the first ones."""
        return positive(self, "limit") if "limit" in self.options else None

    @property
    def channels(self) -> int | None:
        """1 (grey), 3 (colour), 2 and 4 (the same with alpha), or of several pages; None: as the pictures are."""
        count = positive(self, "channels") if "channels" in self.options else None
        if count is not None and count > MOST_CHANNELS:
            raise DataError(f"channels in {self.text!r} is from 1 to {MOST_CHANNELS}, not {count:,}")
        return count

    @property
    def show(self) -> tuple[int, ...] | None:
        """The channels that pictures of more than three are shown by, from 0; written from 1, as ?show=4,2,1."""
        if "show" not in self.options:
            return None
        words = self.options["show"].split(",")
        if len(words) not in (1, 3) or not all(w.isascii() and w.isdigit() and 0 < int(w[:9]) <= 16 for w in words):
            shown = self.options["show"]
            raise DataError(f"show in {self.text!r} is one channel or three, numbered from 1, not {shown!r}")
        return tuple(int(word) - 1 for word in words)

    @property
    def levels(self) -> int | None:
        """Grey levels that are asked for: bits=8 or 16, or float, which has none (0); None: as the pictures are."""
        if "bits" not in self.options:
            return None
        if (said := self.options["bits"]) not in BITS:
            raise DataError(f"bits in {self.text!r} is {', '.join(BITS)}, not {said!r}")
        return BITS[said]

    @property
    def values(self) -> tuple[float, float] | None:
        """Black and white of floats, as ?values=0,1."""
        return self._ends("values") if "values" in self.options else None

    @property
    def window(self) -> tuple[float, float] | None:
        """The part of the range from black, 0, to white, 1, that sheets of more than 8 bits show: window=0,0.0625."""
        if "window" not in self.options:
            return None
        low, high = self._ends("window")
        if low < 0 or high > 1:
            raise DataError(f"window in {self.text!r} lies between 0, black, and 1, white, not {low:g} and {high:g}")
        return low, high

    def _ends(self, option: str) -> tuple[float, float]:
        try:
            low, high = map(float, self.options[option].split(","))
        except ValueError:
            low = high = 0.0
        if not (math.isfinite(low) and math.isfinite(high) and low < high):
            said = self.options[option]
            raise DataError(f"{option} in {self.text!r} is black and white, as {option}=0,1, not {said!r}")
        return low, high

    @property
    def labels(self) -> str:
        """Where the labels of a folder come from: a table (.csv or .jsonl), `prefix`, or empty for its sub-folders."""
        said = self.options.get("labels", "")
        if "labels" in self.options and said != "prefix" and not said.lower().endswith((".csv", ".jsonl")):
            raise DataError(f"labels in {self.text!r} is a FILE.csv, a FILE.jsonl or prefix, not {said!r}")
        return said

    @property
    def kind(self) -> str:
        """What an array holds: `signals` or `clips`; empty where its shape or its name says so, or it is of images."""
        said = self.options.get("kind", "")
        if said not in ("", *NO_IMAGES):
            raise DataError(f"kind in {self.text!r} is {' or '.join(NO_IMAGES)}, not {said!r}")
        return said

    @property
    def background(self) -> tuple[int, int, int]:
        """The colour under transparent pictures."""
        return self._colour("background") if "background" in self.options else COLOURS["white"]

    def _colour(self, option: str) -> tuple[int, int, int]:
        value = self.options[option]
        if value in COLOURS:
            return COLOURS[value]
        parts = value.split(",")
        if len(parts) != 3 or not all(p.isascii() and p.isdigit() and len(p) < 4 and int(p) < 256 for p in parts):
            raise DataError(f"{option} in {self.text!r} is white, black, grey or R,G,B, not {value!r}")
        r, g, b = map(int, parts)
        return r, g, b

    def without(self, *options: str) -> str:
        """The text of the spec without these options."""
        kept = "&".join(f"{name}={value}" for name, value in self.options.items() if name not in options)
        head = self.text[: len(self.text) - self.text[::-1].index("?") - 1] if self.options else self.text
        return f"{head}?{kept}" if kept or "?" in head else head

    def check(self) -> None:
        """Look at every option. DataError for values that are wrong, whatever they are for."""
        _ = self.size, self.cut, self.crop, self.resize, self.pad, self.limit, self.channels, self.show, self.background
        _ = self.labels, self.kind, self.levels, self.values, self.window
        _ = self.buckets, self.bucket
        if self.name == "pair" and self.crop == "random":
            raise DataError(f"crop=random in {self.text!r} would cut inputs and targets apart: prepare the parts first")
        if self.name == "reflow" and self.crop == "random":
            raise DataError(f"crop=random in {self.text!r} would cut pictures apart from the noise they were made of")


def of_path(name: str, path: str) -> str:
    """The spec of a path without options: one with `?` in it ends in another, behind which options would stand."""
    return f"{name}:{path}{'?' if '?' in path else ''}"


def positive(spec: Spec, option: str) -> int:
    """The value of an option that counts; DataError where it is no whole number above 0."""
    return _whole(spec.options[option], f"{option} in {spec.text!r} is")


def _whole(value: str, what: str) -> int:
    if not (value.isascii() and value.isdigit() and len(value) < 19) or int(value) < 1:
        raise DataError(f"{what} a whole number above 0, not {value!r}")
    return int(value)


def split_of(spec: Spec) -> str:
    """train or test, of a set that has both. DataError for another word."""
    if spec.rest not in ("", "train", "test"):
        raise DataError(f"{spec.name} has the splits train and test, not {spec.rest!r}")
    return spec.rest or "train"
