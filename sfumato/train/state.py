"""The state of a run, all of which a checkpoint holds: network, averages, optimiser, and how far it has come.

Randomness has no state here: it follows from the seed and the number of images seen (`batches`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.times import Times
from sfumato.train.checkpoint import Checkpoint
from sfumato.train.ema import EMA


class NonFiniteError(ValueError):
    """Losses or gradients stayed infinite or NaN."""


@dataclass
class State:
    """A run as it stands.

    Attributes:
        network: the online weights.
        optimizer: its moments.
        ema: the averaged weights.
        times: which levels to train on; may learn, in which case it has state_dict and load_state_dict.
        images, step, seconds: progress.
        skipped, skipped_in_a_row: steps whose loss or gradient was not finite.
        recent: loss and gradient norm of the steps since the last line of metrics.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    times: Times
    images: int = 0
    step: int = 0
    seconds: float = 0.0
    skipped: int = 0
    skipped_in_a_row: int = 0
    recent: list[tuple[float, float]] = field(default_factory=list)

    def tensors(self) -> dict[str, Tensor]:
        """Everything by name; shares memory with the run."""
        named = {f"model/{key}": value for key, value in self.network.state_dict().items()}
        for rate in self.ema.rates:
            named |= {f"ema/{rate}/{key}": value for key, value in self.ema.state_dict(rate).items()}
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
        if hasattr(self.times, "state_dict"):
            named |= {f"times/{key}": torch.as_tensor(value) for key, value in self.times.state_dict().items()}
        named["recent"] = torch.tensor(self.recent, dtype=torch.float64).reshape(-1, 2)
        return named

    def progress(self) -> dict[str, Any]:
        """The numbers, as plain values."""
        return {
            "images": self.images, "step": self.step, "seconds": round(self.seconds, 3),
            "skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row,
        }  # fmt: skip

    def load(self, saved: Checkpoint) -> None:
        """Become what the checkpoint holds. CheckpointError where it is of another architecture."""
        missing = [rate for rate in self.ema.rates if str(rate) not in saved.weights]
        for rate in self.ema.rates:  # an average that the run did not have begins at the online weights
            prefix = "model/" if rate in missing else f"ema/{rate}/"
            saved.check_fits({key: tuple(value.shape) for key, value in self.network.state_dict().items()}, prefix)
            self.ema.load_state_dict(rate, saved.tensors(prefix))
        saved.load_weights(self.network, "online")
        moments = saved.tensors("optimizer/")
        for name, parameter in self.network.named_parameters():
            held = {key.removeprefix(f"{name}/"): v for key, v in moments.items() if key.rpartition("/")[0] == name}
            self.optimizer.state[parameter] = {key: _like(parameter, value) for key, value in held.items()}
        if hasattr(self.times, "load_state_dict"):
            self.times.load_state_dict(saved.tensors("times/"))
        self.recent = [(loss, norm) for loss, norm in saved.tensors("recent")[""].tolist()]
        for name in self.progress():
            setattr(self, name, saved.progress[name])


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """The value on the parameter's device and, if of its shape, in its memory layout, as fused optimisers expect."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
