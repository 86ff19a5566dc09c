"""Learned uncertainty: it becomes the loss by level, and divides gradients by it."""

from __future__ import annotations

import torch

from sfumato.core.uncertainty import Uncertainty


def expected(log_snr: torch.Tensor) -> torch.Tensor:
    """A loss by level that falls over three orders of magnitude."""
    return 1e-3 + torch.sigmoid(-log_snr / 2)


def test_exp_u_becomes_the_mean_loss_at_every_level() -> None:
    """Though single losses are spread widely about it."""
    generator, curve = torch.Generator().manual_seed(0), Uncertainty()
    optimizer = torch.optim.Adam(curve.parameters(), lr=2e-2)
    for step in range(1500):
        log_snr = 16 * torch.rand(256, generator=generator) - 8
        losses = expected(log_snr) * -torch.rand(256, generator=generator).log()  # exponentially distributed
        optimizer.param_groups[0]["lr"] = 2e-2 * (1 - step / 1500)
        optimizer.zero_grad()
        curve.balanced(losses, log_snr).mean().backward()
        optimizer.step()
    at = torch.linspace(-7.5, 7.5, 31)
    error = curve(at).detach().exp() / expected(at) - 1
    assert float(error.abs().max()) < 0.15
    assert float(error.abs().mean()) < 0.05


def test_gradients_are_divided_by_the_expected_loss() -> None:
    curve = Uncertainty()
    torch.nn.init.normal_(curve.weight, generator=torch.Generator().manual_seed(1))
    log_snr, scale = torch.tensor([-5.0, 0.0, 3.0]), torch.tensor([1.0, 2.0, 3.0], requires_grad=True)
    (slope,) = torch.autograd.grad(curve.balanced(scale**2, log_snr).sum(), scale)
    torch.testing.assert_close(slope, (2 * scale / curve(log_snr).exp()).detach())


def test_at_first_and_at_levels_without_signal_or_noise() -> None:
    losses, ends = torch.tensor([0.3, 2.0]), torch.tensor([-torch.inf, torch.inf], dtype=torch.float64)
    curve = Uncertainty()
    assert torch.equal(curve.balanced(losses, ends), losses)
    torch.nn.init.normal_(curve.weight)
    assert bool(curve(ends).isfinite().all())
