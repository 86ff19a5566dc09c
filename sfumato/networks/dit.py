"""DiT, the diffusion transformer (Peebles & Xie 2023, section 3), which is SiT's network too (Ma et al. 2024).

Sizes S, B, L and XL are depths 12, 12, 24 and 28, widths 384, 768, 1024 and 1152, and 6, 12, 16 and 16 heads.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sfumato.networks.backbone import NOTHING, Backbone, Embedded, Heads, Share
from sfumato.networks.tokens import (
    MLP,
    Block,
    Conditioned,
    Depth,
    FinalLayer,
    Patch,
    Sizes,
    Width,
    begin,
    check_sides,
    patchify,
    positions,
    refuse_numbers,
    unpatchify,
)


class Transformer(Conditioned):
    """DiT from noisy images and a number for the noise level to images of the same size.

    Args:
        sizes: of its images and conditions.
        patch: the side of a patch; width, depth, heads: of its blocks.
        dropout: rate inside the feed-forward layers.
    """

    def __init__(self, sizes: Sizes, patch: int, width: int, depth: int, heads: int, dropout: float) -> None:
        super().__init__(sizes, width, patch, f"patches of {patch}")
        self.patch, self.width = patch, width
        self.patch_in = nn.Linear((sizes.channels + sizes.picture) * patch**2, width)
        self.block = nn.ModuleList([Block(width, heads, MLP(width, 4 * width, dropout)) for _ in range(depth)])
        self.final = FinalLayer(width, sizes.outputs * patch**2)
        begin(self)

    def evaluate(self, image: Tensor, emb: Tensor, label: Tensor | None) -> Tensor:
        height, width = image.shape[2:]
        places = positions(height // self.patch, width // self.patch, self.width, image.device)
        h = self.patch_in(patchify(image, self.patch)) + places.to(image.dtype)
        emb = nn.functional.silu(emb)
        for block in self.block:
            h = block(h, emb)
        return unpatchify(self.final(h, emb), self.patch, height, width)


@dataclass(frozen=True)
class DiT(Backbone):
    """The diffusion transformer DiT (Peebles & Xie 2023); the defaults are XL/2: 675 million parameters.

    It takes any recipe, on pixels and latents alike; for 28x28 pixels: patch 4, width 192, depth 6, 6 heads.
    """

    patch: Patch = 2
    """Side of a patch: the operations fall with its square."""
    width: Width = 1152
    """Channels of a token, a multiple of 4."""
    depth: Depth = 28
    """Transformer blocks."""
    heads: Heads = 16
    """Attention heads, which divide the width."""
    dropout: Share = 0.0
    """Dropout inside the feed-forward layers; the paper has none."""

    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> Transformer:
        refuse_numbers("DiT", given)
        if self.width % 4:
            raise ValueError(f"width is a multiple of 4, since positions have four parts, not {self.width}")
        check_sides(shape[1], shape[2], self.patch, f"patches of {self.patch}")
        sizes = Sizes(shape[0], outputs, given.labels, given.picture)
        return Transformer(sizes, self.patch, self.width, self.depth, self.heads, self.dropout)
