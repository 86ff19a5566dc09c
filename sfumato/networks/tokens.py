"""What vision transformers share: patches, positions, self-attention, and blocks that the noise level modulates.

Patches and two-dimensional sinusoids as in ViT and MAE (Dosovitskiy et al. 2021; He et al. 2022), rotary positions (Su
et al. 2021), normalised queries and keys (Henry et al. 2020), adaptive layer norm (Peebles & Xie 2023, section 3.2),
SwiGLU (Shazeer 2020, eq. 6). Tokens are (B, N, C), row by row.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.fields import Range
from sfumato.networks.backbone import Embedded
from sfumato.networks.blocks import attend, cos_sin, count_heads, heads_first, time_mlp, zeroed
from sfumato.networks.skeleton import check_labels

Patch = Annotated[int, Range(1, 1024)]
Width = Annotated[int, Range(4, 16_384)]
"""Channels of a token; the widest published has 1,664."""
Depth = Annotated[int, Range(1, 128)]
"""Transformer blocks; published networks have up to 40."""

Modulated = tuple[Tensor, Tensor, Tensor]
Rotation = tuple[Tensor, Tensor]
"""cos and sin of the angles of rotary positions, (tokens, half a head's channels)."""


# ---------------------------------------------------------------- patches and positions


def patchify(x: Tensor, patch: int) -> Tensor:
    """Cut images (B, C, H, W) into patches: (B, H W / patch^2, C patch^2), a patch's channels slowest."""
    batch, channels, height, width = x.shape
    cut = x.reshape(batch, channels, height // patch, patch, width // patch, patch)
    return cut.permute(0, 2, 4, 1, 3, 5).reshape(batch, -1, channels * patch**2)


def unpatchify(tokens: Tensor, patch: int, height: int, width: int) -> Tensor:
    """Put patches (B, N, patch^2 C), a patch's channels fastest as in DiT, together: (B, C, height, width)."""
    rows, columns = height // patch, width // patch
    cut = tokens.reshape(tokens.shape[0], rows, columns, patch, patch, -1)
    return cut.permute(0, 5, 1, 3, 2, 4).reshape(tokens.shape[0], -1, height, width)


def check_sides(height: int, width: int, multiple: int, what: str) -> None:
    """Raise ValueError, with the nearest sizes that do, unless both sides are multiples of this."""
    if height % multiple or width % multiple:
        smaller = "x".join(str(max(side // multiple, 1) * multiple) for side in (height, width))
        larger = "x".join(str(-(-side // multiple) * multiple) for side in (height, width))
        sizes = f"the next size is {larger}" if smaller == larger else f"the next sizes are {smaller} and {larger}"
        raise ValueError(f"{height}x{width} images do not fit {what}: sides are multiples of {multiple}; {sizes}")


def refuse_numbers(network: str, given: Embedded) -> None:
    """Raise ValueError where a network that embeds no real numbers is to be conditioned on some."""
    if given.numbers:
        raise ValueError(f"{network} cannot be conditioned on attributes or on the numbers of an augmentation")


def positions(rows: int, columns: int, width: int, device: torch.device | None = None) -> Tensor:
    """Two-dimensional sine-cosine position embedding of a grid, (rows columns, width) float32.

    The first half of the channels is of the column, the second of the row, each half sines, then cosines, at rates
    from 1 down to almost 1/10,000. width is a multiple of 4.
    """
    row, column = _grid(rows, columns, device)
    angles = [place[:, None] * _rates(width, device) for place in (column, row)]
    return torch.cat([wave for angle in angles for wave in (angle.sin(), angle.cos())], dim=1)


def rotations(rows: int, columns: int, channels: int, device: torch.device | None = None) -> Rotation:
    """Rotary positions of a grid for heads of so many channels, a multiple of 4: angles of the row, then the column."""
    angles = torch.cat([place[:, None] * _rates(channels, device) for place in _grid(rows, columns, device)], dim=1)
    return angles.cos(), angles.sin()


def _grid(rows: int, columns: int, device: torch.device | None) -> tuple[Tensor, Tensor]:
    """Row and column of every cell, row by row."""
    row, column = (torch.arange(count, dtype=torch.float32, device=device) for count in (rows, columns))
    return row.repeat_interleave(columns), column.repeat(rows)


def _rates(channels: int, device: torch.device | None) -> Tensor:
    """channels/4 rates from 1 down to almost 1/10,000."""
    return 10_000 ** -(torch.arange(channels // 4, dtype=torch.float32, device=device) / (channels // 4))


def rotate(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn x (B, heads, N, d) by its positions: channel i with channel i + d/2, in the plane."""
    cos, sin = (angles.to(x.dtype) for angles in rotation)
    a, b = x.chunk(2, dim=3)
    return torch.cat([a * cos - b * sin, a * sin + b * cos], dim=3)


# ---------------------------------------------------------------- layers


class RMSNorm(nn.Module):
    """Root-mean-square norm over the last dimension (Zhang & Sennrich 2019), with a learned scale, in float32."""

    def __init__(self, channels: int, eps: float = 1e-6) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x: Tensor) -> Tensor:
        high = x if x.dtype == torch.float64 else x.float()
        return (high * (high.square().mean(-1, keepdim=True) + self.eps).rsqrt()).to(x.dtype) * self.weight.to(x.dtype)


class LayerNorm(nn.LayerNorm):
    """Layer norm without scale and shift, as adaptive layer norm has it."""

    def __init__(self, channels: int) -> None:
        super().__init__(channels, eps=1e-6, elementwise_affine=False)


Norm = Callable[[int], nn.Module]


class TokenAttention(nn.Module):
    """Multi-head self-attention among tokens (Vaswani et al. 2017), with rotary positions where they are given.

    Args:
        width: channels of a token; heads: they divide it.
        norm: of the queries and keys of each head, if any.
    """

    def __init__(self, width: int, heads: int, norm: Norm | None = None) -> None:
        super().__init__()
        self.heads = count_heads(width, heads, None)
        self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.norm_q, self.norm_k = (norm(width // heads) if norm else nn.Identity() for _ in range(2))

    def forward(self, x: Tensor, rotation: Rotation | None = None) -> Tensor:
        """x (B, N, width) -> the same shape."""
        q, k, v = heads_first(self.qkv(x), self.heads)
        q, k = self.norm_q(q), self.norm_k(k)
        if rotation is not None:
            q, k = rotate(q, rotation), rotate(k, rotation)
        h: Tensor = self.out(attend(q, k, v).transpose(1, 2).flatten(2))
        return h


class MLP(nn.Module):
    """Two dense layers with GELU (its tanh form) between, of `hidden` channels."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner, self.outer, self.dropout = nn.Linear(width, hidden), nn.Linear(hidden, width), nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        h: Tensor = self.outer(self.dropout(F.gelu(self.inner(x), approximate="tanh")))
        return h


class SwiGLU(nn.Module):
    """Gated dense layer, W2 (SiLU(W1 x) W3 x) (Shazeer 2020, eq. 6), of `hidden` channels."""

    def __init__(self, width: int, hidden: int, dropout: float = 0.0) -> None:
        super().__init__()
        self.inner, self.outer = nn.Linear(width, 2 * hidden), nn.Linear(hidden, width)
        self.dropout = nn.Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        gate, value = self.inner(x).chunk(2, dim=-1)
        h: Tensor = self.outer(self.dropout(F.silu(gate) * value))
        return h


def modulated(x: Tensor, shift: Tensor, scale: Tensor) -> Tensor:
    """x (1 + scale) + shift: x (B, N, C), the others (B, C)."""
    return torch.addcmul(shift[:, None].to(x.dtype), x, 1 + scale[:, None].to(x.dtype))


class Block(nn.Module):
    """Transformer block with adaLN-Zero (Peebles & Xie 2023, section 3.2): it begins as the identity.

    x + gate attention(modulated(norm(x))), then the same with the feed-forward layer; the six shifts, scales and gates
    are a linear map, at first zero, of the embedding.

    Args:
        width, heads: see `TokenAttention`; mixer: the feed-forward layer.
        norm: of the tokens; head_norm: of queries and keys, if any.
    """

    def __init__(
        self, width: int, heads: int, mixer: nn.Module, norm: Norm = LayerNorm, head_norm: Norm | None = None,
        emb: int | None = None,
    ) -> None:  # fmt: skip
        super().__init__()
        self.norm1, self.norm2 = norm(width), norm(width)
        self.attention = TokenAttention(width, heads, head_norm)
        self.mixer = mixer
        self.modulation = zeroed(nn.Linear(emb or width, 6 * width))

    def forward(self, x: Tensor, emb: Tensor, rotation: Rotation | None = None) -> Tensor:
        """x (B, N, width) and emb (B, C), already activated -> the shape of x."""
        first, scale1, gate1, second, scale2, gate2 = self.modulation(emb).chunk(6, dim=1)
        h = self.attention(modulated(self.norm1(x), first, scale1), rotation)
        x = x + gate1[:, None] * h
        return x + gate2[:, None] * self.mixer(modulated(self.norm2(x), second, scale2))


class FinalLayer(nn.Module):
    """Tokens to patches: adaptive norm and a dense layer that begins as zero (Peebles & Xie 2023)."""

    def __init__(self, width: int, outputs: int, norm: Norm = LayerNorm) -> None:
        super().__init__()
        self.norm = norm(width)
        self.modulation = zeroed(nn.Linear(width, 2 * width))
        self.out = zeroed(nn.Linear(width, outputs))

    def forward(self, x: Tensor, emb: Tensor) -> Tensor:
        """x (B, N, width) and emb (B, width), already activated -> (B, N, outputs)."""
        h: Tensor = self.out(modulated(self.norm(x), *self.modulation(emb).chunk(2, dim=1)))
        return h


class Sizes(NamedTuple):
    """Channels of a network's image, output and further picture, and its kinds of labels (0: none)."""

    channels: int
    outputs: int
    labels: int
    picture: int


class Conditioned(nn.Module):
    """Base of transformers on images: it checks what it is given, and embeds the noise level and labels.

    Args:
        sizes: of its images and conditions; width: of the embedding.
        multiple: of what the sides of images are multiples; what: in which words an error says so.
    """

    def __init__(self, sizes: Sizes, width: int, multiple: int, what: str) -> None:
        super().__init__()
        self.sizes, self.multiple, self.what = sizes, multiple, what
        self.time = time_mlp(256, width)
        self.label_embedding = nn.Embedding(sizes.labels, width) if sizes.labels else None

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None, low_res: Tensor | None = None) -> Tensor:
        """One evaluation.

        Args:
            x: (B, C, H, W) images.
            t: (B,) the number that stands for the noise level, integer or real.
            y: (B,) labels, where the network has classes.
            low_res: (B, C', h, w), where it is given a further picture; enlarged bilinearly to x's size.

        Returns: (B, outputs, H, W) in x's precision.

        Raises: ValueError where an input does not fit the network.
        """
        self.check(x, t, y, low_res)
        image = x
        if low_res is not None:
            image = torch.cat([x, F.interpolate(low_res.to(x.dtype), x.shape[2:], mode="bilinear")], dim=1)
        dtype = next(self.time.parameters()).dtype
        emb = self.time(cos_sin(t, 256).to(dtype))
        label = None if self.label_embedding is None else self.label_embedding(y)
        return self.evaluate(image.to(dtype), emb if label is None else emb + label, label).to(x.dtype)

    def evaluate(self, image: Tensor, emb: Tensor, label: Tensor | None) -> Tensor:
        """The image with what stands beside it, the embedding (B, width) of level and label, and that of the label."""
        raise NotImplementedError

    def check(self, x: Tensor, t: Tensor, y: Tensor | None, low_res: Tensor | None) -> None:
        """Raise ValueError unless the inputs fit the network."""
        channels, _, labels, picture = self.sizes
        if x.ndim != 4 or x.shape[1] != channels:
            raise ValueError(f"x is (B, {channels}, H, W) for this network, not {tuple(x.shape)}")
        check_sides(x.shape[2], x.shape[3], self.multiple, self.what)
        if t.shape != x.shape[:1]:
            raise ValueError(f"t is one number an image, ({len(x)},), not {tuple(t.shape)}")
        check_labels(y, labels or None, x.shape[0])
        if (low_res is None) == (picture > 0):
            raise ValueError("this network needs low_res" if low_res is None else "this network takes no low_res")
        if low_res is not None and (low_res.ndim != 4 or low_res.shape[:2] != (x.shape[0], picture)):
            raise ValueError(f"low_res is ({len(x)}, {picture}, h, w), not {tuple(low_res.shape)}")


def begin(network: Conditioned) -> None:
    """First weights of DiT: dense layers Xavier-uniform with biases 0, those of level and label normal with deviation
    0.02; what began as 0 stays 0."""
    for module in network.modules():
        if isinstance(module, nn.Linear) and (module.weight.is_meta or module.weight.any()):
            nn.init.xavier_uniform_(module.weight)
            nn.init.zeros_(module.bias) if module.bias is not None else None
    embeddings = [network.label_embedding.weight] if network.label_embedding is not None else []
    for weight in (*network.time.parameters(), *embeddings):
        if weight.ndim == 2:
            nn.init.normal_(weight, std=0.02)
