"""Improved DDPM: Improved denoising diffusion probabilistic models (Nichol & Dhariwal 2021).

Beside the PDF: the learned variance is eq. 15, the hybrid loss eq. 16, the cosine schedule eq. 17, importance sampling
eq. 18, shorter chains section 4, class labels and the upsampler section 6 (`conditioning`). Beyond the paper: v
prediction and classifier-free guidance, each by one field.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Unconditional
from sfumato.core import losses, times, variances
from sfumato.core.betas import cosine_betas, scaled_linear_betas, sigmoid_signal_betas
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Parameterization,
    Prediction,
    predict_eps,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.fields import Range
from sfumato.networks.backbone import Backbone
from sfumato.networks.unet import ImprovedUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.recipe import (
    Levels,
    Shape,
    Shift,
    build_network,
    channels_of,
    check_fields,
    denoising_loss,
    levels_of,
)
from sfumato.samplers import FAST, FAST_STEPS, Ancestral
from sfumato.spaces import Pixels, Space

BETAS = {"linear": scaled_linear_betas, "cosine": cosine_betas, "sigmoid-signal": sigmoid_signal_betas}
PREDICTIONS: dict[str, Parameterization] = {"eps": predict_eps, "x0": predict_x0, "v": predict_v}
WEIGHTS = {"eps": losses.eps_weight, "x0": losses.x0_weight, "v": losses.v_weight}
VARIANCES: dict[str, variances.ReverseVariance] = {
    "small": variances.fixed_small, "large": variances.fixed_large, "learned_range": variances.learned_range,
}  # fmt: skip


@dataclass(frozen=True)
class ImprovedDDPM:
    """Nichol & Dhariwal's model; the defaults are the paper's for CIFAR-10 (appendix A)."""

    shape: Shape = (3, 32, 32)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = ImprovedUNet(dropout=0.3)
    """The backbone; by default the paper's U-Net."""
    conditioning: Conditioning = Unconditional()
    """What the network is given besides: class labels, the small image of an upsampler, or both."""
    space: Space = Pixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 4000
    """T, the number of noise levels."""
    betas: str = "cosine"
    """The noise schedule; cosine is eq. 17, linear is Ho et al.'s, stretched to T; or sigmoid-signal."""
    shift: Shift = (1.0,)
    """Multiplies sigma / alpha at every level, for large images: their side beside that of a choice of betas. Two
    numbers: at clean data and at the last level (Hoogeboom et al. 2023)."""
    prediction: str = "eps"
    """What the network returns: eps, x0 or v."""
    variance: str = "learned_range"
    """The variance of a step: small, large, or learned_range, eq. 15."""
    objective: Literal["simple", "hybrid", "vlb"] = "hybrid"
    """L_simple; L_hybrid, in which the bound trains the variance alone (eq. 16); or L_vlb, the bound itself."""
    vlb_weight: Annotated[float, Range(0, 1e6)] = 0.001
    """lambda of eq. 16; the class-conditional, LSUN and upsampling models were trained with 1/T."""
    importance: bool = False
    """Draw levels by the size of their recent losses (eq. 18), as the paper does for L_vlb."""
    rescale_times: bool = True
    """Condition the network on 1000 t / T, so that its embedding means the same for any T."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling."""

    def __post_init__(self) -> None:
        check_fields(self, betas=BETAS, prediction=PREDICTIONS, variance=VARIANCES)
        if (self.variance == "learned_range") != (self.objective != "simple"):
            raise ValueError("a learned variance is trained by the hybrid or vlb objective, and only these train one")

    def model(self) -> nn.Module:
        return build_network(self, channels_of(self) * (2 if self.variance == "learned_range" else 1), self.steps)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(levels_of(BETAS[self.betas](self.steps), self.shift))
        variance, parameterization, bins = VARIANCES[self.variance], PREDICTIONS[self.prediction], self.space.bins
        if self.variance == "learned_range":
            parameterization = with_variance(parameterization)

        def condition(t: Tensor) -> Tensor:
            return (1000 / self.steps if self.rescale_times else 1) * (t - 1)

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, parameterization, condition, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            simple = losses.weighted(prediction, x0, eps, WEIGHTS.get(self.prediction, losses.eps_weight))
            if self.objective == "simple":
                return simple
            prediction = prediction.mean_detached() if self.objective == "hybrid" else prediction
            above = (t + 1).clamp(max=self.steps)
            vlb = self.steps * bound_term(process, variance, prediction, x0, t, t - 1, above, bins)
            return simple + self.vlb_weight * vlb if self.objective == "hybrid" else vlb  # eq. 16

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion),
            times.LossSecondMoment(self.steps) if self.importance else times.UniformLevels(self.steps),
            process.prior, own=Ancestral(variance), sampler=FAST, steps=FAST_STEPS, own_steps=50, variance=variance,
            clip=self.space.bounds if self.clip else None,
        )  # fmt: skip
