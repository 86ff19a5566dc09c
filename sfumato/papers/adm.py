"""ADM: Diffusion models beat GANs on image synthesis (Dhariwal & Nichol 2021): a better U-Net, and classifier guidance.

Beside the PDF: the network is section 3, the classifier section 4.1 (`adm_classifier`), guided ancestral steps are
algorithm 1 and guided DDIM is algorithm 2 (`samplers.ancestral` and `core.guidance`), the upsampler section 5. Training
is Improved DDPM's hybrid loss. Beyond the paper: classifier-free guidance, so that both can be compared.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Labels
from sfumato.core import losses
from sfumato.core.betas import cosine_betas, scaled_linear_betas
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Parameterization,
    Prediction,
    predict_eps,
    predict_v,
    with_variance,
)
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.likelihood import bound_term
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import UniformLevels
from sfumato.core.variances import learned_range
from sfumato.networks.backbone import Backbone
from sfumato.networks.unet import ADMUNet
from sfumato.noising import INDEPENDENT, Noising
from sfumato.papers.ddpm import index
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

BETAS = {"linear": scaled_linear_betas, "cosine": cosine_betas}
PREDICTIONS: dict[str, Parameterization] = {"eps": predict_eps, "v": predict_v}
WEIGHTS = {"eps": losses.eps_weight, "v": losses.v_weight}


@dataclass(frozen=True)
class ADM:
    """Dhariwal & Nichol's model; the defaults are the paper's for 256x256 ImageNet (tables 4 and 11)."""

    shape: Shape = (3, 256, 256)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = ADMUNet()
    """The backbone; by default the paper's U-Net."""
    conditioning: Conditioning = Labels(1000)
    """What the network is given besides: class labels, the small image of an upsampler, or both."""
    space: Space = Pixels()
    """What the diffusion sees of an image."""
    noising: Noising = INDEPENDENT
    """How training noise is drawn: independent, optimal (transport), immiscible, explorative, offset; see `noising`."""
    steps: Levels = 1000
    """T, the number of noise levels."""
    betas: str = "linear"
    """The noise schedule; the paper takes cosine for 64x64 images."""
    shift: Shift = (1.0,)
    """Multiplies sigma / alpha at every level, for large images: their side beside that of a choice of betas. Two
    numbers: at clean data and at the last level (Hoogeboom et al. 2023)."""
    prediction: str = "eps"
    """What the network returns: eps or v."""
    clip: bool = True
    """Hold the predicted clean image inside [-1, 1] while sampling, before a classifier's guidance."""

    def __post_init__(self) -> None:
        check_fields(self, betas=BETAS, prediction=PREDICTIONS)

    def model(self) -> nn.Module:
        return build_network(self, 2 * channels_of(self), self.steps)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(levels_of(BETAS[self.betas](self.steps), self.shift))
        parameterization, bins = with_variance(PREDICTIONS[self.prediction]), self.space.bins

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, parameterization, index, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            above = (t + 1).clamp(max=self.steps)
            term = bound_term(process, learned_range, prediction.mean_detached(), x0, t, t - 1, above, bins)
            weight = WEIGHTS.get(self.prediction, losses.eps_weight)
            return losses.weighted(prediction, x0, eps, weight) + 0.001 * self.steps * term

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), UniformLevels(self.steps),
            process.prior, own=Ancestral(learned_range), sampler=FAST, steps=FAST_STEPS, own_steps=50,
            variance=learned_range, clip=self.space.bounds if self.clip else None,
        )  # fmt: skip
