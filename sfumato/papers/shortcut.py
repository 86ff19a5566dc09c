"""Shortcut models: One step diffusion via shortcut models (Frans, Hafner, Levine & Abbeel 2024).

Beside the PDF: s(x_t, t, d) is the velocity of a jump of length d, which is held to what two jumps of d / 2 do,
(s(x_t, t, d/2) + s(x', t', d/2)) / 2, and for d = 0 to the velocity of flow matching; lengths are 1 / 2^k. Here time
runs from data at 0 to noise at 1. The network is the one of mean flows, of which d is t - r (`core.mean_flow`), and so
is the sampler; the target needs no derivative.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core.continuous import LinearFlow
from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Diffusion, Inputs, Loss
from sfumato.core.distributions import Noise
from sfumato.core.mean_flow import FEATURES, TIME_SCALE, MeanDenoiser, Velocity, mean_velocity, two_jumps
from sfumato.core.processes import GaussianDiffusion
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone, bare
from sfumato.networks.unet import HoUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import (
    Shape,
    augmented,
    build_network,
    channels_of,
    check_fields,
    encoded,
    interval_times,
    training_noise,
)
from sfumato.samplers.mean_flow import MeanFlowSampler
from sfumato.spaces import Pixels, Space


@dataclass(frozen=True)
class Shortcut:
    """A shortcut model: one network for one step, a few or many, trained by self-consistency without a teacher.

    The paper's networks are transformers (DiT-B) on latents; the default here is a U-Net, which embeds real numbers.
    """

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = HoUNet()
    """The backbone, which must embed real numbers: a U-Net."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Pixels()
    """What the flow sees of an image."""
    noising: Noising = INDEPENDENT
    """How noise is drawn in training: independent, optimal (transport), immiscible or offset, see `noising`."""
    halvings: Annotated[int, Range(1, 16)] = 7
    """K: lengths are 1, 1/2, ..., 1/2^K, of which the shortest learns from flow matching's velocity; the paper's 7."""
    consistent: Annotated[float, Range(0, 1)] = 0.25
    """Share of images that learn from two jumps of half the length; the others learn flow matching. The paper's."""
    time_scale: Annotated[float, Range(0, 10_000, above=True)] = TIME_SCALE
    """The network is given this times t; 1000 is a flow's, for its weights."""
    steps: Annotated[int, Range(1, 1000)] = 1
    """Steps of its sampler, of one evaluation each; powers of two, up to 2^K, are the ones of training."""

    def __post_init__(self) -> None:
        check_fields(self)

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self), numbers=FEATURES)

    def build(self) -> Diffusion:
        if self.conditioning.feeds_back:
            raise ValueError("a shortcut model is fed no predictions of its own")
        if self.noising.tries > 1:
            raise ValueError("a shortcut model is trained on one draw of noise: choose another --recipe.noising")
        schedule = LinearFlow()
        process, sampler = GaussianDiffusion(schedule), MeanFlowSampler()
        times = interval_times("uniform", schedule, 0.0, schedule.end)

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return MeanDenoiser(network, process, inputs, self.conditioning.numbers, self.time_scale)

        return Diffusion(
            process, denoise, self._loss(process), times, process.prior,
            own=sampler, sampler=sampler, steps=self.steps, own_steps=self.steps, averages=False,
        )  # fmt: skip

    def jumps(self, t: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Times t (B,) and normal numbers (B, 2) -> where jumps begin and their lengths, (B,) each, float64.

        A consistent one is 1 / 2^k for k from 0 to K - 1 and begins at a multiple of its length; of the others t is
        what it was and the length is 0.
        """
        t, chance = t.double().cpu(), torch.special.ndtr(drawn.double())
        rank = chance[:, 0] / max(self.consistent, 1e-12)  # uniform below 1 for the consistent ones
        length = 0.5 ** (rank * self.halvings).floor().clamp(max=self.halvings - 1)
        begin = ((chance[:, 1] / length).floor().clamp(max=1 / length - 1) + 1) * length
        apart = rank < 1
        return torch.where(apart, begin, t), torch.where(apart, length, 0.0)

    def target(self, velocity: Velocity, z: Tensor, v: Tensor, t: Tensor, length: Tensor) -> Tensor:
        """What s(z, t, length) learns: v of the path where the length is 0, else the mean of two jumps of half of it.

        Halves of the shortest length, 1 / 2^K, are velocities themselves: their length is given as 0.
        """
        half = length / 2
        told = torch.where(half > 0.75 / 2**self.halvings, half, 0.0)
        return two_jumps(velocity, z, v, t, half, told)

    def _loss(self, process: GaussianDiffusion) -> Loss:
        conditioning = self.conditioning

        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            images, known = augmented(self, network, images, given, noise)
            x0 = encoded(self, network, images, known, noise)
            eps = training_noise(self, x0, noise, known)
            inputs = dict(conditioning.training(images, known, noise))
            if conditioning.numbers and "numbers" not in inputs:
                inputs["numbers"] = x0.new_zeros(len(x0), conditioning.numbers)
            t, length = self.jumps(t, noise(torch.zeros(len(x0), 2)).cpu())
            z, v = process.level(t, x0).noise(x0, eps), eps - x0
            now, length = (value.to(x0.device, torch.float32, non_blocking=True) for value in (t, length))
            unwrapped = bare(network)
            target = self.target(mean_velocity(unwrapped, inputs, self.time_scale), z, v, now, length)
            error = mean_velocity(network, inputs, self.time_scale)(z, now, length) - target
            return error.flatten(1).square().mean(1)

        return loss
