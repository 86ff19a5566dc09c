"""Exponential moving averages of a network's weights, several at once, in float32.

An average of a fixed rate warms up with the run and never looks back over more than a tenth of it, so that short runs
are not haunted by their first weights. One of a power-function profile stretches with the run (Karras et al. 2024,
EDM2), and its snapshots give averages of other lengths afterwards (`core.profiles`).
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor, nn

from sfumato.core import profiles
from sfumato.runtime.sharding import is_sharded


def decay_at(rate: float, n: int, total: float) -> float:
    """The decay of update n (from 0) in a run of about `total` updates: the least of

    the rate itself; (1 + n) / (10 + n), which averages over what there is so far; and 1 - 10 / total, whose window is a
    tenth of the run.
    """
    return max(0.0, min(rate, (1 + n) / (10 + n), 1 - 10 / total))


class Averages:
    """Averages of the network's parameters, each by its number; buffers are the network's own, as they are.

    Args:
        network: whose weights are averaged; it is not copied.
        numbers: what the averages are called: rates, or lengths.
    """

    def __init__(self, network: nn.Module, numbers: Sequence[float]) -> None:
        self.network = network
        self.parameters: list[Tensor] = list(network.parameters())  # not their data, which a wrapper may exchange
        self.shadows = {number: [p.detach().clone().float() for p in self.parameters] for number in numbers}

    @torch.no_grad()
    def take_in(self, decays: Mapping[float, float]) -> None:
        """Move each average towards the weights, by 1 - decay."""
        for number, shadow in self.shadows.items():
            torch._foreach_lerp_(shadow, self.parameters, 1 - decays[number])

    @contextlib.contextmanager
    def swapped(self, number: float) -> Iterator[nn.Module]:
        """The network with averaged weights, for as long as the context lasts."""
        _swap(self.parameters, self.shadows[number])
        try:
            yield self.network
        finally:
            _swap(self.parameters, self.shadows[number])

    def state_dict(self, number: float) -> dict[str, Tensor]:
        """The network's state with averaged weights; shares memory with the average."""
        averaged = {id(p): s for p, s in zip(self.parameters, self.shadows[number], strict=True)}
        held = self.network.state_dict(keep_vars=True)
        return {name: averaged.get(id(value), value.detach()) for name, value in held.items()}

    def load_state_dict(self, number: float, state: Mapping[str, Tensor]) -> None:
        """Take back what `state_dict` gave."""
        with self.swapped(number):
            self.network.load_state_dict(state)


class EMA(Averages):
    """Exponential moving averages of fixed rates; rates: the slowest decay of each."""

    def __init__(self, network: nn.Module, rates: Sequence[float]) -> None:
        super().__init__(network, rates)
        self.rates = tuple(rates)

    def update(self, n: int, total: float) -> dict[float, float]:
        """Take in the weights after update n (from 0) of about `total`; returns the decay of each rate."""
        decays = {rate: decay_at(rate, n, total) for rate in self.rates}
        self.take_in(decays)
        return decays

    def shortened(self, total: float) -> list[str]:
        """A sentence for each rate that a run of about `total` updates is too short for."""
        return [
            f"EMA {rate:g} looks back over {1 / (1 - rate):,.0f} steps, too many for a run of about {total:,.0f}; "
            f"held at {decay_at(rate, 1 << 62, total):.5g}"
            for rate in self.rates
            if decay_at(rate, 1 << 62, total) < rate
        ]


class PowerEMA(Averages):
    """Power-function EMA (EDM2): averages whose profiles stretch with the run; lengths: sigma_rel of each."""

    def __init__(self, network: nn.Module, lengths: Sequence[float]) -> None:
        super().__init__(network, lengths)
        self.gammas = {length: profiles.gamma(length) for length in lengths}

    @property
    def lengths(self) -> tuple[float, ...]:
        return tuple(self.gammas)

    def update(self, before: int, after: int) -> None:
        """Take in the weights of an update that went from `before` to `after` images seen, from 0 on."""
        self.take_in({length: profiles.decay(gamma, before, after) for length, gamma in self.gammas.items()})

    def forget(self, length: float) -> None:
        """Track an average no longer, which the run did not have from its start."""
        del self.shadows[length], self.gammas[length]


@torch.no_grad()
def _swap(parameters: list[Tensor], shadow: list[Tensor]) -> None:
    for i, parameter in enumerate(parameters):
        if is_sharded(parameter):  # the network keeps hold of its parts' memory, so that the values must move
            kept = parameter.detach().clone()
            parameter.copy_(shadow[i])
            shadow[i].copy_(kept)
        else:
            parameter.data, shadow[i] = shadow[i], parameter.data
