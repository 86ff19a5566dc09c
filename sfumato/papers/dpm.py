"""DPM: Deep unsupervised learning using nonequilibrium thermodynamics (Sohl-Dickstein et al. 2015).

Beside the PDF: the bound K of section 2.4 is `core.dpm2015.nonequilibrium.Chain`, trained and reported; the reverse
step of appendix D.2 is `predict_perturbation`, binomial diffusion is appendix B.2, and sampling goes down every level
to the first. Where the paper and its authors' code differ, the code is followed; its slips are there under `faithful`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Annotated, Any, Literal

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import schedules
from sfumato.core.betas import jsd_betas
from sfumato.core.denoisers import Denoiser
from sfumato.core.diffusion import Diffusion
from sfumato.core.distributions import Distribution, Gaussian, Noise
from sfumato.core.dpm2015 import beliefs, nonequilibrium
from sfumato.core.dpm2015.beliefs import BelievedStep, Stay
from sfumato.core.dpm2015.binomial import Bernoulli, BinomialDiffusion, coin_entropy
from sfumato.core.dpm2015.nonequilibrium import Chain, Forward, LearnedBetas, LowerBound, gaussian_null, perturbed
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, Sampler, descend
from sfumato.core.schedules import Steps
from sfumato.core.times import UniformLevels
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.dpm2015 import DPMImage
from sfumato.papers.ddpm import index
from sfumato.papers.recipe import Levels, Shape, build_network, channels_of, check_fields
from sfumato.samplers.ancestral import AncestralStep
from sfumato.spaces import Bits, Space, Standardised

PREDICTIONS = {"perturbation": nonequilibrium.predict_perturbation, "attractor": nonequilibrium.predict_attractor}


def published_rate(epoch: int, start: float = 1e-3) -> float:
    """The learning rate of the authors' code after so many of its epochs (500 batches each): a tenth in 1000."""
    return max(start * 0.1 ** (epoch / 1000), 1e-4)


class WithBetas(nn.Module):
    """A network and the learned betas of its chain: what one checkpoint holds."""

    def __init__(self, network: nn.Module, schedule: LearnedBetas) -> None:
        super().__init__()
        self.network, self.schedule = network, schedule

    def forward(self, x: Tensor, index: Tensor) -> Tensor:
        out: Tensor = self.network(x, index)
        return out


