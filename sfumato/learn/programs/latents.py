"""The program of the lesson on latents (Rombach et al. 2022): a linear autoencoder, its floor, and diffusion of its latents."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.data import open_source, to_float, to_uint8
from sfumato.learn import figures
from sfumato.learn.exercises import Exercise, Figure, Namespace, wanted
from sfumato.learn.languages import tr
from sfumato.learn.programs.facts import BARS, Model, block, descend, given, normal, tensor

TASK = r"""Latent diffusion with the best linear autoencoder, on pictures as rows `x` (N, D). Write

- `fit(x, k)`: whatever the next functions need to make `k` numbers of a picture: the mean, the `k` principal components (the eigenvectors of the covariance
  with the largest eigenvalues, `torch.linalg.eigh` gives them in ascending order), and the standard deviation of each latent.
- `encode(fitted, x)`: latents (N, k), over the pictures of `fit` each of mean 0 and standard deviation 1, as a noise schedule expects (exercise 1).
- `decode(fitted, z)`: pictures (N, D) again.
- `floor(fitted, x)`: the root mean square, over all numbers, of what is lost on the way there and back. No diffusion model on these latents comes below it.
- `generate(fitted, eps, z, steps, bars)`: DDIM without noise on latents, from `z` (N, k) at $t = T$ at evenly spaced whole times, where `eps(z, t)` says the noise and
  `bars` holds $\bar\alpha_0, \dots, \bar\alpha_T$; then decoded. Pictures (N, D).

The check knows the eigenvalues of its data, and so what must be lost. Then a network learns the latents of digits, 16 numbers each, and your functions draw."""

STUB = '''def fit(x, k):
    """pictures x (N, D) -> what encode and decode need"""
    ...


def encode(fitted, x):
    """x (N, D) -> latents (N, k)"""
    ...


def decode(fitted, z):
    """z (N, k) -> pictures (N, D)"""
    ...


def floor(fitted, x):
    """-> one number"""
    ...


def generate(fitted, eps, z, steps, bars):
    """z (N, k) at t = T -> pictures (N, D)"""
    ...
'''

SOLUTION = """def fit(x, k):
    mean = x.mean(0)
    centred = x - mean
    values, vectors = torch.linalg.eigh(centred.T @ centred / len(x))
    basis = vectors[:, -k:]
    return mean, basis, (centred @ basis).std(0)


def encode(fitted, x):
    mean, basis, scale = fitted
    return (x - mean) @ basis / scale


def decode(fitted, z):
    mean, basis, scale = fitted
    return mean + (z * scale) @ basis.T


def floor(fitted, x):
    return ((decode(fitted, encode(fitted, x)) - x) ** 2).mean().sqrt()


def generate(fitted, eps, z, steps, bars):
    T = len(bars) - 1
    times = [round(T * k / steps) for k in range(steps, -1, -1)]
    for t, s in zip(times[:-1], times[1:]):
        a, b = bars[t], bars[s]
        e = eps(z, t)
        z0 = (z - (1 - a) ** 0.5 * e) / a**0.5
        z = b**0.5 * z0 + (1 - b) ** 0.5 * e
    return decode(fitted, z)
"""

SPREAD = torch.tensor([3.0, 2.0, 1.0, 0.5, 0.3, 0.1], dtype=torch.float64)
"""Standard deviations of the check's data along axes of their own."""


def _data() -> tuple[Tensor, Tensor]:
    """1000 rows whose covariance has exactly these eigenvalues; and the axes."""
    z = normal(0, 1000, 6)
    z = z - z.mean(0)
    z = z @ torch.linalg.inv(torch.linalg.cholesky(z.T @ z / 1000)).T
    axes = torch.linalg.qr(normal(1, 6, 6))[0]
    return normal(2, 6) + z * SPREAD @ axes.T, axes


