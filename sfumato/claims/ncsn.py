"""Claims of NCSN (Song & Ermon 2019), with the exact score of a mixture in the plane."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import all_states, normal, seeded
from sfumato.core.betas import geometric_sigmas
from sfumato.core.exact import GaussianMixture
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_sigmas
from sfumato.samplers import AnnealedLangevin
from sfumato.samplers.langevin import LangevinStep, constant

HEAVY = 0.8
"""The share of the upper mode (section 3.2.2)."""
LEVELS, MOVES = 10, 100


def two_modes() -> GaussianMixture:
    """The paper's mixture: 0.8 N((5, 5), 1) + 0.2 N((-5, -5), 1), in float64."""
    means = torch.tensor([[5.0, 5.0], [-5.0, -5.0]], dtype=torch.float64)
    return GaussianMixture(torch.tensor([HEAVY, 1 - HEAVY], dtype=torch.float64), means, torch.ones_like(means))


def anywhere(n: int, seed: int) -> Tensor:
    """n points spread evenly over the square [-8, 8]^2."""
    return 16 * torch.rand(n, 2, generator=torch.Generator().manual_seed(seed), dtype=torch.float64) - 8


def plainly(n: int, seed: int, moves: int = LEVELS * MOVES) -> Tensor:
    """Langevin dynamics with next to no noise in the data, all states (moves + 1, n, 2)."""
    process = GaussianDiffusion(from_sigmas(torch.tensor([0.01, 0.02], dtype=torch.float64)))
    kernel, level = LangevinStep(two_modes().denoise(process), constant(0.05)), torch.tensor(1)
    return all_states(anywhere(n, seed), [(kernel, level, level)] * moves, seeded(seed))


def by_annealing(n: int, seed: int, first: float = 20.0, levels: int = LEVELS, moves: int = MOVES) -> Tensor:
    """Annealed Langevin dynamics, as many steps in all, from much noise to little: (levels moves + 1, n, 2)."""
    last = 0.1
    process = GaussianDiffusion(from_sigmas(geometric_sigmas(levels, last, first)))
    sampler = AnnealedLangevin(0.1 * last**2, last, moves, denoise=False)
    return all_states(anywhere(n, seed), sampler.plan(process, two_modes().denoise(process)), seeded(seed))


def heavy(points: Tensor) -> float:
    """The share of points (n, 2) at the upper mode."""
    return float((points.sum(1) > 0).double().mean())


def weights(seed: int, fast: bool) -> Measured:
    """How many points find the heavy mode, with and without annealing?"""
    n = 500 if fast else 2000
    ends = {"plain": plainly(n, seed)[-1], "annealed": by_annealing(n, seed)[-1]}
    return Measured({f"{name}: share at the heavy mode": heavy(end) for name, end in ends.items()}, ends)


def denoising_suffices(seed: int, fast: bool) -> Measured:
    """Two losses of the same wrong scores: from the noise that was added, and from the true score of noisy data."""
    n, sigma = (100_000 if fast else 400_000), 2.0
    mixture = two_modes()
    process = GaussianDiffusion(from_sigmas(torch.tensor([sigma], dtype=torch.float64)))
    x0, eps = mixture.sample(n, torch.Generator().manual_seed(seed)), normal(seed + 1, n, 2)
    x = x0 + sigma * eps
    true = mixture.denoise(process)(x, torch.tensor(1)).score
    target = -eps / sigma  # the score of q(x | x_0), all that denoising score matching knows
    apart = []
    for scale, shift in ((1.0, 0.0), (0.5, 0.2), (0.0, 0.0), (1.5, -0.3)):
        guess = scale * true + shift
        denoising, explicit = ((guess - goal).square().sum(1).mean() / 2 for goal in (target, true))
        apart.append(float(denoising - explicit))
    return Measured({"difference of the losses": apart[0], "how much it varies over scores": max(apart) - min(apart)})


CLAIMS = (
    Claim(
        "ncsn/annealing",
        "Song & Ermon 2019, section 3.2.2 and figure 3",
        "Langevin dynamics misses the weights of modes that are far apart; annealed, it finds them.",
        weights,
        {
            "plain: share at the heavy mode": (0.4, 0.6),
            "annealed: share at the heavy mode": (0.72, 0.86),
        },
        seconds=2,
        note="The score near a mode is the same whatever its weight: nothing there tells the two apart.",
    ),
    Claim(
        "ncsn/denoising-suffices",
        "Song & Ermon 2019, section 2.1 and eq. 2 (after Vincent 2011)",
        "Denoising score matching and explicit score matching of noisy data differ by a constant.",
        denoising_suffices,
        {"how much it varies over scores": (0, 0.02), "difference of the losses": (0.03, 1)},
        seconds=0.3,
    ),
)
