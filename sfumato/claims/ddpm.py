"""Claims of DDPM (Ho et al. 2020)."""

from __future__ import annotations

import torch

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import all_states, families, linear, normal
from sfumato.core.likelihood import variational_bound
from sfumato.core.variances import fixed_large, fixed_small
from sfumato.data import open_source, to_float
from sfumato.models import load_model
from sfumato.samplers import Ancestral


def large_features_first(seed: int, fast: bool) -> Measured:
    """At which level is the family of each point decided, and at which its place in the family?"""
    mixture, process = families(), linear()
    n, times = (200 if fast else 1000), process.schedule.times(200)
    torch.manual_seed(seed)
    moves = Ancestral(fixed_small).moves(process, mixture.denoise(process), times)
    states = all_states(normal(seed, n, 2), moves)[1:]
    member, family = [], []
    for x, t in zip(states, times[1:], strict=True):
        share = mixture.responsibilities(x, process.level(t, x))
        member.append(share)
        family.append(share.reshape(n, 4, 4).sum(2))

    def decided(history: list[torch.Tensor]) -> torch.Tensor:
        """The level below which the final answer keeps a probability of at least nine tenths."""
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
        {"family": of_family, "member": of_member, "states": states, "times": times},
    )


def imperceptible_bits(seed: int, fast: bool) -> Measured:
    """How many bits of a picture describe what the eye does not see? Held-out emoji under the model that ships."""
    model, test = load_model("ddpm/emoji32"), open_source("emoji32:test")
    chosen = torch.arange(6 if fast else 24) * 7 + seed
    x0 = to_float(test.images[chosen])
    assert test.labels is not None
    process, denoise = model.diffusion.gaussian, model.denoiser(test.labels[chosen])
    times = process.schedule.times(50 if fast else 200)
    torch.manual_seed(seed)
    with torch.inference_mode():
        bound = variational_bound(process, denoise, fixed_large, x0, times)
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
