"""Conditioning: what a network is given besides x and its noise level, in training, in sampling and under guidance.

`kinds`, `attributes`, `text` and `picture` hold the conditionings, `base` what they have in common; a recipe holds one.
"""

from __future__ import annotations

from sfumato.conditioning.attributes import Attributes
from sfumato.conditioning.base import Conditioning, Predict, Unconditional
from sfumato.conditioning.kinds import Augmented, Labels, LowRes, SelfConditioned, Together
from sfumato.conditioning.picture import Picture
from sfumato.conditioning.text import Text

CONDITIONINGS: dict[str, type[Conditioning]] = {
    "none": Unconditional,
    "labels": Labels,
    "attributes": Attributes,
    "text": Text,
    "low-res": LowRes,
    "picture": Picture,
    "augmented": Augmented,
    "self": SelfConditioned,
    "together": Together,
}
"""Every conditioning by the name under which a checkpoint keeps it."""

__all__ = [
    "CONDITIONINGS", "Attributes", "Augmented", "Conditioning", "Labels", "LowRes", "Picture", "Predict",
    "SelfConditioned", "Text", "Together", "Unconditional",
]  # fmt: skip
