"""Before the first step: processes, weights from a seed, and a rehearsal of what could fail later."""

from __future__ import annotations

import contextlib
import copy
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

from sfumato.core.diffusion import Built
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.times import TrainingTimes
from sfumato.core.uncertainty import Uncertainty
from sfumato.data.loader import to_float
from sfumato.data.pictures import seen_as
from sfumato.data.sources import Images, view_of
from sfumato.networks import magnitude
from sfumato.networks.recompute import recompute_blocks
from sfumato.papers.recipe import Trainable, noising_of
from sfumato.papers.training import TrainConfig
from sfumato.runtime import processes, sharding
from sfumato.runtime.precision import autocast, best_layout, usable_device
from sfumato.train import trackers
from sfumato.train.batches import WEIGHTS, layout
from sfumato.train.ema import EMA, PowerEMA
from sfumato.train.session import Session
from sfumato.train.state import State

if TYPE_CHECKING:
    from accelerate import Accelerator


MOST_LEFT = 0.02
"""The share of an image's variance that may be left at the last level."""


def accelerator_for(settings: TrainConfig) -> Accelerator:
    """What moves gradients among the processes; ValueError for a device that is not here, and for a batch that is too
    small for them."""
    from accelerate import Accelerator

    device = usable_device(settings.device)
    processes.rendezvous(settings.device)
    accelerator = Accelerator(mixed_precision="no", cpu=device == "cpu")
    if settings.batch < accelerator.num_processes * settings.accumulate:
        raise ValueError(
            f"a batch of {settings.batch} images is too small for {accelerator.num_processes} processes "
            f"with {settings.accumulate} parts each"
        )
    return accelerator


def check_watching(settings: TrainConfig, measurable: bool) -> None:
    """ValueError for a tracker that is not installed, and for distances without a function that measures them."""
    trackers.check(settings)
    if settings.fd_every and not measurable:
        raise ValueError("fd_every asks for distances, and no function that measures them is given")


def rehearse(recipe: Trainable, built: Built, state: State, images: Images, precision: str) -> None:
    """Compute the loss of two of the images (of each size) once, before anything is written, and keep nothing of it.

    Raises: ValueError where network and images do not fit each other.
    """
    if state.uncertainty is not None and built.process is None:
        raise ValueError("uncertainty is learned by noise level, of which this model has none: leave it out")
    if state.uncertainty is not None and built.lower_bound is not None:
        raise ValueError("uncertainty is learned of losses above 0, which the bound K of 2015 is not: leave it out")
    first: Any = next(state.network.parameters())
    device = first.device
    for part in images.parts:
        _rehearse(recipe, built, state.network, part, precision, device)


def _rehearse(
    recipe: Trainable, built: Built, network: nn.Module, images: Images, precision: str,
    device: torch.device,
) -> None:  # fmt: skip
    """The loss of two images of one size. ValueError where network and images do not fit each other."""
    x0 = to_float(images.images[:2]).to(device)
    n = len(x0)
    given: dict[str, Any] = {**images.given(torch.arange(n), bool(recipe.conditioning.classes), device)}
    t, _ = built.times.draw((torch.arange(n) + 0.5) / n)
    kept = [device] if device.type not in ("cpu", "mps") else []
    try:
        with torch.random.fork_rng(kept), torch.no_grad(), autocast(device, precision):
            built.loss(network, x0, t, ImageNoise(0, range(n)), **given)
    except (RuntimeError, IndexError) as error:
        if isinstance(error, torch.OutOfMemoryError) or "memory" in str(error):
            raise
        why = str(error).strip().partition("\n")[0]
        raise ValueError(f"images of {' x '.join(map(str, images.shape))} cannot be trained on: {why}") from error


