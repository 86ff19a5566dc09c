"""The peak memory of a training step and of sampling, in bytes, by running each once on tensors without contents.

Weights, gradients, moments, averages and activations are exact; workspaces inside single operations are not seen, nor
the allocator's rounding. Data sets that are kept on a GPU come on top.
"""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from sfumato.core.diffusion import Loss
from sfumato.core.guidance import classifier_gradient
from sfumato.core.sampling import trajectory
from sfumato.core.times import TrainingTimes
from sfumato.cost.ledger import Ledger
from sfumato.cost.network import some_attributes, some_given, some_labels, some_times
from sfumato.cost.pretend import Pretence, backward
from sfumato.models import Model
from sfumato.networks.recompute import recompute_blocks
from sfumato.papers.recipe import Recipe, Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import for_sampling
from sfumato.runtime.sharding import blocks
from sfumato.train.batches import layout


@dataclass(frozen=True)
class Memory:
    """Bytes in one process.

    Attributes:
        weights, gradients, moments, averages: of the network, for as long as the run lasts (gradients: from the
            backward pass to the next step); this process's part where they are sharded.
        buckets: the copy of the gradients that processes exchange, or the whole weights of the blocks at hand where
            they are sharded.
        activations: what the forward pass keeps for the backward pass.
        peak: the most that is alive at once, everything included.
    """

    weights: int
    gradients: int
    moments: int
    averages: int
    buckets: int
    activations: int
    peak: int


def averages_of(config: TrainConfig) -> int:
    """How many averages of the weights a run keeps: EMA of fixed rates, and power-function profiles."""
    return len(config.ema) + len(config.profiles)


