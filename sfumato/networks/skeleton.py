"""The wiring of a U-Net (Ronneberger, Fischer & Brox 2015), which knows no layers: they are passed as functions.

`unet`, `ncsnpp` and `classifier` pass theirs. Stage i works at 1 / 2^i of the resolution; on the way up, every block
also sees what the way down left at its resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks.blocks import Act, Conv, Numbers, convolution
from sfumato.shapes import AXES, KINDS, extent


class Stage(nn.Module):
    """All layers at one resolution: residual blocks, each followed by attention or nothing, then perhaps a resampling.

    It only holds them: `Skeleton` says in what order they are applied.
    """

    def __init__(
        self, block: Sequence[nn.Module], attention: Sequence[nn.Module | None], resample: nn.Module | None = None
    ) -> None:
        super().__init__()
        self.block = nn.ModuleList(block)
        self.attention = nn.ModuleList([nn.Identity() if layer is None else layer for layer in attention])
        self.resample = resample

    def __iter__(self) -> Iterator[tuple[nn.Module, nn.Module]]:
        return zip(self.block, self.attention, strict=True)


@dataclass(frozen=True)
class Layers:
    """What a U-Net's way down, or its way up, is made of: functions from numbers of channels to layers."""

    block: Callable[[int, int], nn.Module]
    """(channels, channels out) -> a layer of (h, emb)."""
    attention: Callable[[int], nn.Module]
    """channels -> a layer of h."""
    resample: Callable[[int], nn.Module]
    """channels -> a layer of (h, emb) to half or twice the size."""
    once: bool = False
    """Attend after a stage's last block alone, instead of after each."""
    beside: Callable[[Any, int], Any] | None = None
    """How the image also travels beside the U-Net: (channels of what came beside, channels of h) -> a layer of
    (beside, h) that returns both anew. It says how many channels they have then: `beside` and `width`."""


