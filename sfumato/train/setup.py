"""Before the first step: processes, weights from a seed, the run folder, made anew or taken up where it stands."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from sfumato.core.randomness import mix
from sfumato.core.times import TrainingTimes
from sfumato.data import pictures
from sfumato.data.sources import Images
from sfumato.networks.recompute import recompute_blocks
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime import processes, sharding
from sfumato.runtime.folder import RunError, RunFolder
from sfumato.runtime.precision import best_device
from sfumato.train.batches import WEIGHTS, layout
from sfumato.train.ema import EMA
from sfumato.train.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator


def accelerator_for(settings: TrainConfig) -> Accelerator:
    """What moves gradients among the processes; ValueError for a batch that is too small for them."""
    from accelerate import Accelerator

    processes.rendezvous()
    accelerator = Accelerator(mixed_precision="no", cpu=best_device() == "cpu")
    if settings.batch < accelerator.num_processes * settings.accumulate:
        raise ValueError(
            f"a batch of {settings.batch} images is too small for {accelerator.num_processes} processes "
            f"with {settings.accumulate} parts each"
        )
    return accelerator


def open_folder(
    accelerator: Accelerator, path: Path, state: State, images: Images, settings: TrainConfig,
    config: Mapping[str, Any], resume: bool,
) -> RunFolder:  # fmt: skip
    """The run folder, made anew or taken up where it stands; the main process writes, and the others wait."""
    values = {**config, "train": settings.to_json()}
    if accelerator.is_main_process and not resume:
        RunFolder.create(path, values)
        processes.note_start(path)
    accelerator.wait_for_everyone()
    folder = RunFolder.open(path)
    if resume:
        _go_back(folder, state, images, config)
    accelerator.wait_for_everyone()  # all have read what the main process may now remove
    if accelerator.is_main_process:
        folder.rewind(state.images)
        folder.write_json("config.json", values)
        folder.write_json("data_card.json", images.card.to_json())
        shown = torch.linspace(0, len(images.images) - 1, settings.preview_images or 16).long()
        folder.save_picture("data", pictures.png_bytes(pictures.grid(images.images[shown])))
    return folder


def first_state(
    recipe: Trainable, times: TrainingTimes, settings: TrainConfig, device: torch.device, sharded: bool
) -> State:
    """Weights from the seed, on the device or sharded among the processes; optimiser, averages, training times."""
    torch.manual_seed(mix(settings.seed, WEIGHTS))
    network = recipe.model().train()
    if settings.checkpoint_activations:
        recompute_blocks(network)
    if sharded:
        sharding.shard_network(network, device)
    else:
        moved: Any = network.to(device)
        moved.to(memory_format=layout(settings, device))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,
    )  # fmt: skip
    return State(network, optimizer, EMA(network, settings.ema), copy.deepcopy(times), sharded)


def _go_back(folder: RunFolder, state: State, images: Images, config: Mapping[str, Any]) -> None:
    """Take up the newest checkpoint, if the run came so far. RunError where it belongs to another run."""
    saved = folder.latest()
    if saved is None:
        return
    recipe = _plain(config["recipe"])
    if differing := [name for name in {**recipe, **saved.recipe} if saved.recipe.get(name) != recipe.get(name)]:
        raise RunError(f"{saved.path} was trained with another recipe: {', '.join(differing)} differ")
    if saved.data.get("fingerprint") != images.card.fingerprint:
        raise RunError(f"{saved.path} was trained on other images than {images.card.spec} holds now")
    state.load(saved)


def _plain(values: Any) -> Any:
    return json.loads(json.dumps(values))
