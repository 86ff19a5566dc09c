"""Trained models, ready to use: `load` one, `Model.sample` pictures, edit and restore some."""

from sfumato.models.autoencoder import Autoencoder
from sfumato.models.cascade import Cascade, load_cascade
from sfumato.models.classifier import Classifier, Guide
from sfumato.models.generate import Request
from sfumato.models.loading import Loaded, load, load_autoencoder, load_classifier, load_model, shipped
from sfumato.models.model import Model

__all__ = [
    "Autoencoder", "Cascade", "Classifier", "Guide", "Loaded", "Model", "Request", "load", "load_autoencoder",
    "load_cascade", "load_classifier", "load_model", "shipped",
]  # fmt: skip