def check(namespace: Namespace) -> None:
    """Latents of unit variance, the least loss by Eckart and Young, and generation where its end is known."""
    fit, encode, decode, floor, generate = (
        wanted(namespace, name) for name in ("fit", "encode", "decode", "floor", "generate")
    )
    x = _data()[0].float()
    for k in (1, 3):
        fitted = fit(x, k)
        z = tensor(encode(fitted, x), "encode", (1000, k))
        assert float(z.mean(0).abs().max()) < 0.02, tr(
            "each latent has mean 0 over the pictures of fit; yours have up to {off:.2f} away from it",
            off=float(z.mean(0).abs().max()),
        )
        assert float((z.std(0) - 1).abs().max()) < 0.02, tr(
            "each latent has standard deviation 1; yours have {least:.2f} to {most:.2f}. The components have different ones: divide each by its "
            "own",
            least=float(z.std(0).min()),
            most=float(z.std(0).max()),
        )
        some = tensor(encode(fitted, x[:7] + 1), "encode", (7, k))
        again = tensor(encode(fitted, torch.cat([x[:7] + 1, 5 * x])), "encode", (1007, k))[:7]
        assert torch.allclose(some, again, atol=1e-3), (
            "a picture's latents depend on which others are encoded with it: mean and deviation are those of fit"
        )
        _check_loss(fitted, encode, decode, floor, x, k)
        _check_generate(fitted, decode, generate, k)


def _check_loss(fitted: Any, encode: Any, decode: Any, floor: Any, x: Tensor, k: int) -> None:
    back = tensor(decode(fitted, encode(fitted, x)), "decode", (1000, 6))
    lost, least = float((back - x).square().mean().sqrt()), math.sqrt(float(SPREAD[k:].square().sum()) / 6)
    assert lost < 1.01 * least, tr(
        "of data whose covariance has the eigenvalues 9, 4, 1, 0.25, 0.09 and 0.01, the {k} largest can be kept: the root mean square "
        "of what is lost is {least:.4f}. Yours loses {lost:.4f}. decode undoes all that encode does, and the basis belongs to the "
        "largest eigenvalues",
        k=k,
        least=least,
        lost=lost,
    )
    others = x[:200] + 1.5
    truth = float((tensor(decode(fitted, encode(fitted, others)), "decode", (200, 6)) - others).square().mean().sqrt())
    found = tensor(floor(fitted, others), "floor")
    assert found.numel() == 1, tr(
        "floor is one number, yours has shape {shape}",
        shape=tuple(found.shape),
    )
    assert abs(float(found) - truth) < 1e-3 * truth, tr(
        "for other pictures, with your own encode and decode, the root mean square over all numbers of what is lost is {truth:.4f}; "
        "floor says {found:.4f}",
        truth=truth,
        found=float(found),
    )


def _given(model: Callable[[Tensor, Tensor], Tensor]) -> Model:
    """A model whose answer has the precision of the latents that it is asked for, since matrices do not mix them."""

    def asked(z: Any, t: Any) -> Tensor:
        return given(model)(z, t).to(torch.as_tensor(z).dtype)

    return asked


def _check_generate(fitted: Any, decode: Any, generate: Any, k: int) -> None:
    """Latents that are all one point, exactly in any number of steps; and latents N(0, 1), which stay where they are."""
    point, start, asked = torch.linspace(0.5, -1, k, dtype=torch.float64), normal(3, 8, k), list[int]()

    def of_point(z: Tensor, t: Tensor) -> Tensor:
        asked.append(int(t))
        a = BARS[int(t)]
        return (z - a.sqrt() * point) / (1 - a).sqrt()

    for steps in (1, 5):
        asked.clear()
        made = generate(fitted, _given(of_point), start.float(), steps, BARS)
        assert len(asked) == steps, tr(
            "{steps} steps ask the network {steps} times, yours {asked} times",
            steps=steps,
            asked=len(asked),
        )
        gaps = [t - s for t, s in zip(asked, [*asked[1:], 0], strict=True)]
        assert asked[0] == 1000, tr(
            "sampling starts at t = T = 1000, yours at {asked}",
            asked=asked[0],
        )
        assert max(gaps) - min(gaps) <= 2, tr(
            "times are evenly spaced from T to 0; you ask at {asked}",
            asked=asked,
        )
        found = tensor(made, "generate", (8, 6))
        expected = tensor(decode(fitted, point.float().expand(8, k)), "decode", (8, 6))
        assert torch.allclose(found, expected, atol=0.02), tr(
            "if all latents are one point, {steps} steps of DDIM end at its picture; yours are up to {found:.3f} off. z_0 is found with "
            "the level where z is, and put together with the one where it goes",
            steps=steps,
            found=float((found - expected).abs().max()),
        )
    found = tensor(
        generate(fitted, _given(lambda z, t: (1 - BARS[t.long()]).sqrt() * z), start.float(), 200, BARS),
        "generate",
        (8, 6),
    )
    expected = tensor(decode(fitted, start.float()), "decode", (8, 6))
    assert torch.allclose(found, expected, atol=0.15), tr(
        "if latents are N(0, 1), DDIM of many steps leaves z as it is, and your pictures are those of z; they are {found:.2f} off",
        found=float((found - expected).abs().max()),
    )


