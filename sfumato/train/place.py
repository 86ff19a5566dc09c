"""The place of a run: its folder, held by one training at a time, made anew or taken up where it stands.

A run that is refused before its first step leaves nothing of itself.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sfumato.data import pictures
from sfumato.data.sources import Images, view_of
from sfumato.papers import rewritten
from sfumato.papers.training import TrainConfig
from sfumato.runtime import processes
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.runtime.lock import NAME, hold
from sfumato.train.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator


@contextlib.contextmanager
def run_folder(
    accelerator: Accelerator, path: Path, state: State, images: Images, settings: TrainConfig,
    config: Mapping[str, Any], resume: bool,
) -> Iterator[RunFolder]:  # fmt: skip
    """The run folder, made anew or taken up where it stands; the main process holds and writes it, the others wait.

    Raises:
        RunError: it is held by another training, holds something else, or another run.
        OSError: it cannot be written.
    """
    with ExitStack() as held:
        values = {**config, "train": settings.to_json()}

        def take() -> None:
            if resume:
                RunFolder.open(path)
                held.enter_context(hold(path, "trained"))
                return
            RunFolder.check_new(path)
            held.enter_context(_new(path, state))
            RunFolder.create(path, values)
            processes.note_start(path, settings.device)

        _together(accelerator, take)
        folder = RunFolder.open(path)
        if resume:
            _go_back(folder, state, images, config)
        accelerator.wait_for_everyone()  # all have read what the main process may now remove
        _together(accelerator, lambda: _write(folder, state, images, settings, values, resume))
        yield folder


@contextlib.contextmanager
def _new(path: Path, state: State) -> Iterator[None]:
    """A new folder, held; it goes again with what is in it where nothing was trained."""
    missing = not path.exists()
    path.mkdir(parents=True, exist_ok=True)
    with hold(path, "trained"):
        RunFolder.check_new(path)  # nobody was quicker
        try:
            yield
        except BaseException:
            if state.step == 0:
                RunFolder(path).discard()
                (path / NAME).unlink(missing_ok=True)
                with contextlib.suppress(OSError):
                    path.rmdir() if missing else None
            raise


def _together(accelerator: Accelerator, action: Callable[[], None]) -> None:
    """Let the main process do something while the others wait; where it is refused, all raise the same."""
    from accelerate.utils import broadcast_object_list

    refused: BaseException | None = None
    if accelerator.is_main_process:
        try:
            action()
        except (ValueError, OSError) as error:
            if accelerator.num_processes == 1:
                raise
            refused = error
    if accelerator.num_processes == 1:
        return
    said = [None if refused is None else str(refused)]
    broadcast_object_list(said)
    if refused is not None:
        raise refused
    if said[0] is not None:
        raise RunError(said[0])


def _write(
    folder: RunFolder, state: State, images: Images, settings: TrainConfig, values: Mapping[str, Any], resume: bool
) -> None:
    """Write what the run is, then forget what is later than the state: where writing is refused, nothing is lost."""
    before = folder.prepared().config() if resume else {}
    folder.write_json("data_card.json", images.card.to_json())
    shown = torch.linspace(0, len(images.images) - 1, settings.preview_images or 16).long()
    folder.save_picture("data", pictures.sheet_bytes(images.images[shown], view_of(images.spec)))
    history = [*before.get("history", []), *_changes(before, state, values)]
    folder.write_json("config.json", {**values, "history": history} if history else values)
    folder.rewind(state.images)


def _changes(before: Mapping[str, Any], state: State, values: Mapping[str, Any]) -> list[dict[str, Any]]:
    """One entry where the training numbers are no longer those with which the run has come so far."""
    old, new = before.get("train", {}), _plain(values["train"])
    changed = {name: [old.get(name), value] for name, value in new.items() if name in old and old[name] != value}
    if not changed:
        return []
    return [{"images": state.images, "seconds": round(state.seconds, 3), "changed": changed}]


def _go_back(folder: RunFolder, state: State, images: Images, config: Mapping[str, Any]) -> None:
    """Take up the newest checkpoint, if the run came so far. RunError where it belongs to another run."""
    saved = folder.latest()
    if saved is None:
        return
    recipe, of_saved = (_plain(rewritten(values)) for values in (config["recipe"], saved.recipe))
    if differing := [name for name in {**recipe, **of_saved} if of_saved.get(name) != recipe.get(name)]:
        raise RunError(f"{saved.path} was trained with another recipe: {', '.join(differing)} differ")
    if saved.data.get("fingerprint") != images.card.fingerprint:
        raise RunError(f"{saved.path} was trained on other images than {images.card.spec} holds now")
    state.load(saved)


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values))
