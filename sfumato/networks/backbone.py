"""The backbone of a model: a network's configuration, as plain frozen values, and what it builds.

A recipe holds one, JSON carries it, and `sfumato.networks.NETWORKS` names the kinds. What a network is given besides
the noisy x and the noise level is the `Embedded` that the recipe's conditioning asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, ClassVar

from torch import Tensor, nn

from sfumato.fields import Length, Range, check

Channels = Annotated[int, Range(1, 16_384)]
"""The unit of width; the widest published is 256."""
Few = Annotated[int, Range(1, 32)]
"""Residual blocks a level, or layers; published networks have up to 8."""
Multipliers = Annotated[tuple[Annotated[int, Range(1, 256)], ...], Length(1, 12)]
"""Widths of the levels: twelve halve an image 2,048 pixels wide to one."""
RealMultipliers = Annotated[tuple[Annotated[float, Range(0, 256, above=True)], ...], Length(1, 12)]
Factors = Annotated[tuple[Annotated[int, Range(1, 2048)], ...], Length(0, 12)]
"""By what the levels with self-attention are smaller than the image."""
Heads = Annotated[int, Range(1, 16_384)]
Share = Annotated[float, Range(0, 1, below=True)]
"""What dropout leaves out."""
Units = Annotated[int, Range(1, 65_536)]


@dataclass(frozen=True)
class Embedded:
    """What conditions the network besides x and the noise level."""

    labels: int = 0
    """Kinds of class labels y, the null label of classifier-free guidance included; 0 for no labels."""
    picture: int = 0
    """Channels of a further picture `low_res`; 0 for none."""
    numbers: int = 0
    """Real numbers that describe the image, such as its attributes, or those of an augmentation; 0 for none."""
    levels: int = 0
    """T, the number of noise levels, for networks that are given a level's number; 0 in continuous time."""


NOTHING = Embedded()


def bare(network: nn.Module) -> nn.Module:
    """The module inside DistributedDataParallel or torch.compile; the network itself where nothing is around it."""
    inside: nn.Module = getattr(network, "module", getattr(network, "_orig_mod", network))
    return inside


class Backbone:
    """Base class of network configurations: frozen dataclasses of plain values, each with its paper's defaults.

    Their fields have ranges, so that whatever a file asks for is built, without weights, in a few seconds.

    Attributes:
        dims: 1 where it takes signals (C, L), 2 images (C, H, W), 3 clips (C, T, H, W).
        frozen: what the names of weights begin with that are another model's and are not trained; empty for none.
    """

    dims: ClassVar[tuple[int, ...]] = (2,)
    frozen: str = ""

    def __post_init__(self) -> None:
        check(self)

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> nn.Module:
        """A freshly initialised network: (x, t, **inputs) -> output, for x in any precision, which the output has.

        Args:
            shape: (C, H, W) of what the network sees, or (C, L), or (C, T, H, W).
            outputs: channels of what it returns.
            given: what conditions it besides.

        Raises: ValueError where the network cannot be conditioned on that, or does not fit the shape.
        """
        raise NotImplementedError

    def begun(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The weights of a model to begin at, by their keys in this network."""
        return dict(tensors)


def refuse(network: str, given: Embedded, outputs: int, expected: int) -> None:
    """Raise ValueError for labels, pictures, numbers and channels of outputs that this network does not have."""
    if given.labels or given.picture or given.numbers:
        numbers = "attributes or the numbers of an augmentation"
        what = "labels" if given.labels else "a further picture" if given.picture else numbers
        raise ValueError(f"{network} cannot be conditioned on {what}")
    if outputs != expected:
        raise ValueError(f"{network} returns {expected} channels here, not {outputs}")
