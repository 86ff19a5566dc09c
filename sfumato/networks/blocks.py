"""The layers of the U-Nets: time embedding, group normalisation, residual block, self-attention.

DDPM (Ho et al. 2020, appendix B), Improved DDPM (Nichol & Dhariwal 2021, appendix A), ADM (Dhariwal & Nichol 2021,
section 3) and NCSN++ (Song et al. 2021, appendix H) use the same layers, and differ in what is passed to them. The
same layers see signals (B, C, L), images (B, C, H, W) and clips (B, C, T, H, W).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.networks import clips, fused

M = TypeVar("M", bound=nn.Module)
Act = Callable[[Tensor], Tensor]
Conv = nn.Conv1d | nn.Conv2d | nn.Conv3d
"""A convolution over the places of a signal, of an image or of a clip."""
CONVOLUTIONS: dict[int, type[nn.Conv1d] | type[nn.Conv2d] | type[nn.Conv3d]] = {
    1: nn.Conv1d, 2: nn.Conv2d, 3: clips.Conv3d
}  # fmt: skip
"""By the number of dimensions."""


def convolution(dims: int, channels: int, out_channels: int, kernel: int = 3, **more: Any) -> Conv:
    """A convolution in one to three dimensions; `more` are those of torch's, stride and padding."""
    return CONVOLUTIONS[dims](channels, out_channels, kernel, **more)


def everywhere(values: Tensor, x: Tensor) -> Tensor:
    """Values (B, C) at every place of x (B, C, ...): (B, C, 1, ...)."""
    return values[(..., *(None,) * (x.ndim - 2))]


# ---------------------------------------------------------------- time


def sin_cos(t: Tensor, width: int) -> Tensor:
    """Ho et al.'s sinusoids: sines, then cosines, at width/2 rates from 1 down to 1/10,000 inclusive.

    Args: t (B,), integers or floats; width, the number of features. Returns (B, width) float32.
    """
    half = width // 2
    angles = t.float()[:, None] * torch.exp(_steps(half, t) * -(math.log(10_000) / (half - 1)))
    return F.pad(torch.cat([angles.sin(), angles.cos()], dim=1), (0, width % 2))


def cos_sin(t: Tensor, width: int, period: float = 10_000) -> Tensor:
    """Improved DDPM's and ADM's sinusoids: cosines, then sines, at width/2 rates from 1 down to almost 1/period.

    Args: t (B,), integers or floats; width, the number of features. Returns (B, width) float32.
    """
    half = width // 2
    angles = t.float()[:, None] * torch.exp(-math.log(period) * _steps(half, t) / half)
    return F.pad(torch.cat([angles.cos(), angles.sin()], dim=1), (0, width % 2))


def time_mlp(channels: int, emb_channels: int) -> nn.Sequential:
    """The two dense layers between the sinusoids, (B, channels), and the blocks, (B, emb_channels)."""
    return nn.Sequential(nn.Linear(channels, emb_channels), nn.SiLU(), nn.Linear(emb_channels, emb_channels))


def _steps(n: int, t: Tensor) -> Tensor:
    return torch.arange(n, dtype=torch.float32, device=t.device)


# ---------------------------------------------------------------- layers


