"""Progressive distillation: the target against the paper's formula and the teacher's own two steps; grids that nest."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from sfumato.core import Cosine, GaussianDiffusion, LinearFlow, from_betas
from sfumato.core.betas import cosine_betas, linear_betas
from sfumato.core.continuous import PowerVE
from sfumato.core.denoisers import Denoise
from sfumato.core.distillation import ddim, even_times, first_share, halved, truncated_snr, two_step_target
from sfumato.core.exact import gaussian
from sfumato.core.schedules import Level, Schedule
from sfumato.core.times import Among

SCHEDULES = {
    "cosine table": from_betas(cosine_betas(1000)), "linear table": from_betas(linear_betas(40)),
    "cosine": Cosine(), "flow": LinearFlow(),
}  # fmt: skip
MEAN, STD = torch.tensor([0.4, -0.8]).double(), torch.tensor([0.6, 0.3]).double()


def teacher(schedule: Schedule) -> tuple[GaussianDiffusion, Denoise]:
    process = GaussianDiffusion(schedule)
    return process, gaussian(MEAN, STD).denoise(process)


@pytest.mark.parametrize("name", SCHEDULES)
@pytest.mark.parametrize("n", [1, 2, 8])
def test_one_step_by_the_target_ends_where_two_of_the_teacher_do(name: str, n: int) -> None:
    process, denoise = teacher(SCHEDULES[name])
    grid, x = even_times(process.schedule, 2 * n), torch.randn(5, 2, dtype=torch.float64)
    for t, between, s in zip(grid[:-1:2], grid[1::2], grid[2::2], strict=True):
        middle = ddim(denoise(x, t), process.level(between, x))
        end = ddim(denoise(middle, between), process.level(s, x))
        target = two_step_target(denoise, x, t.expand(5), between.expand(5), s.expand(5), process)
        once = denoise(x, t).with_x0(target)
        torch.testing.assert_close(ddim(once, process.level(s, x)), end, rtol=1e-9, atol=1e-9)
        here, there = process.level(t, x), process.level(s, x)
        ratio = there.sigma / here.sigma
        paper = (end - ratio * x) / (there.alpha - ratio * here.alpha)  # algorithm 2
        torch.testing.assert_close(target, paper, rtol=1e-7, atol=1e-7)


def test_the_last_step_learns_the_second_prediction() -> None:
    times = torch.tensor([[1.0, 0.5, 0.0], [0.5, 0.25, 0.0]]).double()
    assert torch.equal(first_share(Cosine(), *times.T), torch.zeros(2).double())
    inner = first_share(LinearFlow(), *torch.tensor([1.0, 0.75, 0.5]).double())
    assert 0 < float(inner) < 1


@pytest.mark.parametrize("name", SCHEDULES)
def test_half_as_many_times_are_among_them(name: str) -> None:
    for n in (1, 2, 4, 8, 16):
        few, many = even_times(SCHEDULES[name], n), even_times(SCHEDULES[name], 2 * n)
        assert torch.equal(few, many[::2])
        assert few[-1] == 0
        assert bool((many.diff() < 0).all())


def test_too_many_steps_are_one_line() -> None:
    with pytest.raises(ValueError, match="steps must lie between 1 and 40"):
        even_times(SCHEDULES["linear table"], 64)
    with pytest.raises(ValueError, match="32 even steps go below the least noise that this model knows; at most 4"):
        even_times(PowerVE(), 32)


def test_the_stages_halve() -> None:
    assert halved(32, 4) == [16, 8, 4]
    assert halved(12, 3) == [6, 3]
    for start, to, said in ((32, 5, "32 never come to 5"), (4, 4, "4 to 4 does not"), (9, 3, "9 never come to 3")):
        with pytest.raises(ValueError, match=said):
            halved(start, to)


def test_the_weight_counts_levels_without_signal() -> None:
    weight = truncated_snr(Level(torch.tensor([0.0, 0.6, 0.8]), torch.tensor([1.0, 0.8, 0.6])))
    torch.testing.assert_close(weight, torch.tensor([1.0, 1.0, 16 / 9]))


def test_times_among_a_few_are_drawn_alike() -> None:
    t, weight = Among((40, 20)).draw(torch.tensor([0.0, 0.49, 0.5, 0.999]))
    assert t.tolist() == [40, 40, 20, 20]
    assert t.dtype == torch.long
    assert bool((weight == 1).all())
    drawn: Tensor = Among((1.0, 0.5)).draw(torch.rand(9))[0]
    assert drawn.dtype == torch.float64
