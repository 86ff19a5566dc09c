"""Answers to the program of the lesson on the first picture: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([(" + time[:, :n])", ")"), (" + time[:, n:])", ")")], "level makes no difference"),
    ([("act(self.up(coarse)), fine]", "act(self.up(coarse)), 0 * fine]")], "no skip connection"),
    (
        [
            (
                "self.first = nn.Conv2d(n, n, 3, padding=1)",
                "self.first = nn.Sequential(nn.Conv2d(n, n, 3, padding=1), nn.BatchNorm2d(n))",
            )
        ],
        "BatchNorm mixes",
    ),
    ([("self.out = nn.Conv2d(n, 1, 3, padding=1)", "self.out = nn.Conv2d(n, 1, 3)")], "gives back shape"),
    (
        [
            ("nn.Conv2d(n, 2 * n, 3, padding=1, stride=2)", "nn.Conv2d(n, 2 * n, 3, padding=1)"),
            ("nn.ConvTranspose2d(2 * n, n, 2, stride=2)", "nn.Conv2d(2 * n, n, 3, padding=1)"),
        ],
        "no layer works at 4x4",
    ),
]

RIGHT = [
    """import torch.nn as nn
import torch.nn.functional as F

class Block(nn.Module):
    def __init__(self, of, to):
        super().__init__()
        self.one, self.two = nn.Conv2d(of, to, 3, padding="same"), nn.Conv2d(to, to, 3, padding="same")
        self.time, self.norm = nn.Linear(32, to), nn.GroupNorm(4, to)

    def forward(self, x, e):
        x = F.relu(self.one(x)) + self.time(e)[..., None, None]
        return F.relu(self.norm(self.two(x)))

class UNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed = nn.Sequential(nn.Linear(20, 32), nn.ReLU())
        self.a, self.b, self.c = Block(1, 24), Block(24, 48), Block(72, 24)
        self.out = nn.Conv2d(24, 1, 1)

    def forward(self, x, t):
        angle = torch.outer(t.float(), torch.logspace(0, -3, 10))
        e = self.embed(torch.hstack([torch.sin(angle), torch.cos(angle)]))
        fine = self.a(x, e)
        coarse = self.b(F.avg_pool2d(fine, 2), e)
        return self.out(self.c(torch.cat((fine, F.interpolate(coarse, scale_factor=2)), 1), e))
""",
    """class UNet(torch.nn.Module):
    def __init__(self, n=48):
        super().__init__()
        self.table = torch.nn.Parameter(torch.randn(11, n) / 4)
        sizes = [(1, n), (n, n), (n, n), (n, n), (n, 1)]
        self.c = torch.nn.ModuleList(torch.nn.Conv2d(i, o, 3, 1, 1) for i, o in sizes)
        self.pool, self.up = torch.nn.MaxPool2d(2), torch.nn.Upsample(scale_factor=2)

    def forward(self, x, t):
        at = t.float() / 100
        i, part = at.long().clamp(max=9), (at - at.long().clamp(max=9))[:, None]
        time = ((1 - part) * self.table[i] + part * self.table[i + 1])[:, :, None, None]  # learned, in between
        fine = torch.tanh(self.c[0](x) + time)
        coarse = torch.tanh(self.c[2](torch.tanh(self.c[1](self.pool(fine)) + time)))
        return self.c[4](torch.tanh(self.c[3](fine + self.up(coarse))))
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[hint for _, hint in WRONG])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("first_picture", programming.changed("first_picture", *changes), hint)


@pytest.mark.slow
@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("first_picture", code)