@dataclass(frozen=True)
class DPM:
    """Sohl-Dickstein et al.'s model; the defaults are the authors' for MNIST."""

    shape: Shape = (1, 28, 28)
    """Channels, height and width of an image; taken from the data set. A row of one channel holds points or bits."""
    network: Backbone = DPMImage()
    """The backbone: for images, for points (radial or local), or for bits."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides; the paper's is given nothing."""
    space: Space = Standardised()
    """What the diffusion sees of an image: K is stated for data of mean 0 and variance 1, or for bits."""
    steps: Levels = 1000
    """T, the number of levels."""
    betas: Literal["published", "even", "jsd"] = "published"
    """The authors' schedule; one of even steps in log SNR; or 1/(T - t + 1), the paper's for bits."""
    first_beta: Annotated[float, Range(0, 1, above=True, below=True)] = 1e-3
    """What level 1 gets besides (published), or all its noise (even): below it nothing is modelled."""
    last_signal: Annotated[float, Range(0, 1, above=True, below=True)] = 1e-4
    """alpha_bar at level T (even)."""
    learn_betas: bool = False
    """Train the betas of levels 2..T too, the noise of a step held fixed (section 2.4.1)."""
    prediction: Literal["perturbation", "attractor"] = "perturbation"
    """What the network returns for real numbers: how the reverse step differs from the forward one (the authors' code),
    or the point that a step goes towards (closer to the paper, appendix D.2)."""
    edge: Literal["forward", "learned"] = "forward"
    """The last step, to clean data: defined as the forward step (section 2.4.2), or, for bits, learned as well."""
    faithful: bool = False
    """With the slip of the authors' code that counts T divergences where there are T - 1; see `Standardised`, too."""

    def __post_init__(self) -> None:
        check_fields(self)
        if self.bits != (self.betas == "jsd") or (self.bits and self.learn_betas):
            raise ValueError("bits have the betas 1/(T - t + 1), which end at 1; real numbers need betas below 1")
        if not self.bits and self.edge == "learned":
            raise ValueError("a learned last step has no bound for real numbers; only for bits")

    @property
    def bits(self) -> bool:
        """Whether this is binomial diffusion."""
        return type(self.space) is Bits

    def first_betas(self) -> Tensor:
        """(T,) the betas to start from."""
        if self.betas == "jsd":
            return jsd_betas(self.steps)
        if self.betas == "even":
            return nonequilibrium.even_betas(self.steps, self.first_beta, self.last_signal)
        return nonequilibrium.published_betas(self.steps, self.first_beta)

    @property
    def null(self) -> float:
        """L_null, bits per data point: N(0, 1), or independent bits that are 1 as often as in the data."""
        dims = math.prod(self.shape)
        if isinstance(self.space, Bits):
            return -dims * coin_entropy((1 + self.space.mean) / 2)
        return gaussian_null(dims)

    def model(self) -> nn.Module:
        if not self.space.keeps_pixels:
            raise ValueError("the model of 2015 has its own bound on pixels, so it is not trained on latents")
        network = build_network(self, channels_of(self) * (1 if self.bits else 2), self.steps)
        if not self.learn_betas:
            return network
        with torch.device("cpu"):  # its values matter even where weights are yet to come
            return WithBetas(network, LearnedBetas(self.first_betas()))

    def build(self) -> Diffusion:
        fixed = not self.bits and not self.learn_betas
        process = GaussianDiffusion(schedules.from_betas(self.first_betas())) if fixed else None
        first = int(self.edge == "forward")

        def denoise(network: nn.Module, inputs: Mapping[str, Tensor]) -> Any:
            if process is None:
                return self._chain_of(network)[1]
            return Denoiser(network, process, PREDICTIONS[self.prediction], index, inputs=inputs)

        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            """-(K - L_null), bits per number, from one level of each image; t (B,) among the levels of `times`."""
            terms = self.steps if self.faithful else None
            nats = self.chain(network, process).objective(self.space.encode(images, noise), t, noise, terms)
            return (nats / nonequilibrium.BIT + self.null) / math.prod(self.shape)

        own = DPMChain(self.steps, first)
        return Diffusion(
            process, denoise, loss, UniformLevels(self.steps, first=1 + first), self._prior, own=own, sampler=own,
            lower_bound=self.lower_bound,
        )  # fmt: skip

    def chain(self, network: nn.Module, process: GaussianDiffusion | None = None) -> Chain:
        """The model as a Markov chain in the units of its space; `process` where that of fixed betas is at hand."""
        forward, believe = self._chain_of(network, process)
        return Chain(forward, BelievedStep(believe), self.steps, int(self.edge == "forward"))

    def lower_bound(
        self, network: nn.Module, images: Tensor, noise: Noise = torch.randn_like, levels: Tensor | None = None
    ) -> LowerBound:
        """K, bits per data point, of data (B, C, H, W) in [-1, 1]; of all levels, or of some that stand for all."""
        bound = self.chain(network).lower_bound(self.space.encode(images, noise), noise, levels)
        return replace(bound, terms=self.steps) if self.faithful else bound

    def _chain_of(
        self, network: nn.Module, process: GaussianDiffusion | None = None
    ) -> tuple[Forward, beliefs.Believe]:
        """The forward process, and the predictions of the model."""
        if self.bits:
            bits = BinomialDiffusion(jsd_betas(self.steps))
            return bits, beliefs.of_bits(bits, network)
        if process is None:
            schedule: Any = network.schedule if self.learn_betas else schedules.from_betas(self.first_betas())
            process = GaussianDiffusion(schedule)
        denoise = Denoiser(network, process, PREDICTIONS[self.prediction], index)
        return process, beliefs.of_gaussians(process, denoise, perturbed)

    def _prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Distribution:
        """Normal noise, or throws of a coin."""
        at = torch.zeros(shape, device=device)
        return Bernoulli(at + 0.5) if self.bits else Gaussian(at, at.new_ones(()))


@dataclass(frozen=True)
class DPMChain(Sampler):
    """Down the levels to the first, whose state is the sample, as in the authors' code (section 2.4.2).

    More steps than there are levels take every level. With `edge` 0 the last step, to clean data, is learned as well.
    """

    T: int
    edge: int = 1

    def plan(self, process: Any, denoise: Any, steps: Steps = None) -> list[Move]:
        levels = schedules.Levels(self.T)
        return self.moves(process, denoise, levels.times(min(steps, self.T) if isinstance(steps, int) else steps))

    def moves(self, process: Any, denoise: Any, times: Tensor) -> list[Move]:
        step = BelievedStep(denoise) if process is None else AncestralStep(process, denoise, perturbed)
        if not self.edge:
            return descend(step, times)
        above = times[times > 1]
        plan = descend(step, torch.cat([above, above.new_ones(1)]))
        return [*plan, (Stay(), times.new_ones(()), times.new_zeros(()))]
