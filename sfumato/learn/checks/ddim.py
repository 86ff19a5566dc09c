"""The exercises of the lesson on DDIM (Song et al. 2020)."""

from __future__ import annotations

import math
from typing import Any

import torch

from sfumato.learn.exercises import Exercise, wanted
from sfumato.learn.languages import tr

TABLE = torch.cumprod(1 - torch.linspace(1e-4, 0.02, 1000, dtype=torch.float64), 0)
"""alpha-bar of Ho et al.'s schedule, written out."""


def _check_sigma(namespace: dict[str, Any]) -> None:
    sigma = wanted(namespace, "sigma")
    for t, s in ((999, 899), (500, 499), (120, 20)):
        a, b = float(TABLE[t]), float(TABLE[s])
        assert float(sigma(0.0, a, b)) == 0, "with eta 0 no noise is drawn: sigma must be 0"
        beta_tilde = (1 - b) / (1 - a) * (1 - a / b)  # Ho et al. 2020, eq. 7, written out for a step from t to s
        found = float(sigma(1.0, a, b))
        assert abs(found**2 / beta_tilde - 1) < 1e-4, tr(
            "with eta 1 this is DDPM's posterior: sigma^2 should be {beta_tilde:.6f}, yours is {found:.6f}",
            beta_tilde=beta_tilde,
            found=found**2,
        )
        part = float(sigma(0.3, a, b)) / math.sqrt(beta_tilde)
        assert abs(part - 0.3) < 1e-4, tr(
            "with eta 0.3, sigma is 0.3 of what it is with eta 1; yours is {part:.4f} of it", part=part
        )


def _check_step(namespace: dict[str, Any]) -> None:
    step = wanted(namespace, "ddim_step")
    x0, eps = torch.tensor([0.3, -1.2], dtype=torch.float64), torch.tensor([0.7, 0.1], dtype=torch.float64)
    for t, s in ((900, 400), (300, 299), (50, 10)):
        a, b = TABLE[t], TABLE[s]
        x = a.sqrt() * x0 + (1 - a).sqrt() * eps
        found = step(x, eps, a, b)
        expected = b.sqrt() * x0 + (1 - b).sqrt() * eps  # one picture, one noise: the step must keep both
        assert torch.allclose(found, expected, atol=1e-5), tr(
            "from level {t} to {s} with the true noise, the step must land on sqrt(b) x0 + sqrt(1-b) eps; "
            "it is off by {found:.3g}",
            t=t,
            s=s,
            found=float((found - expected).abs().max()),
        )


EXERCISES = (
    Exercise(
        "ddim.1",
        "The noise of a step",
        r"""Write $\sigma(\eta)$ of eq. 16 for a step from level $t$ to an earlier level $s$, given `a` $=\bar\alpha_t$ and
`b` $=\bar\alpha_s$. The check knows two facts: $\eta=0$ draws no noise, and $\eta=1$ is DDPM's posterior.""",
        "def sigma(eta, a, b):\n    return eta\n",
        "def sigma(eta, a, b):\n    return eta * math.sqrt((1 - b) / (1 - a) * (1 - a / b))\n",
        _check_sigma,
    ),
    Exercise(
        "ddim.2",
        "A planted bug",
        r"""This step (eq. 12 with $\sigma=0$) has one mistake, of a kind that many repositories had: samples look almost
right, and encoding and decoding do not meet. Find it. `eps` is what the network says at `x`.""",
        """def ddim_step(x, eps, a, b):
    x0 = (x - (1 - b).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b).sqrt() * eps
""",
        """def ddim_step(x, eps, a, b):
    x0 = (x - (1 - a).sqrt() * eps) / a.sqrt()
    return b.sqrt() * x0 + (1 - b).sqrt() * eps
""",
        _check_step,
    ),
)
