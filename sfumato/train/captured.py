"""A training step as one CUDA graph (`--train.capture`): all its launches recorded once, and replayed at every step.

For small networks, whose steps are bound by their launches. Forward pass, loss, backward pass, clipping, the check that
all is finite and AdamW are in the graph. Images, what is given beside them, times, weights, noise and the learning rate
lie in buffers that are filled before each replay, by the same draws as without a graph: a run stays a function of its
seed and of the images seen. Dropout is the device's own; its generator is seeded before each replay, as it was.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.core.distributions import Noise
from sfumato.core.processes import GaussianDiffusion
from sfumato.data.sources import Images
from sfumato.papers.training import TrainConfig
from sfumato.train.batches import Batch, seed_dropout
from sfumato.train.session import Session
from sfumato.train.step import gradient, learn, said, update

DEVICES = ("cuda",)
"""Where there are graphs."""
LEAVE = "leave out --train.capture"
WARM = 3
"""Steps on a stream of its own before a capture, in which libraries choose their kernels and take their memory."""


def check(settings: TrainConfig, accelerator: Any, images: Images) -> None:
    """ValueError where a captured step is asked for and cannot be, before anything is done."""
    device, processes = accelerator.device.type, accelerator.num_processes
    without = {
        f"it needs a CUDA device, and this run is on {device}": device not in DEVICES,
        f"it is of one process, and these are {processes}": processes > 1,
        "it takes images of one size, and these have several": len(images.parts) > 1,
        "it takes a batch whole, and accumulate takes it in parts": settings.accumulate > 1,
        "checkpoint_activations asks the device for the state of its random numbers": settings.checkpoint_activations,
        "it has not been tried with compile": settings.compile,
    }
    if settings.capture and (refused := [why for why, true in without.items() if true]):
        raise ValueError(f"this step cannot be captured as a CUDA graph: {refused[0]}; {LEAVE}")


class Captured:
    """The steps of a session by one graph, as `step.step` takes them.

    Args:
        session: before its first step here, resumed or new; capturing leaves its state as it is.

    Raises: ValueError where the recipe's loss cannot be captured, in one line.
    """

    def __init__(self, session: Session) -> None:
        self.session, state, device = session, session.state, session.accelerator.device
        batch = session.batches(range(state.images, state.images + session.settings.batch))
        self.draws = Draws(batch.noise, device)
        given = {name: value.to(device).clone() for name, value in batch.given.items()}
        # what capturing computes is NaN, so that AdamW leaves weights and moments alone
        weight = torch.full_like(batch.weight, torch.nan)
        self.held = Batch(batch.x0.clone(), batch.t.to(device).clone(), weight, self.draws, given, [])
        for group in state.optimizer.param_groups:
            group["capturable"], group["lr"] = True, torch.zeros((), device=device)
        kept = {name: value.clone() for name, value in state.network.state_dict().items()}
        try:
            with resident(session.diffusion.process, device) as self.tables, warnings.catch_warnings():
                warnings.filterwarnings("ignore", ".*capturable=True")  # of steps that are taken before the capture
                watched(self._work, device)
                self.replay, (self.losses, self.loss, self.norm) = graphed(self._work)
        except RuntimeError as error:
            if isinstance(error, torch.OutOfMemoryError):
                raise
            why = str(error).strip().partition("\n")[0]
            raise ValueError(f"this step cannot be captured as a CUDA graph: {why}; {LEAVE}") from error
        with torch.no_grad():  # forced weight normalisation rounds even where nothing was taken
            for name, value in state.network.state_dict().items():
                value.copy_(kept[name])
        session.display.say("step     one CUDA graph, replayed")

    def __call__(self, counters: range, rate: float) -> Tensor:
        """One update with the images of these counters; (5,) on the device, as of `step.step`."""
        session, device = self.session, self.session.accelerator.device
        batch = session.batches(counters)
        for held, value in zip(self._inputs(self.held), self._inputs(batch), strict=True):
            fill(held, value)
        self.draws.renew(batch.noise)
        seed_dropout(session.settings.seed, counters, device)
        for group in session.state.optimizer.param_groups:
            group["lr"].fill_(rate)
        self.replay()
        learn(session, batch.t, self.losses)
        report = said(session, self.loss)
        return torch.cat([report[:1], self.norm[None].to(report), report[1:]])

    def _work(self) -> tuple[Tensor, Tensor, Tensor]:
        """What is captured: losses (B,), the mean loss and the norm of its gradient, ()."""
        self.draws.again()
        self.session.state.optimizer.zero_grad()
        losses, loss = gradient(self.session, self.held)
        return losses, loss, update(self.session, loss)

    @staticmethod
    def _inputs(batch: Batch) -> list[Tensor]:
        """The tensors of a batch, those beside the images in the order of their names."""
        return [batch.x0, batch.t, batch.weight, *(batch.given[name] for name in sorted(batch.given))]


def fill(held: Tensor, value: Tensor) -> None:
    """Copy a value into the buffer that a graph reads. RuntimeError for one of another shape or type."""
    if (held.shape, held.dtype) != (value.shape, value.dtype):
        found, known = ((tuple(v.shape), v.dtype) for v in (value, held))
        raise RuntimeError(f"the step was captured for {known}, and is given {found}")
    held.copy_(value, non_blocking=True)


class Draws:
    """A `Noise` in buffers: which draws a loss asks for is noted the first time, and each step renews them all.

    Args:
        noise: of the first batch.
        device: where all of them are asked for. RuntimeError elsewhere, since a graph does not see the host.
    """

    def __init__(self, noise: Noise, device: torch.device) -> None:
        self.noise, self.device, self.buffers, self.next = noise, device, list[Tensor](), 0

    def __call__(self, x: Tensor) -> Tensor:
        if x.device.type != self.device.type:  # a device may be named without its number
            raise RuntimeError(f"it draws noise on the {x.device.type} in training")
        if self.next == len(self.buffers):
            self.buffers.append(self.noise(x))
        held = self.buffers[self.next]
        self.next += 1
        return held

    def again(self) -> None:
        """A loss begins to draw."""
        self.next = 0

    def renew(self, noise: Noise) -> None:
        """The draws of another batch, in the same order."""
        for buffer in self.buffers:
            fill(buffer, noise(buffer))


class Crossings(TorchDispatchMode):
    """RuntimeError where host and device exchange values: a graph would replay a copy of memory that is gone.

    Single numbers of the host that enter an operation are part of its launch, and stay what they are.
    """

    def __init__(self, device: torch.device) -> None:
        super().__init__()
        self.device = device

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = func(*args, **(kwargs or {}))
        tensors = [leaf for leaf in tree_leaves((args, kwargs, out)) if isinstance(leaf, Tensor)]
        name = func.overloadpacket.__name__
        if name == "_local_scalar_dense" and tensors[0].device.type == self.device.type != "cpu":
            raise RuntimeError("it reads a number back from the device")
        copies = name in ("_to_copy", "copy_")
        if len({tensor.device.type for tensor in tensors if copies or tensor.ndim}) > 1:
            raise RuntimeError(f"it exchanges values between host and device ({name})")
        return out


def watched(work: Callable[[], object], device: torch.device) -> None:
    """Do the work twice: noise is drawn in the first turn, and nothing may cross to the device or back in the second.

    Raises: RuntimeError where something does.
    """
    work()
    with Crossings(device):
        work()


@contextmanager
def resident(process: GaussianDiffusion | None, device: torch.device | str) -> Iterator[list[Tensor]]:
    """The numbers of a noise schedule on the device, so that it takes times from there; afterwards all is as before.

    Gives what a graph that was captured meanwhile reads, and which therefore must be kept.
    """
    owners = [] if process is None else [process, *process.schedule.modules()]
    before = [dict(vars(owner)) for owner in owners]
    try:
        yield moved(process, device)
    finally:
        for owner, values in zip(owners, before, strict=True):
            vars(owner).clear()
            vars(owner).update(values)


def moved(process: GaussianDiffusion | None, device: torch.device | str) -> list[Tensor]:
    """Move the numbers of a noise schedule to the device, and return them; what was remembered is forgotten."""
    if process is None:
        return []
    process.known = {}
    found = []
    for owner in process.schedule.modules():
        for name, value in list(vars(owner).items()):
            if isinstance(value, Tensor):
                found.append(value.to(device))
                setattr(owner, name, found[-1])
    return found


def graphed(work: Callable[[], Any]) -> tuple[Callable[[], object], Any]:
    """The work as one CUDA graph: what replays it, and what it returns, whose memory each replay writes anew."""
    stream = torch.cuda.Stream()
    stream.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(stream):
        for _ in range(WARM):
            work()
    torch.cuda.current_stream().wait_stream(stream)
    torch.cuda.synchronize()
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result
