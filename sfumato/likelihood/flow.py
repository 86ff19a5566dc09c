"""The probability-flow ODE of a model: sample, encode and decode with it, and tell how likely pictures are.

A model of variance-preserving levels, such as DDPM, flows between its levels as well, down to the first. Song et al.
2021, section 4.3 and appendix D, by an adaptive solver of ordinary differential equations (torchdiffeq, an extra of
this package) or by Runge-Kutta steps of fixed number, which need no other package.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.likelihood import Divergence, bits_per_dim, exact_divergence, flow_log_prob, hutchinson
from sfumato.core.matching import gaussian, rademacher
from sfumato.core.ode import Solve, State, follow, runge_kutta
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise, mix
from sfumato.core.sampling import DenoiseToZero
from sfumato.data.loader import levels_of, to_float, to_pixels
from sfumato.data.sources import Images
from sfumato.likelihood.report import REAL, Report, protocol_of
from sfumato.models.generate import counted
from sfumato.models.model import Model
from sfumato.models.real import spread
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
    """The probability flow of a model, and how it is solved.

    Attributes:
        solve: `adaptive()`, or `runge_kutta(steps)`, which solves each image by itself.
        start: the time at which data are taken to be (the paper's: 1e-5, and 1e-3 for VP samples); a model knows
            nothing below its first level, or the least time that it was trained at, so it starts there at the earliest.
        labels: (n,) for a model with classes, one a picture.
    """

    model: Model
    solve: Solve
    start: float = 1e-5
    labels: Tensor | None = None

    def __post_init__(self) -> None:
        self.model.alone("a probability flow")
        if self.model.diffusion.lower_bound is not None:
            raise ValueError("a model of 2015 knows its levels, and nothing between them: it has K, and no flow")
        if self.model.recipe.conditioning.classes and self.labels is None:
            raise ValueError("this model was trained with classes, so each picture needs its label")
        if not 0 < self.start < self._end:
            raise ValueError(f"the flow starts between 0 and {self._end:g}, not at {self.start:g}")

    def process(self) -> GaussianDiffusion:
        """The model's process in continuous time. ValueError where its levels have none between them."""
        return GaussianDiffusion(self.model.diffusion.gaussian.schedule.continuous())

    @property
    def first(self) -> float:
        """Where the flow starts."""
        return max(self.start, self.process().schedule.first)

    @property
    def _levels(self) -> int:
        """How many levels the model's continuous time stands for; 0 where its own time is continuous."""
        return self.process().schedule.continuous().levels

    @property
    def _end(self) -> float:
        return self.process().schedule.end

    def _denoise(self, keys: Sequence[int]) -> Denoise:
        """The denoiser of these images in continuous time, neither clipped nor guided: the flow is to be smooth."""
        model, T = self.model, self._levels
        labels = None if self.labels is None else self.labels[list(keys)].to(model.device)
        conditioning = model.recipe.conditioning
        denoise = model.diffusion.denoise(model.network, {**conditioning.inputs(labels), **conditioning.told(None)})
        return (lambda x, t: denoise(x, T * t)) if T else denoise

    def _precise(self, x: Tensor) -> Tensor:
        """In float64, where the device knows it: the solver adds up many small steps."""
        return x.to(self.model.device, torch.float32 if self.model.device.type == "mps" else torch.float64)

    def _follow(self, x: Tensor, start: float, end: float, keys: Sequence[int]) -> Tensor:
        return follow(self.process(), self._denoise(keys), self._precise(x), start, end, self.solve)

    def latents(self, n: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """Noise to decode, (n, C, H, W): that of picture i follows from (seed, i); a temperature below 1 shrinks it."""
        recipe = self.model.recipe
        prior = self.process().prior((n, *recipe.space.shape(recipe.shape)), self.model.device)
        return temperature * prior.sample(ImageNoise(seed, range(n)))

    @torch.no_grad()
    def encode(self, images: Tensor) -> Tensor:
        """Pictures (n, C, H, W) -> their latents, the only ones that the flow takes back to them (appendix D.3)."""
        x = self.model.space.encode(to_float(images).to(self.model.device))
        return self._follow(x, self.first, self._end, range(len(images)))

    @torch.no_grad()
    def decode(self, latents: Tensor, clean: bool = True) -> Tensor:
        """Latents (n, C, H, W) -> pictures, of the depth of the data; `clean` takes out the noise that is left."""
        keys = range(len(latents))
        x = self._follow(latents, self._end, self.first, keys)
        if clean:
            t = torch.tensor(self.first, dtype=torch.float64)
            x = DenoiseToZero(self._denoise(keys))(x, t, t).to.mean
        space = self.model.space
        return to_pixels(space.decode(x), space.levels).cpu()

    def sample(self, n: int, seed: int = 0, temperature: float = 1.0) -> Tensor:
        """n pictures, (n, C, H, W)."""
        return self.decode(self.latents(n, seed, temperature))


# ---------------------------------------------------------------- likelihood


def dequantised(images: Tensor, u: Tensor) -> Tensor:
    """Uniform dequantisation: images (B, ...) and uniform numbers u in [0, 1) -> points in [-1, 1].

    uint8 are spread over 256 bins of width 1 / 128, uint16 over 65536 of 2 / 65536; real numbers stay as they are.
    """
    levels = levels_of(images)
    return 2 * (images.double() + u) / levels - 1 if levels else images.double()


def ode_likelihood(
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
    pool: WorkerPool[Model] | None = None,
    progress: Callable[[int], object] | None = None,
) -> Report:
    """Bits/dim of images under a model's probability-flow ODE, uniformly dequantised (Song et al. 2021, eq. 39).

    An upper bound on the bits of the images themselves, of 8 or of 16 bits, and unbiased but for the solver's error.
    Real numbers have a density and no bits: theirs are nats/dim of data in [-1, 1], minus the log density.

    Args:
        solve: `runge_kutta(50)` where None, image by image the same in any batch; `adaptive()` is the paper's.
        probes: Hutchinson probes an image, the same along the whole flow.
        kind: of the probes; "exact" takes the whole trace, one backward pass a dimension.
        repeats: estimates of each image (the paper's test set: 5).
        limit: only so many images, spread over the set.
        seed: dequantisation and probes of image i follow from (seed, i) and the repeat.
        pool: processes that share the images, batch by batch, and load this very model.
        progress: called with the number of images that are done, every repeat anew.

    Returns: a report whose detail is the mean number of network evaluations an estimate.

    Raises:
        ValueError: a model of separate levels that are not variance preserving, images of another shape or without the
            labels that it needs.
    """
    if probes < 1 or repeats < 1:
        raise ValueError(f"probes and repeats are at least 1, not {probes} and {repeats}")
    model.of_pixels("a likelihood")
    pixels, labels = spread(model, images, limit)
    count, solver = len(pixels), runge_kutta(50) if solve is None else solve
    levels = levels_of(pixels)
    flow = Flow(model, solver, start, labels)
    work = partial(_one_batch, images=pixels, labels=labels, solve=solver, start=start, seed=seed, kind=kind,
                   probes=probes)  # fmt: skip
    parts = [range(r * count + part.start, r * count + part.stop) for r in range(repeats)
             for part in batches(count, batch)]  # fmt: skip
    found, evaluations = zip(*distribute(work, model, parts, pool, progress), strict=True)
    protocol = protocol_of(
        model, images, count, seed, repeats=repeats, start=flow.first,
        dequantisation=f"uniform, {levels} bins over [-1, 1]" if levels else f"none, {REAL}",
        divergence=kind if kind == "exact" else f"{probes} {kind}",
    )  # fmt: skip
    values = torch.cat(found).reshape(repeats, count)
    details = {"network_evaluations": sum(evaluations) / len(evaluations)}
    unit, bits = ("bits/dim", float(values.mean())) if levels else ("nats/dim", None)
    return Report("probability flow", unit, values, bits, protocol, details)


def _one_batch(
    model: Model, part: range, *, images: Tensor, labels: Tensor | None, solve: Solve, start: float, seed: int,
    kind: str, probes: int,
) -> tuple[Tensor, int]:  # fmt: skip
    """Bits/dim of one batch (nats/dim of real numbers), (B,) on the host, and the network's evaluations.

    Every repeat goes through all images.
    """
    repeat, first = divmod(part.start, len(images))
    keys, space = range(first, first + len(part)), model.recipe.space
    flow, mixed = Flow(model, solve, start, labels), mix(seed, repeat)
    pixels = images[list(keys)]
    x = to_float(pixels).to(model.device)
    u = torch.special.ndtr(ImageNoise(mix(mixed, DEQUANTISE), keys)(x).double())
    x = flow._precise(space.encode(dequantised(pixels.to(x.device), u)))
    divergence: Divergence = exact_divergence
    if kind != "exact":
        noise = ImageNoise(mix(mixed, PROBE), keys)
        divergence = hutchinson(torch.stack([PROBES[kind](noise(x)) for _ in range(probes)]))
    with counted(model.network) as evaluations:
        log_prob, _ = flow_log_prob(flow.process(), flow._denoise(keys), x, solve, divergence, flow.first)
    dims = x[0].numel()
    of_image = log_prob + dims * space.log_volume
    levels = levels_of(pixels)
    each = bits_per_dim(of_image, dims, 2 / levels) if levels else -of_image / dims
    return each.double().cpu(), len(evaluations)
