"""What is alive while a program runs, in bytes: every storage is entered when an operation returns it and struck out
when nothing refers to it any more.

It works as well on tensors without contents (fake ones, or on the meta device), so that a step can be counted before
there is a machine for it. What an operation allocates and frees inside itself, such as a convolution's workspace, is
not seen.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Ledger(TorchDispatchMode):
    """Counts the bytes of the storages that are alive on one type of device, while it is active and before by `enter`.

    Args:
        device: the type of device whose tensors count: "cpu", "cuda" or "meta".

    Attributes:
        live: bytes alive now.
        peak: the largest `live` so far.
    """

    def __init__(self, device: str) -> None:
        super().__init__()
        self.device, self.live, self.peak = device, 0, 0
        self._entered: dict[int, tuple[Any, int]] = {}

    def enter(self, tensors: Iterable[Tensor], share: float = 1.0) -> int:
        """Count the storages of these tensors, those that are new; returns their bytes.

        share: of each storage that this process holds; the rest is not counted.
        """
        before = self.live
        for tensor in tensors:
            if tensor.device.type == self.device:
                self._enter(tensor.untyped_storage(), share)
        self.peak = max(self.peak, self.live)
        return self.live - before

    def share(self, tensor: Tensor, share: float) -> None:
        """From now on count only this share of a tensor's storage, of which other processes hold the rest."""
        key = tensor.untyped_storage()._cdata
        if key in self._entered:
            reference, size = self._entered[key]
            kept = int(share * size)
            self._entered[key] = (reference, kept)
            self.live -= size - kept

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        self.enter(leaf for leaf in tree_leaves(result) if isinstance(leaf, Tensor))
        return result

    def _enter(self, storage: torch.UntypedStorage, share: float) -> None:
        key = storage._cdata
        if key not in self._entered:
            size = int(share * storage.nbytes())
            self._entered[key] = (weakref.ref(storage, lambda _: self._strike_out(key)), size)
            self.live += size

    def _strike_out(self, key: int) -> None:
        self.live -= self._entered.pop(key)[1]