class GroupNorm(nn.GroupNorm):
    """Group normalisation (Wu & He 2018) with `groups` groups, or as many as divide a narrow layer.

    The statistics are float32 also where x is bfloat16.
    """

    def __init__(self, channels: int, groups: int = 32, eps: float = 1e-5) -> None:
        super().__init__(math.gcd(groups, channels), channels, eps=eps)

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> the same shape and memory format."""
        if fused.in_jvp(x):  # whose rule takes views that channels_last does not have
            return super().forward(x.contiguous())
        if fused.takes(x):
            return fused.norm_silu(x, None, self.weight[None], self.bias[None], self.num_groups, self.eps, silu=False)
        # With few channels a group, torch 2.13's bfloat16 channels_last kernel needs, forward and backward, 68 ms for
        # 64x32x28x28 and 17 ms for 64x64x14x14 on one core, against 6.5 and 3 through a contiguous copy.
        last = x.is_contiguous(memory_format=torch.channels_last) and not x.is_contiguous()
        few = self.num_channels < 8 * self.num_groups
        if last and few and x.dtype == torch.bfloat16 and x.device.type == "cpu":
            return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)
        return super().forward(x)


def norm_act(
    norm: GroupNorm,
    x: Tensor,
    act: Act = F.silu,
    *,
    add: Tensor | None = None,
    scale: Tensor | None = None,
    shift: Tensor | None = None,
) -> Tensor:
    """act(norm(x + add) * (1 + scale) + shift). x (B, C, ...); the last three (B, C), or None for nothing."""
    if act is F.silu and fused.takes(x):
        gamma, beta = norm.weight[None], norm.bias[None]
        if scale is not None and shift is not None:
            gamma, beta = gamma * (1 + scale.float()), beta * (1 + scale.float()) + shift.float()
        return fused.norm_silu(x, add, gamma, beta, norm.num_groups, norm.eps)
    h = norm(x if add is None else x + everywhere(add, x))
    if scale is not None and shift is not None:
        h = h * (1 + everywhere(scale, x)) + everywhere(shift, x)
    return act(h)


def zeroed(module: M) -> M:
    """The module with every parameter 0, so that the residual branch that it ends begins as nothing."""
    for parameter in module.parameters():
        nn.init.zeros_(parameter)
    return module


def fan_average(net: M) -> M:
    """Ho et al.'s initial weights: uniform with variance 2 / (fan in + fan out), biases 0; what began as 0 stays 0."""
    for module in net.modules():
        if isinstance(module, Conv | nn.Linear) and (module.weight.is_meta or module.weight.any()):
            nn.init.xavier_uniform_(module.weight)
            if module.bias is not None:
                nn.init.zeros_(module.bias)
    return net


class Pointwise(nn.Linear):
    """A dense layer over the channels of each pixel, which is a 1x1 convolution: (B, C, ...) -> (B, C', ...)."""

    def forward(self, x: Tensor) -> Tensor:
        convolve = (F.conv1d, F.conv2d, F.conv3d)[x.ndim - 3]
        return convolve(x, everywhere(self.weight, x), self.bias)


class Numbers(nn.Module):
    """A linear embedding of real numbers without a bias, (B, numbers) -> (B, emb_channels), that begins as nothing.

    Zeros give nothing after training, too; to make it draws no random numbers.
    """

    def __init__(self, numbers: int, emb_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(emb_channels, numbers))

    def forward(self, numbers: Tensor) -> Tensor:
        return F.linear(numbers.to(self.weight.dtype), self.weight)


def conv_shortcut(channels: int, out_channels: int, resampled: bool, dims: int = 2) -> nn.Module:
    """Ho et al.'s shortcut of a residual block: a 1x1 convolution where the number of channels changes."""
    return nn.Identity() if channels == out_channels else convolution(dims, channels, out_channels, 1)


def dense_shortcut(channels: int, out_channels: int, resampled: bool, dims: int = 2) -> nn.Module:
    """Song et al.'s shortcut: a dense layer, also where the block resamples (BigGAN's block)."""
    return nn.Identity() if channels == out_channels and not resampled else Pointwise(channels, out_channels)


