"""The training session, what a step sees: all that stays the same from first to last, and the state that does not."""

from __future__ import annotations

import contextlib
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from sfumato.core.diffusion import Built
from sfumato.data.sources import Images
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.precision import autocast
from sfumato.runtime.signals import Interrupt
from sfumato.train.batches import Batch, Batches
from sfumato.train.display import Display
from sfumato.train.state import State
from sfumato.train.trackers import Watcher

Preview = Callable[[nn.Module], Tensor]
"""A network in evaluation mode -> pictures, uint8 (N, C, H, W)."""

Distance = Callable[[nn.Module], Mapping[str, Any]]
"""A network in evaluation mode -> the Frechet distance of its samples, `fd`, and how it was measured, as plain values.

Two distances can be compared where all else but `floor` is equal.
"""


class Clock:
    """Seconds of training, over all resumes; it stands still while the run is looked at or saved."""

    def __init__(self, seconds: float) -> None:
        self.before, self.started, self.away = seconds, time.perf_counter(), 0.0

    def __call__(self) -> float:
        return self.before + time.perf_counter() - self.started - self.away

    @contextlib.contextmanager
    def standing(self) -> Iterator[None]:
        """Does not run while the context lasts."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.away += time.perf_counter() - started


@dataclass(frozen=True)
class Session:
    """Everything that a step needs."""

    diffusion: Built
    """What the recipe builds; its training times are as they were at first, those of the state may have learned."""
    settings: TrainConfig
    config: Mapping[str, Any]
    accelerator: Any
    folder: RunFolder
    state: State
    display: Display
    interrupt: Interrupt
    model: nn.Module
    """The state's network as it trains: perhaps compiled, perhaps one of several replicas."""
    batches: Batches
    clock: Clock
    images: Images
    validation: Images
    labelled: bool
    """The network is conditioned on the labels of the images."""
    preview: Preview | None
    precision: str
    distance: Distance | None = None
    watchers: Sequence[Watcher] = ()
    """Called with every line of metrics, in the main process."""

    def losses(self, model: nn.Module, batch: Batch) -> Tensor:
        """(B,) float32, of a batch, in the arithmetic of the run."""
        with autocast(self.accelerator.device, self.precision):
            return self.diffusion.loss(model, batch.x0, batch.t, batch.noise, **batch.given).float()

    def log_snr(self, t: Tensor) -> Tensor:
        """log(alpha^2 / sigma^2) at times t, by the forward process."""
        assert self.diffusion.process is not None
        return self.diffusion.process.schedule.log_snr(t)

    def weighed(self, losses: Tensor, t: Tensor) -> Tensor:
        """Losses (B,) at times t (B,) as they are trained on: balanced where uncertainty is learned."""
        uncertainty = self.state.uncertainty
        return losses if uncertainty is None else uncertainty.balanced(losses, self.log_snr(t))

    def record(self, kind: str, pictures: Mapping[str, Tensor] | None = None, **values: Any) -> None:
        """A line of metrics.jsonl, written by the main process, and shown to the watchers, with pictures if any."""
        if self.accelerator.is_main_process:
            state = self.state
            head = {"kind": kind, "images": state.images, "step": state.step, "seconds": round(state.seconds, 3)}
            row = head | values
            self.folder.append(row)
            shown = row if pictures is None else {**row, "pictures": pictures}
            if [watch for watch in self.watchers if watch(shown) is True]:
                self.interrupt.signal = self.interrupt.signal or signal.SIGINT
