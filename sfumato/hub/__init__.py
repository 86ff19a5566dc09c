"""A model as a folder to give away: safetensors, config.json, a model card and pictures; `sfumato.load` reads it back.

Nothing is sent anywhere: a hub's own tool uploads the folder.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from torch import Tensor

from sfumato import samplers
from sfumato.data import Images, pictures
from sfumato.data.sources import view_of
from sfumato.evaluate import memorisation_sheet
from sfumato.evaluate.neighbours import nearest
from sfumato.evaluate.run import thumbnails
from sfumato.hub.card import Sheets, card
from sfumato.hub.facts import Facts, gathered
from sfumato.hub.licences import licence_of
from sfumato.models import Loaded, Model
from sfumato.models.loading import GIVEN
from sfumato.runtime.files import whole_folder

COLUMNS = 12
"""Pairs of a sample and its nearest training picture that are shown."""


def give(
    model: Loaded,
    out: str | Path,
    source: str,
    *,
    licence: str | None = None,
    dataset: str = "",
    count: int = 36,
    show_training: bool = True,
    half: bool = False,
    say: Callable[[str], object] = print,
) -> Path:
    """Write a folder for a model hub: model.safetensors, config.json, README.md (a model card), samples and neighbours.

    Args:
        out: a folder that is new or empty; it appears whole or not at all.
        source: what the model was loaded from; a run folder also has command, data card and measurements.
        licence: of the weights, by its identifier (`licences.LICENCES`).
        dataset: what the hub calls the training data, where that is not known here.
        count: samples to make for the sheet; 0 makes none.
        show_training: show the training pictures nearest to the samples, where the data are here.
        half: store float16.

    Raises:
        ValueError: an unknown licence, or a count below 0; before any work.
        OSError: it cannot be written, or something is there.
    """
    if licence is not None:
        licence = licence_of(licence)
    if count < 0:
        raise ValueError(f"a sheet has 0 samples or more, not {count}")
    facts = gathered(model, source)
    out = Path(out)
    with whole_folder(out) as folder:
        model.save(folder / GIVEN, half=half)
        sheets = _sheets(model, facts, folder, count, show_training)
        for remark in sheets.remarks:
            say(f"left out: {remark}")
        digest = hashlib.sha256((folder / GIVEN).read_bytes()).hexdigest()
        pictures.write_text(folder / "config.json", json.dumps(dict(facts.config), indent=2) + "\n")
        pictures.write_text(folder / "README.md", card(model, facts, licence, sheets, digest, dataset))
    return out


def _sheets(model: Loaded, facts: Facts, folder: Path, count: int, show_training: bool) -> Sheets:
    """samples.png and nearest.png, and what they are."""
    if not isinstance(model, Model) or not count:
        return Sheets()
    if model.recipe.conditioning.picture:
        return Sheets(remarks=("samples, which are made out of small pictures",))
    made = model.sample(count, seed=0)
    show = view_of(facts.spec)
    pictures.save_png(folder / "samples.png", pictures.grid(made, show=show))
    usual = model.diffusion.usual(model.sampler())
    steps = f"in {usual} steps" if isinstance(usual, int) else "in the paper's own steps"
    how = f"{count} samples, not chosen: seed 0, `{samplers.name(model.sampler())}` {steps}"
    how += ", the classes in turn." if model.recipe.conditioning.classes else "."
    # points in the plane are one picture, and signals and clips have no thumbnails
    if not show_training or made.ndim != 4 or tuple(made.shape[1:]) == (1, 1, 2):
        return Sheets(how)
    if facts.training is None or len(facts.training) < 2:
        reason = facts.missing or "there is one training picture alone"
        return Sheets(how, remarks=(f"the nearest training pictures: {reason}",))
    return Sheets(how, _neighbours(made, facts.training, folder, show))


def _neighbours(made: Tensor, training: Images, folder: Path, show: pictures.View | None) -> str:
    """nearest.png, and what it shows in words."""
    found = nearest(thumbnails(made), thumbnails(training.images))
    sheet = memorisation_sheet(made, training.images, {"pixels": found}, COLUMNS, show)
    pictures.save_png(folder / "nearest.png", sheet)
    median = float(found.distance[:, 0].median())
    return (
        f"Above, of the {len(made)} samples, those that lie nearest to one training picture by pixels; below, that "
        f"picture (of {len(training):,}). The median RMS distance to the nearest is {median:.3f}, pixels in [-1, 1]; "
        f"{int(found.copies.sum())} of {len(made)} are copies by the usual rule (a third as far as the next nearest)."
    )
