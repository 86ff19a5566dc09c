"""Guidance and clipping: wrappers that change what a denoiser predicts, Denoise -> Denoise.

A sampler needs no flag for any of them. Clipping (Ho et al. 2020), classifier guidance by the score (Dhariwal & Nichol
2021, algorithm 2; its form for ancestral steps, algorithm 1, is in `samplers.ancestral`) and classifier-free guidance
(Ho & Salimans 2022, eq. 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Noise

Classify = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> logits (B, classes), of a classifier that has seen noisy images."""

Gradient = Callable[[Tensor, Tensor], Tensor]
"""(x_t, t) -> the gradient in x_t of something to climb, like x_t."""


def clipped(denoise: Denoise, low: float = -1.0, high: float = 1.0) -> Denoise:
    """Hold x0 inside the range of the data, and eps with it (Ho et al. 2020, official code)."""

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_x0(prediction.x0.clamp(low, high))

    return inner


# ---------------------------------------------------------------- by a classifier


def classifier_gradient(classify: Classify, y: Tensor, scale: float = 1.0) -> Gradient:
    """Classifier guidance: scale * the gradient of log p(y | x_t) in x_t, for labels y (B,).

    Works inside torch.inference_mode as well; the classifier's own parameters get no gradient.
    """

    def gradient(x: Tensor, t: Tensor) -> Tensor:
        with torch.inference_mode(False), torch.enable_grad():
            inputs = x.detach().clone().requires_grad_()
            log_prob = classify(inputs, t.clone()).float().log_softmax(1)
            chosen = log_prob.gather(1, y.clone().to(x.device)[:, None]).sum()
            return scale * torch.autograd.grad(chosen, inputs)[0]

    return gradient


def score_shifted(denoise: Denoise, gradient: Gradient) -> Denoise:
    """Classifier guidance of the score: eps - sigma * gradient (Dhariwal & Nichol 2021, algorithm 2).

    For deterministic kernels. x0 follows from eps and, as in the official code, is not clipped again.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction, shift = denoise(x, t), gradient(x, t)
        level = prediction.level
        return replace(prediction, eps=prediction.eps - level.sigma * shift, x0=prediction.x0 + level.tweedie * shift)

    return inner


# ---------------------------------------------------------------- without one


def drop_labels(y: Tensor, share: float, null: int, noise: Noise) -> Tensor:
    """Label dropout for classifier-free guidance: labels y (B,), each `null` with this probability.

    Ho & Salimans 2022, algorithm 1. The chance comes from one more number of each image's own noise, so it does not
    depend on the batch.
    """
    z = noise(torch.empty(len(y), 1, device=y.device))[:, 0]
    return torch.where(torch.special.ndtr(z) < share, null, y)


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float | Tensor) -> Denoise:
    """Classifier-free guidance, eps = scale * eps(x, y) + (1 - scale) * eps(x): 1 is none, more exaggerates the class.

    Ho & Salimans 2022, eq. 6, with scale = 1 + w. What else the prediction says is the conditional model's.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        return conditional(x, t).beyond(unconditional(x, t), scale)

    return inner
