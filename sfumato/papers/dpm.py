"""DPM: Deep unsupervised learning using nonequilibrium thermodynamics (Sohl-Dickstein et al. 2015).

Beside the PDF: the bound K of section 2.4 is `loss` and `lower_bound`, the reverse step of appendix D.2 is read by
`predict_perturbation`, binomial diffusion is appendix B.2, and sampling goes down every level to the first. Where the
paper and its authors' code differ, the code is followed; its slips are there under `faithful`, and mended without.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato.core import beliefs, nonequilibrium, schedules, times
from sfumato.core.beliefs import Believe, Believed, Stay
from sfumato.core.binomial import Bernoulli, BinomialDiffusion, coin_entropy
from sfumato.core.denoisers import Denoiser
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.nonequilibrium import Chain, Forward, LearnedBetas, LowerBound, gaussian_null
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Move, descend
from sfumato.core.times import Steps
from sfumato.networks import dpm2015

READ = {"perturbation": nonequilibrium.predict_perturbation, "attractor": nonequilibrium.predict_attractor}

FAITHFUL_BATCH = 512
"""So many images gave the authors' code its mean and standard deviation."""


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

    shape: tuple[int, int, int] = (1, 28, 28)
    """Channels, height and width of an image; taken from the data set. A row of one channel holds points or bits."""
    classes: int = 0
    """Always 0: the network is told no labels."""
    diffusion: Literal["gaussian", "binomial"] = "gaussian"
    """Of real numbers, or of bits, which are the ends of the range (black and white)."""
    steps: int = 1000
    """T, the number of levels."""
    betas: Literal["published", "even", "jsd"] = "published"
    """The authors' schedule; one of even steps in log SNR; or 1/(T - t + 1), the paper's for bits."""
    first_beta: float = 1e-3
    """What level 1 gets besides (published), or all its noise (even): below it nothing is modelled."""
    last_signal: float = 1e-4
    """alpha_bar at level T (even)."""
    learn_betas: bool = False
    """Train the betas of levels 2..T too, the noise of a step held fixed (section 2.4.1)."""
    reading: Literal["perturbation", "attractor"] = "perturbation"
    """What the network says of real numbers: how the reverse step differs from the forward one (the authors' code), or
    the point that a step goes towards (closer to the paper, appendix D.2)."""
    network: Literal["image", "radial", "local", "bits"] = "image"
    """Multi-scale convolutions beside a dense path; radial basis functions for points, constant as the paper's or with
    a linear map each; an MLP for bits."""
    hidden: int = 20
    """Width: channels of the convolutions, radial units, or hidden units of the MLP."""
    layers: int = 4
    """Depth of the convolutions and of the dense path, or of the MLP."""
    scales: int = 1
    """Scales of each convolution, each half as fine as the one before."""
    dense: int = 500
    """Hidden width of the path that sees the whole image; 0 leaves it out."""
    bumps: int = 10
    """Temporal basis functions of the read-out."""
    data_mean: float = 0.0
    """Of the data in [-1, 1], over all pixels; taken from the data set. Bits: of {-1, 1} as well."""
    data_std: float = 1.0
    """Likewise. K is stated for data of mean 0 and variance 1."""
    bin: float = 2 / 255
    """Width of the uniform noise that makes 8-bit data continuous; 0 for data that are."""
    edge: Literal["forward", "learned"] = "forward"
    """The last step, to clean data: defined as the forward step (section 2.4.2), or, for bits, learned as well."""
    faithful: bool = False
    """With the slips of the authors' code: T divergences where there are T - 1, dequantisation noise of the wrong
    width, mean and deviation from the first 512 images."""

    def __post_init__(self) -> None:
        bits = self.diffusion == "binomial"
        if self.classes:
            raise ValueError("the networks of 2015 are told no labels: set classes to 0")
        if bits != (self.network == "bits"):
            raise ValueError("binomial diffusion and the network for bits belong together")
        if bits != (self.betas == "jsd") or (bits and self.learn_betas):
            raise ValueError("bits have the betas 1/(T - t + 1), which end at 1; real numbers need betas below 1")
        if not bits and self.edge == "learned":
            raise ValueError("a learned last step has no bound for real numbers; only for bits")
        if not self.data_std > 0:
            raise ValueError(f"the standard deviation of the data is above 0, not {self.data_std}")

    def standardised(self, images: Tensor) -> DPM:
        """The recipe with the mean and the standard deviation of these data in [-1, 1], (N, C, H, W)."""
        some = images[:FAITHFUL_BATCH] if self.faithful else images
        spread = (some.var(correction=0) + self.bin**2 / 12).sqrt() if self.diffusion == "gaussian" else 1.0
        return replace(self, data_mean=float(some.mean()), data_std=float(spread))

    # ------------------------------------------------------------ the chain

    def _units(self) -> tuple[float, float]:
        """(scale, shift) from the model's units to [-1, 1]: unit variance, or bits."""
        return (2.0, -1.0) if self.diffusion == "binomial" else (self.data_std, self.data_mean)

    def first_betas(self) -> Tensor:
        """(T,) the betas to start from."""
        if self.betas == "jsd":
            return schedules.jsd_betas(self.steps)
        if self.betas == "even":
            return nonequilibrium.even_betas(self.steps, self.first_beta, self.last_signal)
        return nonequilibrium.published_betas(self.steps, self.first_beta)

    def process(self) -> GaussianDiffusion:
        """ValueError where no other lens fits: for bits, learned betas, and data that are shifted or scaled."""
        if self.diffusion == "binomial" or self.learn_betas or (self.data_mean, self.data_std) != (0, 1):
            raise ValueError("a model of 2015 lives in its own units and levels: walk it by its own (ancestral) steps")
        return GaussianDiffusion(schedules.from_betas(self.first_betas()))

    def model(self) -> nn.Module:
        T = self.steps
        if self.network == "bits":
            return dpm2015.Bits(self.shape[0] * self.shape[1] * self.shape[2], self.hidden, self.layers)
        basis = nonequilibrium.temporal_basis(T, self.bumps)
        if self.network == "radial":
            network: nn.Module = dpm2015.RadialBasis(self.shape[2], self.hidden, T)
        elif self.network == "local":
            network = dpm2015.LocalLinear(self.shape[2], self.hidden, basis)
        else:
            network = dpm2015.ImageNetwork(
                self.shape, basis, channels=self.hidden, layers=self.layers, scales=self.scales, dense=self.dense,
                dense_layers=self.layers, upper=self.hidden,
            )  # fmt: skip
        if not self.learn_betas:
            return network
        with torch.device("cpu"):  # its values matter even where weights are yet to come
            return WithBetas(network, LearnedBetas(self.first_betas()))

    def _believe(self, model: nn.Module) -> tuple[Forward, Believe]:
        """The forward process, and what the model believes, in the model's own units."""
        if self.diffusion == "binomial":
            bits = BinomialDiffusion(schedules.jsd_betas(self.steps))
            return bits, beliefs.of_bits(bits, model)
        schedule: Any = model.schedule if self.learn_betas else schedules.from_betas(self.first_betas())
        process = GaussianDiffusion(schedule)
        read = Denoiser(model, process, READ[self.reading], condition=lambda t: t - 1)
        return process, beliefs.of_gaussians(process, read, nonequilibrium.perturbed)

    def chain(self, model: nn.Module) -> Chain:
        """The model as a Markov chain in its own units."""
        process, believe = self._believe(model)
        return Chain(process, Believed(believe), self.steps, int(self.edge == "forward"))

    # ------------------------------------------------------------ training and K

    def inside(self, x0: Tensor, noise: Noise = torch.randn_like) -> Tensor:
        """Data (B, C, H, W) in [-1, 1] -> the model's units, 8-bit values spread over their bins."""
        scale, shift = self._units()
        if self.diffusion == "gaussian" and self.bin:
            width = self.data_std**2 / 510 if self.faithful else self.bin  # divided by the scale, not multiplied
            x0 = x0 + width * (torch.special.ndtr(noise(x0)) - 0.5)
        return (x0 - shift) / scale

    def times(self) -> times.Times:
        return times.UniformLevels(self.steps, first=1 + int(self.edge == "forward"))

    @property
    def null(self) -> float:
        """L_null, bits per data point: N(0, 1), or independent bits that are 1 as often as in the data."""
        dims = math.prod(self.shape)
        return -dims * coin_entropy((1 + self.data_mean) / 2) if self.diffusion == "binomial" else gaussian_null(dims)

    def loss(self, model: nn.Module, x0: Tensor, t: Tensor, noise: Noise = torch.randn_like, **labels: Any) -> Tensor:
        """-(K - L_null), bits per number, from one level of each image; t (B,) among the levels of `times`."""
        terms = self.steps if self.faithful else None
        nats = self.chain(model).objective(self.inside(x0, noise), t, noise, terms)
        return (nats / nonequilibrium.BIT + self.null) / math.prod(self.shape)

    def lower_bound(
        self, model: nn.Module, x0: Tensor, noise: Noise = torch.randn_like, levels: Tensor | None = None
    ) -> LowerBound:
        """K, bits per data point, of data (B, C, H, W) in [-1, 1]; of all levels, or of some that stand for all."""
        bound = self.chain(model).lower_bound(self.inside(x0, noise), noise, levels)
        return replace(bound, terms=self.steps) if self.faithful else bound

    # ------------------------------------------------------------ sampling

    def denoiser(self, model: nn.Module, scale: float = 1.0, **labels: Any) -> Believe:
        if scale != 1:
            raise ValueError("classifier-free guidance needs a model that was trained with labels and label dropout")
        return beliefs.rescaled(self._believe(model)[1], *self._units())

    def prior(self, shape: tuple[int, ...], device: torch.device | str = "cpu") -> Any:
        """Normal noise, or tosses of a coin, in the units of the data."""
        at = torch.zeros(shape, device=device)
        start = Bernoulli(at + 0.5) if self.diffusion == "binomial" else Gaussian(at, at.new_ones(()))
        return beliefs.in_units(start, *self._units())

    def moves(self, denoise: Believe, steps: Steps = None) -> list[Move]:
        """Down the levels to the first, whose state is the sample, as in the authors' code (section 2.4.2).

        More steps than there are levels take every level.
        """
        grid = times.visits(self.steps, min(steps, self.steps) if isinstance(steps, int) else steps)
        if self.edge == "learned":
            return descend(Believed(denoise), grid)
        kept = grid[grid > 1]
        plan = descend(Believed(denoise), torch.cat([kept, kept.new_ones(1)]))
        return [*plan, (Stay(), grid.new_ones(()), grid.new_zeros(()))]
