"""Training times of least variance: a learned density of noise levels, as VDM's schedule (Kingma et al. 2021).

In continuous time the expected loss depends on the schedule by its ends alone (VDM, eq. 18), so what lies between is
free to lessen the variance of the loss's estimate (section 5.2, appendix I.2). Here the forward process and the
expected loss stay as they are: a monotone network proposes levels, and its density divides their weight. The ends are
not learned.
"""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.core.monotone import Monotone
from sfumato.core.schedules import Schedule
from sfumato.core.times import TrainingTimes, UniformInterval, UniformLevels

MOST = 20.0
"""Log-SNRs beyond this, such as those of no noise or no signal, count as this."""
CELLS = 1024
"""Cells of continuous time, even in log SNR; within one the density of times is constant."""


class LearnedTimes(TrainingTimes):
    """A learned noise schedule for training: importance sampling of levels by a monotone network.

    The network's x is the share of log SNR between the ends, linear in log SNR; its value is the share of draws up to
    there, the inverse of VDM's gamma. Each `update` is a step of Adam down the logarithm of E[(w loss)^2], the second
    moment of the weighted loss, by the gradient of the density alone:
    -E[(w loss)^2 grad log q] / E[(w loss)^2], so that the diffusion's network is not differentiated again. The least is
    at q in proportion to the root of E[loss^2] at a level. Weights are the densities' ratio, so the expected loss is
    that of even times, whatever was learned. It remembers, so it is saved.

    Args:
        base: the even times whose expected loss is kept.
        edges: (n + 1,) ascending times between which the density is constant; of levels, 0, 1, ..., T.
        log_snr: (n + 1,) descending, there.
        units: hidden units of the network.
        rate: Adam's step size.
        uniform: the share of draws that stays even, so that no weight is above its inverse.
        history: updates that are learned from before draws follow the network.
    """

    learns = True

    def __init__(
        self, base: UniformLevels | UniformInterval, edges: Tensor, log_snr: Tensor, units: int = 32,
        rate: float = 0.03, uniform: float = 0.1, history: int = 50,
    ) -> None:  # fmt: skip
        self.base, self.edges, self.uniform, self.history = base, edges, uniform, history
        self.share = edges.double().diff() / (edges[-1] - edges[0])
        self.highest, self.lowest = float(log_snr[0]), float(log_snr[-1])
        self.x = ((self.highest - log_snr) / (self.highest - self.lowest)).clamp(0, 1)
        self.network = Monotone(units)
        self.optimizer = torch.optim.Adam(self.network.parameters(), rate, betas=(0.9, 0.99))
        self.updates = torch.zeros((), dtype=torch.long)

    @property
    def probabilities(self) -> Tensor:
        """How likely each cell between two edges is by the network, (n,) float64; with its gradient."""
        return (1 - self.uniform) * self.network(self.x).diff() + self.uniform * self.share

    def draw(self, u: Tensor) -> tuple[Tensor, Tensor]:
        if self.updates < self.history:
            return self.base.draw(u)
        with torch.no_grad():
            p = self.probabilities
        cumulative = p.cumsum(0)
        cumulative /= cumulative[-1].clone()
        u = u.double().cpu()
        index = torch.searchsorted(cumulative, u, right=True).clamp(max=len(p) - 1)
        weight = (self.share / p)[index]
        if not self.edges.is_floating_point():
            return index + 1, weight
        within = ((u - cumulative[index]) / p[index] + 1).clamp(0, 1)
        return self.edges[index] + within * self.edges.diff()[index], weight

    def update(self, t: Tensor, losses: Tensor) -> None:
        """Learn from the losses (B,) at times t (B,); those that are not finite are left out."""
        losses, t = losses.detach().double().cpu(), t.cpu()
        known = losses.isfinite()
        cells = torch.searchsorted(self.edges, t[known].contiguous()).clamp(1, len(self.share)) - 1
        with torch.enable_grad():
            p = self.probabilities
            drawn = (self.share if self.updates < self.history else p.detach())[cells]
            squares = (losses[known] * self.share[cells]) ** 2 / (p.detach()[cells] * drawn)
            if len(cells) and bool(squares.sum() > 0):
                # less the mean, whose expected gradient is that of a constant, 0
                chance = squares / squares.mean() - p.detach()[cells] / drawn
                self.optimizer.zero_grad()
                (-(chance * p[cells].log()).mean()).backward()
                self.optimizer.step()
        self.updates += 1

    def half_log_snr(self, n: int) -> Tensor:
        with torch.no_grad():
            cumulative = torch.cat([torch.zeros(1, dtype=torch.float64), self.probabilities.cumsum(0)])
        wanted = torch.arange(n, 0, -1, dtype=torch.float64) / n * cumulative[-1]
        i = torch.searchsorted(cumulative, wanted).clamp(1, len(cumulative) - 1)
        within = (wanted - cumulative[i - 1]) / (cumulative[i] - cumulative[i - 1])
        x = self.x[i - 1] + within * (self.x[i] - self.x[i - 1])
        return (self.highest + (self.lowest - self.highest) * x) / 2

    def state_dict(self) -> dict[str, Tensor]:
        named = {name: value.detach() for name, value in self.network.named_parameters()}
        for name, parameter in self.network.named_parameters():
            moments = self.optimizer.state.get(parameter, {})
            named |= {f"moment/{name}/{key}": torch.as_tensor(value) for key, value in moments.items()}
        return named | {"updates": self.updates}

    def load_state_dict(self, state: dict[str, Tensor]) -> None:
        """Go on from what `state_dict` gave. ValueError for another network's."""
        wanted = {name: value.shape for name, value in self.network.named_parameters()} | {"updates": torch.Size()}
        for name, shape in wanted.items():
            if name not in state or state[name].shape != shape:
                raise ValueError(f"these are no learned times of {len(self.network.weight)} units: see {name}")
        self.network.load_state_dict({name: state[name] for name in wanted if name != "updates"})
        self.updates = state["updates"].clone()
        for name, parameter in self.network.named_parameters():
            moments = {key: state[f"moment/{name}/{key}"].clone() for key in ("step", "exp_avg", "exp_avg_sq")
                       if f"moment/{name}/{key}" in state}  # fmt: skip
            if moments:
                self.optimizer.state[parameter] = moments


def learned_levels(schedule: Schedule, T: int) -> LearnedTimes:
    """Learned times among the levels 1..T of a schedule, all alike at first; a cell reaches half-way to the next."""
    known = schedule.log_snr(torch.arange(1, T + 1)).clamp(-MOST, MOST)
    between = (known[1:] + known[:-1]) / 2
    if T == 1:
        return LearnedTimes(UniformLevels(T), torch.arange(2), torch.cat([known + 1, known - 1]))
    log_snr = torch.cat([2 * known[:1] - between[:1], between, 2 * known[-1:] - between[-1:]])
    return LearnedTimes(UniformLevels(T), torch.arange(T + 1), log_snr)


def learned_interval(schedule: Schedule, start: float, end: float) -> LearnedTimes:
    """Learned times between start and end of a continuous schedule, even at first."""
    high, low = schedule.log_snr(torch.tensor([start, end], dtype=torch.float64)).clamp(-MOST, MOST).tolist()
    log_snr = torch.linspace(high, low, CELLS + 1, dtype=torch.float64)
    edges = schedule.at(log_snr / 2)
    edges[0], edges[-1] = start, end
    return LearnedTimes(UniformInterval(start, end), edges, log_snr)
