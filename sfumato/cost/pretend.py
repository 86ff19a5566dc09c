"""A machine to pretend: networks and images without contents, on which the real code runs and only sizes are computed.

On the CPU they are torch's fake tensors, which take the CPU's own paths (fused kernel, autocast, memory layout). For a
GPU they lie on the meta device, and `_Cuda` does what autocast and attention do on CUDA, whether or not there is one.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from sfumato.papers.recipe import Trainable
from sfumato.runtime.precision import autocast


class Pretence:
    """Makes networks and tensors without contents as they would lie on a device.

    Args:
        device: "cpu"; anything else is taken for a CUDA GPU.
        precision: "float32" or "bf16".
    """

    def __init__(self, device: str, precision: str) -> None:
        from torch._subclasses.fake_tensor import FakeTensorMode

        if precision not in ("float32", "bf16"):
            raise ValueError(f"precision is bf16 or float32, not {precision!r}")
        self.precision = precision
        self.device = torch.device("cpu" if device == "cpu" else "meta")
        self._fake = FakeTensorMode(allow_non_fake_inputs=True) if device == "cpu" else None

    def network(self, recipe: Trainable, layout: torch.memory_format = torch.contiguous_format) -> nn.Module:
        """The recipe's network in training mode, its weights in this memory layout."""
        with torch.device("meta"):
            network: Any = recipe.model().train()
        network.to(memory_format=layout)
        made: dict[int, Tensor] = {}
        for module in network.modules():
            for owned in (module._parameters, module._buffers):
                for name, tensor in owned.items():
                    if tensor is not None:
                        owned[name] = made.setdefault(id(tensor), self._placed(tensor))
        found: nn.Module = network
        return found

    def images(
        self, batch: int, shape: tuple[int, ...], layout: torch.memory_format = torch.contiguous_format
    ) -> Tensor:
        """float32 images (batch, C, H, W) in this memory layout."""
        return self._placed(torch.empty(batch, *shape, device="meta").contiguous(memory_format=layout))

    def _placed(self, tensor: Tensor) -> Tensor:
        from torch._subclasses.fake_tensor import FakeTensor

        placed = tensor.detach()
        if self._fake is not None:
            placed = FakeTensor(self._fake, placed, self.device)
        is_parameter = isinstance(tensor, nn.Parameter)
        return nn.Parameter(placed, requires_grad=tensor.requires_grad) if is_parameter else placed

    @contextlib.contextmanager
    def running(self) -> Iterator[Callable[[], contextlib.AbstractContextManager[object]]]:
        """While it lasts, operations behave as on the device; yields what makes the contexts of its precision."""
        if self.device.type == "cpu":
            yield lambda: autocast("cpu", self.precision)
            return
        with _Cuda(self.precision == "bf16") as cuda:
            yield cuda.remembering


def backward(loss: Tensor) -> None:
    """The backward pass of a scalar. `Tensor.backward` would leave the pretence, in which blocks are to run again."""
    engine: Any = torch.autograd.Variable._execution_engine
    engine.run_backward(
        (loss,), (torch.ones_like(loss),), False, False, (), allow_unreachable=True, accumulate_grad=True
    )


# ---------------------------------------------------------------- what CUDA does differently

LOW = (F.conv2d, F.conv_transpose2d, F.linear, torch.conv2d, torch.conv_transpose2d, torch.matmul, torch.bmm,
       torch.einsum, Tensor.matmul, Tensor.__matmul__)  # fmt: skip
HIGH = (F.group_norm, F.layer_norm, F.softmax, F.log_softmax, F.interpolate, torch.softmax, torch.exp, torch.log,
        torch.rsqrt, Tensor.softmax, Tensor.log_softmax, Tensor.exp, Tensor.log, Tensor.rsqrt, Tensor.sum,
        Tensor.pow, Tensor.__pow__)  # fmt: skip
"""Which functions autocast runs in bfloat16 and float32 on CUDA (torch's ATen/autocast_mode.h), of those used here."""


class _Cuda(TorchFunctionMode):
    """Casts as CUDA's autocast does where `bf16`, and attends as its fused kernels do, which keep no probabilities."""

    def __init__(self, bf16: bool) -> None:
        super().__init__()
        self.bf16 = bf16
        self.casts: dict[int, tuple[Tensor, Tensor]] | None = None

    @contextlib.contextmanager
    def remembering(self) -> Iterator[None]:
        """Weights are cast once while this lasts, as in an autocast context."""
        self.casts = {}
        try:
            yield
        finally:
            self.casts = None

    def __torch_function__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        more = dict(kwargs or {})
        if self.bf16 and func in HIGH:
            args = tuple(self._high(a) for a in args)
            more = {name: self._high(value) for name, value in more.items()}
        if self.bf16 and (func in LOW or func is F.scaled_dot_product_attention):
            args = tuple(self._low(a) for a in args)
        if func is F.scaled_dot_product_attention:
            with torch._C.DisableTorchFunction():
                return _Attention.apply(*args)
        return func(*args, **more)

    def _low(self, value: Any) -> Any:
        if not isinstance(value, Tensor) or value.dtype != torch.float32 or value.device.type != "meta":
            return value
        if self.casts is None or not (value.is_leaf and value.requires_grad):
            return value.to(torch.bfloat16)
        return self.casts.setdefault(id(value), (value, value.to(torch.bfloat16)))[1]

    def _high(self, value: Any) -> Any:
        low = isinstance(value, Tensor) and value.dtype == torch.bfloat16
        return value.float() if low else value


class _Attention(torch.autograd.Function):
    """The sizes of fused attention (Dao et al. 2022): kept are q, k, v, the result and one number a row."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        out = torch.empty_like(q)
        ctx.save_for_backward(q, k, v, out, q.new_empty(q.shape[:3], dtype=torch.float32))
        return out

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, ...]:
        return tuple(torch.empty_like(x) for x in ctx.saved_tensors[:3])
