"""Power-function profiles: their lengths, averages beside a direct simulation, and how well snapshots rebuild them."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.core import profiles
from sfumato.core.profiles import LONGEST, Profile


def snapshots(count: int, t: float = 1e6) -> list[Profile]:
    """Both default profiles at evenly spread times up to t."""
    return [Profile(t * (i + 1) / count, length) for i in range(count) for length in (0.05, 0.10)]


def averaged(values: Tensor, length: float, batch: float = 1.0) -> Tensor:
    """The average (D,) of the weights (N, D) after each update of so many images, by the recursion."""
    power, average = profiles.gamma(length), torch.zeros_like(values[0])
    for n, value in enumerate(values):
        average.lerp_(value, 1 - profiles.decay(power, n * batch, (n + 1) * batch))
    return average


@pytest.mark.parametrize(("length", "gamma"), [
    (0.05, 16.97), (0.075, 10.29), (0.10, 6.94), (0.15, 3.56), (0.20, 1.83), (0.25, 0.72),
])  # fmt: skip
def test_powers_of_the_paper(length: float, gamma: float) -> None:
    assert profiles.gamma(length) == pytest.approx(gamma, abs=5e-3)
    assert profiles.sigma_rel(profiles.gamma(length)) == pytest.approx(length, rel=1e-13)


def test_a_length_is_the_standard_deviation_of_the_profile() -> None:
    tau = (torch.arange(200_000, dtype=torch.float64) + 0.5) / 200_000
    for length in (0.03, 0.1, LONGEST):
        p = profiles.density(Profile(1.0, length), tau)
        mean = (p * tau).mean()
        assert float(p.mean()) == pytest.approx(1, abs=1e-6)
        assert float((p * (tau - mean) ** 2).mean() ** 0.5) == pytest.approx(length, abs=1e-6)
    for length in (0.0, -0.1, 0.281, float("nan")):
        with pytest.raises(ValueError, match=r"above 0 and at most 0.28"):
            profiles.gamma(length)


@pytest.mark.parametrize("batch", [1.0, 64.0])
def test_the_recursion_weighs_each_update_by_its_part_of_the_profile(batch: float) -> None:
    """Update n gets the integral of p over its images, whatever the batch: units of images, not of steps."""
    edges = torch.arange(401, dtype=torch.float64) / 400
    for length in (0.05, 0.1, 0.25):
        expected = (edges ** (profiles.gamma(length) + 1)).diff()
        found = averaged(torch.eye(400, dtype=torch.float64), length, batch)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-12)


def test_half_the_batch_is_the_same_average() -> None:
    """Weights that stay for two updates of 32 images are weighed as for one of 64."""
    values = torch.randn(100, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    whole, halves = averaged(values, 0.1, 64), averaged(values.repeat_interleave(2, 0), 0.1, 32)
    torch.testing.assert_close(whole, halves, rtol=1e-12, atol=1e-12)


def test_the_first_update_copies() -> None:
    assert profiles.decay(6.94, 0, 64) == 0


def test_weights_that_grow_evenly_have_averages_in_closed_form() -> None:
    """The mean of tau under p is t (gamma + 1) / (gamma + 2); updates take the right end of their images."""
    steps = 4000
    for length in (0.05, 0.1, 0.2):
        power = profiles.gamma(length)
        found = averaged(torch.arange(1, steps + 1, dtype=torch.float64)[:, None] / steps, length)
        assert float(found) == pytest.approx((power + 1) / (power + 2), abs=0.6 / steps)


def test_inner_products_are_integrals() -> None:
    tau = (torch.arange(400_000, dtype=torch.float64) + 0.5) / 400_000
    chosen = [Profile(1.0, 0.05), Profile(1.0, 0.25), Profile(0.4, 0.1), Profile(0.6, 0.2)]
    densities = torch.stack([profiles.density(p, tau) for p in chosen])
    torch.testing.assert_close(
        profiles.inner_products(chosen, chosen), densities @ densities.T / len(tau), rtol=1e-4, atol=1e-12
    )


@pytest.mark.parametrize(("count", "errors"), [
    (4, (0.31, 0.040, 0.064, 0.11, 0.23, 0.38)), (8, (0.13, 0.013, 0.020, 0.035, 0.083, 0.17)),
    (16, (0.039, 0.003, 0.005, 0.010, 0.026, 0.069)), (32, (0.010, 0.001, 0.001, 0.002, 0.007, 0.025)),
])  # fmt: skip
def test_the_error_of_rebuilt_profiles(count: int, errors: tuple[float, ...]) -> None:
    for length, error in zip((0.03, 0.075, 0.13, 0.15, 0.20, 0.25), errors, strict=True):
        found = profiles.rebuilt_error(snapshots(count), Profile(1e6, length))
        assert found == pytest.approx(error, abs=6e-3 if error > 0.1 else 6e-4)


def test_a_stored_profile_is_taken_as_it_is() -> None:
    stored = snapshots(16)
    for i in (0, 7, 31):
        expected = torch.eye(32, dtype=torch.float64)[i]
        assert torch.equal(profiles.coefficients(stored, stored[i]), expected)
    near = profiles.coefficients(stored, Profile(1e6, 0.1 + 1e-9))  # by least squares
    assert float(near[-1]) == pytest.approx(1, abs=1e-5)
    assert float(near.sum()) == pytest.approx(1, abs=1e-12)


def test_what_is_later_is_not_taken() -> None:
    found = profiles.coefficients(snapshots(16), Profile(5e5, 0.15))
    assert torch.count_nonzero(found[16:]) == 0
    assert float(found.sum()) == pytest.approx(1, abs=1e-12)
    with pytest.raises(ValueError, match="no average is stored up to 50,000 images"):
        profiles.coefficients(snapshots(16), Profile(5e4, 0.15))


def test_rebuilt_averages_are_those_of_a_direct_simulation() -> None:
    """A noisy walk of 6,400 updates: from 16 snapshots of two profiles, within what the profiles' errors allow."""
    generator = torch.Generator().manual_seed(0)
    values = torch.randn(6400, 4, dtype=torch.float64, generator=generator).cumsum(0) / 80
    stored, averages = snapshots(16, 6400.0), []
    for profile in stored:
        averages.append(averaged(values[: round(profile.t)], profile.sigma_rel))
    for length in (0.05, 0.075, 0.13, 0.2):
        x = profiles.coefficients(stored, Profile(6400.0, length))
        error = profiles.rebuilt_error(stored, Profile(6400.0, length))
        found, expected = x @ torch.stack(averages), averaged(values, length)
        spread = float(values.max() - values.min())
        assert float((found - expected).abs().max()) <= (error + 1e-3) * spread
        assert (error < 1e-6) == (length == 0.05)


def test_parity_with_ema_pytorch() -> None:
    """KarrasEMA with a step as the unit of time, where every update counts (its rule is another with update_every)."""
    theirs = pytest.importorskip("ema_pytorch.post_hoc_ema")
    torch.manual_seed(0)
    net = torch.nn.Linear(3, 2)
    other = theirs.KarrasEMA(net, sigma_rel=0.1, update_every=1)
    values = []
    for _ in range(200):
        with torch.no_grad():
            net.weight.add_(0.1 * torch.randn_like(net.weight))
        other.update()
        values.append(net.weight.detach().double().flatten())
    expected = other.ema_model.weight.detach().double().flatten()
    assert other.gamma == pytest.approx(profiles.gamma(0.1), rel=1e-6)
    values.insert(0, values[0])  # theirs counts from 1: the first weights weigh as those of two updates
    torch.testing.assert_close(averaged(torch.stack(values), 0.1), expected, rtol=1e-5, atol=1e-6)
