"""MeanFlow: Mean flows for one-step generative modeling (Geng, Deng, Bai, Kolter & He 2025).

Beside the PDF: the average velocity is eq. 3, its identity eq. 6 and the training target eq. 10 (`core.mean_flow`), the
pairs of times and the adaptive weight are section 4.3, sampling is algorithm 2 (`samplers.mean_flow`). The network is
given t, and t - r by features beside an augmentation's numbers. Guidance inside the target is section 4.2, without the
mixing scale of appendix B.
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
from sfumato.core.mean_flow import (
    FEATURES,
    TIME_SCALE,
    MeanDenoiser,
    adaptive,
    guided_velocity,
    mean_target,
    mean_velocity,
)
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import LogNormal
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone, bare
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import Shape, augmented, build_network, channels_of, check_fields, encoded, training_noise
from sfumato.samplers.mean_flow import MeanFlowSampler
from sfumato.spaces import Pixels, Space


@dataclass(frozen=True)
class MeanFlow:
    """A mean flow, pictures in one evaluation; the defaults are Geng et al.'s for CIFAR-10 (appendix A)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = DDPMpp(multipliers=(2, 2, 2), dropout=0.2)
    """The backbone, which must embed real numbers: a U-Net."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels."""
    space: Space = Pixels()
    """What the flow sees of an image."""
    noising: Noising = INDEPENDENT
    """How noise is drawn in training: independent, optimal (transport), immiscible or offset, see `noising`."""
    t_mean: Annotated[float, Range(-20, 20)] = -2.0
    """Mean of log(t / (1 - t)) in training; the paper's for ImageNet is -0.4."""
    t_std: Annotated[float, Range(0, 20, above=True)] = 2.0
    """Its deviation; 1 for ImageNet."""
    r_mean: Annotated[float, Range(-20, 20)] = -2.0
    """The same of r."""
    r_std: Annotated[float, Range(0, 20, above=True)] = 2.0
    """Its deviation."""
    swap: bool = True
    """Take the later of the two times for t, as in the paper; else r is held below t."""
    equal: Annotated[float, Range(0, 1)] = 0.25
    """Share of images with r = t, which is flow matching; 0.75 for ImageNet."""
    power: Annotated[float, Range(0, 2)] = 0.75
    """p of the adaptive weight, 1 / (|error|^2 + floor)^p; 0 is the squared error itself, 1 for ImageNet."""
    floor: Annotated[float, Range(0, 1, above=True)] = 1e-3
    """The constant of the adaptive weight."""
    guidance: Annotated[float, Range(0, 100)] = 1.0
    """w of classifier-free guidance inside the target: the flow learned is w v + (1 - w) v without the label, in
    one evaluation a step; needs dropout of what is hidden. 1 is none."""
    time_scale: Annotated[float, Range(0, 10_000, above=True)] = TIME_SCALE
    """The network is given this times t. 1000 is a flow's, for its weights; below that du/dt is less of sinusoids."""
    steps: Annotated[int, Range(1, 1000)] = 1
    """Steps of its sampler, of one evaluation each."""

    def __post_init__(self) -> None:
        check_fields(self)

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self), numbers=FEATURES)

    def build(self) -> Diffusion:
        if self.conditioning.feeds_back:
            raise ValueError("a mean flow is fed no predictions of its own")
        if self.noising.tries > 1:
            raise ValueError("a mean flow is trained on one draw of noise: choose another --recipe.noising")
        if self.guidance != 1 and not self.conditioning.dropout:
            raise ValueError('guidance inside the target needs what is hidden in training: "labels?dropout=0.1", say')
        schedule = LinearFlow()
        process, sampler = GaussianDiffusion(schedule), MeanFlowSampler()

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return MeanDenoiser(network, process, inputs, self.conditioning.numbers, self.time_scale)

        return Diffusion(
            process, denoise, self._loss(process), LogNormal(schedule, self.t_mean, self.t_std), process.prior,
            own=sampler, sampler=sampler, steps=self.steps, own_steps=self.steps, averages=False,
        )  # fmt: skip

    def pairs(self, t: Tensor, drawn: Tensor) -> tuple[Tensor, Tensor]:
        """Times t (B,) and normal numbers (B, 2) -> t and r <= t, (B,) each, float64 on the host."""
        t, drawn = t.double(), drawn.double()
        other = torch.sigmoid(self.r_mean + self.r_std * drawn[:, 0])
        if self.swap:
            t, other = torch.maximum(t, other), torch.minimum(t, other)
        return t, torch.where(torch.special.ndtr(drawn[:, 1]) < self.equal, t, torch.minimum(other, t))

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
            t, r = self.pairs(t, noise(torch.zeros(len(x0), 2)).cpu())
            z, v = process.level(t, x0).noise(x0, eps), eps - x0
            now, length = (value.to(x0.device, torch.float32, non_blocking=True) for value in (t, t - r))
            unwrapped = bare(network)
            if self.guidance != 1:
                free = mean_velocity(unwrapped, conditioning.hidden(inputs), self.time_scale)
                v = guided_velocity(free, z, v, now, self.guidance)
            with torch.random.fork_rng([x0.device] if x0.is_cuda else []):  # the same dropout for both
                target = mean_target(mean_velocity(unwrapped, inputs, self.time_scale), z, v, now, length)
            error = mean_velocity(network, inputs, self.time_scale)(z, now, length) - target
            return adaptive(error.flatten(1).square().sum(1), self.power, self.floor)

        return loss
