"""Small convolutional classifiers whose pooled features measure distances on small images, one for each data set.

A distance in the features of a classifier is Heusel et al. 2017, section 4, with a net of the images' own domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn


class Features(NamedTuple):
    """What a feature net says of N images.

    Attributes:
        pooled: (N, D), where distances are measured.
        spatial: (N, S), a few channels of an earlier map with their places kept (sFID); None where there are none.
        logits: (N, K) over classes, which the Inception score needs; None where the net has no classes.
    """

    pooled: Tensor
    spatial: Tensor | None = None
    logits: Tensor | None = None

    def rows(self, index: Tensor) -> Features:
        """Those of some of the images."""
        pooled, spatial, logits = (None if part is None else part[index] for part in self)
        assert pooled is not None
        return Features(pooled, spatial, logits)


def joined(parts: Sequence[Features]) -> Features:
    """The features of several sets of images, one after the other."""
    pooled, spatial, logits = zip(*parts, strict=True)
    return Features(
        torch.cat(pooled),
        None if spatial[0] is None else torch.cat(spatial),
        None if logits[0] is None else torch.cat(logits),
    )


class SmallNet(nn.Module):
    """3x3 convolutions, each with batch norm and ReLU, then the mean over places and a linear layer.

    Args:
        channels: of the images.
        classes: K.
        widths: channels of each block; the last is D.
        halved: which blocks end with a 2x2 maximum.
        spatial: channels kept of the map after the last halving.
    """

    def __init__(
        self, channels: int, classes: int, widths: tuple[int, ...], halved: tuple[int, ...], spatial: int = 7
    ) -> None:
        super().__init__()
        self.halved, self.spatial = halved, spatial
        self.convolutions = nn.ModuleList()
        self.norms = nn.ModuleList()
        for width in widths:
            self.convolutions.append(nn.Conv2d(channels, width, 3, padding=1, bias=False))
            self.norms.append(nn.BatchNorm2d(width))
            channels = width
        self.head = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Features:
        """x: (N, C, H, W), uint8 values divided by 255."""
        spatial = x
        for i, (convolution, norm) in enumerate(zip(self.convolutions, self.norms, strict=True)):
            x = torch.relu(norm(convolution(x)))
            if i in self.halved:
                x = nn.functional.max_pool2d(x, 2)
            if i == max(self.halved):
                spatial = x[:, : self.spatial].flatten(1)
        pooled = x.mean((2, 3))
        return Features(pooled, spatial, self.head(pooled))