def first_state(
    recipe: Trainable, times: TrainingTimes, settings: TrainConfig, device: torch.device, sharded: bool,
    initial: Mapping[str, Tensor] | None = None,
) -> State:  # fmt: skip
    """Weights from the seed, on the device or sharded among the processes; optimiser, averages, training times.

    Args:
        initial: weights to begin at instead, by key; those that are not named are from the seed.
    """
    torch.manual_seed(mix(settings.seed, WEIGHTS))
    network = recipe.model().train()
    if initial is not None:
        network.load_state_dict({**network.state_dict(), **initial})
    if settings.checkpoint_activations:
        recompute_blocks(network)
    if sharded:
        sharding.shard_network(network, device)
    else:
        moved: Any = network.to(device)
        moved.to(memory_format=layout(settings, device, recipe.shape))
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,
    )  # fmt: skip
    if any(True for _ in magnitude.forced(network)):
        optimizer.register_step_post_hook(lambda *_: magnitude.normalise(network))
    uncertainty = Uncertainty().to(device) if settings.uncertainty else None
    if uncertainty is not None:
        optimizer.add_param_group({"params": [uncertainty.weight], "weight_decay": 0.0})
    averages = EMA(network, settings.ema), PowerEMA(network, settings.profiles)
    return State(network, optimizer, *averages, copy.deepcopy(times), uncertainty, sharded)


def too_little_noise(recipe: Trainable, built: Built) -> str:
    """A line of warning where much of the image is left at the last level, though sampling starts from noise alone;
    else nothing.

    Linear betas in few levels do so: their alpha_bar_T, 4e-5 in 1000 levels, is 0.36 in 100.
    """
    process = built.process
    levels = None if process is None else process.schedule.levels
    if built.sampler is None or process is None or not levels:
        return ""
    alpha, sigma = process.schedule.alpha_sigma(torch.tensor(levels))
    left = float(alpha**2)
    if left <= MOST_LEFT or abs(left + float(sigma**2) - 1) > 1e-3:  # an exploding variance drowns the image
        return ""
    name = getattr(recipe, "betas", "")
    return (
        f"{name} betas in {levels:,} levels leave {left:.2g} of the image's variance at the last (alpha-bar_T), "
        "but sampling starts from noise alone; choose more --recipe.steps, or --recipe.betas cosine where there are any"
    ).lstrip()


def too_few_to_pair(recipe: Trainable, settings: TrainConfig, processes: int) -> str:
    """A line of warning where the recipe's noising has too few images at once to choose among; else nothing."""
    return noising_of(recipe).doubt(settings.batch // (processes * settings.accumulate), recipe.conditioning.classes)


def announce(session: Session, recipe: Trainable, reason: str, resume: bool) -> None:
    """Say what a new run is trained on, where it is, on what it runs, for how long, and what is seldom meant."""
    if not resume:
        session.display.say(f"{session.images.card}\n")
    settings, state, device = session.settings, session.state, session.accelerator.device
    processes, progress = session.accelerator.num_processes, settings.progress(state.images, state.seconds)
    many = f", {processes} processes" if processes > 1 else ""
    many += ", which share the weights" if state.sharded else ""
    again = f"; going on at {state.images:,} images, {progress:.0%}" if resume else ""
    session.display.say(f"run      {session.folder.path}")
    session.display.say(f"machine  {device.type}{many}, {session.precision} ({reason}), {best_layout(device)[1]}")
    session.display.say(f"budget   {settings.budget()}, {settings.batch} images a step{again}")
    few = too_few_to_pair(recipe, session.settings, session.accelerator.num_processes)
    card = session.images.card
    sheets = "" if session.images.are_points else seen_as(card.levels, card.values, view_of(card.spec))
    mirrors = settings.flip and session.images.noise is not None
    still = "pictures of pairs with their noise are not mirrored, so flip does nothing here" if mirrors else ""
    for warning in filter(None, (too_little_noise(recipe, session.diffusion), few, sheets, still)):
        session.display.say(f"note     {warning}")


@contextlib.contextmanager
def threads(number: int | None) -> Iterator[None]:
    """So many CPU threads of torch, or as many as it has, for as long as the context lasts."""
    before = torch.get_num_threads()
    torch.set_num_threads(number or before)
    try:
        yield
    finally:
        torch.set_num_threads(before)