def training(
    recipe: Trainable, config: TrainConfig, *, device: str = "cpu", processes: int = 1, shard: bool = False
) -> Memory:
    """The memory of training steps after the first.

    Args:
        recipe: what is trained.
        config: batch (of all processes), accumulate, checkpoint_activations, ema and profiles count; precision is
            "bf16" or "float32".
        device: "cpu", or "cuda" for a GPU, whether or not there is one.
        processes: among how many the batch is split.
        shard: weights, gradients, moments and averages are sharded as well (FSDP2).

    Raises: ValueError for a precision that is not decided, fewer images than parts, a network that cannot recompute, or
        a loss that looks at values and so needs real ones.
    """
    if not 1 <= processes <= config.batch // config.accumulate:
        raise ValueError(
            f"a batch of {config.batch} images is too small for {processes} processes with {config.accumulate} parts"
        )
    shard = shard and processes > 1
    pretence, built = Pretence(device, config.precision), recipe.build()
    ledger = Ledger(pretence.device.type)
    order = layout(config, pretence.device, recipe.shape)
    network = pretence.network(recipe, torch.contiguous_format if shard else order)
    if config.checkpoint_activations:
        recompute_blocks(network)
    share = 1 / processes if shard else 1.0
    weights = ledger.enter([*network.parameters(), *network.buffers()], share)
    parameters, trained = _bytes(network, all_of=True), _bytes(network)
    gradients, moments, averages = (int(share * n) for n in (trained, 2 * trained, averages_of(config) * parameters))
    buckets = gathered(network) if shard else trained if processes > 1 else 0
    ledger.live += moments + averages + buckets
    simulated = min(config.accumulate, 3)  # first, middle and last part
    last = simulated == 1

    def send(p: Tensor) -> None:
        if last and p.grad is not None:
            ledger.share(p.grad, share)

    for p in network.parameters() if shard else ():
        p.register_post_accumulate_grad_hook(send)

    kept = 0
    largest = -(-config.batch // (processes * config.accumulate))
    with _without_numbers(recipe, device), pretence.running() as autocast:
        for i in range(simulated):
            last = i + 1 == simulated  # with the parts before, gradients stay whole where the state is sharded
            x0 = pretence.images(largest, recipe.shape, order)
            given = some_given(recipe, x0)
            kept = max(kept, _one_part(built.loss, built.times, network, x0, given, ledger, autocast))
    return Memory(weights, gradients, moments, averages, buckets, kept, ledger.peak)


def _one_part(
    loss: Loss, times: TrainingTimes, network: nn.Module, x0: Tensor, given: dict[str, Tensor], ledger: Ledger,
    autocast: Callable[[], AbstractContextManager[object]],
) -> int:  # fmt: skip
    """Forward and backward pass of images x0 (B, C, H, W); returns the bytes that are kept between the two."""
    ledger.enter([x0])
    before = ledger.live
    with ledger:
        with autocast():
            losses = loss(network, x0, some_times(times, len(x0)), torch.randn_like, **given).float()
        mean = losses.mean()
        kept = ledger.live - before
        backward(mean)
    return kept


def sampling(recipe: Trainable, batch: int, *, precision: str, device: str = "cpu") -> int:
    """Peak bytes while a batch of pictures is sampled, the model included; of a classifier, while it guides one step;
    of an autoencoder, while it reconstructs them.

    Args:
        batch: pictures at a time.
        precision: "float32" or "bf16".
        device: "cpu", or "cuda" for a GPU, whether or not there is one.

    Raises: ValueError for a batch below 1, another precision, or a sampler that looks at values.
    """
    if batch < 1:
        raise ValueError(f"the batch is at least 1, not {batch}")
    pretence = Pretence(device, precision)
    ledger, built = Ledger(pretence.device.type), recipe.build()
    network = pretence.network(recipe).eval()
    ledger.enter([*network.parameters(), *network.buffers()])
    x = pretence.images(batch, recipe.space.shape(recipe.shape))
    labels = some_labels(recipe, x)
    with _without_numbers(recipe, device), pretence.running() as autocast, ledger:
        if built.classify is not None:
            ledger.enter([x])
            assert labels is not None
            with autocast():
                classifier_gradient(built.classify(network), labels)(x, some_times(built.times, batch))
        elif built.reconstruct is not None:
            with torch.no_grad(), autocast():
                built.reconstruct(network)(x)
        else:
            with torch.no_grad():
                model = Model(cast(Recipe, recipe), network)
                _two_moves(model, pretence, batch, labels, some_attributes(recipe, x), autocast)
    return ledger.peak


def _two_moves(
    model: Model, pretence: Pretence, batch: int, labels: Tensor | None, told: Tensor | None,
    autocast: Callable[[], AbstractContextManager[object]],
) -> None:  # fmt: skip
    """The first steps of the sampling loop, as `models.generate` takes them."""
    ready, recipe = for_sampling(model.network, pretence.device, pretence.precision), model.recipe
    asked = recipe.conditioning.asks(recipe.shape)
    picture = None if asked is None else pretence.images(batch, asked)
    sampler: Any = model.diffusion.sampler
    moves = sampler.plan(model.diffusion.process, model.denoiser(labels, picture, network=ready, attributes=told))
    x = model.diffusion.prior((batch, *recipe.space.shape(recipe.shape)), pretence.device).sample(torch.randn_like)
    states = trajectory(x, moves[:2])
    for _ in moves[:2]:
        with autocast():
            x, _ = next(states)


@contextlib.contextmanager
def _without_numbers(recipe: Trainable, device: str) -> Iterator[None]:
    """Where the code asks for a value of a tensor without contents, say in one line that it cannot be predicted."""
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Accessing the data pointer of FakeTensor")
            yield
    except RuntimeError as error:
        why = str(error).strip().partition("\n")[0] or type(error).__name__
        name = type(recipe).__name__
        raise ValueError(f"the memory of {name} on {device} cannot be predicted without its numbers ({why})") from error


def gathered(network: nn.Module) -> int:
    """Bytes that a process holds besides its parts where weights are sharded, at most: the weights outside all blocks,
    and five times the largest block: its weights, the next one's on their way, its gradients, the buffer that they are
    sent from, and that of the block before."""
    sizes = [_bytes(block, all_of=True) for block in blocks(network)]
    return _bytes(network, all_of=True) - sum(sizes) + 5 * max(sizes, default=0)


def _bytes(network: nn.Module, all_of: bool = False) -> int:
    """Bytes of the parameters that are trained, or of all."""
    return sum(p.numel() * p.element_size() for p in network.parameters() if all_of or p.requires_grad)
