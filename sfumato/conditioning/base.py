"""What every conditioning has: the facts that other parts ask for, and what each does in training and sampling."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Inputs
from sfumato.core.distributions import Noise
from sfumato.fields import check
from sfumato.networks.backbone import Embedded

Predict = Callable[[Inputs, Tensor], Tensor]
"""(inputs, indices in the batch) -> x0 of these images, inside the range of clean data."""


class Conditioning:
    """Base class of conditionings, frozen dataclasses of plain values. By itself it gives the network nothing.

    Attributes:
        classes: how many classes of images there are; 0 without labels.
        dropout: the share of labels hidden in training.
        picture: height and width of a further, small picture; 0 where the network is given none.
        pictured: whether each request brings a picture.
        noise, level: the most noise that is put on that picture in training, and that in sampling, as deviations.
        numbers: how many real numbers describe an image of training; 0 for none. They are zeros where nothing is told.
        names: of the attributes of an image, any number of which are present at once; empty without.
        reads: whether the attributes of an image are the features of its caption, and a request is a text.
        augments: whether the images of training are transformed.
        feeds_back: whether predictions are fed back to the network.
    """

    classes: int = 0
    dropout: float = 0.0
    picture: int = 0
    pictured: bool = False
    noise: float = 0.0
    level: float = 0.0
    numbers: int = 0
    names: tuple[str, ...] = ()
    reads: bool = False
    augments: bool = False
    feeds_back: bool = False

    def __post_init__(self) -> None:
        check(self)

    @property
    def each(self) -> tuple[Conditioning, ...]:
        """The conditionings that it is made of: itself alone, unless it is several."""
        return (self,)

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        """What the network must embed for images of this shape, besides what is `given` already."""
        return given

    def changed(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> tuple[Tensor, Mapping[str, Tensor]]:
        """A training batch before the space encodes it, augmented perhaps: images (B, C, H, W), and what is `given`."""
        return images, given

    def seen(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of what the network sees, for x of this shape (C, H, W)."""
        return shape

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        """The network's inputs of a training batch: images (B, C, H, W) in [-1, 1]; given: labels y (B,), ..."""
        return {}

    def told(self, attributes: Tensor | None) -> Inputs:
        """The network's inputs of a request besides `inputs`: attributes (B, A) of 1, -1 or 0, which is not known.

        ValueError where they are missing and the network needs them.
        """
        return {}

    def row(self, words: str) -> tuple[int, ...]:
        """The attributes (A,) that words such as `smiling,-hat` ask for. ValueError where there are none such."""
        raise ValueError("this model was trained without attributes, so none can be asked for")

    def twice(self, inputs: Inputs, predict: Predict, x: Tensor, noise: Noise) -> Inputs:
        """The inputs of a training batch x after a first look at it, where the conditioning takes one."""
        return inputs

    def fed(self, make: Callable[[Inputs], Denoise], inputs: Inputs, range: tuple[float, float]) -> Denoise:
        """The denoiser of a sampling request; x0 is fed back to it, inside this range, where it was so in training."""
        return make(inputs)

    def inputs(self, labels: Tensor | None = None, picture: Tensor | None = None) -> Inputs:
        """The network's inputs of a request: labels (B,), a picture (B, C, h, w) in [-1, 1].

        ValueError where something is missing that the network needs.
        """
        return {}

    def noised(self, picture: Tensor, noise: Noise) -> Tensor:
        """The picture (B, C, h, w) of a request with the noise that is put on it in sampling, if any."""
        return picture

    def with_level(self, level: float) -> Conditioning:
        """The conditioning that puts noise of this deviation on the picture in sampling, and tells the network.

        ValueError where the model was not trained on as much.
        """
        if level:
            raise ValueError("noise on inputs needs a model that was trained with it: picture?by=...&noise=0.5, say")
        return self

    def hidden(self, inputs: Inputs) -> Inputs:
        """The same inputs without what classifier-free guidance hides. ValueError where nothing was ever hidden."""
        raise ValueError(f"classifier-free guidance needs a model that was trained with {self._hideable()} dropout")

    def asks(self, shape: tuple[int, ...]) -> tuple[int, ...] | None:
        """The shape of the picture that a request brings for an image of this shape (C, H, W); None for none."""
        return None

    def made(self, images: Tensor, noise: Noise) -> Tensor | None:
        """The pictures of whole images (B, C, H, W) as requests would bring them, both in [-1, 1]; None where none is
        made of images."""
        return None

    def fitted(self, classes: int, labelled: bool) -> Conditioning:
        """The conditioning for a data set of so many classes."""
        return self

    def attributed(self, names: tuple[str, ...]) -> Conditioning:
        """The conditioning for a data set whose images have these attributes. ValueError where it needs others."""
        return self

    def captioned(self, texts: Sequence[str] | None) -> Conditioning:
        """The conditioning for a data set with these captions. ValueError where it needs some, and there are none."""
        return self

    def written(self, texts: Sequence[str]) -> Tensor:
        """The attributes (N, A), int8, that captions are for the network."""
        raise ValueError("this model was trained without captions")

    def strange(self, words: str) -> dict[str, str]:
        """The words of a text that were in no caption of training, each with the nearest that was, or nothing."""
        return {}

    def numbered(self) -> tuple[str, ...]:
        """A word for each of its numbers, by which fine-tuning finds their weights."""
        return tuple(f"{type(self).__name__} {i}" for i in range(self.numbers))

    def _hideable(self) -> str:
        return "attributes and attribute" if self.names else "labels and label"

    def paired(self, shape: tuple[int, ...] | None) -> Conditioning:
        """The conditioning for pairs of images with input pictures of this shape (C, h, w), or for images alone.

        ValueError where it needs pairs, or leaves them unused.
        """
        if shape is not None and not self.pictured:
            raise ValueError("these data are pairs, whose inputs the model would not see: set conditioning to picture")
        return self


@dataclass(frozen=True)
class Unconditional(Conditioning):
    """Nothing besides x and its noise level."""
