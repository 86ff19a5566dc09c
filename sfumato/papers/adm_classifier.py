"""The classifier of noisy images that guides ADM (Dhariwal & Nichol 2021, section 4.1 and appendix H).

It is trained like a diffusion model, on q(x_t | x_0) at uniform levels, but to say the class. It makes no pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Labels, Unconditional
from sfumato.core.betas import cosine_betas, scaled_linear_betas
from sfumato.core.diffusion import Classification
from sfumato.core.distributions import Noise
from sfumato.core.guidance import Classify
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import UniformLevels
from sfumato.networks.backbone import Backbone
from sfumato.networks.classifier import Encoder
from sfumato.papers.recipe import Levels, Shape, Shift, check_dims, check_fields, encoded, levels_of
from sfumato.spaces import Pixels, Space

BETAS = {"linear": scaled_linear_betas, "cosine": cosine_betas}


@dataclass(frozen=True)
class NoisyClassifier:
    """The classifier of noisy images that guides (section 4.1); the defaults are the paper's for 256x256 ImageNet."""

    shape: Shape = (3, 256, 256)
    """Channels, height and width of an image; taken from the data set."""
    network: Backbone = Encoder()
    """The backbone: the downward half of a U-Net."""
    conditioning: Conditioning = Labels(1000)
    """The classes that it tells apart; taken from the data set."""
    space: Space = Pixels()
    """What it sees of an image; as in the model that it guides."""
    steps: Levels = 1000
    """T, the number of noise levels; as in the model that it guides."""
    betas: str = "linear"
    """The noise schedule; as in the model that it guides."""
    shift: Shift = (1.0,)
    """Multiplies sigma / alpha; as in the model that it guides."""

    def __post_init__(self) -> None:
        check_fields(self, betas=BETAS)
        if type(self.conditioning) not in (Labels, Unconditional) or self.conditioning.dropout:
            raise ValueError("a classifier is told of nothing but its noise level, and hides no labels")

    def model(self) -> nn.Module:
        check_dims(self.network, self.space.shape(self.shape))
        network = self.network.build(self.space.shape(self.shape), self.conditioning.classes)
        return self.space.attach(network, self.shape)

    def build(self) -> Classification:
        process = GaussianDiffusion(levels_of(BETAS[self.betas](self.steps), self.shift))

        def classify(network: nn.Module) -> Classify:
            return lambda x, t: network(x, (t - 1).to(x.device, torch.float32, non_blocking=True).expand(x.shape[0]))

        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            x0 = encoded(self, network, images, given, noise)
            x_t = process.level(t, x0).noise(x0, noise(x0))
            return F.cross_entropy(classify(network)(x_t, t).float(), given["y"], reduction="none")

        return Classification(process, classify, loss, UniformLevels(self.steps))
