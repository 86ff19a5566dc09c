"""The whole matrix of recipes, samplers and guidance on small models: each cell works or is refused with its reason."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato import lenses
from sfumato.core.sampling import finish
from sfumato.model import Model
from sfumato.papers.adm import ADM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.score_sde import ScoreSDE

SMALL: dict[str, Any] = {
    "shape": (1, 8, 8), "channels": 32, "multipliers": (1,), "blocks": 1, "attention": (), "dropout": 0.0, "steps": 40,
}  # fmt: skip
SDE: dict[str, Any] = {
    "shape": (1, 8, 8),
    "channels": 8,
    "multipliers": (1,),
    "blocks": 1,
    "attention": (),
    "steps": 40,
}
VP_NET: dict[str, Any] = {"network": "ddpmpp", "reduction": "mean", "corrector": "none"}
RECIPES: dict[str, Any] = {
    "ddpm": DDPM(**SMALL, prediction="v", betas="cosine"),
    "iddpm": ImprovedDDPM(**SMALL),
    "adm": ADM(**SMALL, classes=3, head_channels=32),
    "ncsn": NCSN(shape=(1, 8, 8), channels=8, moves_per_level=2),
    "ncsnv2": NCSNv2(shape=(1, 8, 8), channels=8, steps=12, first_sigma=5.0, moves_per_level=2),
    "VE": ScoreSDE(**SDE),
    "VP": ScoreSDE(**SDE, sde="vp", **VP_NET),
    "sub-VP": ScoreSDE(**SDE, sde="subvp", **VP_NET),
    "VE levels": ScoreSDE(**SDE, continuous=False),
    "VP levels": ScoreSDE(**SDE, sde="vp", continuous=False, **VP_NET),
}
SAMPLERS = {
    "ddim": lenses.ddim(),
    "ddim, eta 1": lenses.ddim(1.0),
    "ancestral": lenses.ancestral(),
    "heun": lenses.heun(),
    "reverse diffusion": lenses.reverse_diffusion(),
    "reverse-diffusion flow": lenses.reverse_diffusion(flow=True),
    "euler-maruyama": lenses.euler_maruyama(),
    "euler flow": lenses.euler_maruyama(flow=True),
    "predictor-corrector": lenses.predictor_corrector(),
    "annealed langevin": lenses.annealed_langevin(),
}
NEEDS_TIME = {"euler-maruyama", "euler flow"}
CONTINUOUS = {"VE", "VP", "sub-VP"}


def towards_grey(x: Tensor, t: Tensor) -> Tensor:
    """A guide."""
    return -0.1 * x


@pytest.mark.parametrize("gradient", [None, towards_grey], ids=["plain", "guided"])
@pytest.mark.parametrize("sampler", SAMPLERS)
@pytest.mark.parametrize("name", RECIPES)
def test_any_model_through_any_lens(name: str, sampler: str, gradient: Any) -> None:
    recipe = RECIPES[name]
    torch.manual_seed(0)
    network = recipe.model().eval().requires_grad_(False)
    labels = {"y": torch.tensor([0, 2])} if recipe.classes else {}
    denoise = recipe.denoiser(network, **labels)
    if sampler in NEEDS_TIME and name not in CONTINUOUS:
        with pytest.raises(ValueError, match="separate noise levels"):
            SAMPLERS[sampler](recipe, denoise, 6, gradient)
        return
    with torch.inference_mode():
        x = recipe.prior((2, 1, 8, 8)).sample(lambda m: torch.randn_like(m))
        x = finish(x, SAMPLERS[sampler](recipe, denoise, 6, gradient))
    assert x.shape == (2, 1, 8, 8)
    assert x.dtype == torch.float32  # no host number of a schedule widens the images
    assert bool(x.isfinite().all())


def test_a_sampler_serves_a_model() -> None:
    recipe = RECIPES["VE"]
    model = Model(recipe, recipe.model().eval())
    pictures = model.sample(2, steps=5, sampler=lenses.heun())
    assert pictures.shape == (2, 1, 8, 8)