class ResBlock(nn.Module):
    """Residual block x + f(x, emb), with f = conv(dropout(act(norm(conv(act(norm(x))) and emb)))).

    Args:
        channels, out_channels: of the input and of the output.
        emb_channels: width of the embedding; None where there is none.
        resample: applied to both branches before the first convolution (BigGAN's residual up- and downsampling).
        dropout: its rate, before the second convolution.
        scale_shift: the embedding scales and shifts the second norm's output (Nichol & Dhariwal 2021, appendix A;
            Dhariwal & Nichol 2021, section 3.1), instead of being added before that norm.
        norm, act: channels -> normalisation, and the activation.
        shortcut: (channels, out_channels, whether it resamples, dims) -> what x passes.
        scale: of the sum; 1 / sqrt(2) keeps the variance.
        dims: of the convolutions: 1 for signals, 2 for images, 3 for clips.
    """

    def __init__(
        self,
        channels: int,
        out_channels: int,
        emb_channels: int | None,
        resample: Act | None = None,
        *,
        dropout: float = 0.0,
        scale_shift: bool = False,
        norm: Callable[[int], GroupNorm] = GroupNorm,
        act: Act = F.silu,
        shortcut: Callable[[int, int, bool, int], nn.Module] = conv_shortcut,
        scale: float | None = None,
        dims: int = 2,
    ) -> None:
        super().__init__()
        self.scale_shift, self.act, self.scale, self.resample = scale_shift, act, scale, resample
        self.norm1 = norm(channels)
        self.conv1 = convolution(dims, channels, out_channels, padding=1)
        width = out_channels * (2 if scale_shift else 1)
        self.emb = None if emb_channels is None else nn.Linear(emb_channels, width)
        self.norm2 = norm(out_channels)
        self.dropout = nn.Dropout(dropout)
        self.conv2 = zeroed(convolution(dims, out_channels, out_channels, padding=1))
        self.shortcut = shortcut(channels, out_channels, resample is not None, dims)

    def forward(self, x: Tensor, emb: Tensor | None) -> Tensor:
        """x (B, C, ...) and emb (B, emb_channels), already activated, or None -> (B, out_channels, ...)."""
        h = norm_act(self.norm1, x, self.act)
        if self.resample is not None:
            h, x = self.resample(h), self.resample(x)
        h = self.conv1(h)
        added = None if self.emb is None or emb is None else self.emb(emb)
        if self.scale_shift and added is not None:
            scale, shift = added.chunk(2, dim=1)
            h = norm_act(self.norm2, h, self.act, scale=scale, shift=shift)
        else:
            h = norm_act(self.norm2, h, self.act, add=added)
        h = self.shortcut(x) + self.conv2(self.dropout(h))
        return h if self.scale is None else h * self.scale


def attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T / sqrt(d)) v (Vaswani et al. 2017, eq. 1). q, k, v: (B, heads, tokens, d)."""
    # On a CPU in bfloat16 plain products are faster: forward and backward 13 against 32 ms for 64 images of 196 tokens,
    # 132 against 221 ms for one of 4096 (one core, torch 2.13). In float32 the fused kernel is as fast or faster.
    # The fused kernels have no forward derivative.
    if (q.device.type == "cpu" and q.dtype == torch.bfloat16 and k.shape[2] <= 4096) or fused.in_jvp(q):
        return ((q * q.shape[3] ** -0.5) @ k.transpose(2, 3)).softmax(dim=3) @ v
    return F.scaled_dot_product_attention(q, k, v)


def heads_first(qkv: Tensor, heads: int) -> Iterable[Tensor]:
    """(B, tokens, 3C), being q, k and v each whole -> three times (B, heads, tokens, C / heads)."""
    batch, tokens, channels = qkv.shape
    return qkv.view(batch, tokens, 3, heads, channels // (3 * heads)).permute(2, 0, 3, 1, 4).unbind()


def count_heads(channels: int, heads: int, head_channels: int | None) -> int:
    """`heads`, or as many as make heads of `head_channels`; ValueError where they do not divide the channels."""
    if channels % (head_channels or heads):
        size = f"heads of {head_channels} channels" if head_channels else f"{heads} heads"
        raise ValueError(f"attention at {channels} channels cannot be split into {size}")
    return channels // head_channels if head_channels else heads


class Attention(nn.Module):
    """Self-attention among pixels, x + attention(norm(x)), times `scale` if any; `heads` divides `channels`."""

    def __init__(
        self,
        channels: int,
        heads: int = 1,
        norm: Callable[[int], GroupNorm] = GroupNorm,
        scale: float | None = None,
    ) -> None:
        super().__init__()
        self.heads, self.scale = count_heads(channels, heads, None), scale
        self.norm = norm(channels)
        self.qkv = nn.Linear(channels, 3 * channels)
        self.out = zeroed(nn.Linear(channels, channels))

    def forward(self, x: Tensor) -> Tensor:
        """x (B, C, ...) -> the same shape."""
        tokens = self.norm(x).flatten(2).transpose(1, 2)
        h = attend(*heads_first(self.qkv(tokens), self.heads))
        h = self.out(h.transpose(1, 2).flatten(2))
        h = x + h.transpose(1, 2).view_as(x)
        return h if self.scale is None else h * self.scale
