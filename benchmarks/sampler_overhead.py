"""What sampling costs besides the network, in float32 on one thread, everything measured in turn in one process.

`python benchmarks/sampler_overhead.py` prints what a move of each sampler takes on 64 points in the plane with a
network that does nothing, beside a loop written by hand where that is short: processor time, the least of many rounds
of 50 moves, which a busy machine disturbs least. Then, unless `--moves` is given, 50 steps of DDIM against 50 bare
forward passes of the small 28x28 net of `ddpm/fashion`: the medians, and their ratio.
"""

from __future__ import annotations

import math
import statistics
import sys
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
from sfumato.samplers import DDIM, by_name, run

STEPS = 50
ROUNDS = 200
SAMPLERS = ("ddim", "ddim?eta=1", "ancestral", "dpmpp-2m", "ab", "dpmpp-3m", "unipc", "sa-solver")


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


# ---------------------------------------------------------------- loops written by hand

Coefficients = list[tuple[float, float]]
"""alpha and sigma at each time of a grid, the last of which is clean data."""


def ddim_by_hand(network: nn.Module, x: Tensor, levels: Coefficients, times: list[float]) -> Tensor:
    """DDIM as short as it can be: eps, x0, and the next level."""
    for t, (alpha, sigma), (alpha_s, sigma_s) in zip(times, levels, levels[1:], strict=False):
        eps = network(x, torch.full((len(x),), t))
        x0 = (x - sigma * eps) / alpha
        x = alpha_s * x0 + sigma_s * eps
    return x


def dpmpp_2m_by_hand(network: nn.Module, x: Tensor, levels: Coefficients, times: list[float]) -> Tensor:
    """DPM-Solver++(2M) as short as it can be; 50 moves have no lower order at their end."""
    before, last = None, 0.0
    for t, (alpha, sigma), (alpha_s, sigma_s) in zip(times, levels, levels[1:], strict=False):
        x0 = (x - sigma * network(x, torch.full((len(x),), t))) / alpha
        if sigma_s == 0:
            return x0
        h = math.log(alpha_s / sigma_s) - math.log(alpha / sigma)
        guess = x0 if before is None else x0 + (x0 - before) * (h / (2 * last))
        x, before, last = sigma_s / sigma * x - alpha_s * math.expm1(-h) * guess, x0, h
    return x


def a_move(rounds: int = ROUNDS) -> dict[str, tuple[float, float | None]]:
    """Microseconds of processor time a move of each sampler, and of the loop by hand: the least of the rounds."""
    process, network, x = GaussianDiffusion(from_betas(linear_betas(1000))), Nothing(), torch.randn(64, 2)
    denoise, grid = Denoiser(network, process, predict_eps), process.schedule.times(STEPS)
    levels = [(float(alpha), float(sigma)) for alpha, sigma in map(process.schedule.alpha_sigma, grid)]
    by_hand = {"ddim": ddim_by_hand, "dpmpp-2m": dpmpp_2m_by_hand}
    works: dict[str, Callable[[], Tensor]] = {
        name: partial(run, by_name(name), process, denoise, x, steps=STEPS) for name in SAMPLERS
    }
    works |= {f"{name} by hand": partial(loop, network, x, levels, grid.tolist()) for name, loop in by_hand.items()}
    for name in by_hand:
        torch.testing.assert_close(works[name](), works[f"{name} by hand"](), rtol=1e-3, atol=1e-3)
    least = dict.fromkeys(works, math.inf)
    for _ in range(rounds):
        for name, once in works.items():
            started = time.thread_time()
            once()
            least[name] = min(least[name], (time.thread_time() - started) / STEPS * 1e6)
    return {name: (least[name], least.get(f"{name} by hand")) for name in SAMPLERS}


def main() -> None:
    torch.set_num_threads(1)
    torch.manual_seed(0)
    with torch.inference_mode():
        print(f"{'a move on 64 points in 2-D':32}{'us':>8}{'by hand':>10}{'ratio':>8}")
        for name, (ours, hand) in a_move().items():
            print(f"{name:32}{ours:8.1f}" + (f"{hand:10.1f}{ours / hand:8.2f}" if hand else f"{'-':>10}{'-':>8}"))
    if "--moves" in sys.argv:
        return
    fashion = load_model("ddpm/fashion").recipe
    rows: list[tuple[str, nn.Module, tuple[int, ...], int]] = [
        ("ddpm/fashion net, 1 image", fashion.model().eval(), (1, 1, 28, 28), 7),
        ("ddpm/fashion net, 16 images", fashion.model().eval(), (16, 1, 28, 28), 5),
    ]
    print(f"\n{'':32}{'50 forwards':>14}{'50 DDIM steps':>16}{'ratio':>8}{'overhead a step':>18}")
    with torch.inference_mode():
        for name, network, shape, rounds in rows:
            x = torch.randn(shape)
            forwards, samples = in_turn(partial(bare, network, x), partial(sample, network, x), rounds)
            ratio = statistics.median(s / f for f, s in zip(forwards, samples, strict=True))
            f, s = statistics.median(forwards), statistics.median(samples)
            print(f"{name:32}{f * 1e3:11.2f} ms{s * 1e3:13.2f} ms{ratio:8.3f}{(s - f) / STEPS * 1e6:15.0f} us")


if __name__ == "__main__":
    main()
