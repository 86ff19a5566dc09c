"""What a preset, run, checkpoint or data set is and costs on this machine, before anything long is started.

Operations and memory are counted by running the code once on tensors without contents; throughput is measured.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch

from sfumato.cost import memory
from sfumato.cost.network import forward_flops, parameters, throughput
from sfumato.data import open_source
from sfumato.models import load, shipped
from sfumato.models.loading import holds_model, home
from sfumato.networks import NETWORKS
from sfumato.networks.recompute import known_blocks
from sfumato.papers import ncsnv2
from sfumato.papers.presets import PRESETS, use, with_size
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import best_device, best_precision
from sfumato.spec import written


@dataclass(frozen=True)
class Plan:
    """The training step whose memory is predicted, and the machine; sampling takes the same batch."""

    batch: int = 64
    """Images a step, over all processes."""
    precision: Literal["auto", "float32", "bf16"] = "auto"
    """auto (what a run would take here), bf16 or float32."""
    accumulate: int = 1
    """Parts of each process's share of a batch."""
    checkpoint_activations: bool = False
    """Blocks are computed again in the backward pass."""
    processes: int = 1
    """How many share the batch."""
    shard: bool = False
    """They share weights, gradients, averages and moments as well."""
    device: str = "auto"
    """auto (what is here), cpu or cuda."""

    def decided(self, asked: Literal["auto", "float32", "bf16"]) -> Plan:
        """The plan with what is here in the place of auto; asked: the precision that the preset asks for, or auto."""
        device = best_device() if self.device == "auto" else self.device
        here: Any = "bf16" if device == "cuda" and best_device() != "cuda" else best_precision(device)[0]
        wanted = [precision for precision in (self.precision, asked) if precision != "auto"]
        return replace(self, device=device, precision=wanted[0] if wanted else here)


def describe(
    what: str, *, plan: Plan = Plan(), measure: bool = True, size: str | None = None
) -> Iterator[str]:  # fmt: skip
    """The lines to print about a preset, with its network in a `size`, a run folder, a checkpoint or a data spec."""
    path = home(what)
    if size is not None and what not in PRESETS:
        raise ValueError(f"--size scales the network of a preset, and {what} is none")
    if what in PRESETS:
        chosen, recipe = PRESETS[what], PRESETS[what].recipe
        if size is not None:
            recipe = with_size(what, recipe, size, tuple(recipe.shape))
        yield f"{what}: {chosen.about}"
        yield f"data: {chosen.data}"
        if size is not None:
            yield f"size {size}: {written(NETWORKS, recipe.network)}"
        yield from costs(recipe, chosen.train, plan, measure)
        if what in shipped():
            yield f"ships with a checkpoint: {use(what)}"
    elif what in shipped() or holds_model(path) or path.suffix == ".safetensors":
        model = load(what)
        about = model.about
        yield f"{about['path']}: {type(model.recipe).__name__}, {about['weights']} weights"
        yield f"trained on {about['data'].get('spec')}, {about.get('images', 0):,} images seen"
        if model.classes:
            yield f"classes: {', '.join(model.classes)}"
        yield from costs(model.recipe, None, plan, measure)
    else:
        yield str(open_source(what).card)


def techniques(spec: str) -> Iterator[str]:
    """The lines to print about NCSNv2's techniques on a data set, and the options that train with what they find."""
    images = open_source(spec)
    recipe = ncsnv2.fitted(ncsnv2.NCSNv2(), images.images.float() / 255)
    yield f"{images.spec}: {len(images):,} images of {' x '.join(map(str, images.shape))}"
    yield ncsnv2.explained(recipe)
    yield (f"--recipe.first-sigma {recipe.first_sigma:.4g} --recipe.steps {recipe.steps} "
           f"--recipe.step-size {recipe.step_size:.3g}")  # fmt: skip


