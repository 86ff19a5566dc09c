"""Mean flows: the average velocity of the straight path between two times (Geng et al. 2025, MeanFlow).

u(z, r, t) is the mean of the velocity v from r to t along the path through z at t, so z_r = z_t - (t - r) u in one
evaluation (eq. 3). It obeys u = v - (t - r) du/dt (eq. 6), whose total derivative is one Jacobian-vector product.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn
from torch.autograd import forward_ad

from sfumato.core.denoisers import Denoise, Prediction, predict_u
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import like

RATES = 2
FEATURES = 1 + 2 * RATES
"""Numbers that a network is given of the length of a step; at higher rates du/dt is theirs, and trains badly."""
TIME_SCALE = 100.0
"""What t is multiplied with for a network; in 1000 t, as of flows, sinusoids turn so fast that du/dt is theirs."""

Velocity = Callable[[Tensor, Tensor, Tensor], Tensor]
"""(z, t, t - r) -> u like z, the times (B,) where z is."""


def features(length: Tensor) -> Tensor:
    """Fourier features of the length of a step t - r (B,) in [0, 1], (B, FEATURES): all 0 for length 0.

    So a network whose embedding of them begins as nothing begins as one of the velocity itself.
    """
    angles = math.pi * length[:, None] * torch.arange(1, RATES + 1, device=length.device, dtype=length.dtype)
    return torch.cat([length[:, None], angles.sin(), 1 - angles.cos()], dim=1)


def mean_velocity(network: nn.Module, inputs: Mapping[str, Tensor], scale: float = TIME_SCALE) -> Velocity:
    """The average velocity that a network returns, which is given scale t, and the length after its other numbers."""

    def velocity(z: Tensor, t: Tensor, length: Tensor) -> Tensor:
        told = features(length)
        numbers = inputs.get("numbers")
        numbers = told if numbers is None else torch.cat([numbers.to(told), told], dim=1)
        output: Tensor = network(z, scale * t, **{**inputs, "numbers": numbers})
        return output.to(z.dtype)

    return velocity


@dataclass(frozen=True)
class MeanDenoiser:
    """The denoiser (x_t, t) -> Prediction of a mean flow, by its average velocity from t to a time.

    Attributes:
        scale: what the network is given of t, as a multiple.
        other: numbers that describe images besides, 0 in sampling, such as an augmentation's.
        to: where the step ends, () on the host; at t itself where None, which is the velocity of flow matching.
    """

    network: nn.Module
    process: GaussianDiffusion
    inputs: Mapping[str, Tensor] = field(default_factory=dict)
    other: int = 0
    scale: float = TIME_SCALE
    to: Tensor | None = None

    def towards(self, s: Tensor) -> MeanDenoiser:
        """The same, by the average velocity of a step to s: DDIM's step there is the mean flow's."""
        return replace(self, to=s)

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        now = t.to(x.device, torch.float32).expand(len(x))
        length = torch.zeros_like(now) if self.to is None else (t - self.to).to(x.device, torch.float32).expand(len(x))
        inputs = dict(self.inputs)
        if self.other and "numbers" not in inputs:
            inputs["numbers"] = now.new_zeros(len(x), self.other)
        return predict_u(mean_velocity(self.network, inputs, self.scale)(x, now, length), x, t, self.process)


def towards(denoise: Denoise, s: Tensor) -> Denoise:
    """The denoiser of a step to s: a mean flow's by the average velocity of that step; any other is what it was."""
    return denoise.towards(s) if isinstance(denoise, MeanDenoiser) else denoise


def mean_target(velocity: Velocity, z: Tensor, v: Tensor, t: Tensor, length: Tensor) -> Tensor:
    """v - (t - r) du/dt at z (B, ...), without a gradient (eq. 10): one forward-mode derivative along (v, 1, 1).

    Args:
        velocity: u of the network; of t - r the derivative is 1, too, since r stays.
        v: the velocity at z of this path, eps - x0.
        t, length: (B,) t and t - r, where z is.
    """
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(z.device.type, enabled=False):
        given = [value.detach().float().clone() for value in (z, t, length)]
        along = [v.detach().float().clone(), torch.ones_like(given[1]), torch.ones_like(given[2])]
        with forward_ad.dual_level():
            dual = [forward_ad.make_dual(value, tangent) for value, tangent in zip(given, along, strict=True)]
            slope = forward_ad.unpack_dual(velocity(*dual)).tangent
        return along[0] if slope is None else along[0] - like(given[2], given[0]) * slope


def guided_velocity(free: Velocity, z: Tensor, v: Tensor, t: Tensor, scale: float) -> Tensor:
    """The velocity of a path with guidance inside it, w v + (1 - w) u(z, t, t) without the label (section 4.2).

    Its mean over paths through z is that of the guided field; where no label is given, too, that is v's own.

    Args:
        free: u of the network that is not told the label, without a gradient here.
        v: the velocity of this path at z (B, ...), and t (B,) where z is.
    """
    with torch.no_grad():
        return scale * v + (1 - scale) * free(z, t, torch.zeros_like(t))


def two_jumps(velocity: Velocity, z: Tensor, v: Tensor, t: Tensor, half: Tensor, told: Tensor) -> Tensor:
    """The velocity of two jumps of half the length, one after the other, without a gradient (Frans et al. 2024).

    Args:
        velocity: s of the network, of z (B, ...), t and a length.
        v: the velocity of this path, which is returned where half is 0.
        t, half: (B,) where z is, and half the length of the whole jump.
        told: (B,) the length that the network is told of each, half, or 0 for the velocity at that time.
    """
    with torch.no_grad():
        first = velocity(z, t, told)
        second = velocity(z - like(half, z) * first, t - half, told)
        return torch.where(like(half, z) > 0, (first + second) / 2, v)


def adaptive(square: Tensor, power: float, floor: float) -> Tensor:
    """Squared errors (B,), each divided by (itself + floor)^power, which has no gradient (section 4.3)."""
    return square / (square.detach() + floor) ** power
