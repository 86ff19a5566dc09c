"""What is known of a trained model and its run: configuration, data card, measurements, training images."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sfumato import papers
from sfumato.data import DataCard, DataError, Images
from sfumato.data.card import card_from_json
from sfumato.data.stream import open_for_training
from sfumato.evaluate import Result
from sfumato.models import Loaded
from sfumato.models.loading import home
from sfumato.runtime.folder import RunFolder


@dataclass(frozen=True)
class Facts:
    """What a model card is written from.

    Attributes:
        name: of the model.
        config: what config.json will hold.
        card: of the training images; None where neither the run nor the images are here.
        results: what `sfumato evaluate` stored in the run folder, by where it lies there.
        training: the training images; None where they cannot be opened.
        missing: why, in one line.
    """

    name: str
    config: Mapping[str, Any]
    card: DataCard | None
    results: Mapping[str, Result]
    training: Images | None
    missing: str = ""

    @property
    def spec(self) -> str:
        """The spec of the training images; empty where nobody knows it."""
        return str(self.config.get("data") or "")


def gathered(model: Loaded, source: str) -> Facts:
    """Everything that the model, its run folder and this machine say of it.

    Args:
        source: what the model was loaded from: a run folder, a file or a shipped name.
    """
    path = home(source)
    run = path.is_dir() and (path / "metrics.jsonl").is_file()
    data = model.about.get("data", {})
    config = RunFolder.open(path).config() if run else {}
    config = {**config, "recipe": papers.to_json(model.recipe), "data": data.get("spec", config.get("data"))}
    training, missing = _training(str(config["data"] or ""), data.get("fingerprint"))
    card = card_from_json(RunFolder.open(path).data_card()) if run else training.card if training else None
    results = _results(path, model.about) if run else {}
    name = path.name if path.exists() else source.replace("/", "-")
    return Facts(name.removesuffix(".safetensors"), config, card, results, training, missing)


def _training(spec: str, fingerprint: str | None) -> tuple[Images | None, str]:
    """The training images, or why they are not here."""
    if not spec:
        return None, "the model does not say what it was trained on"
    try:
        images = open_for_training(spec)
    except (DataError, OSError) as error:
        return None, str(error).partition(";")[0]  # what stands behind it is advice on how to open it
    if fingerprint and images.card.fingerprint != fingerprint:
        return None, f"{spec} holds other images now than those of the training"
    if images.stream is not None:
        return None, f"{spec} is larger than memory"
    return images, ""


def _results(run: Path, about: Mapping[str, Any]) -> dict[str, Result]:
    """The measurements of these very weights; what is damaged, of other weights or of an earlier time is left out."""
    wanted = (about.get("weights"), about.get("images"))
    found = {}
    for path in sorted((run / "evaluations").glob("*/evaluation.json")):
        try:
            result = Result.read(path)
        except (ValueError, OSError):
            continue
        if (result.protocol.how.get("weights"), result.protocol.how.get("images_seen")) == wanted:
            found[path.parent.name] = result
    return found
