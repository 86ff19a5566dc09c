"""What a training begins at: another model's weights, an autoencoder's, or the same ones once more.

A run has them all in its first checkpoint. Until that is written they are where they came from.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from sfumato.data.images import Images
from sfumato.models import Loaded, load
from sfumato.models.first_stage import with_first_stage
from sfumato.networks import NETWORKS
from sfumato.papers.controlled import controlled
from sfumato.papers.presets import Preset, preset
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.runtime.weights import fingerprint
from sfumato.spec import written
from sfumato.train.initial import Fitted, Initial, fitted
from sfumato.train.reading import compared


def start_from(target: str, weights: str | None = None) -> Initial:
    """A trained model to begin at: whatever `sfumato.load` takes. ValueError as `load`."""
    return initial_of(load(target, weights=weights), target)


def initial_of(model: Loaded, source: str) -> Initial:
    """A trained model to begin at, which came from there."""
    tensors = {name: value.detach().clone() for name, value in model.network.state_dict().items()}
    about = {
        "source": source,
        "weights": model.about.get("weights"),
        "images": model.about.get("images", 0),
        "data": model.about.get("data", {}).get("spec"),
        "fingerprint": fingerprint(tensors),
    }
    return Initial(model.recipe, tensors, model.classes, about)


def recorded(about: Mapping[str, Any]) -> tuple[str, str | None]:
    """The model that a run began at, by what it recorded of it: as `load` takes it, and which of its weights."""
    source, weights = about["source"], about.get("weights")
    return source, weights if weights == "online" or str(weights).replace(".", "").isdigit() else None


def taken_again(
    run: Path, recipe: Any, said: Mapping[str, Any], images: Tensor, device: str
) -> tuple[Initial | None, dict[str, Tensor] | None]:
    """What a run that goes on began at, where it was stopped before its first checkpoint, which holds all of it.

    Args:
        said: what the run's config.json says; of the model that it began at under `from`.

    Returns: that model, and the weights of the autoencoder of its latents by key; None where there is none, and both
        None where there is a checkpoint.

    Raises: RunError where they are not there any more, or are others.
    """
    if RunFolder.open(run).checkpoints():
        return None, None
    try:
        initial = start_from(*recorded(said["from"])) if "from" in said else None
        again, beside = with_first_stage(recipe, images, device)
        for name, now, then in (
            ("the model", initial and initial.about["fingerprint"], said.get("from", {}).get("fingerprint")),
            ("the autoencoder", beside and again.space.sha256, beside and recipe.space.sha256),
        ):
            if now and now != then:
                raise ValueError(f"{name} has other weights now")
    except ValueError as error:
        raise RunError(f"{run} was stopped before its first checkpoint, and cannot begin once more: {error}") from None
    return initial, beside


def begun(initial: Initial, recipe: Any, network: nn.Module, images: Images) -> Fitted:
    """The weights of a model for a network of a recipe on images. ValueError where they are of another."""
    shapes = {name: tuple(value.shape) for name, value in network.state_dict().items()}
    try:
        found = fitted(initial, recipe, shapes, images.classes)
        _check_frozen(initial, recipe, found, images.classes)
        return found
    except ValueError as error:
        theirs = written(NETWORKS, initial.recipe.network)
        hint = "" if theirs == written(NETWORKS, recipe.network) else f'; the source has --recipe.network "{theirs}"'
        raise ValueError(f"{initial.about['source']} cannot be started from: {error}{hint}") from None


def _check_frozen(initial: Initial, recipe: Any, found: Fitted, classes: tuple[str, ...]) -> None:
    """ValueError unless weights that are not trained are all those of the source, and mean the same."""
    frozen: str = recipe.network.frozen
    if not frozen:
        return
    if other := [name for name in (*found.widened, *found.fresh, *found.left) if name.startswith(frozen)]:
        raise ValueError(f"{other[0].removeprefix(frozen)} of the frozen model has no counterpart of its shape there")
    if recipe.conditioning.classes and initial.classes and initial.classes != classes:
        raise ValueError(f"the frozen model knows the classes {', '.join(initial.classes)}, and the images have others")
    if said := compared(initial.recipe, recipe):
        raise ValueError(f"the frozen model would not be read as it was trained: {said[0]}")


def preset_from(name: str, source: str | None = None, weights: str | None = None) -> Preset:
    """The preset of a training that may begin at a model: with gentler numbers; that of a control has its recipe, and
    its images, where it names some.

    Raises:
        ValueError: an unknown preset, or a model that is not there or cannot be controlled.
    """
    chosen = preset(name)
    if chosen.source is None:
        return chosen if source is None else replace(chosen, train=chosen.train.gentle())
    model = load(source or chosen.source, weights=weights)
    data = model.about.get("data", {}).get("spec") or chosen.data
    recipe = controlled(model.recipe, chosen.recipe.conditioning)
    return replace(chosen, recipe=recipe, data=data, source=source or chosen.source)


def said_of(initial: Initial) -> str:
    """The line on the model that a training begins at."""
    about = initial.about
    seen = f"{about['images']:,} images of {about['data']} seen" if about["images"] else "images seen unknown"
    return f"from     {about['source']}, {about['weights']} weights, {seen}, sha256 {about['fingerprint'][:16]}"
