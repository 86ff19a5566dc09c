"""The GPU kernel: a group norm, what a residual block does to it, and SiLU, in one pass over the image, by Triton.

Torch's own group norm under autocast reads and writes float32 several times; this reads and writes the image once each
way, in either memory layout, and keeps its sums in float32. `blocks.norm_act` calls it through `fused`.
"""

from __future__ import annotations

import os
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

try:
    import triton
    import triton.language as tl
except ImportError:  # a torch without a GPU comes without it
    triton = None

AVAILABLE = triton is not None
ENABLED = AVAILABLE and os.environ.get("SFUMATO_FUSED_GPU", "0") == "1"
"""Whether networks on a GPU use it."""
LARGEST_TILE = 8192
"""Numbers that a program holds at once."""

if AVAILABLE:

    @triton.jit
    def _forward(  # type: ignore[no-untyped-def]
        x, add, gamma, beta, out, mean_out, rstd_out, C, HW, sb, sc, sp, gb, inverse, eps,
        SIZE: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, ADD: tl.constexpr,
        SILU: tl.constexpr,
    ):  # fmt: skip
        """One image, BLOCK channels: whole groups of SIZE. x has the strides sb, sc, sp (image, channel, pixel)."""
        image, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
        c = tl.arange(0, WIDTH)
        inside = (c < BLOCK) & (first + c < C)
        channel = first + c
        same = ((c[:, None] // SIZE) == (c[None, :] // SIZE)) & inside[:, None] & inside[None, :]
        shift = tl.zeros([WIDTH], tl.float32)
        if ADD:
            shift = tl.load(add + image * C + channel, mask=inside, other=0.0).to(tl.float32)
        base = x + image * sb + channel[None, :] * sc
        total = tl.zeros([WIDTH], tl.float32)
        for start in range(0, HW, TILE):
            p = start + tl.arange(0, TILE)
            mask = (p < HW)[:, None] & inside[None, :]
            v = tl.load(base + p[:, None] * sp, mask=mask, other=0.0).to(tl.float32)
            total += tl.sum(tl.where(mask, v + shift[None, :], 0.0), axis=0)
        mean = tl.sum(tl.where(same, total[None, :], 0.0), axis=1) * inverse
        spread = tl.zeros([WIDTH], tl.float32)
        for start in range(0, HW, TILE):
            p = start + tl.arange(0, TILE)
            mask = (p < HW)[:, None] & inside[None, :]
            v = tl.load(base + p[:, None] * sp, mask=mask, other=0.0).to(tl.float32) + shift[None, :] - mean[None, :]
            spread += tl.sum(tl.where(mask, v * v, 0.0), axis=0)
        rstd = 1.0 / tl.sqrt(tl.sum(tl.where(same, spread[None, :], 0.0), axis=1) * inverse + eps)
        tl.store(mean_out + image * C + channel, mean, mask=inside)
        tl.store(rstd_out + image * C + channel, rstd, mask=inside)
        g = tl.load(gamma + image * gb + channel, mask=inside, other=0.0).to(tl.float32) * rstd
        b = tl.load(beta + image * gb + channel, mask=inside, other=0.0).to(tl.float32) + (shift - mean) * g
        target = out + image * sb + channel[None, :] * sc
        for start in range(0, HW, TILE):
            p = start + tl.arange(0, TILE)
            mask = (p < HW)[:, None] & inside[None, :]
            v = tl.load(base + p[:, None] * sp, mask=mask, other=0.0).to(tl.float32)
            z = v * g[None, :] + b[None, :]
            if SILU:
                z = z / (1.0 + tl.exp(-z))
            tl.store(target + p[:, None] * sp, z.to(out.dtype.element_ty), mask=mask)

    @triton.jit
    def _backward(  # type: ignore[no-untyped-def]
        dy, x, add, gamma, beta, mean_in, rstd_in, dx, dadd, dgamma, dbeta, C, HW, sb, sc, sp, gb, inverse,
        SIZE: tl.constexpr, BLOCK: tl.constexpr, WIDTH: tl.constexpr, TILE: tl.constexpr, ADD: tl.constexpr,
        SILU: tl.constexpr,
    ):  # fmt: skip
        """The same image and channels: dx, and sums over the pixels, (B, C) each, for the other gradients."""
        image, first = tl.program_id(0).to(tl.int64), tl.program_id(1) * BLOCK
        c = tl.arange(0, WIDTH)
        inside = (c < BLOCK) & (first + c < C)
        channel = first + c
        same = ((c[:, None] // SIZE) == (c[None, :] // SIZE)) & inside[:, None] & inside[None, :]
        shift = tl.zeros([WIDTH], tl.float32)
        if ADD:
            shift = tl.load(add + image * C + channel, mask=inside, other=0.0).to(tl.float32)
        mean = tl.load(mean_in + image * C + channel, mask=inside, other=0.0)
        rstd = tl.load(rstd_in + image * C + channel, mask=inside, other=0.0)
        g = tl.load(gamma + image * gb + channel, mask=inside, other=0.0).to(tl.float32)
        b = tl.load(beta + image * gb + channel, mask=inside, other=0.0).to(tl.float32)
        offset = image * sb + channel[None, :] * sc
        of_gamma, of_beta = tl.zeros([WIDTH], tl.float32), tl.zeros([WIDTH], tl.float32)
        for start in range(0, HW, TILE):
            p = start + tl.arange(0, TILE)
            mask = (p < HW)[:, None] & inside[None, :]
            at = offset + p[:, None] * sp
            n = (tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + (shift - mean)[None, :]) * rstd[None, :]
            d = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
            if SILU:
                z = n * g[None, :] + b[None, :]
                s = 1.0 / (1.0 + tl.exp(-z))
                d = d * s * (1.0 + z * (1.0 - s))
            of_gamma += tl.sum(tl.where(mask, d * n, 0.0), axis=0)
            of_beta += tl.sum(tl.where(mask, d, 0.0), axis=0)
        tl.store(dgamma + image * C + channel, of_gamma, mask=inside)
        tl.store(dbeta + image * C + channel, of_beta, mask=inside)
        along = tl.sum(tl.where(same, (of_gamma * g)[None, :], 0.0), axis=1) * inverse
        level = tl.sum(tl.where(same, (of_beta * g)[None, :], 0.0), axis=1) * inverse
        of_add = tl.zeros([WIDTH], tl.float32)
        for start in range(0, HW, TILE):
            p = start + tl.arange(0, TILE)
            mask = (p < HW)[:, None] & inside[None, :]
            at = offset + p[:, None] * sp
            n = (tl.load(x + at, mask=mask, other=0.0).to(tl.float32) + (shift - mean)[None, :]) * rstd[None, :]
            d = tl.load(dy + at, mask=mask, other=0.0).to(tl.float32)
            if SILU:
                z = n * g[None, :] + b[None, :]
                s = 1.0 / (1.0 + tl.exp(-z))
                d = d * s * (1.0 + z * (1.0 - s))
            back = (d * g[None, :] - level[None, :] - n * along[None, :]) * rstd[None, :]
            tl.store(dx + at, back.to(dx.dtype.element_ty), mask=mask)
            if ADD:
                of_add += tl.sum(tl.where(mask, back, 0.0), axis=0)
        if ADD:
            tl.store(dadd + image * C + channel, of_add, mask=inside)


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Steps in memory from image to image, channel to channel and pixel to pixel of x (B, C, H, W)."""
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    contiguous = x.is_contiguous()
    return channels * pixels, (pixels if contiguous else 1), (1 if contiguous else channels)


def _plan(x: Tensor, groups: int) -> dict[str, int]:
    """How the channels of x are cut: whole groups, 16 or more channels at a time where they lie side by side."""
    channels, pixels = x.shape[1], x.shape[2] * x.shape[3]
    size = channels // groups
    together = size if x.is_contiguous() else min(channels, size * -(-16 // size))
    width = triton.next_power_of_2(together)
    tile = min(triton.next_power_of_2(pixels), max(16, LARGEST_TILE // width))
    warps = 8 if tile * width >= 4096 else 4
    return {"SIZE": size, "BLOCK": together, "WIDTH": width, "TILE": tile, "num_warps": warps}


def orderly(x: Tensor) -> bool:
    """Whether x (B, C, H, W) lies in memory in one of the two orders, without gaps."""
    return x.is_contiguous() or x.is_contiguous(memory_format=torch.channels_last)


class NormSilu(torch.autograd.Function):
    """silu(gamma * n + beta), n being x + add normalised in groups: forward and backward by one kernel each."""

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, add: Tensor | None, gamma: Tensor, beta: Tensor, groups: int, eps: float, silu: bool
    ) -> Tensor:
        B, C, H, W = x.shape
        add = None if add is None else add.contiguous()
        gamma, beta = gamma.contiguous(), beta.contiguous()
        out = torch.empty_like(x)
        mean, rstd = (torch.empty(B, C, dtype=torch.float32, device=x.device) for _ in range(2))
        plan = _plan(x, groups)
        grid = (B, -(-C // plan["BLOCK"]))
        inverse = groups / (C * H * W)
        gb = 0 if gamma.shape[0] == 1 else C
        _forward[grid](
            x, x if add is None else add, gamma, beta, out, mean, rstd, C, H * W, *_strides(x), gb, inverse, eps,
            ADD=add is not None, SILU=silu, **plan,
        )  # fmt: skip
        ctx.save_for_backward(x, add, gamma, beta, mean, rstd)
        ctx.inverse, ctx.silu, ctx.plan, ctx.grid, ctx.gb = inverse, silu, plan, grid, gb
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        x, add, gamma, beta, mean, rstd = ctx.saved_tensors
        _, C, H, W = x.shape
        contiguous = x.is_contiguous()
        dy = dy.contiguous() if contiguous else dy.contiguous(memory_format=torch.channels_last)
        dx = torch.empty_like(x)
        dadd, dgamma, dbeta = (torch.empty_like(mean) for _ in range(3))
        _backward[ctx.grid](
            dy, x, x if add is None else add, gamma, beta, mean, rstd, dx, dadd, dgamma, dbeta, C, H * W, *_strides(x),
            ctx.gb, ctx.inverse, ADD=add is not None, SILU=ctx.silu, **ctx.plan,
        )  # fmt: skip
        of_gamma, of_beta = (v.sum_to_size(gamma.shape).to(gamma.dtype) for v in (dgamma, dbeta))
        return dx, None if add is None else dadd.to(add.dtype), of_gamma, of_beta, None, None, None


def norm_silu(
    x: Tensor, add: Tensor | None, gamma: Tensor, beta: Tensor, groups: int, eps: float, silu: bool = True
) -> Tensor:
    """As `fused.norm_silu`: x (B, C, H, W); add (B, C) or None; gamma and beta both (B, C) or both (1, C)."""
    out: Tensor = NormSilu.apply(x, add, gamma, beta, groups, eps, silu)
    return out
