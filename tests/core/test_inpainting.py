"""Inpainting and colourisation by replacement: what is known is put back, and decides what is not."""

from __future__ import annotations

import pytest
import torch

from sfumato.core import VP, Gaussian, GaussianDiffusion, GaussianMixture, descend, finish, from_betas
from sfumato.core.betas import linear_betas
from sfumato.core.inpainting import GREY, Replacement, greyness, noise_of_departure, replaced, turn, with_replacement
from sfumato.core.sampling import DenoiseToZero
from sfumato.core.schedules import strided
from sfumato.samplers.ddim import DDIMStep
from sfumato.samplers.reverse_sde import ReverseDiffusionStep


def test_grey_is_the_first_direction_of_an_orthonormal_basis() -> None:
    assert torch.allclose(GREY.T @ GREY, torch.eye(3, dtype=torch.float64))
    assert torch.allclose(GREY[:, 0], torch.full((3,), 3**-0.5, dtype=torch.float64))
    x = torch.randn(2, 3, 4, 4)
    assert torch.allclose(turn(turn(x, GREY), GREY.T), x, atol=1e-6)


def test_replacement_puts_in_what_is_known_as_noisy_as_the_level() -> None:
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3, dtype=torch.float64)
    x0, x, z = torch.randn(3, 2, 3, 4, 4)
    known = torch.zeros(4, 4, dtype=torch.bool)
    known[:, :2] = True
    step = Replacement(process, x0, known)(x, t, t).to
    level, sample = process.level(t, x), step.sample(lambda _: z)
    assert torch.equal(sample[..., 2:], x[..., 2:])
    assert torch.allclose(sample[..., :2], level.noise(x0, z)[..., :2])
    assert torch.equal(Replacement(process, x0, known, exact=True)(x, t, t).to.sample(), torch.where(known, x0, x))


def test_colouring_keeps_the_grey_and_nothing_else() -> None:
    process, t = GaussianDiffusion(VP()), torch.tensor(0.3, dtype=torch.float64)
    x0, x = torch.randn(2, 2, 3, 4, 4)
    step = Replacement(process, x0, greyness(x0), GREY, exact=True)(x, t, t).to
    coloured = step.sample()
    assert torch.equal(coloured, step.mean)
    assert torch.allclose(coloured.mean(1), x0.mean(1), atol=1e-6)
    away = coloured - x
    assert torch.allclose(away, away.mean(1, keepdim=True).expand_as(away), atol=1e-6)
    with pytest.raises(ValueError, match="exact"):
        step.kl(Gaussian(x, torch.ones(())))


@pytest.mark.parametrize("kind", ["with_replacement", "replaced"])
def test_what_is_known_decides_what_is_not(kind: str) -> None:
    """Of two points, (1, 1) and (-1, -1), the known first coordinate picks one."""
    torch.manual_seed(0)
    two = GaussianMixture(torch.tensor([0.5, 0.5]), torch.tensor([[1.0, 1.0], [-1.0, -1.0]]), torch.full((2, 2), 0.1))
    process = GaussianDiffusion(from_betas(linear_betas(200, 5e-4, 0.1)))
    x0, known = torch.ones(300, 2), torch.tensor([True, False])
    x0[150:] = -1
    denoise, times = two.denoise(process), strided(200, 200)
    if kind == "replaced":
        moves = descend(DDIMStep(process, replaced(denoise, x0, known), eta=1.0), times)
    else:
        replacement = Replacement(process, x0, known)
        moves = with_replacement(descend(ReverseDiffusionStep(process, denoise), times), replacement)
        assert len(moves) == 400
        assert moves[1][1] == moves[0][2]
        assert (
            with_replacement(descend(DenoiseToZero(denoise), times), replacement, noise_of_departure)[1][1] == times[0]
        )
    x = finish(torch.randn(300, 2), moves)
    assert torch.allclose(x[:, 0], x0[:, 0])
    assert float((x[:, 1].sign() == x0[:, 1]).float().mean()) > 0.9
