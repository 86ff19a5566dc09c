"""A CUDA graph's part on a CPU: the operations of a piece of work are recorded once, and replayed on the same memory.

As on the device, a replay calls no Python of the work and takes nothing from the host: what is not in a buffer stays
what it was when it was recorded, so that stale values and buffers that alias each other show. Random numbers of torch's
own generator are drawn anew, those of any other generator are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.train import captured


class Recorder(TorchDispatchMode):
    """The operations that were run in it, with the very tensors that they had and made."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[tuple[Any, Any, Any, Any]] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        name = func.overloadpacket.__name__
        if name in ("nonzero", "unique", "masked_select") or kwargs.get("generator") is not None:
            raise RuntimeError(f"{name} in a captured step")
        out = func(*args, **kwargs)
        self.operations.append((func, args, kwargs, out))
        return out

    def replay(self) -> None:
        """All of them again: what they made is written where it was."""
        with torch.no_grad():
            for func, args, kwargs, out in self.operations:
                returns = func._schema.returns
                views = returns and all(r.alias_info is not None and not r.alias_info.is_write for r in returns)
                if views:
                    continue  # it is where it was
                again = func(*args, **kwargs)
                for old, new in zip(tree_leaves(out), tree_leaves(again), strict=True):
                    if isinstance(old, Tensor) and old.data_ptr() != new.data_ptr():
                        old.copy_(new)


def graphed(work: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
    """As `captured.graphed`; recording runs the work, as a capture does not, so it counts as one of the warm ones."""
    for _ in range(captured.WARM):
        work()
    recorder = Recorder()
    with recorder:
        result = work()
    return recorder.replay, result
