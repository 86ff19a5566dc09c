"""The measured side: the most bytes that torch's allocator has given out at once, from its profiler's record."""

from __future__ import annotations

import gc
from collections.abc import Callable

import torch
from torch import nn
from torch.profiler import ProfilerActivity, profile

from sfumato.core.guidance import classifier_gradient
from sfumato.cost.network import some_labels, some_times
from sfumato.models import Model, Request
from sfumato.models.generate import trajectories
from sfumato.networks.recompute import recompute_blocks
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import autocast
from sfumato.train.batches import layout, shard
from sfumato.train.ema import EMA, PowerEMA


def peak_bytes(program: Callable[[], object], device: str = "cpu") -> int:
    """The peak of the bytes that a program allocates on the device: tensors and torch's own workspaces, no overhead."""
    if device == "cuda":
        torch.cuda.empty_cache()
        before = torch.cuda.memory_allocated()
        torch.cuda.reset_peak_memory_stats()
        program()
        return torch.cuda.max_memory_allocated() - before
    gc.collect()  # what is freed later of things made earlier would count as negative
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiler:
        program()
    record = profiler.profiler.kineto_results.events()  # type: ignore[union-attr]
    live = peak = 0
    for event in sorted((e for e in record if e.name() == "[memory]"), key=lambda e: e.start_ns()):
        live += event.nbytes()
        peak = max(peak, live)
    return peak


def train_two_steps(
    recipe: Trainable,
    config: TrainConfig,
    device: str = "cpu",
    prepared: Callable[[nn.Module], nn.Module] | None = None,
) -> None:
    """A run's first two steps as `train.loop` takes them, without its files; prepared: what shards the network."""
    network, built = recipe.model().train(), recipe.build()
    if config.checkpoint_activations:
        recompute_blocks(network)
    network.to(device)
    network.to(memory_format=layout(config, device, recipe.shape))  # type: ignore[call-overload]
    network = network if prepared is None else prepared(network)
    optimizer = torch.optim.AdamW(network.parameters(), fused=True)
    ema, profiles = EMA(network, config.ema), PowerEMA(network, config.profiles)
    for step in range(2):
        optimizer.zero_grad()
        for part in shard(range(config.batch), config.accumulate):
            x0 = torch.zeros(len(part), *recipe.shape, device=device)
            x0 = x0.contiguous(memory_format=layout(config, device, recipe.shape))
            labels = some_labels(recipe, x0)
            given = {} if labels is None else {"y": labels}
            with autocast(device, config.precision):
                losses = built.loss(network, x0, some_times(built.times, len(part)), torch.randn_like, **given).float()
            losses.mean().backward()
        if config.clip:
            nn.utils.clip_grad_norm_(network.parameters(), config.clip, foreach=True)
        optimizer.step()
        ema.update(step, 100)
        profiles.update(step * config.batch, (step + 1) * config.batch)


def sample_two_moves(recipe: Trainable, batch: int, precision: str, device: str = "cpu") -> None:
    """Load a model and take two moves with a batch; with a classifier, guide once."""
    network, built = recipe.model().eval().to(device), recipe.build()
    if built.classify is not None:
        x, y = torch.zeros(batch, *recipe.shape, device=device), torch.zeros(batch, dtype=torch.long)
        with torch.inference_mode(), autocast(device, precision):
            classifier_gradient(built.classify(network), y)(x, some_times(built.times, batch))
        return
    model = Model(recipe, network)  # type: ignore[arg-type]
    request = Request(batch, None, built.sampler, batch=batch, precision=precision)
    states = trajectories(model, request, range(batch), model.labels(None, batch))
    for _ in range(3):
        next(states)
