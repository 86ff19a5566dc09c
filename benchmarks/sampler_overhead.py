"""What sampling costs besides the network: a 50-step DDIM run against 50 bare forward passes, in turn, as a ratio.

Run `python benchmarks/sampler_overhead.py`; it prints the medians and their spread for 2-D points and for the small
28x28 net of `ddpm/fashion`, in float32 on one thread, and the time that one step takes beyond its network.
"""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor, nn

from sfumato.core.betas import linear_betas
from sfumato.core.denoisers import Denoiser, predict_eps
from sfumato.core.guidance import clipped
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_betas
from sfumato.models import load_model
from sfumato.samplers import DDIM, run

STEPS = 50


class Nothing(nn.Module):
    """A network that costs nothing: what remains is the sampler."""

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return x


def in_turn(first: Callable[[], object], second: Callable[[], object], rounds: int) -> tuple[list[float], list[float]]:
    """Seconds of each, measured alternately after one warm-up, so that both meet the same machine."""
    times: tuple[list[float], list[float]] = ([], [])
    for i in range(rounds + 1):
        for once, kept in zip((first, second), times, strict=True):
            started = time.perf_counter()
            once()
            if i:
                kept.append(time.perf_counter() - started)
    return times


def bare(network: nn.Module, x: Tensor) -> None:
    """50 forward passes and nothing else."""
    t = torch.full((len(x),), 500.0)
    for _ in range(STEPS):
        network(x, t)


def sample(network: nn.Module, x: Tensor) -> None:
    """50 DDIM steps, clipped, as `sfumato sample` takes them."""
    process = GaussianDiffusion(from_betas(linear_betas(1000)))
    denoise = clipped(Denoiser(network, process, predict_eps, condition=lambda t: t - 1))
    run(DDIM(), process, denoise, x, steps=STEPS)


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    fashion = load_model("ddpm/fashion").recipe
    rows: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("64 points in 2-D, no network", Nothing(), (64, 2), 20),
        ("ddpm/fashion net, 1 image", fashion.model().eval(), (1, 1, 28, 28), 7),
        ("ddpm/fashion net, 16 images", fashion.model().eval(), (16, 1, 28, 28), 5),
    ]
    print(f"{'':32}{'50 forwards':>14}{'50 DDIM steps':>16}{'ratio':>8}{'overhead a step':>18}")
    with torch.inference_mode():
        for name, network, shape, rounds in rows:
            x = torch.randn(shape)
            forwards, samples = in_turn(partial(bare, network, x), partial(sample, network, x), rounds)
            ratio = statistics.median(s / f for f, s in zip(forwards, samples, strict=True))
            f, s = statistics.median(forwards), statistics.median(samples)
            shown = f"{ratio:8.3f}" if f > 1e-3 else f"{'-':>8}"
            print(f"{name:32}{f * 1e3:11.2f} ms{s * 1e3:13.2f} ms{shown}{(s - f) / STEPS * 1e6:15.0f} us")


if __name__ == "__main__":
    main()
