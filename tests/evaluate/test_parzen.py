"""Parzen windows against the mixture that they are, and the width that fits."""

from __future__ import annotations

import pytest
import torch

from sfumato.core.exact import GaussianMixture
from sfumato.evaluate.parzen import parzen, parzen_log_prob


def test_it_is_the_log_density_of_a_mixture() -> None:
    torch.manual_seed(0)
    samples, data = torch.rand(7, 3, dtype=torch.float64), torch.rand(250, 3, dtype=torch.float64)
    mixture = GaussianMixture(torch.full((7,), 1 / 7, dtype=torch.float64), samples, torch.full_like(samples, 0.2))
    assert torch.allclose(parzen_log_prob(samples, data, 0.2), mixture.log_prob(data))


def test_the_width_is_that_of_the_data_around_the_samples() -> None:
    torch.manual_seed(0)
    samples = torch.full((50, 1, 4, 4), 128, dtype=torch.uint8)
    data = (128 + 0.1 * 255 * torch.randn(400, 1, 4, 4)).clamp(0, 255).to(torch.uint8)
    found = parzen(samples, data[:200], data[200:], widths=(0.03, 0.05, 0.1, 0.2, 0.3))
    assert found.width == 0.1
    assert found.bits == pytest.approx(found.nats / 0.6931, rel=1e-3)
    assert 0 < found.standard_error < 1


def test_bad_input_is_refused() -> None:
    images = torch.zeros(3, 1, 4, 4, dtype=torch.uint8)
    with pytest.raises(ValueError, match="one shape"):
        parzen(images, images, images[:0])
    with pytest.raises(ValueError, match="above 0"):
        parzen_log_prob(torch.zeros(1, 2), torch.zeros(1, 2), 0.0)
