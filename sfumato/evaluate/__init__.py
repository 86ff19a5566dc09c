"""Measuring: feature nets, distances between sets of images, and results that carry their protocol."""

from sfumato.evaluate.features import FeatureNet, from_function, in_domain, inception2015, lite0
from sfumato.evaluate.protocol import Metric, Protocol, Result
from sfumato.evaluate.run import evaluate, memorisation_sheet
from sfumato.evaluate.samples import Samples, from_images, sampled

__all__ = [
    "FeatureNet", "Metric", "Protocol", "Result", "Samples", "evaluate", "from_function", "from_images", "in_domain",
    "inception2015", "lite0", "memorisation_sheet", "sampled",
]  # fmt: skip
