"""The optional CPU kernel: a group norm, what a residual block does to it, and SiLU, in one pass over the image.

`python -m sfumato.networks` compiles fused.cpp once, with a C++20 compiler and ninja, for this machine and this
torch; then `load` finds it. Nothing needs it: without it `blocks.norm_act` computes the same by torch's operations.
"""

from __future__ import annotations

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import forward_ad

SOURCE = Path(__file__).with_suffix(".cpp")
FLAGS = ("-O3", "-march=native", "-std=c++20", "-fopenmp", "-fno-math-errno", "-fno-trapping-math")


def library() -> Path:
    """Where the compiled kernel of this source, torch and machine lies, below $XDG_CACHE_HOME/sfumato."""
    try:
        machine = next(line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("flags"))
    except (OSError, StopIteration):
        machine = " ".join(os.uname()) if hasattr(os, "uname") else sys.platform
    facts = [SOURCE.read_text(encoding="utf-8"), torch.__version__, machine, *FLAGS]
    key = hashlib.sha256("\n".join(facts).encode()).hexdigest()[:12]
    base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "sfumato" / f"fused-{key}" / "sfumato_fused.so"


def build() -> Path:
    """Compile the kernel and load it. RuntimeError where there is no compiler, or ninja, which torch builds with."""
    from torch.utils import cpp_extension

    where = library()
    os.environ["PATH"] = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"  # ninja's, beside pip
    where.parent.mkdir(parents=True, exist_ok=True)
    cpp_extension.load(
        where.stem, [str(SOURCE)], extra_cflags=[*FLAGS], extra_ldflags=["-fopenmp"], build_directory=str(where.parent),
        is_python_module=False,
    )  # fmt: skip
    _register()
    return where


def load() -> bool:
    """Whether the kernel is at hand; loads it if it was compiled before."""
    if not loaded() and library().is_file():
        try:
            torch.ops.load_library(str(library()))
        except OSError:  # half written
            return False
        _register()
    return loaded()


def loaded() -> bool:
    """Whether this process has the kernel."""
    return hasattr(torch.ops.sfumato, "norm_silu")


def takes(x: Tensor) -> bool:
    """Whether a kernel is at hand and made for such a tensor: (B, C, H, W) on the CPU in channels_last order, or on a
    GPU in any order, where that kernel is wanted (`fused_gpu`)."""
    if x.device.type == "cuda" and x.dim() == 4 and not torch.compiler.is_compiling():
        from sfumato.networks import fused_gpu

        known = x.dtype in (torch.bfloat16, torch.float32)
        return fused_gpu.ENABLED and known and not in_jvp(x) and fused_gpu.orderly(x)
    return (
        x.device.type == "cpu"
        and x.dim() == 4
        and x.dtype in (torch.bfloat16, torch.float32)
        and x.is_contiguous(memory_format=torch.channels_last)
        and not x.is_contiguous()
        and loaded()
        and not in_jvp(x)
    )


def in_jvp(x: Tensor) -> bool:
    """Whether x carries a forward derivative (`torch.func.jvp`, `forward_ad`), which no fused kernel has."""
    return not torch.compiler.is_compiling() and forward_ad.unpack_dual(x).tangent is not None


def norm_silu(
    x: Tensor, add: Tensor | None, gamma: Tensor, beta: Tensor, groups: int, eps: float, silu: bool = True
) -> Tensor:
    """silu(gamma * n + beta), n being x + add normalised in groups; without SiLU where not `silu`.

    x (B, C, H, W) as `takes` says; add, gamma, beta (B, C) or (1, C). Returns the shape, type and layout of x.
    """
    if x.device.type == "cuda":
        from sfumato.networks import fused_gpu

        return fused_gpu.norm_silu(x, add, gamma, beta, groups, eps, silu)
    result: Tensor = torch.ops.sfumato.norm_silu(
        x, None if add is None else add.float(), gamma.float(), beta.float(), groups, eps, silu
    )[0]
    return result


# ---------------------------------------------------------------- what autograd and torch.compile must know


def _register() -> None:
    def remember(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
        x, add, gamma, beta, ctx.groups, _, ctx.silu = inputs
        _, mean, rstd = output
        ctx.save_for_backward(x, add, gamma, beta, mean, rstd)

    def backward(ctx: Any, dy: Tensor, *_: Tensor) -> tuple[Tensor | None, ...]:
        x, add, gamma, beta, mean, rstd = ctx.saved_tensors
        dx, dadd, dgamma, dbeta = torch.ops.sfumato.norm_silu_backward(
            dy, x, add, gamma, beta, mean, rstd, ctx.groups, ctx.silu
        )
        given = None if add is None else dadd.sum_to_size(add.shape)
        return dx, given, dgamma.sum_to_size(gamma.shape), dbeta.sum_to_size(beta.shape), None, None, None

    torch.library.register_autograd("sfumato::norm_silu", backward, setup_context=remember)

    @torch.library.register_fake("sfumato::norm_silu")
    def _(x: Tensor, add: Any, gamma: Tensor, beta: Tensor, groups: int, eps: float, silu: bool) -> tuple[Tensor, ...]:
        one = x.new_empty((len(x), groups), dtype=torch.float32)
        return torch.empty_like(x), one, torch.empty_like(one)

    @torch.library.register_fake("sfumato::norm_silu_backward")
    def _(
        dy: Tensor,
        x: Tensor,
        add: Any,
        gamma: Tensor,
        beta: Tensor,
        mean: Tensor,
        rstd: Tensor,
        groups: int,
        silu: bool,
    ) -> tuple[Tensor, ...]:
        one = x.new_empty(x.shape[:2], dtype=torch.float32)
        return torch.empty_like(x), one, torch.empty_like(one), torch.empty_like(one)
