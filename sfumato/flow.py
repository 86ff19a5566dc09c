"""What the probability flow of a model does: sample, encode and decode, and tell how likely pictures are.

A model of variance-preserving levels, such as DDPM, flows between its levels as well, down to the first. Song et al.
2021, section 4.3 and appendix D, by an adaptive solver of ordinary differential equations (torchdiffeq, an extra of
this package) or by Runge-Kutta steps of fixed number, which need no other package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.kernels import Clean
from sfumato.core.likelihood import Divergence, bits_per_dim, exact_divergence, flow_log_prob, hutchinson
from sfumato.core.matching import gaussian, rademacher
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.schedules import Interpolated, Table
from sfumato.core.sde import Solve, State, follow, runge_kutta, sde
from sfumato.data.loader import to_float, to_uint8
from sfumato.data.sources import Images
from sfumato.model import Model, counted
from sfumato.papers.recipe import Classifying, Nonequilibrium, low_res_side
from sfumato.runtime.workers import WorkerPool, batches, distribute

PROBES = {"rademacher": rademacher, "gaussian": gaussian}
DEQUANTISE, PROBE = 1, 2
"""Keys of the two kinds of randomness in a likelihood."""


def adaptive(rtol: float = 1e-5, atol: float = 1e-5, method: str = "dopri5", calls: list[int] | None = None) -> Solve:
    """A solver that chooses its steps by their error; the images of a batch share them, and so depend on each other.

    Args:
        rtol, atol: the error of a step, relative and absolute (the paper's: 1e-5 each).
        method: of torchdiffeq: "dopri5" (the paper's RK45), "bosh3", "dopri8", ...
        calls: a list to which the number of network evaluations of each solution in this process is appended.

    Raises: ValueError where torchdiffeq is not installed.
    """
    try:
        from torchdiffeq import odeint
    except ImportError:
        raise ValueError(
            'adaptive solving needs torchdiffeq: pip install "sfumato[ode]"; or take Runge-Kutta steps of fixed number'
        ) from None

    return partial(_adaptive, odeint, rtol, atol, method, calls)


def _adaptive(
    odeint: Callable[..., Any], rtol: float, atol: float, method: str, calls: list[int] | None,
    derivative: Callable[[Tensor, State], State], state: State, start: float, end: float,
) -> State:  # fmt: skip
    count = 0

    def scaled(u: Tensor, state: State) -> State:
        nonlocal count
        count += 1
        share = u.double().cpu().clamp(0, 1)  # a first guess may look beyond the end, where there is no model
        return tuple((end - start) * slope for slope in derivative(start + share * (end - start), state))

    ends = torch.tensor([0.0, 1.0], dtype=torch.float64, device=state[0].device)
    way = odeint(scaled, state, ends, rtol=rtol, atol=atol, method=method, options={"step_t": ends[1:]})
    if calls is not None:
        calls.append(count)
    return tuple(values[-1] for values in way)


@dataclass(frozen=True)
class Flow:
    """A model and how its flow is solved.

    Attributes:
        solve: `adaptive()`, or `runge_kutta(steps)`, which solves each image by itself.
        start: the time at which data are taken to be (the paper's: 1e-5, and 1e-3 for VP samples); a model of levels
            knows nothing below the first, so it starts there at the earliest.
        labels: (n,) for a model with classes, one a picture.
    """

    model: Model
    solve: Solve
    start: float = 1e-5
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        recipe = self.model.recipe
        if isinstance(recipe, Classifying) or low_res_side(recipe):
            raise ValueError("a flow needs a model that makes pictures out of noise alone")
        if recipe.classes and self.labels is None:
            raise ValueError("this model was trained with classes, so each picture needs its label")
        if not 0 < self.start < sde(self.process()).end:
            raise ValueError(f"the flow starts between 0 and {sde(self.process()).end:g}, not at {self.start:g}")

    def process(self) -> GaussianDiffusion:
        """The model's process in continuous time. ValueError where its levels have none between them."""
        process = self.model.recipe.process()
        table = process.schedule
        return GaussianDiffusion(Interpolated(table)) if isinstance(table, Table) else process

    @property
    def first(self) -> float:
        """Where the flow starts."""
        table = self.model.recipe.process().schedule
        return max(self.start, 1 / table.T) if isinstance(table, Table) else self.start

    def _denoise(self, keys: Sequence[int]) -> Any:
        recipe = self.model.recipe
        labels: dict[str, Any] = {}
        if self.labels is not None and recipe.classes:
            labels["y"] = self.labels[list(keys)].to(self.model.device)
        table = recipe.process().schedule
        if not isinstance(table, Table):
            return recipe.denoiser(self.model.network, **labels)
        whole = replace(recipe, clip=False) if getattr(recipe, "clip", False) else recipe  # type: ignore[type-var]
        denoise = whole.denoiser(self.model.network, **labels)
        return lambda x, t: denoise(x, table.T * t)

    def _precise(self, x: Tensor) -> Tensor:
        """In float64, where the device knows it: the solver adds up many small steps."""
        return x.to(self.model.device, torch.float32 if self.model.device.type == "mps" else torch.float64)

    def _follow(self, x: Tensor, start: float, end: float, keys: Sequence[int]) -> Tensor:
        return follow(self.process(), self._denoise(keys), self._precise(x), start, end, self.solve)

    def latents(self, n: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Noise to decode, (n, C, H, W): that of picture i follows from (seed, i); a temperature below 1 shrinks it."""
        recipe = self.model.recipe
        prior = self.process().prior((n, *recipe.shape), self.model.device)
        return temperature * prior.sample(ImageNoise(seed, range(n)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> their latents, the only ones that the flow takes back to them (appendix D.3)."""
        return self._follow(to_float(images), self.first, self._end, range(len(images)))

    @torch.no_grad()
    def decode(self, latents: Tensor, clean: bool = True) -> Tensor:
        """Latents (n, C, H, W) -> pictures, uint8; `clean` takes out the noise that is left at the start."""
        x = self._follow(latents, self._end, self.first, range(len(latents)))
        if clean:
            t = torch.tensor(self.first, dtype=torch.float64)
            x = Clean(self._denoise(range(len(latents))))(x, t, t).mean
        return to_uint8(x).cpu()

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """n pictures, uint8 (n, C, H, W)."""
        return self.decode(self.latents(n, seed, temperature))

    @property
    def _end(self) -> float:
        return sde(self.process()).end


# ---------------------------------------------------------------- likelihood


def dequantised(images: Tensor, u: Tensor) -> Tensor:
    """uint8 (B, ...) and uniform numbers u in [0, 1) -> points in [-1, 1], spread over 256 bins of width 1 / 128."""
    return (images.double() + u) / 128 - 1


@dataclass(frozen=True)
class FlowReport:
    """The likelihood of a set of images under a flow.

    Attributes:
        values: (repeats, n) bits/dim of each image, each time with other dequantisation and other probes.
        protocol: data, their fingerprint, dequantisation, probes, solver, where the flow starts, seed, weights.
        evaluations: of the network an estimate, the mean over batches.
    """

    values: Tensor
    protocol: dict[str, Any]
    evaluations: float = float("nan")

    @property
    def bits_per_dim(self) -> float:
        """The mean over images and repeats."""
        return float(self.values.mean())

    @property
    def standard_error(self) -> float:
        """Of the mean, over images: which ones they are, and the randomness of their estimates."""
        each = self.values.mean(0)
        return float(each.std() / len(each) ** 0.5) if len(each) > 1 else float("nan")

    @property
    def estimate_error(self) -> float:
        """Of the mean for these very images: dequantisation and probes alone. Needs two repeats or more."""
        repeats, n = self.values.shape
        return float((self.values.var(0).mean() / (repeats * n)).sqrt()) if repeats > 1 else float("nan")

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        return {
            "method": "probability flow", "unit": "bits/dim", "total": self.bits_per_dim,
            "standard_error": self.standard_error, "estimate_error": self.estimate_error, "protocol": self.protocol,
        }  # fmt: skip


def flow_likelihood(
    model: Model,
    images: Images,
    solve: Solve | None = None,
    *,
    probes: int = 1,
    kind: Literal["rademacher", "gaussian", "exact"] = "rademacher",
    repeats: int = 1,
    start: float = 1e-5,
    limit: int | None = None,
    seed: int = 0,
    batch: int = 64,
    team: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> FlowReport:
    """Bits per dimension of images under a model's probability flow, uniformly dequantised (Song et al. 2021, eq. 39).

    An upper bound on the bits of the 8-bit images themselves, and unbiased but for the solver's error.

    Args:
        solve: `runge_kutta(50)` where None, image by image the same in any batch; `adaptive()` is the paper's.
        probes: Hutchinson probes an image, the same along the whole flow.
        kind: of the probes; "exact" takes the whole trace, one backward pass a dimension.
        repeats: estimates of each image (the paper's test set: 5).
        limit: only so many images, spread over the set.
        seed: dequantisation and probes of image i follow from (seed, i) and the repeat.
        team: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done, every repeat anew.

    Raises:
        ValueError: a model of separate levels that are not variance preserving, images of another shape or without the
            labels that it needs.
    """
    if probes < 1 or repeats < 1:
        raise ValueError(f"probes and repeats are at least 1, not {probes} and {repeats}")
    recipe = model.recipe
    if isinstance(recipe, Nonequilibrium):
        raise ValueError("a model of 2015 knows no score, so it has no flow; its bound is --method bound")
    if images.shape != recipe.shape:
        raise ValueError(f"the model makes {recipe.shape} images, {images.spec} has {images.shape}")
    if recipe.classes and (images.labels is None or images.classes != model.classes):
        raise ValueError(f"the model was trained with classes that {images.spec} does not have")
    solver = runge_kutta(50) if solve is None else solve
    count = min(limit or len(images), len(images))
    chosen = torch.arange(count) * len(images) // count
    labels = images.labels[chosen] if recipe.classes and images.labels is not None else None
    flow = Flow(model, solver, start, labels)
    work = partial(_one_batch, images=images.images[chosen], labels=labels, solve=solver, start=start, seed=seed,
                   kind=kind, probes=probes)  # fmt: skip
    parts = [range(r * count + part.start, r * count + part.stop) for r in range(repeats)
             for part in batches(count, batch)]  # fmt: skip
    values, evaluations = zip(*distribute(work, model, parts, team, progress), strict=True)
    protocol = {
        "data": images.spec, "fingerprint": images.card.fingerprint, "images": count, "repeats": repeats,
        "dequantisation": "uniform, 256 bins over [-1, 1]", "start": flow.first, "seed": seed,
        "divergence": kind if kind == "exact" else f"{probes} {kind}", "weights": model.about.get("weights"),
    }  # fmt: skip
    return FlowReport(torch.cat(values).reshape(repeats, count), protocol, sum(evaluations) / len(evaluations))


def _one_batch(
    model: Model, part: range, *, images: Tensor, labels: Tensor | None, solve: Solve, start: float, seed: int,
    kind: str, probes: int,
) -> tuple[Tensor, int]:  # fmt: skip
    """Bits/dim of one batch, (B,) on the host, and the network's evaluations; every repeat goes through all images."""
    repeat, first = divmod(part.start, len(images))
    keys = range(first, first + len(part))
    flow, mixed = Flow(model, solve, start, labels), mix(seed, repeat)
    pixels = images[list(keys)]
    x = to_float(pixels).to(model.device)
    u = torch.special.ndtr(ImageNoise(mix(mixed, DEQUANTISE), keys)(x).double())
    x = flow._precise(dequantised(pixels.to(x.device), u))
    divergence: Divergence = exact_divergence
    if kind != "exact":
        noise = ImageNoise(mix(mixed, PROBE), keys)
        divergence = hutchinson(torch.stack([PROBES[kind](noise(x)) for _ in range(probes)]))
    with counted(model.network) as evaluations:
        log_prob, _ = flow_log_prob(flow.process(), flow._denoise(keys), x, solve, divergence, flow.first)
    return bits_per_dim(log_prob, x[0].numel(), 1 / 128).double().cpu(), len(evaluations)


__all__ = ["Flow", "FlowReport", "adaptive", "dequantised", "flow_likelihood", "runge_kutta"]
