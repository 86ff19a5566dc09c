"""A trained classifier of noisy images, and classifier guidance by it (Dhariwal & Nichol 2021, section 4)."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from sfumato.core.diffusion import Classification
from sfumato.core.guidance import Classify, Gradient, classifier_gradient
from sfumato.core.processes import GaussianDiffusion
from sfumato.models.trained import Trained
from sfumato.papers.adm_classifier import NoisyClassifier

if TYPE_CHECKING:
    from sfumato.models.model import Model


@dataclass(frozen=True)
class Classifier(Trained[NoisyClassifier]):
    """A trained classifier of noisy images: it guides models to a class, and makes no pictures itself."""

    @cached_property
    def classification(self) -> Classification:
        """What its recipe builds."""
        return self.recipe.build()

    @property
    def classify(self) -> Classify:
        """(x_t, t) -> logits (B, classes)."""
        return self.classification.classify(self.network)


@dataclass(frozen=True)
class Guide:
    """Classifier guidance: a classifier of noisy images, and how strongly it guides.

    Attributes:
        classifier: the classifier.
        scale: 1 samples from p(x) p(y | x), more exaggerates the class.
    """

    classifier: Classifier
    scale: float = 1.0

    def check(self, guided: Model) -> None:
        """ValueError unless the classifier fits the model that it is to guide."""
        recipe = self.classifier.recipe
        if recipe.shape != guided.recipe.shape or recipe.space != guided.recipe.space:
            raise ValueError(f"the classifier sees {recipe.shape} images, the model makes {guided.recipe.shape}")
        ours, theirs = _levels(self.classifier.classification.process), _levels(guided.diffusion.gaussian)
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs):
            raise ValueError("the classifier was trained on other noise levels than the model that it is to guide")
        if guided.recipe.conditioning.classes and guided.classes != self.classifier.classes:
            raise ValueError("the classifier and the model were trained with other classes")

    def gradient(self, y: Tensor) -> Gradient:
        """The gradient of the scaled log probability of labels y (B,)."""
        return classifier_gradient(self.classifier.classify, y, self.scale)


def _levels(process: GaussianDiffusion) -> Tensor:
    """alpha at every level."""
    return process.schedule.alpha_sigma(process.schedule.times())[0]
