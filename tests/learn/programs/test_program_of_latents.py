"""Answers to the program of the lesson on latents: mistakes, and right ones written otherwise."""

from __future__ import annotations

import programming
import pytest

WRONG = [
    ([("return (x - mean) @ basis / scale", "return x @ basis / scale")], "each latent has mean 0"),
    ([("return (x - mean) @ basis / scale", "return (x - x.mean(0)) @ basis / scale")], "depend on which others"),
    ([("(centred @ basis).std(0)", "(centred @ basis).std()")], "divide each by its own"),
    ([("(x - mean) @ basis / scale", "(x - mean) @ basis")], "standard deviation 1"),
    ([("vectors[:, -k:]", "vectors[:, :k]")], "belongs to the largest eigenvalues"),
    ([("mean + (z * scale) @ basis.T", "(z * scale) @ basis.T")], "decode undoes all that encode does"),
    ([("(z * scale) @", "z @")], "decode undoes all that encode does"),
    ([("- x) ** 2).mean().sqrt()", "- x) ** 2).mean()")], "the root mean square over all numbers"),
    ([("- x) ** 2).mean().sqrt()", "- x) ** 2).sum(1).mean().sqrt()")], "the root mean square over all numbers"),
    ([("return decode(fitted, z)\n", "return z\n")], "generate gives back shape (8, 6)"),
    ([("for k in range(steps, -1, -1)]", "for k in range(steps + 1)]")], "starts at t = T"),
    ([("(z - (1 - a) ** 0.5 * e) / a**0.5", "(z - (1 - b) ** 0.5 * e) / b**0.5")], "with the level where z is"),
    ([("(1 - b) ** 0.5 * e\n", "(1 - b) ** 0.5 * torch.randn_like(z)\n")], "leaves z as it is"),
]

RIGHT = [
    """import numpy as np

def fit(x, k):
    x = np.asarray(x, dtype=np.float64)
    u, s, vt = np.linalg.svd(x - x.mean(0), full_matrices=False)
    return {"mean": x.mean(0), "to": vt[:k].T / s[:k] * np.sqrt(len(x)), "back": vt[:k] * s[:k, None] / np.sqrt(len(x))}

def encode(fitted, x):
    return (np.asarray(x) - fitted["mean"]) @ fitted["to"]

def decode(fitted, z):
    return fitted["mean"] + np.asarray(z) @ fitted["back"]

def floor(fitted, x):
    x = np.asarray(x)
    return np.linalg.norm(x - decode(fitted, encode(fitted, x))) / np.sqrt(x.size)

def generate(fitted, eps, z, steps, bars):
    bars, z = np.asarray(bars), np.asarray(z)
    times = np.linspace(len(bars) - 1, 0, steps + 1).astype(int)
    for t, s in zip(times, times[1:]):
        e = np.asarray(eps(z, t))
        ratio = np.sqrt(bars[s] / bars[t])
        z = ratio * z + (np.sqrt(1 - bars[s]) - ratio * np.sqrt(1 - bars[t])) * e
    return decode(fitted, z)
""",
    """class Linear:  # latents that are turned: any rotation of unit ones is as good
    def __init__(self, x, k):
        self.mean = x.double().mean(0)
        covariance = torch.cov((x.double() - self.mean).T)
        values, vectors = torch.linalg.eigh(covariance)
        turn = torch.linalg.qr(torch.randn(k, k, dtype=torch.float64))[0]
        self.down = vectors[:, -k:] * values[-k:].rsqrt() @ turn
        self.up = turn.T @ (vectors[:, -k:] * values[-k:].sqrt()).T

def fit(x, k):
    return Linear(x, k)

def encode(fitted, x):
    return (x.double() - fitted.mean) @ fitted.down

def decode(fitted, z):
    return z.double() @ fitted.up + fitted.mean

def floor(fitted, x):
    return torch.nn.functional.mse_loss(decode(fitted, encode(fitted, x)), x.double()) ** 0.5

def generate(fitted, eps, z, steps, bars):
    z, a, sigma = z.double(), bars.double().sqrt(), (1 - bars.double()).sqrt()
    times = torch.linspace(len(bars) - 1, 0, steps + 1).round().long()
    for t, s in zip(times, times[1:]):
        z = a[s] * (z / a[t] + (sigma[s] / a[s] - sigma[t] / a[t]) * eps(z, t))
    return decode(fitted, z)
""",
]


@pytest.mark.parametrize(("changes", "hint"), WRONG, ids=[f"{k} {hint}" for k, (_, hint) in enumerate(WRONG)])
def test_a_mistake_is_refused_with_a_hint_that_fits(changes: list[tuple[str, str]], hint: str) -> None:
    programming.refused("latents", programming.changed("latents", *changes), hint)


@pytest.mark.parametrize("code", RIGHT, ids=range(len(RIGHT)))
def test_right_answers_written_otherwise_are_accepted(code: str) -> None:
    programming.accepted("latents", code)
