"""Claims of DDPM (Ho et al. 2020)."""

from __future__ import annotations

import torch

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import families, linear, normal
from sfumato.core.kernels import Ancestral, large, small
from sfumato.core.likelihood import variational_bound
from sfumato.core.sampling import descend, walk
from sfumato.core.times import strided
from sfumato.data import open_source, to_float
from sfumato.model import load


def large_features_first(seed: int, fast: bool) -> Measured:
    """On the way down, when does each point know its family, and when its place in it?"""
    mixture, process = families(), linear()
    n, times = (200 if fast else 1000), strided(1000, 200)
    torch.manual_seed(seed)
    states = list(walk(normal(seed, n, 2), descend(Ancestral(process, mixture.denoise(process), small), times)))
    member, family = [], []
    for x, t in zip(states, times[1:], strict=True):
        share = mixture.responsibilities(x, process.level(t, x))
        member.append(share)
        family.append(share.reshape(n, 4, 4).sum(2))

    def decided(history: list[torch.Tensor]) -> torch.Tensor:
        """The level below which the final answer keeps at least nine tenths of the belief."""
        answer = history[-1].argmax(1)
        sure = torch.stack([h.gather(1, answer[:, None])[:, 0] > 0.9 for h in history])
        last_doubt = torch.where(sure, 0, torch.arange(1, len(history) + 1)[:, None]).amax(0)
        return times[1:][last_doubt.clamp(max=len(history) - 1)].double()

    of_family, of_member = decided(family), decided(member)
    return Measured(
        {
            "level where the family is decided": float(of_family.median()),
            "level where the member is decided": float(of_member.median()),
            "levels between": float((of_family - of_member).median()),
        },
        {"family": of_family, "member": of_member, "states": torch.stack(states), "times": times},
    )


def imperceptible_bits(seed: int, fast: bool) -> Measured:
    """How many bits of a picture describe what the eye does not see? Held-out emoji under the model that ships."""
    model, test = load("ddpm/emoji32"), open_source("emoji32:test")
    chosen = torch.arange(6 if fast else 24) * 7 + seed
    recipe = model.recipe
    x0 = to_float(test.images[chosen])
    assert test.labels is not None
    denoise = recipe.denoiser(model.network, y=test.labels[chosen])
    torch.manual_seed(seed)
    with torch.inference_mode():
        bound = variational_bound(recipe.process(), denoise, large, x0, strided(1000, 50 if fast else 200))
    rate, distortion = bound.rate.mean(0), bound.distortion.mean(0)
    visible = float(rate[(distortion > 5).nonzero().max()])
    total = float(bound.total.mean())
    return Measured(
        {
            "bits/dim in all": total,
            "bits/dim until RMSE 5 of 255": visible,
            "share spent below RMSE 5 of 255": 1 - visible / total,
        },
        {"rate": rate, "distortion": distortion},
    )


CLAIMS = (
    Claim(
        "ddpm/large-features-first",
        "Ho et al. 2020, section 4.3 and figure 6: large scale features appear first, details last",
        "Sampling decides where a point belongs coarsely long before it decides where exactly.",
        large_features_first,
        {"levels between": (100, 900)},
        seconds=1.5,
        note="Exact denoiser of 16 Gaussians in 4 families, so nothing of it is the network's doing.",
    ),
    Claim(
        "ddpm/imperceptible-bits",
        "Ho et al. 2020, section 4.3: more than half of the lossless codelength describes imperceptible distortions",
        "Most bits of a picture are spent after its distortion has fallen below what one sees.",
        imperceptible_bits,
        {"share spent below RMSE 5 of 255": (0.5, 1.0)},
        seconds=30,
        note="A small model on flat pictures; the paper's CIFAR-10 model spends 1.78 and 1.97 bits/dim.",
    ),
)
