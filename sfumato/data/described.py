"""What describes the images of a training for its model: attributes, or the features of captions in their place."""

from __future__ import annotations

from dataclasses import replace

from sfumato.conditioning import Conditioning
from sfumato.data.attributes import Attributed
from sfumato.data.images import Images


def described(conditioning: Conditioning, images: Images) -> Images:
    """The images with the attributes that a model is conditioned on. ValueError where they have others."""
    if conditioning.reads:
        return _with_captions(conditioning, images)
    names = conditioning.names
    if names and images.named != names:
        raise ValueError(f"{images.spec} does not have the attributes that the model is trained with")
    if names or images.attributes is None:
        return images
    return replace(images, attributes=None, buckets=tuple(replace(part, attributes=None) for part in images.buckets))


def captions_of(images: Images) -> list[str] | None:
    """The captions of all images, of every size; None without any."""
    return [text for part in images.parts for text in part.texts or ()] or None


def _with_captions(conditioning: Conditioning, images: Images) -> Images:
    """The images with the features of their captions as attributes; zeros where an image has no caption."""
    if images.stream is not None:
        raise ValueError(f"{images.spec} is read while training goes on, which captions are not: take fewer images")
    if images.buckets:
        parts = tuple(_with_captions(conditioning, part) for part in images.buckets)
        return replace(parts[0], card=images.card, buckets=parts)
    values = conditioning.written(images.texts or ("",) * len(images))
    return replace(images, attributes=Attributed(conditioning.names, values))
