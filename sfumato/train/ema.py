"""Exponential moving averages of a network's weights, several rates at once, in float32.

Each average warms up with the run and never looks back over more than a tenth of it, so that short runs are not haunted
by their first weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sfumato.runtime.sharding import is_sharded


def decay_at(rate: float, n: int, total: float) -> float:
    """The decay of update n (from 0) in a run of about `total` updates: the least of

    the rate itself; (1 + n) / (10 + n), which averages over what there is so far; and 1 - 10 / total, whose window is a
    tenth of the run.
    """
    return max(0.0, min(rate, (1 + n) / (10 + n), 1 - 10 / total))


class EMA:
    """Averages of the network's parameters; buffers are the network's own, as they are.

    Args:
        network: whose weights are averaged; it is not copied.
        rates: the slowest decay of each average.
    """

    def __init__(self, network: nn.Module, rates: Sequence[float]) -> None:
        self.network = network
        self.rates = tuple(rates)
        self.parameters: list[Tensor] = list(network.parameters())  # not their data, which a wrapper may exchange
        self.shadows = {rate: [p.detach().clone().float() for p in self.parameters] for rate in self.rates}

    @torch.no_grad()
    def update(self, n: int, total: float) -> dict[float, float]:
        """Take in the weights after update n (from 0) of about `total`; returns the decay of each rate."""
        decays = {rate: decay_at(rate, n, total) for rate in self.rates}
        for rate, shadow in self.shadows.items():
            torch._foreach_lerp_(shadow, self.parameters, 1 - decays[rate])
        return decays

    def shortened(self, total: float) -> list[str]:
        """A sentence for each rate that a run of about `total` updates is too short for."""
        return [
            f"EMA {rate:g} looks back over {1 / (1 - rate):,.0f} steps, too many for a run of about {total:,.0f}; "
            f"held at {decay_at(rate, 1 << 62, total):.5g}"
            for rate in self.rates
            if decay_at(rate, 1 << 62, total) < rate
        ]

    @contextlib.contextmanager
    def swapped(self, rate: float) -> Iterator[nn.Module]:
        """The network with averaged weights, for as long as the context lasts."""
        _swap(self.parameters, self.shadows[rate])
        try:
            yield self.network
        finally:
            _swap(self.parameters, self.shadows[rate])

    def state_dict(self, rate: float) -> dict[str, Tensor]:
        """The network's state with averaged weights; shares memory with the average."""
        averaged = {id(p): s for p, s in zip(self.parameters, self.shadows[rate], strict=True)}
        held = self.network.state_dict(keep_vars=True)
        return {name: averaged.get(id(value), value.detach()) for name, value in held.items()}

    def load_state_dict(self, rate: float, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        with self.swapped(rate):
            self.network.load_state_dict(state)


@torch.no_grad()
def _swap(parameters: list[Tensor], shadow: list[Tensor]) -> None:
    for i, parameter in enumerate(parameters):
        if is_sharded(parameter):  # the network keeps hold of its parts' memory, so that the values must move
            kept = parameter.detach().clone()
            parameter.copy_(shadow[i])
            shadow[i].copy_(kept)
        else:
            parameter.data, shadow[i] = shadow[i], parameter.data