class _Network(nn.Module):
    """The noise in latents: a perceptron of two hidden layers."""

    def __init__(self, k: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(k + 16, 192), nn.SiLU(), nn.Linear(192, 192), nn.SiLU(), nn.Linear(192, k)
        )

    def forward(self, z: Tensor, t: Tensor) -> Tensor:
        """z (N, k), t (N,) from 1 to 1000 -> (N, k)."""
        angle = t[:, None] / 1000 * math.pi * 2.0 ** torch.arange(-1, 7)
        return torch.as_tensor(self.layers(torch.cat([z, angle.sin(), angle.cos()], dim=1)))


def _trained(latents: Tensor, steps: int = 1200) -> Model:
    """eps(z, t) after so many steps of the simple loss."""
    network, bars = _Network(latents.shape[1]), BARS.float()

    def simple() -> Tensor:
        z0 = latents[torch.randint(len(latents), (128,))]
        t, eps = torch.randint(1, 1001, (128,)), torch.randn_like(z0)
        a = bars[t][:, None]
        return (network(a.sqrt() * z0 + (1 - a).sqrt() * eps, t) - eps).square().mean()

    descend(network, simple, steps, 2e-3)

    def eps_of(z: Any, t: Any) -> Tensor:
        with torch.no_grad():
            z = torch.as_tensor(z).float()
            return network(z, torch.as_tensor(t).float().reshape(-1).expand(len(z)))

    return eps_of


def figure(namespace: Namespace) -> Figure:
    """Digits, the same through 16 numbers, digits from diffused latents, and from latents that are drawn without a model."""
    digits = to_float(open_source("digits").images).flatten(1)
    fitted = namespace["fit"](digits, 16)
    latents = tensor(namespace["encode"](fitted, digits), "encode", (len(digits), 16)).float()
    start = torch.randn(60, 16, generator=torch.Generator().manual_seed(0))
    off = float(namespace["floor"](fitted, digits))
    made = {
        tr("60 digits"): digits[:60],
        tr("through 16 numbers: floor {off:.2f}", off=off): namespace["decode"](fitted, latents[:60]),
        tr("diffused latents, decoded"): namespace["generate"](fitted, _trained(latents), start, 50, BARS.float()),
        tr("latents of normal noise, decoded"): namespace["decode"](fitted, start),
    }
    runs = {}
    for name, pictures in made.items():
        x = tensor(pictures, name, (60, 64)).float()
        framed = nn.functional.pad(to_uint8(x.reshape(60, 1, 8, 8)), (1, 1, 1, 1), value=128)
        runs[name] = block(framed, columns=12)[None]
    return figures.frames(runs)


PROGRAM = Exercise(
    "latents.program", "Diffusion of latents", TASK, STUB, SOLUTION, check, figure=figure, seconds=90.0,
    hints=(
        "values, vectors = torch.linalg.eigh(centred.T @ centred / len(x)); the last k columns of vectors are the basis (D, k).",
        "fit may return a tuple (mean, basis, scale), with scale = (centred @ basis).std(0). encode: (x - mean) @ basis / scale.",
        "decode goes the other way: mean + (z * scale) @ basis.T.",
        "generate is DDIM as in its lesson, on z instead of pictures, and decode in the end.",
    ),
)  # fmt: skip