def costs(recipe: Trainable, config: TrainConfig | None, plan: Plan, measure: bool) -> Iterator[str]:
    """The lines on what a recipe costs: parameters, FLOPs, memory and, where measured, throughput on this machine."""
    with torch.device("meta"):
        network = recipe.model()
    count, flops = parameters(network), forward_flops(recipe)
    classes = recipe.conditioning.classes
    yield f"images: {' x '.join(map(str, recipe.shape))}{f', {classes} classes' if classes else ''}"
    yield f"network: {count / 1e6:.2f}M parameters"
    yield f"operations: {flops / 1e9:.3f} GFLOP an image forward, {3 * flops / 1e9:.3f} in training"
    weights = 4 * count / 1e6
    rates = memory.averages_of(config or TrainConfig())
    state, saved = weights * (4 + rates), weights * (3 + rates)
    yield f"memory for weights, gradients, Adam and {rates} averages: {state:.0f} MB; a checkpoint: {saved:.0f} MB"
    settings = config or TrainConfig()
    yield from _memory(recipe, settings, plan.decided(settings.precision), any(True for _ in known_blocks(network)))
    if not measure:
        return
    batch = plan.batch
    device = torch.device(best_device())
    precision, reason = best_precision(device)
    training, sampling = throughput(recipe, recipe.model().to(device), batch, precision)
    yield f"here ({device.type}, {precision}: {reason}), batch {batch}:"
    yield f"  training {training:.0f} images/s, {batch / training:.2g} s a step"
    yield f"  sampling {sampling:.0f} network evaluations/s: {sampling / 50:.1f} pictures/s in 50 steps"
    if config and config.minutes:
        yield f"  its budget of {config.minutes:g} minutes sees about {training * 60 * config.minutes:,.0f} images"
    if config and config.images:
        yield f"  its budget of {config.images:,} images takes about {_duration(config.images / training)}"


def _memory(recipe: Trainable, config: TrainConfig, plan: Plan, has_blocks: bool) -> Iterator[str]:
    """The predicted memory of training and sampling, in lines."""
    settings = replace(
        config, batch=plan.batch, precision=plan.precision, accumulate=plan.accumulate,
        checkpoint_activations=plan.checkpoint_activations,
    )  # fmt: skip
    batch = plan.batch
    training = partial(memory.training, recipe, device=plan.device, processes=plan.processes, shard=plan.shard)
    try:
        found = training(settings)
        pictures = memory.sampling(recipe, batch, precision=plan.precision, device=plan.device)
    except ValueError as error:
        if plan.processes > 1 or "cannot be predicted" not in str(error):
            raise
        yield str(error)
        return
    many = f" a process of {plan.processes}" if plan.processes > 1 else ""
    exchange = f", {'whole blocks' if plan.shard else 'exchanged'} {size(found.buckets)}" if found.buckets else ""
    yield f"predicted peak memory ({plan.device}, {plan.precision}), batch {batch}; 1 GB is 10^9 bytes:"
    yield (f"  training {size(found.peak)}{many}: weights {size(found.weights)}, gradients {size(found.gradients)}, "
           f"Adam {size(found.moments)}, {memory.averages_of(settings)} averages {size(found.averages)}{exchange}, "
           f"kept for the backward pass {size(found.activations)}")  # fmt: skip
    if has_blocks and not settings.checkpoint_activations:
        less = training(replace(settings, checkpoint_activations=True))
        yield f"  with --train.checkpoint-activations {size(less.peak)}, kept {size(less.activations)}"
    built = recipe.build()
    doing = "sampling" if built.sampler else "guiding one step" if built.labelled else "reconstructing"
    yield f"  {doing} {size(pictures)}, {batch} pictures at a time"


def size(count: int) -> str:
    """Bytes in words, in decimal units."""
    for unit, scale in (("GB", 1e9), ("MB", 1e6)):
        if count >= 0.9995 * scale:
            return f"{count / scale:.3g} {unit}" if count < 999.5 * scale else f"{count / scale:.0f} {unit}"
    return f"{count / 1e3:.3g} kB"


def _duration(seconds: float) -> str:
    if seconds < 120:
        return f"{seconds:.0f} s"
    if seconds < 7200:
        return f"{seconds / 60:.0f} minutes"
    return f"{seconds / 3600:.1f} hours" if seconds < 172_800 else f"{seconds / 86_400:.1f} days"
