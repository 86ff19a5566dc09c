"""Wrappers that change what a denoiser believes: Denoise -> Denoise. A sampler needs no flag for any of them.

Clipping (Ho et al. 2020), classifier guidance in its two forms (Dhariwal & Nichol 2021, algorithms 1 and 2) and
classifier-free guidance (Ho & Salimans 2022, eq. 6).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.kernels import Ancestral, reverse

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


def watched(denoise: Denoise, seen: Callable[[Prediction], object]) -> Denoise:
    """Hand every prediction to `seen` as well: the x0 of Ho et al.'s progressive generation (figure 6), for example."""

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        seen(prediction)
        return prediction

    return inner


# ---------------------------------------------------------------- by a classifier


def towards(classify: Classify, y: Tensor, scale: float = 1.0) -> Gradient:
    """scale * the gradient of log p(y | x_t), y (B,): how to make each image more like its class.

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
    """Add the gradient to the score: eps - sigma * gradient (Dhariwal & Nichol 2021, algorithm 2).

    For deterministic kernels. x0 follows from eps and, as in the official code, is not clipped again.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction = denoise(x, t)
        return prediction.with_eps(prediction.eps - prediction.level.sigma * gradient(x, t))

    return inner


@dataclass(frozen=True)
class MeanShifted:
    """An ancestral step whose mean moves by its variance times the gradient (Dhariwal & Nichol 2021, algorithm 1).

    Attributes:
        kernel: the step.
        gradient: taken at x_t.
        above: the second level of the chain, whose spread the last move's shift borrows (see `kernels.Std`); without
            it the move into clean data is not shifted.
    """

    kernel: Ancestral
    gradient: Gradient
    above: Tensor | None = None
    order: ClassVar[int] = 1

    def __call__(self, x: Tensor, t: Tensor, s: Tensor) -> Gaussian:
        process, std = self.kernel.process, self.kernel.std
        prediction = self.kernel.denoise(x, t)
        step = reverse(process, std, prediction, t, s)
        variance = std(process, prediction, t, s, self.above) ** 2
        return replace(step, mean=step.mean + variance * self.gradient(x, t))


# ---------------------------------------------------------------- without one


def forget_labels(y: Tensor, share: float, null: int, noise: Noise) -> Tensor:
    """Labels y (B,) for training, of which each is `null` with this probability (Ho & Salimans 2022, algorithm 1).

    The chance comes from one more number of each image's own noise, so it does not depend on the batch.
    """
    z = noise(torch.empty(len(y), 1, device=y.device))[:, 0]
    return torch.where(torch.special.ndtr(z) < share, null, y)


def classifier_free(conditional: Denoise, unconditional: Denoise, scale: float | Tensor) -> Denoise:
    """eps = scale * eps(x, y) + (1 - scale) * eps(x): 1 is the conditional model, more exaggerates the class.

    Ho & Salimans 2022, eq. 6, with scale = 1 + w. What else the prediction says is the conditional model's.
    """

    def inner(x: Tensor, t: Tensor) -> Prediction:
        prediction, without = conditional(x, t), unconditional(x, t)
        return prediction.with_eps(without.eps + scale * (prediction.eps - without.eps))

    return inner


def free_guided(
    belief: Callable[..., Denoise], scale: float | Tensor, null: int | None, labels: dict[str, Any]
) -> Denoise:
    """The denoiser `belief(**labels)`, guided by itself without the label y.

    Args:
        scale: a number, or one an image, (B, 1, ...).
        null: the label that stands for none; None for a model that never trained without labels.

    Raises: ValueError where scale is not 1 and the model has no null label.
    """
    if not isinstance(scale, Tensor) and scale == 1:
        return belief(**labels)
    if null is None or "y" not in labels:
        raise ValueError("classifier-free guidance needs a model that was trained with labels and label dropout")
    hidden = {**labels, "y": torch.full_like(labels["y"], null)}
    return classifier_free(belief(**labels), belief(**hidden), scale)
