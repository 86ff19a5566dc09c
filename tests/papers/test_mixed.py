"""DDPM with two objectives: the mixture in closed form, the three parts of its loss, and a run."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor, nn

from sfumato.cli import main
from sfumato.papers.mixed import MixedDDPM, predict_both

SHAPE = (2, 8, 8)
PROCESS = MixedDDPM(SHAPE).build().gaussian


class Constant(nn.Module):
    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.output


@pytest.mark.parametrize("lean", [-30.0, 0.0, 30.0])
def test_x0_is_the_mean_of_both_by_a_softmax(lean: float) -> None:
    x, t = torch.randn(3, *SHAPE), torch.tensor([5, 300, 700])
    noise, data = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)
    weights = torch.cat([torch.full((3, 1, 8, 8), lean), torch.zeros(3, 1, 8, 8)], 1)
    found = predict_both(torch.cat([noise, data, weights], 1), x, t, PROCESS)
    share = torch.sigmoid(torch.tensor(lean))
    implied = PROCESS.level(t, x).x0(x, noise)
    torch.testing.assert_close(found.x0, share * implied + (1 - share) * data)
    torch.testing.assert_close(found.level.noise(found.x0, found.eps), x, atol=1e-4, rtol=1e-4)
    with pytest.raises(ValueError, match="6 channels, not 4"):
        predict_both(torch.randn(3, 4, 8, 8), x, t, PROCESS)


def test_the_loss_has_three_parts() -> None:
    x0, eps, t = torch.rand(3, *SHAPE) * 2 - 1, torch.randn(3, *SHAPE), torch.tensor([5, 300, 990])
    noise, data = torch.randn(3, *SHAPE), torch.randn(3, *SHAPE)
    network = Constant(torch.cat([noise, data, torch.zeros(3, 2, 8, 8)], 1))
    loss = MixedDDPM(SHAPE, noise_weight=0.2, data_weight=0.7).build().loss(network, x0, t, lambda like: eps)
    level = PROCESS.level(t, x0)
    implied = level.x0(level.noise(x0, eps), noise).clamp(-2, 2)
    errors = [(implied + data) / 2 - x0, data - x0, noise - eps]
    expected = sum(w * e.square().flatten(1).mean(1) for w, e in zip((1, 0.7, 0.2), errors, strict=True))
    torch.testing.assert_close(loss, expected)
    assert not torch.allclose(loss, MixedDDPM(SHAPE).build().loss(network, x0, t, lambda like: eps))


def test_a_run_from_training_to_pictures(tmp_path: Path) -> None:
    run, out = str(tmp_path / "run"), str(tmp_path / "grid.png")
    assert main(["train", "mixed/digits", "--train.images", "128", "--train.batch", "32", "--out", run]) == 0
    assert main(["sample", run, "-n", "4", "--steps", "4", "--out", out]) == 0
    assert main(["likelihood", run, "--method", "bound", "--steps", "4", "--limit", "2"]) == 0
