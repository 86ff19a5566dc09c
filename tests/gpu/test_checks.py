"""What `make gpu` checks, one by one: losses, gradients, samplers, waits, memory and resuming on a GPU."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parents[2] / "scripts"))

import gpu_checks

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
CHECKS = gpu_checks.checks("cuda")


@pytest.mark.parametrize("name", CHECKS)
def test_check(name: str) -> None:
    result = CHECKS[name]()
    assert result["ok"], result
