"""ControlNet (Zhang, Rao & Agrawala 2023, "Adding conditional control to text-to-image diffusion models", section 3): a
trained copy of a frozen U-Net's way down, joined to it by convolutions that begin at zero.

The paper encodes its picture to the size of latents first; here x is no latent, and the copy's first convolution sees
the picture beside x, by weights that begin at zero as well.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Embedded
from sfumato.networks.blocks import Pointwise, zeroed
from sfumato.networks.skeleton import Skeleton, enlarged
from sfumato.networks.unet import HoUNet

FROZEN, COPY = "frozen.", "copy."
"""What the names of the frozen network's weights, and of its copy's, begin with."""
WAY_UP = ("up", "beside_up", "norm_out", "conv_out", "out")
"""Parts of a U-Net that are used on the way up alone, which a copy does without."""

Strength = Annotated[float, Range(0, 10)]


class Controlled(nn.Module):
    """ControlNet: a frozen U-Net, and a trained copy of its way down whose features are added to the frozen one's.

    Args:
        frozen: it is never trained, and always in evaluation mode.
        copy: of the same layers, with the channels of the picture as a further input.
        scale: of the control: what the copy's features are multiplied with; 0 is the frozen network.
    """

    def __init__(self, frozen: Skeleton, copy: Skeleton, scale: float = 1.0) -> None:
        super().__init__()
        for name in {name for name, _ in copy.named_children()} & set(WAY_UP):
            delattr(copy, name)
        self.frozen, self.copy, self.scale = frozen.requires_grad_(False), copy, scale
        self.zero = nn.ModuleList(zeroed(Pointwise(c, c)) for c in (*frozen.skips, frozen.widths[-1]))
        self.train(self.training)

    @property
    def in_channels(self) -> int:
        """Channels of x."""
        return self.frozen.in_channels

    def train(self, mode: bool = True) -> Controlled:
        super().train(mode)
        self.frozen.eval()
        return self

    def forward(
        self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None,
        numbers: Tensor | None = None,
    ) -> Tensor:  # fmt: skip
        """One evaluation, as `Skeleton`'s, with the picture of the control as `low_res`."""
        frozen, copy = self.frozen, self.copy
        copy.check(x, t, y, low_res, numbers)
        assert low_res is not None
        emb = frozen.condition(t, y, numbers)
        skips = frozen.descend(x, emb)
        h = frozen.bottom(skips[-1], emb)
        told = copy.condition(t, y, numbers)
        seen = torch.cat([x, enlarged(low_res.to(x.dtype), x)], dim=1)
        features = copy.descend(seen, told)
        features.append(copy.bottom(features[-1], told))
        added = [self.scale * zero(feature) for zero, feature in zip(self.zero, features, strict=True)]
        skips = [skip + more for skip, more in zip(skips, added[:-1], strict=True)]
        return frozen.draw(*frozen.ascend(h + added[-1], skips, emb)).to(x.dtype)


@dataclass(frozen=True)
class Control(Backbone):
    """ControlNet (Zhang et al. 2023): a frozen U-Net, as it was trained, beside a copy that is told of a picture."""

    network: Backbone = HoUNet()
    """The frozen network's configuration: a U-Net or NCSN++."""
    scale: Strength = 1.0
    """Of the control; 0 is the frozen network alone."""
    frozen = FROZEN

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> Controlled:
        if not given.picture:
            raise ValueError("a control is told of a picture: give a conditioning such as picture?by=edges")
        frozen = self.network.build(shape, outputs, replace(given, picture=0))
        copy = self.network.build(shape, outputs, given)
        if not (isinstance(frozen, Skeleton) and isinstance(copy, Skeleton) and hasattr(frozen, "up")):
            raise ValueError("a control is for U-Nets and NCSN++, whose skips it is added to, not for this network")
        return Controlled(frozen, copy, self.scale)

    def begun(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        if any(name.startswith(FROZEN) for name in tensors):
            return dict(tensors)  # of a model that has a control
        used = {name: value for name, value in tensors.items() if name.partition(".")[0] not in WAY_UP}
        return {**{FROZEN + n: v for n, v in tensors.items()}, **{COPY + n: v for n, v in used.items()}}
