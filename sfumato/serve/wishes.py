"""Requests to a served model as JSON has them: frozen values whose fields are checked, and pictures out of base64.

Whatever the bytes are, they are a request or a ValueError of one line.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Annotated, Any, TypeVar

from torch import Tensor

from sfumato import spec
from sfumato.data.decoding import Unreadable
from sfumato.data.spec import Size
from sfumato.data.upright import OtherSizeError, single
from sfumato.fields import Length, Range, check
from sfumato.runtime.json_file import parsed

T = TypeVar("T")

MOST_PICTURES, MOST_DRAWS, MOST_STEPS = 64, 16, 1000

Steps = Annotated[int, Range(1, MOST_STEPS)]
Seed = Annotated[int, Range(0, 2**63 - 1)]
Classes = Annotated[tuple[str | int, ...], Length(0, MOST_PICTURES)]
Scale = Annotated[float, Range(-100, 100)]


@dataclass(frozen=True)
class Sample:
    """Sampling, POST /api/sample."""

    n: Annotated[int, Range(1, MOST_PICTURES)] = 16
    """How many pictures."""
    steps: Steps | None = None
    """Moves from noise to a picture; null for the sampler's usual number."""
    sampler: str = "auto"
    """auto, own (the paper's), or one of `sfumato samplers`, by its name."""
    seed: Seed = 0
    """Picture i depends on (seed, i) alone."""
    classes: Classes = ()
    """Names or numbers, taken in turn; by default all in turn, where the model has classes."""
    text: Annotated[tuple[str, ...], Length(0, MOST_PICTURES)] = ()
    """Captions, taken in turn, for a model with text conditioning."""
    scale: Scale = 1.0
    """Classifier-free guidance; 1 is none."""

    def __post_init__(self) -> None:
        check(self)


@dataclass(frozen=True)
class Inpaint:
    """Inpainting, POST /api/inpaint."""

    image: str
    """A picture file of the model's size, PNG for example, as base64 or as a data: address."""
    mask: str
    """Likewise: white stays, black is filled in."""
    draws: Annotated[int, Range(1, MOST_DRAWS)] = 4
    """How many answers."""
    steps: Steps | None = None
    """Moves from noise to a picture; null for the model's usual number."""
    seed: Seed = 0
    """Decides what is made up."""
    classes: Classes = ()
    """The class of the picture, where the model has classes; the first by default."""
    scale: Scale = 1.0
    """Classifier-free guidance; 1 is none."""

    def __post_init__(self) -> None:
        check(self)


def read(kind: type[T], body: bytes) -> T:
    """The request in a JSON text. ValueError where it holds another, in one line."""
    given = parsed(body, "the request")
    known: Mapping[str, Any] = {field.name: field for field in fields(kind)}  # type: ignore[arg-type]
    for name in given:
        if name not in known:
            raise ValueError(spec.unknown("field", name, known))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in given.items()}
    try:
        return kind(**values)
    except TypeError:
        raise ValueError(f"the request needs {' and '.join(needed(kind))}") from None


def needed(kind: type[Any]) -> list[str]:
    """The fields that have no default."""
    return [field.name for field in fields(kind) if field.name not in defaults(kind)]


def defaults(kind: type[Any]) -> dict[str, Any]:
    """The values of fields that are not given, as JSON has them."""
    found = {name: getattr(kind, name) for name in (field.name for field in fields(kind)) if hasattr(kind, name)}
    return dict(json.loads(json.dumps(found)))


def picture(text: str, what: str, shape: tuple[int, ...]) -> Tensor:
    """A picture in base64 as uint8 (C, H, W). ValueError where it is none, or of another height and width.

    Args:
        what: the word for it in errors.
        shape: (C, H, W) with one channel, for grey, or three.
    """
    channels, height, width = shape
    begins, comma, _ = text[:100].partition(",")
    coded = text[len(begins) + 1 :] if comma and begins.startswith("data:") else text
    try:
        content = base64.b64decode(coded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError(f"the {what} is no base64 text") from None
    try:
        return single(content, channels, Size(width, height))
    except OtherSizeError as error:
        raise ValueError(f"the {what} has {error}; pictures of this model have {width}x{height}") from None
    except Unreadable as error:
        raise ValueError(f"the {what} cannot be read: {error}") from None