class Skeleton(nn.Module):
    """A convolutional network from noisy images and a number for the noise level to images of the same size.

    A subclass makes its embedding of the noise level, then `embed_labels`, `wire_down` and `wire_up`, in this order.

    Args:
        in_channels: of the images.
        widths: channels of each stage.
        blocks: residual blocks of each stage on the way down; one more on the way up.
        attention_factors: the stages with self-attention, by the factor 2^i by which they are smaller than the image.
        num_classes: makes the network conditional on a label y.
        low_res_channels: makes the network see a smaller image with this many channels.
        act: the activation.
        numbers: makes the network conditional on so many real numbers, which are 0 where it is not told.
        dims: 1 for signals (B, C, L), 2 for images, 3 for clips (B, C, T, H, W); the layers are made for as many.
    """

    skips: tuple[int, ...]
    """Channels of everything that the way down leaves for the way up."""
    conv_in: Conv
    down: Any  # a ModuleList of Stage; so is up
    up: Any
    middle: Any
    beside_down: Any
    beside_up: Any

    def __init__(
        self,
        in_channels: int,
        widths: Sequence[int],
        blocks: int,
        attention_factors: Sequence[int],
        num_classes: int | None = None,
        low_res_channels: int = 0,
        act: Act = F.silu,
        numbers: int = 0,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.dims = dims
        if unused := set(attention_factors) - {2**i for i in range(len(widths))}:
            raise ValueError(f"no level is smaller by the attention factors {sorted(unused)}")
        self.in_channels, self.num_classes, self.low_res_channels = in_channels, num_classes, low_res_channels
        self.widths, self.blocks, self.factors, self.act = tuple(widths), blocks, tuple(attention_factors), act
        self.label_embedding: nn.Embedding | None = None
        self.numbers = numbers
        self.numbers_embedding: Numbers | None = None

    # ------------------------------------------------------------ made

    def embed_labels(self, emb_channels: int) -> None:
        """The embedding of labels, where the network has classes, and of numbers."""
        if self.numbers:
            self.numbers_embedding = Numbers(self.numbers, emb_channels)
        if self.num_classes is not None:
            self.label_embedding = nn.Embedding(self.num_classes, emb_channels)

    def wire_down(self, layers: Layers, stem: int) -> list[int]:
        """The first convolution, to `stem` channels, the way down and the middle.

        Returns: the channels of everything that is left for the way up.
        """
        width, beside, last = stem, self.in_channels + self.low_res_channels, len(self.widths) - 1
        self.conv_in = convolution(self.dims, beside, width, padding=1)
        self.down, self.beside_down = nn.ModuleList(), nn.ModuleList()  # beside_down[i] joins after stage i
        skips = [width]
        for i, out in enumerate(self.widths):
            self.down.append(self._stage(i, [width] + [out] * (self.blocks - 1), layers, resamples=i < last))
            skips += [out] * self.blocks
            width = out
            if i < last and layers.beside is not None:
                joint = layers.beside(beside, out)
                self.beside_down.append(joint)
                beside, width = joint.beside, joint.width
            skips += [width] * (i < last)
        self.middle = Stage([layers.block(width, width), layers.block(width, width)], [layers.attention(width), None])
        self.skips = tuple(skips)
        return skips

    def wire_up(self, layers: Layers, skips: list[int]) -> None:
        """The way up; `skips` is what `wire_down` returned."""
        stages, joints = [], []
        width, below = self.widths[-1], None
        for i, out in reversed(list(enumerate(self.widths))):
            inputs = [c + skips.pop() for c in [width] + [out] * self.blocks]
            stages.append(self._stage(i, inputs, layers, resamples=i > 0))
            if layers.beside is not None:
                joints.append(layers.beside(below, out))
            width = below = out
        self.up = nn.ModuleList(reversed(stages))  # up[i] works at the resolution of down[i]
        self.beside_up = nn.ModuleList(reversed(joints))

    def _stage(self, i: int, inputs: Sequence[int], layers: Layers, resamples: bool) -> Stage:
        width, last = self.widths[i], len(inputs) - 1
        blocks = [layers.block(channels, width) for channels in inputs]
        after = [2**i in self.factors and (j == last or not layers.once) for j in range(len(inputs))]
        attention = [layers.attention(width) if attends else None for attends in after]
        return Stage(blocks, attention, layers.resample(width) if resamples else None)

    # ------------------------------------------------------------ applied

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """One evaluation.

        Args:
            x: (B, in_channels, H, W) images, or signals or clips; sides are multiples of 2^(stages - 1).
            t: (B,) the number that stands for the noise level, integer or real.
            y: (B,) labels from 0 to num_classes - 1, where the network has classes.
            low_res: (B, low_res_channels, h, w), where it has low_res_channels; enlarged bilinearly to x's size.
            numbers: (B, numbers) real numbers, where it embeds some; zeros where None.

        Returns: (B, out_channels, H, W), or as x has them, in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        self.check(x, t, y, low_res, numbers)
        emb = self.condition(t, y, numbers)
        image = x
        if low_res is not None:
            image = torch.cat([x, enlarged(low_res.to(x.dtype), x)], dim=1)
        skips = self.descend(image, emb)
        return self.draw(*self.ascend(self.bottom(skips[-1], emb), skips, emb)).to(x.dtype)

    def embed(self, t: Tensor, dtype: torch.dtype) -> Tensor | None:
        """t (B,) -> (B, emb_channels) of this type, not yet activated; None for a network that does not see t."""
        raise NotImplementedError

    def draw(self, h: Tensor, beside: Any) -> Tensor:
        """The features at full resolution, and what came up beside them -> the output."""
        raise NotImplementedError

    def condition(self, t: Tensor, y: Tensor | None = None, numbers: Tensor | None = None) -> Tensor | None:
        """The embedding that every block sees: of t, plus that of the labels and that of the numbers."""
        emb = self.embed(t, self.conv_in.weight.dtype)
        if self.label_embedding is not None:
            emb = self.label_embedding(y) if emb is None else emb + self.label_embedding(y)
        if self.numbers_embedding is not None:
            given = t.new_zeros(len(t), self.numbers, dtype=torch.float32) if numbers is None else numbers
            told = self.numbers_embedding(given)
            emb = told if emb is None else emb + told
        return None if emb is None else self.act(emb)

    def descend(self, image: Tensor, emb: Tensor | None) -> list[Tensor]:
        """The way down: the features after the first convolution, after every block and after every resampling."""
        beside: Any = image.to(self.conv_in.weight.dtype)
        h = self.conv_in(beside)
        skips = [h]
        for i, stage in enumerate(self.down):
            for block, attention in stage:
                h = attention(block(h, emb))
                skips.append(h)
            if stage.resample is not None:
                h = stage.resample(h, emb)
                if self.beside_down:
                    beside, h = self.beside_down[i](beside, h)
                skips.append(h)
        return skips

    def bottom(self, h: Tensor, emb: Tensor | None) -> Tensor:
        """The middle, at the lowest resolution."""
        for block, attention in self.middle:
            h = attention(block(h, emb))
        return h

    def ascend(self, h: Tensor, skips: list[Tensor], emb: Tensor | None) -> tuple[Tensor, Any]:
        """The way up, which takes the skips from the list: the features, and what came up beside them."""
        beside: Any = None
        for i, stage in reversed(list(enumerate(self.up))):
            for block, attention in stage:
                h = attention(block(torch.cat([h, skips.pop()], dim=1), emb))
            if self.beside_up:
                beside, h = self.beside_up[i](beside, h)
            if stage.resample is not None:
                h = stage.resample(h, emb)
        return h, beside

    def check(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> None:  # fmt: skip
        """Raise ValueError unless the inputs fit the network."""
        check_images(x, self.in_channels, 2 ** (len(self.down) - 1), self.dims)
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")
        check_labels(y, self.num_classes, x.shape[0])
        if (low_res is None) == (self.low_res_channels > 0):
            raise ValueError("this network needs low_res" if low_res is None else "this network takes no low_res")
        if low_res is not None and (low_res.ndim != x.ndim or low_res.shape[:2] != (x.shape[0], self.low_res_channels)):
            sides = AXES[self.dims].removeprefix("(C, ").lower()
            raise ValueError(f"low_res is ({len(x)}, {self.low_res_channels}, {sides}, not {tuple(low_res.shape)}")
        if numbers is not None and numbers.shape != (len(x), self.numbers):
            raise ValueError(f"numbers are ({len(x)}, {self.numbers}) for this network, not {tuple(numbers.shape)}")


def enlarged(small: Tensor, x: Tensor) -> Tensor:
    """A smaller signal, image or clip in the size of x, by linear interpolation in each dimension."""
    return F.interpolate(small, x.shape[2:], mode=("linear", "bilinear", "trilinear")[x.ndim - 3])


def check_images(x: Tensor, channels: int, multiple: int, dims: int = 2) -> None:
    """Raise ValueError unless x is (B, channels, H, W), or as `dims` says, with sides that are multiples of this."""
    if x.ndim != dims + 2 or x.shape[1] != channels:
        sides = AXES[dims].removeprefix("(C, ")
        raise ValueError(f"x is (B, {channels}, {sides} for this network, not {tuple(x.shape)}")
    if dims != 2 and any(side % multiple for side in x.shape[2:]):
        below, above = ([-(-side * sign // multiple) * sign * multiple for side in x.shape[2:]] for sign in (-1, 1))
        either = " or ".join(extent(sides) for sides in (below, above) if min(sides) > 0)
        raise ValueError(
            f"{KINDS[dims]} of {extent(x.shape[2:])} do not fit this network, whose extents are multiples of "
            f"{multiple}: {either} would; cut or pad them, or give it fewer multipliers"
        )
    if x.shape[2] % multiple or x.shape[-1] % multiple:
        down, up = ([-(-side * sign // multiple) * sign * multiple for side in x.shape[3:1:-1]] for sign in (-1, 1))
        fitting = [f"{width}x{height}" for width, height in (down, up) if min(width, height) > 0]
        raise ValueError(
            f"{x.shape[3]}x{x.shape[2]} images do not fit this network: the sides must be multiples of {multiple}; "
            f"choose ?size={' or ?size='.join(fitting)}"
        )


def check_labels(y: Tensor | None, num_classes: int | None, batch: int) -> None:
    """Raise ValueError unless y fits: (batch,) labels below num_classes, or None where the network has no classes."""
    if num_classes is None:
        if y is not None:
            raise ValueError("labels y were given to a network without classes")
        return
    if y is None:
        raise ValueError(f"this network needs labels y, ({batch},) integers from 0 to {num_classes - 1}")
    if y.shape != (batch,) or y.is_floating_point():
        raise ValueError(f"y is one integer label an image, ({batch},), not {tuple(y.shape)} of {y.dtype}")
    check_numbers(y, num_classes, "labels run", "y")


def check_numbers(numbers: Tensor, count: int, what: str, name: str) -> None:
    """Raise ValueError unless all numbers are from 0 to count - 1; on the host alone, since elsewhere a look waits."""
    if numbers.device.type == "cpu" and not torch.compiler.is_compiling():
        for number in numbers[(numbers < 0) | (numbers >= count)].tolist():
            raise ValueError(f"{what} from 0 to {count - 1}, but {name} holds {number}")
