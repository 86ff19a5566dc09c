"""JiT, "just image transformers": large patches of pixels, for networks that return clean data (Li & He 2025).

Beside the PDF: the patch embedding with its bottleneck is section 4.4, and RMSNorm, SwiGLU, rotary positions, the norm
of queries and keys and the in-context class tokens are table 4. `FlowMatching` with prediction x0 is its training.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import NOTHING, Backbone, Embedded, Heads, Share, Units
from sfumato.networks.tokens import (
    Block,
    Conditioned,
    Depth,
    FinalLayer,
    Patch,
    RMSNorm,
    Rotation,
    Sizes,
    SwiGLU,
    Width,
    begin,
    check_sides,
    patchify,
    positions,
    refuse_numbers,
    rotations,
    unpatchify,
)

Count = Annotated[int, Range(0, 1024)]


class ImageTransformer(Conditioned):
    """JiT from noisy images and a number for the noise level to images of the same size.

    Args:
        sizes: of its images and conditions.
        options: patch, bottleneck, width, depth, heads, context, start and dropout.
    """

    def __init__(self, sizes: Sizes, options: JiT) -> None:
        width, patch, heads = options.width, options.patch, options.heads
        super().__init__(sizes, width, patch, f"patches of {patch}")
        self.patch, self.width, self.head, self.start = patch, width, width // heads, options.start
        self.squeeze = nn.Linear((sizes.channels + sizes.picture) * patch**2, options.bottleneck, bias=False)
        self.patch_in = nn.Linear(options.bottleneck, width)
        context = options.context if sizes.labels else 0
        self.context_places = nn.Parameter(0.02 * torch.randn(context, width)) if context else None
        self.block = nn.ModuleList([
            Block(width, heads, SwiGLU(width, int(8 * width / 3), options.dropout), RMSNorm, RMSNorm)
            for _ in range(options.depth)
        ])  # fmt: skip
        self.final = FinalLayer(width, sizes.outputs * patch**2, RMSNorm)
        begin(self)

    def evaluate(self, image: Tensor, emb: Tensor, label: Tensor | None) -> Tensor:
        height, width = image.shape[2:]
        grid = (height // self.patch, width // self.patch)
        places = positions(*grid, self.width, image.device)
        rotation = rotations(*grid, self.head, image.device)
        h = self.patch_in(self.squeeze(patchify(image, self.patch))) + places.to(image.dtype)
        active, beside = nn.functional.silu(emb), 0
        for number, block in enumerate(self.block):
            if number == self.start and label is not None and self.context_places is not None:
                h = torch.cat([(label[:, None] + self.context_places).to(h.dtype), h], dim=1)
                beside = len(self.context_places)
                rotation = unturned(rotation, beside)
            h = block(h, active, rotation)
        return unpatchify(self.final(h[:, beside:], active), self.patch, height, width)


def unturned(rotation: Rotation, count: int) -> Rotation:
    """So many tokens more, in front, that are not turned."""
    cos, sin = rotation
    return nn.functional.pad(cos, (0, 0, count, 0), value=1.0), nn.functional.pad(sin, (0, 0, count, 0))


@dataclass(frozen=True)
class JiT(Backbone):
    """The plain image transformer JiT on pixels (Li & He 2025, table 9); the defaults are B/16: 131 million parameters.

    L: width 1024, depth 24, 16 heads, class tokens from block 8. H: width 1280, depth 32, 16 heads, bottleneck 256,
    class tokens from block 10. For 512x512 pixels patches are of 32. Trained with `flow?prediction=x0`.
    """

    patch: Patch = 16
    """Side of a patch."""
    bottleneck: Units = 128
    """Numbers that a patch is squeezed to before it becomes a token."""
    width: Width = 768
    """Channels of a token, a multiple of 4 for each head."""
    depth: Depth = 12
    """Transformer blocks."""
    heads: Heads = 12
    """Attention heads."""
    context: Count = 32
    """Class tokens beside those of the image, where there are labels."""
    start: Count = 4
    """The block, from 0, before which they come in; none do where there are no more blocks."""
    dropout: Share = 0.0
    """Dropout inside the feed-forward layers; the paper's H has 0.2 in the middle half of them."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> ImageTransformer:
        refuse_numbers("JiT", given)
        if self.width % (4 * self.heads):
            raise ValueError(
                f"rotary positions need heads whose channels are a multiple of 4: width {self.width} of {self.heads} "
                "heads is none"
            )
        check_sides(shape[1], shape[2], self.patch, f"patches of {self.patch}")
        return ImageTransformer(Sizes(shape[0], outputs, given.labels, given.picture), self)
