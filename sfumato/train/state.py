"""The state of a run, all of which a checkpoint holds: network, averages, optimiser, and how far it has come.

Randomness has no state here: it follows from the seed and the number of images seen (`batches`).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from sfumato.core.times import TrainingTimes
from sfumato.core.uncertainty import Uncertainty
from sfumato.runtime import parts
from sfumato.runtime.checkpoint import Checkpoint, CheckpointError
from sfumato.runtime.sharding import shard_like
from sfumato.train.ema import EMA, PowerEMA


class NonFiniteError(ValueError):
    """Losses or gradients stayed infinite or NaN."""


@dataclass
class State:
    """A run as it stands.

    Attributes:
        network: the online weights.
        optimizer: its moments.
        ema: the averaged weights.
        profiles: the power-function averages, of which snapshots are kept.
        times: which levels to train on; the run's own, since it may learn.
        uncertainty: of the loss by level, where it is learned; it trains along, and no network needs it later.
        sharded: whether each process holds a part of the weights only (`runtime.sharding`).
        images, step, seconds: progress.
        skipped, skipped_in_a_row: steps whose loss or gradient was not finite.
        recent: loss and gradient norm of the steps since the last line of metrics.
    """

    network: nn.Module
    optimizer: torch.optim.Optimizer
    ema: EMA
    profiles: PowerEMA
    times: TrainingTimes
    uncertainty: Uncertainty | None = None
    sharded: bool = False
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
        named |= self.profile_tensors()
        for name, parameter in self.network.named_parameters():
            for key, value in self.optimizer.state.get(parameter, {}).items():
                named[f"optimizer/{name}/{key}"] = torch.as_tensor(value)
        named |= {f"times/{key}": value for key, value in self.times.state_dict().items()}
        named |= {f"uncertainty/{key}": value for key, value in self._uncertainty().items()}
        named["recent"] = torch.tensor(self.recent, dtype=torch.float64).reshape(-1, 2)
        return named

    def profile_tensors(self) -> dict[str, Tensor]:
        """The power-function averages by name; shares memory with the run."""
        named: dict[str, Tensor] = {}
        for length in self.profiles.lengths:
            named |= {f"profile/{length}/{key}": value for key, value in self.profiles.state_dict(length).items()}
        return named

    def progress(self) -> dict[str, Any]:
        """The numbers, as plain values."""
        return {
            "images": self.images, "step": self.step, "seconds": round(self.seconds, 3),
            "skipped": self.skipped, "skipped_in_a_row": self.skipped_in_a_row,
        }  # fmt: skip

    def load(self, saved: Checkpoint) -> None:
        """Become what the checkpoint holds, by all processes together. CheckpointError for another architecture."""
        self._check(saved)
        for name in self.progress():
            setattr(self, name, saved.progress[name])
        for length in set(self.profiles.lengths) - {float(name) for name in saved.profiles}:
            self.profiles.forget(length)  # an average of a part of the run has another profile
        self.recent = [(loss, norm) for loss, norm in saved.tensors("recent")[""].tolist()]
        if saved.in_parts:
            self._fill(saved)
            return
        missing = [rate for rate in self.ema.rates if str(rate) not in saved.weights]
        for rate in self.ema.rates:  # an average that the run did not have begins at the online weights
            prefix = "model/" if rate in missing else f"ema/{rate}/"
            self.ema.load_state_dict(rate, self._held(saved, prefix))
        for length in self.profiles.lengths:
            self.profiles.load_state_dict(length, self._held(saved, f"profile/{length}/"))
        self.network.load_state_dict(self._held(saved, "model/"))
        moments = saved.tensors("optimizer/")
        for name, parameter in self.network.named_parameters():
            held = {key.removeprefix(f"{name}/"): v for key, v in moments.items() if key.rpartition("/")[0] == name}
            self.optimizer.state[parameter] = {key: _like(parameter, value) for key, value in held.items()}
        self.times.load_state_dict(saved.tensors("times/"))
        if self.uncertainty is not None:
            self._load_uncertainty(saved)

    def _uncertainty(self) -> dict[str, Tensor]:
        """The uncertainty's weights, and its moments."""
        if self.uncertainty is None:
            return {}
        moments = self.optimizer.state.get(self.uncertainty.weight, {})
        return self.uncertainty.state_dict() | {f"moment/{k}": torch.as_tensor(v) for k, v in moments.items()}

    def _load_uncertainty(self, saved: Checkpoint) -> None:
        assert self.uncertainty is not None
        found, wanted = saved.tensors("uncertainty/"), self.uncertainty.state_dict()
        weight = self.uncertainty.weight
        for key, value in found.items():
            shape = wanted[key].shape if key in wanted else weight.shape if key.startswith("moment/exp") else ()
            if tuple(value.shape) != tuple(shape):
                raise CheckpointError(f"{saved.path} holds another uncertainty: {key} is {tuple(value.shape)}")
        if missing := [key for key in wanted if key not in found]:
            raise CheckpointError(f"{saved.path} is damaged: its uncertainty lacks {missing[0]}")
        self.uncertainty.load_state_dict({key: found[key] for key in wanted})
        moments = {k.removeprefix("moment/"): v for k, v in found.items() if k.startswith("moment/")}
        self.optimizer.state[weight] = {key: _like(weight, value) for key, value in moments.items()}

    def _check(self, saved: Checkpoint) -> None:
        """CheckpointError unless it holds how far the run has come, and moments that fit the network."""
        for name, value in self.progress().items():
            found = saved.progress.get(name)
            kinds = (int, float) if isinstance(value, float) else int
            if not isinstance(found, kinds) or isinstance(found, bool) or not 0 <= found < 1e18:
                raise CheckpointError(f"{saved.path} is damaged: its progress says {name} {found!r}")
        shapes = dict(saved.shapes)
        if shapes.get("recent", ())[1:] != (2,):
            raise CheckpointError(f"{saved.path} is damaged: its losses since the last metrics are missing")
        known = {name: tuple(parameter.shape) for name, parameter in self.network.named_parameters()}
        for key, shape in shapes.items():
            name, _, moment = key.removeprefix("optimizer/").rpartition("/")
            if key.startswith("optimizer/") and (
                name not in known or shape not in (known[name], ()) or moment not in ("step", "exp_avg", "exp_avg_sq")
            ):
                raise CheckpointError(f"{saved.path} holds another optimiser: {key} is {shape}")

    def _held(self, saved: Checkpoint, prefix: str) -> dict[str, Tensor]:
        """One set of weights, sharded as the network is."""
        wanted = self.network.state_dict()
        saved.check_fits({key: tuple(value.shape) for key, value in wanted.items()}, prefix)
        return {key: shard_like(wanted[key], value) for key, value in saved.tensors(prefix).items()}

    def _fill(self, saved: Checkpoint) -> None:
        """Read a checkpoint in parts: each process no more than what it holds."""
        saved.check_fits({key: tuple(value.shape) for key, value in self.network.state_dict().items()})
        for name, parameter in self.network.named_parameters():
            prefix = f"optimizer/{name}/"
            for key in [key.removeprefix(prefix) for key in saved.shapes if key.rpartition("/")[0] + "/" == prefix]:
                alike = saved.shapes[prefix + key] == tuple(parameter.shape)
                self.optimizer.state[parameter][key] = (
                    torch.zeros_like(parameter) if alike else torch.zeros((), device=parameter.device)
                )
        wanted = {name: value for name, value in self.tensors().items() if not name.startswith(("recent", "times/"))}
        absent = [f"ema/{rate}/" for rate in self.ema.rates if str(rate) not in saved.weights]
        parts.fill(saved.path, {name: v for name, v in wanted.items() if not name.startswith(tuple(absent))})
        online = {name.removeprefix("model/"): v for name, v in wanted.items() if name.startswith("model/")}
        for prefix in absent:  # an average that the run did not have begins at the online weights
            for name, value in online.items():
                wanted[prefix + name].copy_(value)
        self.times.load_state_dict(saved.tensors("times/"))


def _like(parameter: Tensor, value: Tensor) -> Tensor:
    """The value on the parameter's device and, if of its shape, in its memory layout, as fused optimisers expect."""
    if value.shape != parameter.shape:
        return value.to(parameter.device)
    return torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(shard_like(parameter, value))
