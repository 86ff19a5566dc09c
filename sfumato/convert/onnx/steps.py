"""A sampler's moves as rows of numbers: most kernels are linear in what they are given, and a few probes measure how.

A move is a list of steps. Each may evaluate the denoiser at x and t, and then sets some registers, all at once, to
weighted sums of registers: x, the prediction x0 and eps, noise z, and what is remembered of predictions before. So
every solver of the probability flow, with one evaluation a move or several, with or without memory, needs no graph.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from sfumato.core.denoisers import Prediction
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move
from sfumato.core.schedules import Level

MOST_ASKS, MOST_PAST = 4, 3
"""So many evaluations a move, and so many predictions before, are looked at."""

Row = dict[str, float]
"""Register -> weight."""

Step = dict[str, Any]
"""t, s; whether the denoiser is evaluated ("ask"); registers ("set") as rows; and "kernel", the graph that sets x."""


class ExportError(ValueError):
    """A model or a sampler that cannot be exported, or a library that is missing; the message says which."""


@dataclass
class Given:
    """A denoiser that answers with predictions that it was handed, and notes where it was asked."""

    process: GaussianDiffusion
    answers: Sequence[Mapping[str, Tensor]] = ()
    asked: list[tuple[Tensor, Tensor]] = field(default_factory=list)

    __hash__ = object.__hash__

    def hand(self, answers: Sequence[Mapping[str, Tensor]]) -> None:
        """Answer so, from now on."""
        self.answers, self.asked = answers, []

    def __call__(self, x: Tensor, t: Tensor) -> Prediction:
        self.asked.append((x, t))
        if len(self.asked) > len(self.answers):
            raise ExportError(f"a move evaluates the network more than {len(self.answers)} times")
        return Prediction(x, self.process.level(t, x), **self.answers[len(self.asked) - 1])


@dataclass(frozen=True)
class Outcome:
    """What a kernel did with some values: where and when it asked, where it ended, and what it remembers."""

    asks: list[Tensor]
    times: list[Tensor]
    x: Tensor
    prediction: Prediction | None

    @property
    def tensors(self) -> list[Tensor]:
        """Everything that has to be linear."""
        kept = [] if self.prediction is None else [self.prediction.x, self.prediction.x0, self.prediction.eps]
        return [*self.asks, self.x, *kept]


Plan = list[list[Step]]
"""The steps of each move."""


class Planner:
    """Turns moves into steps.

    Args:
        given: the denoiser of the moves.
        ndim: of a batch.
        variance: whether the denoiser has a variance head.
        real: whether times are real numbers, not levels.
        number: a kernel that is not linear, with an example of t and s -> the number of its graph.
    """

    def __init__(
        self, given: Given, ndim: int, variance: bool, real: bool, number: Callable[[Kernel, Tensor, Tensor], int]
    ) -> None:
        self.given, self.ndim, self.variance, self.real, self.number = given, ndim, variance, real, number

    def plan(self, moves: Iterable[Move]) -> Plan:
        """The steps of each move. ExportError for a move that is neither linear nor one step of a graph."""
        past: list[Level] = []
        found: Plan = []
        for kernel, t, s in moves:
            steps, remembered = self._move(kernel, t, s, past)
            found.append(steps)
            if remembered is not None:
                past = [remembered, *past][:MOST_PAST]
        return needed(found)

    def _move(self, kernel: Kernel, t: Tensor, s: Tensor, past: list[Level]) -> tuple[list[Step], Level | None]:
        """The steps of a move, and the level of the prediction that it remembers."""
        names = registers(len(past))
        eye = torch.eye(len(names), dtype=torch.float64).reshape(-1, len(names), *(1,) * (self.ndim - 1))
        try:
            basis = self._run(kernel, t, s, past, dict(zip(names, eye, strict=True)), torch.zeros_like(eye[0]))
            linear = self._is_linear(kernel, t, s, past, names, basis)
        except RuntimeError:  # of a kernel that looks at what it does
            linear = False
        if not linear:
            self._check_single(kernel, t, s, past)
            asks, seen = bool(self.given.asked), {name: {name: 1.0} for name in ("x", "x0", "eps")}
            memory = shifted(len(past), seen) if asks else {}
            step: Step = {"t": t.item(), "s": s.item(), "ask": asks, "kernel": self.number(kernel, t, s)}
            return [{**step, "set": memory}], self.given.process.level(t, eye[0]) if asks else None
        if any(time.ndim or time.is_floating_point() != self.real for time in basis.times):
            raise ExportError("it evaluates the network between the model's noise levels")
        return emitted(t, s, names, basis, len(past)), None if basis.prediction is None else basis.prediction.level

    def _run(
        self, kernel: Kernel, t: Tensor, s: Tensor, past: list[Level], values: Mapping[str, Tensor], variance: Tensor
    ) -> Outcome:
        """Run the kernel on these values of the registers."""
        head = {"variance": variance} if self.variance else {}

        def prediction(name: str) -> dict[str, Tensor]:
            return {"x0": values[f"x0{name}"], "eps": values[f"eps{name}"], **head}

        self.given.hand([prediction(f".{j}") for j in range(1, MOST_ASKS + 1)])
        before = tuple(Prediction(values[f"x_{i}"], level, **prediction(f"_{i}")) for i, level in enumerate(past, 1))
        to, kept = kernel(values["x"], t, s, before)
        x = to.sample(lambda like: values["z"])
        return Outcome([x for x, _ in self.given.asked], [t for _, t in self.given.asked], x, kept)

    def _is_linear(
        self, kernel: Kernel, t: Tensor, s: Tensor, past: list[Level], names: list[str], basis: Outcome
    ) -> bool:
        """Whether what the probes measured holds for other values as well."""
        if not all(bool(tensor.isfinite().all()) for tensor in basis.tensors):
            return False
        generator = torch.Generator().manual_seed(0)
        shape = (4, *(3,) * (self.ndim - 1))
        *values, variance = torch.randn(len(names) + 1, *shape, generator=generator, dtype=torch.float64)
        found = self._run(kernel, t, s, past, dict(zip(names, values, strict=True)), variance)
        if len(found.tensors) != len(basis.tensors):
            return False
        for ours, theirs in zip(basis.tensors, found.tensors, strict=True):
            said = torch.einsum("k,k...->...", ours.flatten(), torch.stack(values))
            if not torch.allclose(said, theirs.expand(shape), rtol=1e-7, atol=1e-9):
                return False
        return all(map(torch.equal, basis.times, found.times))

    def _check_single(self, kernel: Kernel, t: Tensor, s: Tensor, past: list[Level]) -> None:
        """ExportError unless one graph can do it: one evaluation at most, and no memory."""
        generator = torch.Generator().manual_seed(0)
        names, shape = registers(len(past)), (4, *(3,) * (self.ndim - 1))
        *values, variance = torch.randn(len(names) + 1, *shape, generator=generator, dtype=torch.float64)
        given = dict(zip(names, values, strict=True))
        try:
            with_past, without = (self._run(kernel, t, s, p, given, variance) for p in (past, []))
        except RuntimeError as error:
            raise ExportError(f"{type(kernel).__name__} looks at the pictures: {error}") from None
        if len(without.asks) > 1:
            raise ExportError(f"{type(kernel).__name__} evaluates the network more than once, and is not linear")
        if not torch.equal(with_past.x, without.x):
            raise ExportError(f"{type(kernel).__name__} is not linear, and looks at predictions before")


def registers(past: int) -> list[str]:
    """x and z; x0.1, eps.1, ... of the evaluations in a move; x_1, x0_1, eps_1, ... of the predictions before it."""
    asks = [f"{name}.{j}" for j in range(1, MOST_ASKS + 1) for name in ("x0", "eps")]
    return ["x", "z", *asks, *(f"{name}_{i}" for i in range(1, past + 1) for name in ("x", "x0", "eps"))]


def shifted(past: int, newest: Mapping[str, Row]) -> dict[str, Row]:
    """The memory after a move: the newest prediction first, the others one further."""
    kept = {f"{name}_{i + 1}": {f"{name}_{i}": 1.0} for i in range(1, min(past, MOST_PAST - 1) + 1) for name in newest}
    return {f"{name}_1": row for name, row in newest.items()} | kept


def emitted(t: Tensor, s: Tensor, names: list[str], basis: Outcome, past: int) -> list[Step]:
    """The steps of a linear move: one for each evaluation, each of which leads to where the next one is."""

    def row(tensor: Tensor, ask: int) -> Row:
        """What was measured, by the names that registers have once so many evaluations of the move are made."""
        weights = tensor.flatten().tolist()
        least = 1e-14 * max(map(abs, weights))
        now = {f"x0.{ask}": "x0", f"eps.{ask}": "eps"} | ({"x": "x.1"} if ask > 1 else {})
        kept = {name: float(f"{w:.10g}") for name, w in zip(names, weights, strict=True) if abs(w) > least}
        return {now.get(name, name): w for name, w in kept.items()}  # of more digits than float32 has

    count, steps = len(basis.asks), []
    if count and row(basis.asks[0], 1) != {"x": 1.0}:
        raise ExportError("a move evaluates the network first somewhere else than where it begins")
    for ask in range(1, count):
        kept: dict[str, Row] = {f"x0.{ask}": {"x0": 1.0}, f"eps.{ask}": {"eps": 1.0}}
        kept |= {"x.1": {"x": 1.0}} if ask == 1 else {}
        to = {"x": row(basis.asks[ask], ask), **kept}
        steps.append({"t": basis.times[ask - 1].item(), "s": basis.times[ask].item(), "ask": True, "set": to})
    last: dict[str, Row] = {"x": row(basis.x, count)}
    if basis.prediction is not None:
        found = {"x": basis.prediction.x, "x0": basis.prediction.x0, "eps": basis.prediction.eps}
        last |= shifted(past, {name: row(value, count) for name, value in found.items()})
    at = basis.times[-1] if count else t
    return [*steps, {"t": at.item(), "s": s.item(), "ask": count > 0, "set": last}]


def needed(plan: Plan) -> Plan:
    """The plan without registers that nobody reads afterwards."""
    live = {"x"}
    for move in reversed(plan):
        for step in reversed(move):
            step["set"] = {name: row for name, row in step["set"].items() if name in live}
            read = {name for row in step["set"].values() for name in row}
            live = (live - set(step["set"])) | read - {"x0", "eps", "z"} | {"x"}
    return plan
