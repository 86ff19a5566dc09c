"""Answers to the program of the lesson on inverse problems: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("(1 - a) / a**0.5 *", "(1 - a) *")], "V is sigma^2 / alpha"),
    ([("noise**2 * torch.eye", "noise * torch.eye")], "enters as its square"),
    ([("A @ V @ A.T\n", "A @ A.T\n")], "by adding up precisions"),
    ([("(y - x0 @ A.T)", "(x0 @ A.T - y)")], "by adding up precisions"),
    ([("return x0 + (V @ A.T", "return x0 + (A.T")], "by adding up precisions"),
    ([("torch.stack(rows, dim=1)", "torch.stack(rows, dim=1).mean(0)")], "depends on the other rows"),
    ([("torch.stack(rows, dim=1)", "torch.stack(rows, dim=2)")], "row i of the derivative"),
    ([("x0 = posterior_mean(denoise, x, t, bars, A, y, noise)", "x0 = denoise(x, t)")], "uses the mean given y"),
    ([("        eps = (x - a**0.5 * x0) / (1 - a) ** 0.5\n",
       "        eps = (x - a**0.5 * denoise(x, t)) / (1 - a) ** 0.5\n")], "uses the mean given y"),
    ([("(1 - b) ** 0.5 * eps", "(1 - b) ** 0.5 * torch.randn_like(x)")], "none is drawn"),
    ([("range(steps, -1, -1)", "range(steps, 0, -1)")], "251 states"),
]  # fmt: skip

RIGHT = [
    """import numpy as np

def posterior_mean(denoise, x, t, bars, A, y, noise):
    x, A, y = (np.asarray(v, dtype=float) for v in (x, A, y))
    a, x0, h = float(bars[t]), np.asarray(denoise(x, t)), 1e-4

    def slope(e):
        return (np.asarray(denoise(x + h * e, t)) - np.asarray(denoise(x - h * e, t))) / (2 * h)

    V = (1 - a) / np.sqrt(a) * np.stack([slope(e) for e in np.eye(x.shape[1])], axis=2)
    K = V @ A.T @ np.linalg.inv(noise**2 * np.eye(len(A)) + A @ V @ A.T)
    return x0 + np.einsum("nim,nm->ni", K, y - x0 @ A.T)

def sample(denoise, x, steps, bars, A, y, noise):
    bars = np.asarray(bars)
    path = [np.asarray(x, dtype=float)]
    times = np.linspace(len(bars) - 1, 0, steps + 1).round().astype(int)
    for t, s in zip(times, times[1:]):
        x0 = posterior_mean(denoise, path[-1], t, bars, A, y, noise)
        ratio = np.sqrt((1 - bars[s]) / (1 - bars[t]))
        path.append(ratio * path[-1] + (np.sqrt(bars[s]) - ratio * np.sqrt(bars[t])) * x0)
    return path
""",
    """def posterior_mean(denoise, x, t, bars, A, y, noise):
    x, A, y, a = x.double(), A.double(), y.double(), bars[t]
    of_one = torch.func.jacrev(lambda row: denoise(row[None], t)[0])
    V = (1 - a) / a.sqrt() * torch.func.vmap(of_one)(x)
    x0 = denoise(x, t)
    S = torch.eye(len(A), dtype=torch.float64) * noise ** 2 + torch.einsum("mi,nij,kj->nmk", A, V, A)
    v = torch.linalg.inv(S) @ (y - x0 @ A.T).unsqueeze(-1)
    return x0 + torch.einsum("nij,mj,nm->ni", V, A, v.squeeze(-1))

def sample(denoise, x, steps, bars, A, y, noise):
    out, T = [x.double()], len(bars) - 1
    times = torch.linspace(T, 0, steps + 1).round().long().tolist()
    for t, s in zip(times, times[1:]):
        x0 = posterior_mean(denoise, out[-1], t, bars, A, y, noise)
        e = (out[-1] - bars[t].sqrt() * x0) / (1 - bars[t]).sqrt()
        out.append(bars[s].sqrt() * x0 + (1 - bars[s]).sqrt() * e)
    return torch.stack(out)
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[f"{k} {hint}" for k, (_, hint) in enumerate(WRONG)])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("inverse", programming.changed("inverse", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("inverse", code)
