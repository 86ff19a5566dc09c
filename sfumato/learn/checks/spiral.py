"""The exercises of the second lesson on DPM (Sohl-Dickstein et al. 2015): numbers, and multiplying by what is known."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr

GRID = torch.linspace(-30, 30, 60_001, dtype=torch.float64)


def _density(mean: float, std: float) -> torch.Tensor:
    """On the grid, normalised there."""
    values = (-0.5 * ((GRID - mean) / std) ** 2).exp()
    return values / values.sum()


def _check_product(namespace: dict[str, Any]) -> None:
    product = wanted(namespace, "product")
    for m1, s1, m2, s2 in ((0.0, 1.0, 2.0, 1.0), (1.0, 0.5, -1.0, 2.0), (3.0, 2.0, 0.0, 0.3)):
        both = _density(m1, s1) * _density(m2, s2)
        both = both / both.sum()
        mean = float((GRID * both).sum())
        std = float(((GRID - mean) ** 2 * both).sum().sqrt())
        found = [float(value) for value in product(m1, s1, m2, s2)]
        assert abs(found[0] - mean) < 1e-4 and abs(found[1] - std) < 1e-4, (  # noqa: PT018
            tr(
                "N({m1:g}, {s1:g}^2) times N({m2:g}, {s2:g}^2), summed on a fine grid, has mean {mean:.4f} and standard "
                "deviation {std:.4f}; yours has {found:.4f} and {spread:.4f}",
                m1=m1,
                s1=s1,
                m2=m2,
                s2=s2,
                mean=mean,
                std=std,
                found=found[0],
                spread=found[1],
            )
        )


def _check_kl(namespace: dict[str, Any]) -> None:
    kl = wanted(namespace, "kl")
    for m1, s1, m2, s2 in ((0.0, 1.0, 0.0, 1.0), (0.0, 1.0, 1.0, 1.0), (0.0, 0.5, 0.3, 1.5), (1.0, 2.0, 0.0, 1.0)):
        p, q = _density(m1, s1), _density(m2, s2)
        expected = float((p * (p.clamp(min=1e-300) / q.clamp(min=1e-300)).log()).sum())
        found = float(kl(m1, s1, m2, s2))
        assert abs(found - expected) < 1e-3, tr(
            "KL(N({m1:g}, {s1:g}^2) || N({m2:g}, {s2:g}^2)) is {expected:.4f} nats on a fine grid; yours is {found:.4f}",
            m1=m1,
            s1=s1,
            m2=m2,
            s2=s2,
            expected=expected,
            found=found,
        )


def _check_fill(namespace: dict[str, Any]) -> None:
    fill = wanted(namespace, "fill_in")
    mean, x0 = torch.tensor([0.3, -0.2, 0.9]), torch.tensor([1.0, 0.0, -1.0])
    known = torch.tensor([True, False, True])
    moved, std = fill(mean, 0.5, x0, known)
    assert torch.equal(moved[known], x0[known]), "where a pixel is known, the step must land on it exactly"
    assert torch.equal(moved[~known], mean[~known]), "where it is not, the model's own mean must stay"
    std = torch.as_tensor(std).expand(3)
    assert not bool(std[known].any()), "a known pixel has no noise: its standard deviation must be 0"
    assert torch.allclose(std[~known], torch.tensor(0.5)), "an unknown pixel keeps the step's noise, or it cannot vary"


EXERCISES = (
    Exercise(
        "spiral.1",
        "Multiply two Gaussians",
        r"""Write the mean and the standard deviation of the normalised product of $N(m_1, s_1^2)$ and $N(m_2, s_2^2)$. Precisions
$1/s^2$ add up. The check multiplies the two on a fine grid.""",
        "def product(m1, s1, m2, s2):\n    return (m1 + m2) / 2, (s1 + s2) / 2\n",
        """def product(m1, s1, m2, s2):
    precision = 1 / s1**2 + 1 / s2**2
    return (m1 / s1**2 + m2 / s2**2) / precision, precision**-0.5
""",
        _check_product,
    ),
    Exercise(
        "spiral.2",
        "Fill in what is missing",
        r"""One reverse step says $N(\text{mean}, \text{std}^2)$. The pixels of `x0` where `known` is true are given. Return the mean
and the standard deviation of the step once it is multiplied with a certainty about those pixels.""",
        "def fill_in(mean, std, x0, known):\n    return mean, std\n",
        """def fill_in(mean, std, x0, known):
    return torch.where(known, x0, mean), torch.where(known, 0.0, std)
""",
        _check_fill,
    ),
    Exercise(
        "spiral.3",
        "A planted bug",
        r"""The bound is a sum of divergences between Gaussians. This one has a mistake that no unit test with equal variances would
find. `kl(m1, s1, m2, s2)` is $D_\text{KL}(N(m_1, s_1^2)\,\|\,N(m_2, s_2^2))$.""",
        """def kl(m1, s1, m2, s2):
    return math.log(s1 / s2) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
""",
        """def kl(m1, s1, m2, s2):
    return math.log(s2 / s1) + (s1**2 + (m1 - m2) ** 2) / (2 * s2**2) - 0.5
""",
        _check_kl,
    ),
)
