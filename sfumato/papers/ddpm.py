"""DDPM: Denoising diffusion probabilistic models (Ho, Jain & Abbeel 2020).

Beside the PDF: the forward process is eq. 4, the training of algorithm 1 is `recipe.denoising_loss`, the sampling of
algorithm 2 is `samplers.Ancestral`, and section 4 and appendix B are the defaults below. Beyond the paper: v
prediction, cosine betas, class labels and classifier-free guidance, each by one field.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import losses, variances
from sfumato.core.betas import (
    const_betas,
    cosine_betas,
    jsd_betas,
    linear_betas,
    quad_betas,
    scaled_linear_betas,
    sigmoid_betas,
    sigmoid_signal_betas,
    warmup_betas,
    zero_terminal_snr,
)
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Parameterization,
    Prediction,
    predict_eps,
    predict_previous_mean,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.fields import Length
from sfumato.networks.backbone import Backbone
from sfumato.networks.unet import HoUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import (
    Levels,
    Shape,
    Shift,
    build_network,
    channels_of,
    check_fields,
    denoising_loss,
    level_times,
    levels_of,
)
from sfumato.samplers import DDIM, FAST, FAST_STEPS, Ancestral
from sfumato.spaces import Pixels, Space

BETAS: dict[str, Callable[[int], Tensor]] = {
    "linear": linear_betas,
    "quad": quad_betas,
    "const": const_betas,
    "warmup": warmup_betas,
    "jsd": jsd_betas,
    "sigmoid": sigmoid_betas,
    "cosine": cosine_betas,
    "scaled-linear": scaled_linear_betas,
    "sigmoid-signal": sigmoid_signal_betas,
}
PREDICTIONS: dict[str, Parameterization] = {
    "eps": predict_eps, "x0": predict_x0, "v": predict_v, "mean": predict_previous_mean,
}  # fmt: skip
WEIGHTS: dict[str, losses.Weight] = losses.WEIGHTS
VARIANCES: dict[str, variances.ReverseVariance] = {
    "small": variances.fixed_small, "large": variances.fixed_large, "learned": variances.learned,
}  # fmt: skip


def index(t: Tensor) -> Tensor:
    """The number of a level as the official code counts, from 0: the network is conditioned on t - 1."""
    return t - 1


@dataclass(frozen=True)
class DDPM:
    """Ho et al.'s model; the defaults are the paper's for 32x32 images (appendix B)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = HoUNet()
    """The backbone; by default the paper's U-Net."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides, such as class labels; the paper's is given nothing."""
    space: Space = Pixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 1000
    """T, the number of noise levels."""
    betas: str = "linear"
    """The noise schedule: linear from 1e-4 to 0.02 (section 4), quad, const, warmup, jsd, sigmoid or cosine;
    or linear stretched to T (scaled-linear), or a sigmoid in the signal that is left (sigmoid-signal)."""
    shift: Shift = (1.0,)
    """Multiplies sigma / alpha at every level, for large images: their side beside that of a choice of betas. Two
    numbers: at clean data and at the last level (Hoogeboom et al. 2023)."""
    sigmoid: Annotated[tuple[float, ...], Length(3, 3)] = (-3.0, 3.0, 1.0)
    """Start, end and temperature of sigmoid-signal (Jabri et al. 2022, algorithm 5)."""
    zero_terminal_snr: bool = False
    """Rescale the betas so that no signal is left at the last level, where sampling starts (Lin et al. 2024)."""
    prediction: str = "eps"
    """What the network returns (section 3.2): eps, x0, v, or the mean of the step before."""
    weight: str = "eps"
    """How levels count: eps is L_simple (eq. 14), x0 and v weigh the errors in those evenly, bound is the variational
    bound (eq. 5); or min-snr, soft-min-snr, p2, sigmoid, edm or flow, see `core.losses`."""
    variance: str = "large"
    """The variance of an ancestral step (section 3.2): small, large, or learned as in table 2, by the bound."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""
    times: Literal["uniform", "learned"] = "uniform"
    """Levels of training: all alike, or by a learned density that lessens the variance of the loss and keeps its
    expectation (VDM, Kingma et al. 2021)."""

    def __post_init__(self) -> None:
        check_fields(self, betas=BETAS, prediction=PREDICTIONS, weight=(*WEIGHTS, "bound"), variance=VARIANCES)
        self._betas()
        if self.zero_terminal_snr and self.prediction in ("eps", "mean"):
            raise ValueError("where no signal is left, the noise says nothing of the image: set prediction to v or x0")
        if self.variance == "learned" and self.weight != "bound":
            raise ValueError("only the bound trains a learned variance: set weight to bound as well")

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self) * (2 if self.variance == "learned" else 1), self.steps)

    def build(self) -> Diffusion:
        betas = self._betas()
        betas = zero_terminal_snr(betas) if self.zero_terminal_snr else betas
        process = GaussianDiffusion(levels_of(betas, self.shift))
        variance, parameterization, bins = VARIANCES[self.variance], PREDICTIONS[self.prediction], self.space.bins
        if self.variance == "learned":
            parameterization = with_variance(parameterization)

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, parameterization, index, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            if self.weight == "bound":
                above = (t + 1).clamp(max=self.steps)
                return self.steps * bound_term(process, variance, prediction, x0, t, t - 1, above, bins)
            return losses.weighted(prediction, x0, eps, WEIGHTS[self.weight])

        whole = self.zero_terminal_snr  # then sampling starts at the last level, which the fast grid leaves out
        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion),
            level_times(self.times, process.schedule, self.steps), process.prior,
            own=Ancestral(variance), sampler=DDIM() if whole else FAST, steps=50 if whole else FAST_STEPS,
            own_steps=50, variance=variance, clip=self.space.bounds if self.clip else None,
        )  # fmt: skip

    def _betas(self) -> Tensor:
        """betas (T,), before they are rescaled."""
        table: Callable[..., Tensor] = BETAS[self.betas]
        return table(self.steps, *self.sigmoid) if table is sigmoid_signal_betas else table(self.steps)
