"""The exercises of the lesson on inverse problems (Chung et al. 2023, Song et al. 2023, Rozet et al. 2024)."""

from __future__ import annotations

from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr


def _check_mean(namespace: dict[str, Any]) -> None:
    posterior = wanted(namespace, "posterior_mean")
    for d, v, seen, noise in ((0.2, 0.5, 1.0, 0.3), (-1.0, 2.0, 0.4, 0.0), (0.0, 0.1, -0.7, 1.0)):
        grid = torch.linspace(-12, 12, 24001, dtype=torch.float64)
        if noise:
            density = torch.exp(-((grid - d) ** 2) / (2 * v) - (seen - 2 * grid) ** 2 / (2 * noise**2))
            truth = float((grid * density).sum() / density.sum())  # Bayes' rule, summed up
        else:
            truth = seen / 2
        found = float(posterior(d, v, seen, noise))
        assert abs(found - truth) < 1e-4, tr(
            "guess {d:g} with variance {v:g}, and y = 2 x + noise of deviation {noise:g} seen as {seen:g}: Bayes' rule, summed "
            "over a grid, says {truth:.4f}; yours says {found:.4f}",
            d=d,
            v=v,
            noise=noise,
            seen=seen,
            truth=truth,
            found=found,
        )


def _check_transpose(namespace: dict[str, Any]) -> None:
    transpose = wanted(namespace, "transpose")
    generator = torch.Generator().manual_seed(0)
    for k in (2, 3):
        x = torch.randn(2, 1, 6, 6, generator=generator, dtype=torch.float64)
        y = torch.randn(2, 1, 6 // k, 6 // k, generator=generator, dtype=torch.float64)
        found = transpose(y, k)
        assert tuple(found.shape) == (2, 1, 6, 6), tr(
            "from pictures of {side}x{side} with k = {k} it makes 6x6; yours makes {shape}",
            side=6 // k,
            k=k,
            shape=tuple(found.shape),
        )
        seen = torch.nn.functional.avg_pool2d(x, k)
        left, right = float((seen * y).sum()), float((x * found).sum())
        assert abs(left - right) < 1e-6, tr(
            "<A x, y> must be <x, A^T y> for every x and y; with k = {k} they are {left:.4f} and {right:.4f}",
            k=k,
            left=left,
            right=right,
        )


def _check_dps(namespace: dict[str, Any]) -> None:
    gradient = wanted(namespace, "gradient")
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)
    y = torch.randn(3, 1, 2, 2, generator=generator, dtype=torch.float64)

    def denoise(x: Any) -> Any:
        return torch.tanh(x)

    together = gradient(denoise, x, y)
    assert tuple(together.shape) == tuple(x.shape), "the gradient has the shape of x"
    for i in range(3):
        alone = gradient(denoise, x[i : i + 1], y[i : i + 1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-8), (
            "a picture's gradient must not depend on which others are in the batch: the norm is of each picture by itself"
        )
    distance = (y - torch.tanh(x)).flatten(1).norm(dim=1)[:, None, None, None]
    expected = -(y - torch.tanh(x)) * (1 - torch.tanh(x) ** 2) / distance
    assert torch.allclose(together, expected, atol=1e-6), "it is the gradient of the norm, not of its square"


EXERCISES = (
    Exercise(
        "inverse.1",
        "The posterior mean",
        r"""A pixel is believed to be $N(d, v)$ (the denoiser's guess and its variance), and `seen` $= 2x + n$ was measured, $n$ of standard deviation
`noise`. Write $\mathbb{E}[x \mid \text{seen}]$ in MMPS's form, $d + V A^\top(\sigma_y^2 + A V A^\top)^{-1}(y - A d)$. The check sums up Bayes' rule.""",
        "def posterior_mean(d, v, seen, noise):\n    return d + (seen - 2 * d) / 2\n",
        "def posterior_mean(d, v, seen, noise):\n    return d + 2 * v / (noise**2 + 4 * v) * (seen - 2 * d)\n",
        _check_mean,
        hints=("Here A is the number 2, and so is its transpose.",),
    ),
    Exercise(
        "inverse.2",
        "A transpose",
        r"""$A$ takes means over `k` by `k` pixels. Write its transpose, from small pictures `y` (B, C, h, w) to (B, C, kh, kw), so that
$\langle Ax, y\rangle = \langle x, A^\top y\rangle$.""",
        "def transpose(y, k):\n    return y.repeat_interleave(k, 2).repeat_interleave(k, 3)\n",
        "def transpose(y, k):\n    return y.repeat_interleave(k, 2).repeat_interleave(k, 3) / k**2\n",
        _check_transpose,
        hints=("Each small pixel is the sum of k^2 pixels, each times 1 / k^2. Turn that matrix on its side.",),
    ),
    Exercise(
        "inverse.3",
        "A planted bug: DPS in a batch",
        r"""The gradient of $\|y - \hat x_0(x)\|$ in $x$ for a batch, as DPS needs it ($A = I$). As it stands (and as it stood in published code) pictures
depend on each other. Mend it.""",
        """def gradient(denoise, x, y):
    x = x.clone().requires_grad_()
    distance = (y - denoise(x)).norm()
    return torch.autograd.grad(distance, x)[0]
""",
        """def gradient(denoise, x, y):
    x = x.clone().requires_grad_()
    distance = (y - denoise(x)).flatten(1).norm(dim=1).sum()
    return torch.autograd.grad(distance, x)[0]
""",
        _check_dps,
        hints=(
            "Take the norm of each picture, then the sum of these: its gradient at a picture is that of its own norm.",
        ),
    ),
)
