"""Small models of every paper, for tests: their recipes, with random weights, and exact denoisers in their place."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.conditioning import Labels
from sfumato.core.denoisers import Denoise
from sfumato.core.exact import gaussian
from sfumato.models import Classifier, Model
from sfumato.networks.classifier import Encoder
from sfumato.networks.dpm2015 import DPMBits, DPMImage
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.dpm import DPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.score_sde import ScoreSDE
from sfumato.spaces import Bits

SHAPE = (1, 8, 8)
UNET: dict[str, Any] = {"channels": 32, "multipliers": (1,), "blocks": 1, "attention": (), "dropout": 0.0}
SONG: dict[str, Any] = {"channels": 8, "multipliers": (1,), "blocks": 1, "attention": ()}
VP: dict[str, Any] = {"network": DDPMpp(**SONG), "reduction": "mean", "corrector": "none"}

RECIPES: dict[str, Any] = {
    "ddpm": DDPM(SHAPE, HoUNet(**UNET), prediction="v", betas="cosine", steps=40),
    "iddpm": ImprovedDDPM(SHAPE, ImprovedUNet(**UNET), steps=40),
    "adm": ADM(SHAPE, ADMUNet(**UNET, head_channels=32), Labels(3), steps=40),
    "ncsn": NCSN(SHAPE, RefineNet(channels=8), moves_per_level=2),
    "ncsnv2": NCSNv2(SHAPE, RefineNetV2(channels=8), steps=12, first_sigma=5.0, moves_per_level=2),
    "VE": ScoreSDE(SHAPE, NCSNpp(**SONG), steps=40),
    "VP": ScoreSDE(SHAPE, sde="vp", steps=40, **VP),
    "sub-VP": ScoreSDE(SHAPE, sde="subvp", steps=40, **VP),
    "VE levels": ScoreSDE(SHAPE, NCSNpp(**SONG, fourier=False), steps=40, continuous=False),
    "VP levels": ScoreSDE(SHAPE, sde="vp", steps=40, continuous=False, **VP),
    "edm": EDM(SHAPE, HoUNet(**UNET), Labels(3, 0.1), steps=12, churn=4.0),
    "flow": FlowMatching(SHAPE, HoUNet(**UNET), steps=12, shift=2.0),
}
"""Every recipe of Gaussians on a fixed schedule."""
CONTINUOUS = {"VE", "VP", "sub-VP", "edm", "flow"}
"""Those in continuous time."""
PRESERVING = {"ddpm", "iddpm", "adm", "VP levels"}
"""Those of variance-preserving levels, which have a continuous time between them."""

OF_2015: dict[str, Any] = {
    "dpm": DPM(SHAPE, DPMImage(hidden=8, scales=1, dense=8), steps=20),
    "learned betas": DPM(SHAPE, DPMImage(hidden=8, scales=1, dense=8), steps=20, learn_betas=True),
    "bits": DPM((1, 1, 20), DPMBits(hidden=8), space=Bits(), steps=20, betas="jsd"),
}
"""Every recipe of 2015."""

CLASSIFIER = NoisyClassifier(SHAPE, Encoder(**UNET, head_channels=32), Labels(3), steps=40)


def made(recipe: Any, classes: tuple[str, ...] = ()) -> Any:
    """A model, or a classifier, with random weights."""
    torch.manual_seed(0)
    network = recipe.model().eval()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    kind = Classifier if recipe.build().sampler is None else Model
    return kind(recipe, network.requires_grad_(False), classes)


# ---------------------------------------------------------------- exact denoisers

MEAN, STD = 0.2, 0.3
"""Of the independent Gaussian pixels, in [-1, 1], on which they are exact."""


def exact(recipe: Any) -> Any:
    """The diffusion of a recipe with the exact denoiser of such pixels instead of its network."""
    built = type(recipe).__mro__[1].build(recipe)
    dims, space = torch.tensor(recipe.shape).prod(), recipe.space
    ends = space.encode(torch.tensor([MEAN, MEAN + STD]))
    mean, std = float(ends[0]), float(ends[1] - ends[0])
    flat = gaussian(torch.full((dims,), mean), torch.full((dims,), std)).denoise(built.process)

    def denoise(network: nn.Module, inputs: Any) -> Denoise:
        def inner(x: Tensor, t: Tensor) -> Any:
            found = flat(x.flatten(1).double(), t)
            parts = {name: getattr(found, name).reshape(x.shape).to(x.dtype) for name in ("eps", "x0")}
            return replace(found, x=x, level=built.process.level(t, x), **parts)

        return inner

    return replace(built, denoise=denoise)


@dataclass(frozen=True)
class ExactDDPM(DDPM):
    """DDPM on independent Gaussian pixels."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def build(self) -> Any:
        return exact(self)


@dataclass(frozen=True)
class ExactSDE(ScoreSDE):
    """A score-based model of continuous time on independent Gaussian pixels."""

    def model(self) -> nn.Module:
        return nn.Linear(1, 1)

    def build(self) -> Any:
        return exact(self)


EXACT = ExactDDPM((1, 2, 2), steps=200, betas="cosine", clip=False)


def exact_images(n: int, shape: tuple[int, ...] = (1, 2, 2)) -> Tensor:
    """Images uint8 (n, C, H, W) of such pixels."""
    x = MEAN + STD * torch.randn(n, *shape, generator=torch.Generator().manual_seed(0))
    return (x.clamp(-1, 1) * 127.5 + 127.5).round().byte()
