"""Claims of ADM (Dhariwal & Nichol 2021), with the exact model and classifier of blobs that overlap."""

from __future__ import annotations

import torch
from torch import Tensor

from sfumato.claims.claim import Claim, Measured
from sfumato.claims.toys import all_states, linear, normal, ring, seeded, sliced_distance
from sfumato.core.exact import GaussianMixture, gaussian
from sfumato.core.guidance import classifier_free, classifier_gradient, score_shifted
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.variances import fixed_small
from sfumato.samplers import DDIM, Ancestral, Sampler

STEPS = 100


def blobs() -> GaussianMixture:
    """Eight blobs on a ring, each a class, so wide that neighbours overlap."""
    return ring(std=0.4)


def only(y: int) -> GaussianMixture:
    """One class."""
    mixture = blobs()
    return gaussian(mixture.means[y], mixture.stds[y])


def classify(process: GaussianDiffusion, x: Tensor, t: Tensor) -> Tensor:
    """log p(y | x_t) by Bayes' rule: the best classifier of noisy points that there is."""
    return blobs().responsibilities(x, process.level(t, x)).clamp(min=1e-300).log()


def guided(scale: float, y: int, n: int, seed: int = 0, ddim: bool = False) -> Tensor:
    """Classifier guidance of n points to class y, all states (STEPS + 1, n, 2); by its mean form, or with DDIM's steps.

    The mean form is algorithm 1, DDIM's score form algorithm 2.
    """
    process = linear()
    gradient = classifier_gradient(lambda x, t: classify(process, x, t), torch.full((n,), y), scale)
    sampler: Sampler = DDIM() if ddim else Ancestral(fixed_small)
    sampler, denoise = sampler.guided(blobs().denoise(process), gradient, lambda unclipped: unclipped)
    return all_states(normal(seed, n, 2), sampler.plan(process, denoise, STEPS), seeded(seed))


def accuracy(points: Tensor, y: int) -> float:
    """Accuracy: the share of points (n, 2) that the best classifier of clean points takes for class y."""
    mixture = blobs()
    joint = torch.stack([only(k).log_prob(points) for k in range(len(mixture.weights))], dim=1)
    return float((joint.argmax(1) == y).double().mean())


def spread(points: Tensor) -> float:
    """The standard deviation of points (n, 2) about their mean, over coordinates."""
    return float(points.var(0).mean().sqrt())


def trade(seed: int, fast: bool) -> Measured:
    """Accuracy of the asked class and spread of the samples, by scale."""
    n, values = 300 if fast else 2000, {}
    for scale in (0.0, 1.0, 4.0):
        end = guided(scale, 0, n, seed)[-1]
        values[f"scale {scale:g}: accuracy"] = accuracy(end, 0)
        values[f"scale {scale:g}: spread"] = spread(end)
    values["accuracy gained from 1 to 4"] = values["scale 4: accuracy"] - values["scale 1: accuracy"]
    values["spread lost from 1 to 4"] = values["scale 1: spread"] - values["scale 4: spread"]
    return Measured(values)


def scale_one(seed: int, fast: bool) -> Measured:
    """With scale 1, are the samples those of the class?"""
    n = 600 if fast else 3000
    real = only(2).sample(n, torch.Generator().manual_seed(1000 + seed))
    again = only(2).sample(n, torch.Generator().manual_seed(2000 + seed))
    values = {"real against real": sliced_distance(again, real)}
    for name, ddim in (("ancestral", False), ("DDIM", True)):
        values[f"{name}: distance to the class"] = sliced_distance(guided(1.0, 2, n, seed, ddim)[-1], real)
    return Measured(values)


def without_classifier(seed: int, fast: bool) -> Measured:
    """Is guidance by a perfect classifier the same as guidance without one?"""
    process, y, scale = linear(), 3, 2.5
    x = normal(seed, 200, 2)
    labels = torch.full((200,), y)
    whole = blobs().denoise(process)
    worst = 0.0
    for t in (50, 300, 700):
        level = torch.tensor(t)
        gradient = classifier_gradient(lambda x, t: classify(process, x, t), labels, scale)
        by_classifier = score_shifted(whole, gradient)(x, level).eps
        free = classifier_free(only(y).denoise(process), whole, scale)(x, level).eps
        worst = max(worst, float((by_classifier - free).abs().max()))
    return Measured({"largest difference of the predicted noise": worst})


CLAIMS = (
    Claim(
        "adm/fidelity-diversity",
        "Dhariwal & Nichol 2021, section 4.3 and figure 4",
        "A larger guidance scale trades diversity for fidelity.",
        trade,
        {
            "scale 0: accuracy": (0.05, 0.25),
            "accuracy gained from 1 to 4": (0.1, 0.6),
            "spread lost from 1 to 4": (0.05, 0.4),
        },
        seeds=2,
        seconds=3,
    ),
    Claim(
        "adm/scale-one",
        "Dhariwal & Nichol 2021, section 4.1 and appendix H",
        "With a perfect classifier and scale 1, an unconditional model samples the class, by either algorithm.",
        scale_one,
        {"ancestral: distance to the class": (0, 0.08), "DDIM: distance to the class": (0, 0.08)},
        seeds=2,
        seconds=3,
    ),
    Claim(
        "adm/without-a-classifier",
        "Dhariwal & Nichol 2021, section 4; Ho & Salimans 2022, section 3.2",
        "A perfect classifier and no classifier guide alike: the gradient is the difference of two scores.",
        without_classifier,
        {"largest difference of the predicted noise": (0, 1e-4)},
        seeds=1,
        seconds=0.2,
        note="With trained networks they differ (docs/likelihood_line.md): its gradient is learned apart.",
    ),
)
