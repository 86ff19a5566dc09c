"""The GPU kernel for normalisation, scale, shift and SiLU: Triton's interpreter runs it here, beside float64.

In a process of its own, since the interpreter must be chosen before Triton is imported; skipped where Triton is not.
"""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from sfumato.networks import fused

PROGRAM = """
import itertools
import torch
import torch.nn.functional as F
from sfumato.networks import fused_gpu

torch.manual_seed(0)
for (shape, groups), last, adds, each, silu in itertools.product(
    [((2, 32, 6, 6), 32), ((2, 96, 5, 7), 32), ((1, 12, 4, 4), 4)], *[(False, True)] * 4
):
    B, C = shape[:2]
    x = torch.randn(shape) + 0.5
    x = x.contiguous(memory_format=torch.channels_last) if last else x
    given = [x, torch.randn(B if each else 1, C), torch.randn(B if each else 1, C)] + [torch.randn(B, C)] * adds
    ours = [v.detach().clone().requires_grad_() for v in given]
    true = [v.detach().double().requires_grad_() for v in given]
    out = fused_gpu.norm_silu(ours[0], ours[3] if adds else None, ours[1], ours[2], groups, 1e-5, silu)
    h = true[0] + true[3][:, :, None, None] if adds else true[0]
    h = F.group_norm(h, groups, eps=1e-5) * true[1][:, :, None, None] + true[2][:, :, None, None]
    wanted = F.silu(h) if silu else h
    dy = torch.randn_like(wanted)
    pairs = [(out, wanted), *zip(torch.autograd.grad(out, ours, dy.float()), torch.autograd.grad(wanted, true, dy))]
    assert out.stride() == x.stride()
    for a, b in pairs:
        assert (a.double() - b).abs().max() < 2e-5 * max(1.0, float(b.detach().abs().max())), (shape, last, adds, each)
"""


def test_the_interpreted_kernel_equals_float64() -> None:
    if importlib.util.find_spec("triton") is None:
        pytest.skip("Triton is not installed, which comes with a torch for GPUs")
    environment = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    root = Path(__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, env=environment, capture_output=True, text=True)
    if "only 0-dimensional arrays" in done.stderr:
        pytest.skip("this Triton's interpreter does not know this numpy")
    assert done.returncode == 0, done.stderr


def test_a_cpu_never_asks_for_it() -> None:
    """Nor does a tensor without contents, on which memory is predicted."""
    assert not fused.takes(torch.empty(1, 32, 4, 4))
    assert not fused.takes(torch.empty(1, 32, 4, 4, device="meta"))
