"""Key maps, as data that reads both ways: which foreign tensor is which rows of which of our parameters.

They belong to no paper; the foreign formats themselves are the other files of this folder.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from sfumato.runtime.tensor_file import is_finite


class Key(NamedTuple):
    """The tensor `official` is the `rows` of our parameter `ours`, perhaps transposed, then `ones` dimensions of 1.

    A pair is rows and columns; () is the whole of a single number.
    """

    official: str
    ours: str
    rows: slice | Tensor | tuple[slice, Tensor] | tuple[()] = slice(None)
    ones: int = 0
    transposed: bool = False

    def read(self, ours: Tensor) -> Tensor:
        """Our tensor -> the official one."""
        part = ours[self.rows]
        return (part.T if self.transposed else part)[(...,) + (None,) * self.ones]

    def write(self, ours: Tensor, official: Tensor) -> None:
        """Copy the official tensor to its place in ours."""
        part = official.flatten(-1 - self.ones) if self.ones else official
        ours[self.rows] = part.T if self.transposed else part


def same(official: str, ours: str, module: nn.Module, ones: int = 0) -> Iterator[Key]:
    """Every parameter of `module`, which is called `official` there and `ours` here; its weight with `ones`."""
    for name, parameter in module.named_parameters():
        yield Key(f"{official}.{name}", f"{ours}.{name}", ones=ones if parameter.ndim > 1 else 0)


def check_fits(module: nn.Module, keys: Sequence[Key], state_dict: Mapping[str, Tensor]) -> None:
    """ValueError lists the first five tensors of `state_dict` that do not fit into `module`, which may be "meta"."""
    ours = module.state_dict()
    expected = {key.official: tuple(key.read(ours[key.ours]).shape) for key in keys}
    found = {name: tuple(tensor.shape) for name, tensor in state_dict.items()}
    differences = [f"{name} is missing" for name in expected if name not in found]
    differences += [f"{name} {found[name]} is left over" for name in found if name not in expected]
    differences += [
        f"{name} is {found[name]} and should be {shape}"
        for name, shape in expected.items()
        if found.get(name, shape) != shape
    ]
    if differences:
        more = f"\n  and {len(differences) - 5} more" if len(differences) > 5 else ""
        raise ValueError("the state dict does not fit the arguments:\n  " + "\n  ".join(differences[:5]) + more)


def load(module: nn.Module, keys: Sequence[Key], state_dict: Mapping[str, Tensor]) -> None:
    """Copy the whole of `state_dict`, which fits, into `module`; ValueError for NaN, infinite values and integers."""
    ours = module.state_dict()
    with torch.no_grad():
        for key in keys:
            given = state_dict[key.official]
            if ours[key.ours].is_floating_point() and not given.is_floating_point():
                raise ValueError(f"{key.official} holds {str(given.dtype).removeprefix('torch.')}, no weights")
            value = given.to(ours[key.ours])
            if not is_finite(value):
                raise ValueError(f"{key.official} holds NaN or infinite values")
            key.write(ours[key.ours], value)
