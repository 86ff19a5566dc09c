"""Score matching: how far a network is from the score of the data, at one noise level or at many.

Denoising score matching (Vincent 2011; Song & Ermon 2019, eq. 5 and 6), with the weights of Song et al. 2021 (eq. 7 and
Song et al. 2021b, likelihood weighting), and sliced score matching (Song et al. 2019), which needs no noise.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from sfumato.core.denoisers import Prediction
from sfumato.core.losses import per_image
from sfumato.core.schedules import Continuous, Level, like

Score = Callable[[Tensor], Tensor]
"""x (B, ...) -> the score at x, like x."""

Energy = Callable[[Tensor], Tensor]
"""x (B, ...) -> the energy of each, (B,) or (B, 1): -log p but for a constant."""

Reduce = Callable[[Tensor], Tensor]
"""(B, ...) -> (B,): `losses.per_image`, the mean, or `half_sum`."""


def half_sum(x: Tensor) -> Tensor:
    """Half the sum over everything but the batch, (B, ...) -> (B,): the norms of the NCSN papers."""
    return x.flatten(1).sum(1) / 2


# ---------------------------------------------------------------- denoising score matching


def denoising(prediction: Prediction, eps: Tensor, weight: Tensor, reduce: Reduce = per_image) -> Tensor:
    """weight ||score + eps / sigma||^2, (B,): the error against the score of q(x_t | x_0) (Song & Ermon 2019, eq. 5).

    Args:
        prediction: what the network believes at x_t.
        eps: (B, ...) the noise in x_t.
        weight: the paper's lambda, broadcasting against x_t: `anneal_weight` or `likelihood_weight`.
    """
    return reduce(weight / prediction.level.sigma**2 * (prediction.eps - eps) ** 2)


def anneal_weight(level: Level, power: float = 2.0) -> Tensor:
    """sigma^power. With 2, the default, every level weighs about alike, and the error is that in eps (section 4.2)."""
    return level.sigma**power


def likelihood_weight(schedule: Continuous, t: Tensor, x: Tensor) -> Tensor:
    """g(t)^2, by which the loss bounds the likelihood (Song et al. 2021b, theorem 1), ready to be used with x."""
    return like(schedule.drift_diffusion(t)[1], x)


# ---------------------------------------------------------------- sliced score matching


Directions = Callable[[Tensor], Tensor]
"""Normal noise (K, B, ...) -> random directions of the same shape: `gaussian`, `rademacher`, `sphere` or `unit`."""


def gaussian(z: Tensor) -> Tensor:
    """Normal noise z as directions, as it is."""
    return z


def rademacher(z: Tensor) -> Tensor:
    """The signs of normal noise z: least variance among directions with independent entries."""
    return z.sign()


def sphere(z: Tensor) -> Tensor:
    """Normal noise z (K, B, ...) on the sphere of radius sqrt(D), image by image; still of unit variance."""
    return unit(z) * z[0, 0].numel() ** 0.5


def unit(z: Tensor) -> Tensor:
    """Normal noise z (K, B, ...) at length 1, image by image, which divides the sliced loss by D."""
    return z / z.flatten(2).norm(dim=2).reshape(z.shape[:2] + (1,) * (z.ndim - 2))


def score_of(energy: Energy) -> Score:
    """Minus the gradient of an energy, with a graph behind it, so that a loss of it can be trained."""

    def score(x: Tensor) -> Tensor:
        with torch.enable_grad():
            x = x if x.requires_grad else x.detach().requires_grad_()
            return -torch.autograd.grad(energy(x).sum(), x, create_graph=True)[0]

    return score


def sliced_terms(
    score: Score, x: Tensor, directions: Tensor, reduced: bool = False
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The two terms of the sliced loss in each direction v, the squared norm and the curvature, (K, B) each.

    (v . s)^2 / 2, or its mean over v of unit variance, ||s||^2 / 2, where `reduced`; and v . grad(v . s), by a second
    backward pass. What they are made of comes last: s (B, ...) and grad(v . s) (K, B, ...).
    """
    with torch.enable_grad():
        x = x.detach().requires_grad_()
        s = score(x)
        along = (s * directions).flatten(2).sum(2)
        slopes = torch.stack([torch.autograd.grad(a.sum(), x, create_graph=True)[0] for a in along])
    square = (s**2).flatten(1).sum(1).expand_as(along) if reduced else along**2
    return square / 2, (slopes * directions).flatten(2).sum(2), s, slopes


def sliced(score: Score, x: Tensor, directions: Tensor, reduced: bool = False) -> Tensor:
    """The sliced score matching loss, (B,), a mean over directions (Song et al. 2019, eq. 7; `reduced`: eq. 8).

    Args:
        score: the network; `score_of` makes one from an energy.
        x: (B, ...) data; noisy data of one level for the loss of that level.
        directions: (K, B, ...) random directions v.
        reduced: take the first term's mean over v, which has less variance; v must be of unit variance.
    """
    square, curvature, _, _ = sliced_terms(score, x, directions, reduced)
    return (square + curvature).mean(0)


def annealed_sliced(score: Score, x_t: Tensor, level: Level, directions: Tensor) -> Tensor:
    """sigma^2 times the reduced sliced loss at noisy data x_t, (B,) (Song & Ermon 2019, section 4.2).

    Args:
        score: the network at each image's own level.
        directions: (K, B, ...) random directions.
    """
    return level.sigma.flatten() ** 2 * sliced(score, x_t, directions, reduced=True)
