"""What distances between sets of pictures do and do not say, on points in the plane, where everything is known."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import normal, ring
from sfumato.evaluate.distances import frechet_distance, kernel_distance, statistics
from sfumato.evaluate.neighbours import nearest, precision_recall


def real(n: int, seed: int) -> Tensor:
    """n points of the ring of eight blobs, (n, 2)."""
    return ring().sample(n, torch.Generator().manual_seed(seed))


def lookalike(n: int, seed: int) -> Tensor:
    """One round blob with the mean and the covariance of the ring: nothing of it is right."""
    whole = real(20_000, 999)
    return whole.mean(0) + whole.std(0) * normal(seed, n, 2)


def blurred(n: int, seed: int, std: float = 0.3) -> Tensor:
    """The ring, a little blurred: nearly all of it is right."""
    return real(n, seed) + std * normal(seed + 1, n, 2)


def memorised(n: int, seed: int, training: Tensor) -> Tensor:
    """Training points again, with next to nothing added."""
    chosen = torch.randint(len(training), (n,), generator=torch.Generator().manual_seed(seed))
    return training[chosen] + 1e-3 * normal(seed, n, 2)


def wrong_ranking(seed: int, fast: bool) -> Measured:
    """A blob without any blobs in it against a slightly blurred ring, by three measures."""
    n, values = (1000 if fast else 4000), {}
    reference = real(n, 1000 + seed)
    for name, samples in (("lookalike", lookalike(n, seed)), ("blurred", blurred(n, seed))):
        values[f"{name}: Frechet distance"] = frechet_distance(statistics(samples), statistics(reference))
        kernel = kernel_distance(samples, reference, subsets=20, size=n // 2)
        values[f"{name}: kernel distance x1000"] = 1000 * kernel.value
        values[f"{name}: precision"] = precision_recall(reference, samples).precision
    values["Frechet prefers the lookalike by"] = (
        values["blurred: Frechet distance"] - values["lookalike: Frechet distance"]
    )
    values["precision prefers the blurred by"] = values["blurred: precision"] - values["lookalike: precision"]
    return Measured(values)


def floor(seed: int, fast: bool) -> Measured:
    """How large is the distance of real points to real points, by their number?"""
    values, reference = {}, statistics(real(50_000, 10_000 + seed))
    for n in (50, 200, 800):
        trials = [frechet_distance(statistics(real(n, 100 * seed + i)), reference) for i in range(20 if fast else 100)]
        values[f"floor at N = {n}"] = sum(trials) / len(trials)
    values["floor at 50 over floor at 800"] = values["floor at N = 50"] / values["floor at N = 800"]
    return Measured(values)


def copies(seed: int, fast: bool) -> Measured:
    """Who copies? The distance to the data does not show it; the nearest neighbour does."""
    n = 300
    training = real(n, seed)
    values, reference = {}, real(n, 500 + seed)
    for name, samples in (("memorised", memorised(n, seed, training)), ("new", real(n, 700 + seed))):
        values[f"{name}: Frechet distance"] = frechet_distance(statistics(samples), statistics(reference))
        values[f"{name}: share of copies"] = float(nearest(samples, training).copies.double().mean())
    return Measured(values)


CLAIMS = (
    Claim(
        "measuring/wrong-ranking",
        "Heusel et al. 2017, section 3; Kynkaanniemi et al. 2019, section 2 and figure 1",
        "A Frechet distance sees means and covariances alone, so it can prefer what is all wrong.",
        wrong_ranking,
        {"Frechet prefers the lookalike by": (0, 1), "precision prefers the blurred by": (0.1, 1)},
        seeds=2,
        seconds=2,
    ),
    Claim(
        "measuring/floor",
        "Binkowski et al. 2018, section 4",
        "The Frechet distance of real to real is not 0: it falls with the number of samples, so N must be stated.",
        floor,
        {"floor at 50 over floor at 800": (6, 40)},
        seeds=1,
        seconds=1,
    ),
    Claim(
        "measuring/copies",
        "Carlini et al. 2023, section 4: samples much nearer to a training image than that is to any other",
        "Copies of training points score as well as new ones; only the nearest neighbour shows it.",
        copies,
        {
            "memorised: share of copies": (0.9, 1),
            "new: share of copies": (0, 0.35),
            "memorised: Frechet distance": (0, 0.1),
        },
        seeds=2,
        seconds=0.2,
    ),
)
