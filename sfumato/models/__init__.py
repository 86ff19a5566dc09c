"""Trained models, ready to use: `load` one, `Model.sample` pictures, edit and restore some."""

from sfumato.models.classifier import Classifier, Guide
from sfumato.models.generate import Request
from sfumato.models.loading import load, load_classifier, load_model, shipped
from sfumato.models.model import Model

__all__ = ["Classifier", "Guide", "Model", "Request", "load", "load_classifier", "load_model", "shipped"]
