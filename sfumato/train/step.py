"""One update of a run: the gradient of a batch, clipping, the check that all is finite, AdamW, and what is reported.

`captured` replays the same work as a CUDA graph.
"""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Iterator
from functools import reduce
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.runtime import sharding
from sfumato.train.batches import Batch, seed_dropout, shard
from sfumato.train.session import Session


def step(session: Session, counters: range, rate: float) -> Tensor:
    """One update with the images of these counters, of which this process takes its share.

    Returns (5,) on the device: loss and gradient norm, and what the processes agree on: seconds, SIGINT, SIGTERM.
    """
    state, accelerator = session.state, session.accelerator
    share = shard(counters, accelerator.num_processes)[accelerator.process_index]
    state.optimizer.zero_grad()
    report = said(session, _accumulated(session, shard(share, session.settings.accumulate)))
    if accelerator.num_processes > 1:
        report = accelerator.reduce(report, "sum")
    if accelerator.num_processes > 1 and state.uncertainty is not None:
        weight = state.uncertainty.weight
        weight.grad = accelerator.reduce(weight.grad, "mean")
    for group in state.optimizer.param_groups:
        group["lr"] = rate
    norm = update(session, report[0])
    return torch.cat([report[:1], norm[None].to(report), report[1:]])


def said(session: Session, loss: Tensor) -> Tensor:
    """(4,) on the device: the loss, and seconds, SIGINT and SIGTERM as this process knows them."""
    heard = session.interrupt.signal
    clock = session.clock() if session.accelerator.is_main_process else 0.0
    told = (clock, heard == signal.SIGINT, heard == signal.SIGTERM)
    return torch.cat([loss[None], torch.tensor(told, dtype=loss.dtype).to(loss.device, non_blocking=True)])


def gradient(session: Session, batch: Batch) -> tuple[Tensor, Tensor]:
    """Add the gradient of a batch, or of a part of one, to that of the parameters.

    Returns its losses (B,) float32, and its part of the mean loss, () float64 where the device has that.
    """
    settings, accelerator = session.settings, session.accelerator
    losses = session.losses(session.model, batch)
    loss = (session.weighed(losses, batch.t) * batch.weight).sum() / settings.batch
    accelerator.backward(loss * accelerator.num_processes)  # processes average their gradients
    return losses.detach(), loss.detach().to(torch.float32 if accelerator.device.type == "mps" else torch.float64)


def update(session: Session, loss: Tensor) -> Tensor:
    """Clip the gradient and let AdamW take its step, unless it or the loss is not finite; returns its norm, ()."""
    optimizer, clip = session.state.optimizer, session.settings.clip or math.inf
    norm = nn.utils.clip_grad_norm_(session.state.network.parameters(), clip, foreach=True)
    norm = sharding.whole(norm)
    skip = ~(loss + norm).isfinite()
    optimizer.found_inf = skip.float()  # type: ignore[attr-defined]  # where it is 1, the fused update does nothing
    optimizer.step()
    return norm


def learn(session: Session, t: Tensor, losses: Tensor) -> None:
    """Tell training times that learn the losses (B,) that times t (B,) had, of all processes."""
    if session.state.times.learns:
        everywhere = session.accelerator.gather((t.to(losses.device), losses))
        session.state.times.update(*(values.cpu() for values in everywhere))


def _accumulated(session: Session, parts: list[range]) -> Tensor:
    """Leave the gradient of the whole batch's mean loss in the parameters; returns this process's part of that loss.

    Training times learn of the batch as a whole: its parts are drawn by the same density.
    """
    found, times, seen = [], [], []
    for i, counters in enumerate(parts):
        batch = session.batches(counters)
        seed_dropout(session.settings.seed, counters, session.accelerator.device)
        with _sending(session, i + 1 == len(parts)):
            losses, loss = gradient(session, batch)
        found.append(loss)
        times.append(batch.t)
        seen.append(losses)
    learn(session, torch.cat(times), torch.cat(seen))
    return reduce(torch.add, found)


@contextlib.contextmanager
def _sending(session: Session, last: bool) -> Iterator[None]:
    """Gradients are exchanged with the last part of a batch only."""
    network: Any = session.state.network
    if session.state.sharded:
        network.set_requires_gradient_sync(last)
    with (
        session.accelerator.no_sync(session.model) if not (last or session.state.sharded) else contextlib.nullcontext()
    ):
        yield
