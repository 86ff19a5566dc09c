"""How fast a GPU is with our networks, by default and with every switch, beside diffusers' network of the same sizes.

A subject is a network; a way is a set of switches. What must be compiled first is prepared by a worker of its own while
others are at work, and timed when the device is free. Speeds are images a second; a step of training is forward,
backward, clipping, AdamW and the average; sampling is 50 DDIM steps, noise and pictures included.
"""

from __future__ import annotations

import statistics
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_checks import network
from gpu_common import Place, settle
from gpu_training import Step, built, uniforms, use_kernel
from torch import Tensor, nn

from sfumato import papers
from sfumato.core.sampling import finish
from sfumato.cost.network import forward_flops
from sfumato.data import open_source
from sfumato.models import Model
from sfumato.networks.unet import HoUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import PRESETS
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.precision import autocast, for_sampling
from sfumato.train.captured import graphed
from sfumato.train.ema import EMA
from sfumato.train.loop import train

STEPS = 50
"""Of DDIM."""
LAYOUTS = {False: torch.contiguous_format, True: torch.channels_last}


@dataclass(frozen=True)
class Subject:
    """A network and how many images it sees at once.

    Attributes:
        recipe: whose network it is.
        forward, training, sampling: images at a time; 0 leaves it out.
    """

    recipe: Any
    forward: int
    training: int
    sampling: int


SUBJECTS = {
    "CIFAR-10 DDPM": Subject(DDPM(), 256, 128, 128),
    "ADM 64x64": Subject(PRESETS["adm/imagenet64"].recipe, 32, 16, 0),
    "ddpm/fashion": Subject(PRESETS["ddpm/fashion"].recipe, 1024, 256, 1024),
    "adm/fashion": Subject(PRESETS["adm/fashion"].recipe, 1024, 256, 1024),
}
TINY = {"ddpm/digits": Subject(DDPM((1, 8, 8), HoUNet(8, (1, 2), blocks=1)), 4, 4, 0)}


@dataclass(frozen=True)
class Way:
    """Which switches are on.

    Attributes:
        name: in words.
        channels_last: the layout.
        compiled: the network by torch.compile.
        fused: normalisation with its scale, shift and SiLU by our kernel.
        graph: all launches of a piece of work in one CUDA graph.
        precision: of the arithmetic.
    """

    name: str
    channels_last: bool = False
    compiled: bool = False
    fused: bool = False
    graph: bool = False
    precision: str = "bf16"


EAGER = (
    Way("default"),
    Way("float32", precision="float32"),
    Way("channels last", channels_last=True),
    Way("CUDA graph", graph=True),
    Way("channels last, CUDA graph", channels_last=True, graph=True),
    Way("fused norm", fused=True),
    Way("fused norm, channels last", fused=True, channels_last=True),
    Way("fused norm, CUDA graph", fused=True, graph=True),
    Way("fused norm, channels last, CUDA graph", fused=True, channels_last=True, graph=True),
)
COMPILED = (
    Way("compiled, channels last", compiled=True, channels_last=True),
    Way("compiled, channels last, CUDA graph", compiled=True, channels_last=True, graph=True),
)
PLAIN = (Way("compiled", compiled=True),)

WORKERS: dict[str, tuple[tuple[str, ...], tuple[Way, ...]]] = {
    "eager": (("ddpm/fashion", "CIFAR-10 DDPM", "ADM 64x64", "adm/fashion"), EAGER),
    "compiled-fashion": (("ddpm/fashion",), (*COMPILED, *PLAIN)),
    "compiled-cifar": (("CIFAR-10 DDPM",), COMPILED),
    "compiled-adm": (("ADM 64x64",), COMPILED[:1]),
}
"""Who times what; those that compile prepare while others work."""


def workers(place: Place) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Their names in the order of their turns: those that need no compiling, and the others."""
    later = ("compiled-fashion", "diffusers", "compiled-cifar", "compiled-adm")
    return ("eager",) if place.tiny else ("loop", "eager"), later if place.compile and not place.tiny else ()


# ---------------------------------------------------------------- timing


def timed(place: Place, work: Callable[[], object], images: int) -> dict[str, float]:
    """Images a second: the median of three turns that fill the seconds, or one of what takes longer; peak memory."""
    work()
    settle(place.device)
    if place.device == "cuda":
        torch.cuda.reset_peak_memory_stats()
    started = time.perf_counter()
    work()
    settle(place.device)
    once = time.perf_counter() - started
    many = max(1, min(200, int(place.seconds / 3 / once)))
    speeds = []
    for _ in range(3 if once < place.seconds else 1):
        started = time.perf_counter()
        for _ in range(many):
            work()
        settle(place.device)
        speeds.append(many * images / (time.perf_counter() - started))
    peak = torch.cuda.max_memory_allocated() if place.device == "cuda" else 0
    return {"images_per_second": statistics.median(speeds), "spread": max(speeds) / min(speeds) - 1, "peak": peak}


def ceiling(place: Place) -> dict[str, float]:
    """What the device reaches at best: bf16 products, TFLOP/s; a copy in its memory, GB/s read and written."""
    n = 256 if place.tiny else 8192
    a, b = (torch.randn(n, n, device=place.device).bfloat16() for _ in range(2))
    c = torch.empty_like(a)
    speed = timed(place, lambda: torch.mm(a, b, out=c), 1)["images_per_second"]
    source = torch.empty((1 << 20) if place.tiny else (1 << 31), dtype=torch.uint8, device=place.device)
    target = torch.empty_like(source)
    copies = timed(place, lambda: target.copy_(source), 1)["images_per_second"]
    return {"bf16_tflops": 2 * n**3 * speed / 1e12, "copy_gigabytes": 2 * source.numel() * copies / 1e9}


def compiling(way: Way, net: nn.Module) -> Any:
    """The network, compiled where asked."""
    return torch.compile(net, dynamic=False) if way.compiled else net


# ---------------------------------------------------------------- our work


def evaluating(subject: Subject, way: Way, place: Place, n: int) -> tuple[Any, Tensor, Tensor, dict[str, Tensor]]:
    """A network ready to be asked, with x (n, C, H, W), t and labels."""
    recipe = subject.recipe
    net = for_sampling(network(recipe, place.device), place.device, way.precision)
    net.to(memory_format=LAYOUTS[way.channels_last])  # type: ignore[call-overload]
    x = torch.randn(n, *recipe.shape, device=place.device).contiguous(memory_format=LAYOUTS[way.channels_last])
    count = recipe.conditioning.classes
    labels = {"y": torch.arange(n, device=place.device) % count} if count else {}
    return compiling(way, net), x, torch.full((n,), 500.0, device=place.device), labels


def forward(subject: Subject, way: Way, place: Place) -> Callable[[], object]:
    """One evaluation of the network."""
    net, x, t, labels = evaluating(subject, way, place, subject.forward)

    def work() -> Tensor:
        with torch.no_grad(), autocast(place.device, way.precision):
            out: Tensor = net(x, t, **labels)
        return out

    return graphed(work)[0] if way.graph else work


def sampling(subject: Subject, way: Way, place: Place) -> Callable[[], object]:
    """50 DDIM steps; by default `Model.sample` itself, noise drawn for each picture and bytes on the host."""
    recipe = subject.recipe
    if way == Way("default"):
        model = Model(recipe, network(recipe, place.device))
        return lambda: model.sample(subject.sampling, steps=STEPS, batch=subject.sampling)
    net, x, _, labels = evaluating(subject, way, place, subject.sampling)
    model = Model(recipe, net)
    denoise = model.diffusion.clipped(model.diffusion.denoise(net, recipe.conditioning.inputs(labels.get("y"), None)))
    moves = model.sampler("ddim").plan(model.diffusion.gaussian, denoise, STEPS)

    def work() -> Tensor:
        with torch.no_grad(), autocast(place.device, way.precision):
            return finish(x, moves)

    return work


def training(subject: Subject, way: Way, place: Place) -> Callable[[], object]:
    """A step with everything drawn on the device."""
    settings = TrainConfig(batch=subject.training, precision=way.precision)  # type: ignore[arg-type]
    recipe = subject.recipe
    step: Step = built(recipe, settings, place.device, way.compiled, LAYOUTS[way.channels_last])
    if way.graph:
        for group in step.optimizer.param_groups:
            group["capturable"], group["lr"] = True, torch.tensor(1e-4, device=place.device)
    ema = EMA(step.network, (0.999,))
    pixels = torch.randint(0, 256, (subject.training, *recipe.shape), dtype=torch.uint8, device=place.device)
    count = recipe.conditioning.classes
    labels = torch.arange(len(pixels), device=place.device) % count if count else None

    def work() -> None:
        step(pixels.float() / 127.5 - 1, labels, uniforms(0, len(pixels), place.device))
        ema.update(1000, 100_000)

    return graphed(work)[0] if way.graph else work


KINDS: dict[str, Callable[[Subject, Way, Place], Callable[[], object]]] = {
    "forward": forward, "training": training, "sampling": sampling,
}  # fmt: skip
COST = {"forward": 1, "training": 3, "sampling": STEPS}
"""Forward passes that a picture costs; a backward pass counts as two."""


def subjects(place: Place) -> dict[str, Subject]:
    """By name."""
    return TINY if place.tiny else SUBJECTS


def ours(name: str, place: Place) -> None:
    """One worker: prepare what must be compiled, wait, time everything."""
    names, ways = (("ddpm/digits",), EAGER[:1]) if place.tiny else WORKERS[name]
    known = subjects(place)
    jobs = [(s, w, k) for s in names for w in ways for k in KINDS if getattr(known[s], k)]
    jobs = [(s, w, k) for s, w, k in jobs if not (w.graph and k == "sampling")]  # its levels come from the host
    if name == "eager":  # these two by the switches that matter
        few = {"ADM 64x64": (EAGER[0], EAGER[2], EAGER[-1]), "adm/fashion": (EAGER[0], EAGER[3], EAGER[-1])}
        jobs = [(s, w, k) for s, w, k in jobs if w in few.get(s, EAGER)]
    made: dict[tuple[str, str, str], Callable[[], object]] = {}
    for s, w, k in jobs:
        if w.compiled and not w.graph:  # a graph is captured when the device is free
            with place.noted("prepared", name=f"{s}, {k}, {w.name}") as values:
                made[s, w.name, k] = KINDS[k](known[s], w, place)
                made[s, w.name, k]()
                settle(place.device)
                values["ok"] = True
    place.tell("ready", f"bench:{name}")
    if place.wait("go", f"bench:{name}") is None:
        return
    for s, w, k in jobs:
        with place.noted("bench", subject=s, work=k, way=w.name, batch=getattr(known[s], k)) as values:
            use_kernel(w.fused)
            job = made.pop((s, w.name, k), None) or KINDS[k](known[s], w, place)
            values |= timed(place, job, getattr(known[s], k))
            values["tflops"] = values["images_per_second"] * COST[k] * forward_flops(known[s].recipe) / 1e12
            del job
        if place.device == "cuda":
            torch.cuda.empty_cache()


# ---------------------------------------------------------------- sfumato train, as it is


def loop(place: Place) -> None:
    """Images a second that `sfumato train` reports, with its data, noise of each image, and checks.

    Plain and captured; and of each the second half alone, since capturing is a part of so short a run.
    """
    place.tell("ready", "bench:loop")
    if place.wait("go", "bench:loop") is None:
        return
    for batch, capture in ((64, False), (64, True), (256, False), (256, True)):
        name, way = "ddpm/fashion", "sfumato train, captured" if capture else "sfumato train"
        with place.noted("bench", subject=name, work="training", way=way, batch=batch) as values:
            recipe: Any = PRESETS[name].recipe
            settings = TrainConfig(
                minutes=max(3.0, place.seconds) / 60, batch=batch, preview_images=0, validation_images=0,
                checkpoint_every=1e9, capture=capture,
            )  # fmt: skip
            with tempfile.TemporaryDirectory() as out:
                result = train(
                    recipe, open_source("fashion?limit=10000"), settings, Path(out) / "run",
                    config={"recipe": papers.to_json(recipe)}, quiet=True,
                )  # fmt: skip
                rows = RunFolder.open(Path(out) / "run").metrics("train")
            values["images_per_second"] = result.images_per_second
            early, late = rows[len(rows) // 2], rows[-1]
            span = max(late["seconds"] - early["seconds"], 1e-9)
            values["after its start"] = (
                late["images"] - early["images"]
            ) / span  # capturing takes a part of so short a run
            values["tflops"] = result.images_per_second * 3 * forward_flops(recipe) / 1e12


# ---------------------------------------------------------------- diffusers


@dataclass
class Theirs:
    """diffusers' UNet2DModel with our weights, as its example for unconditional images and its pipeline use it."""

    recipe: DDPM
    place: Place
    channels_last: bool
    compiled: bool

    def network(self) -> Any:
        """Anew."""
        from diffusers import UNet2DModel

        from sfumato.convert.diffusers import write

        with tempfile.TemporaryDirectory() as folder:
            write(Path(folder), self.recipe, network(self.recipe, "cpu"))
            net = UNet2DModel.from_pretrained(folder, subfolder="unet").to(self.place.device)
        return net.to(memory_format=LAYOUTS[self.channels_last])

    def forward(self, n: int) -> Callable[[], object]:
        """One evaluation, weights in bf16."""
        net = self.network().eval().bfloat16()
        net = torch.compile(net, dynamic=False) if self.compiled else net
        x = torch.randn(n, *self.recipe.shape, device=self.place.device, dtype=torch.bfloat16)
        t = torch.full((n,), 500, device=self.place.device)

        def work() -> Any:
            with torch.no_grad():
                return net(x, t, return_dict=False)[0]

        return work

    def sampling(self, n: int) -> Callable[[], object]:
        """50 DDIM steps, weights in bf16."""
        from diffusers import DDIMScheduler

        net = self.network().eval().bfloat16()
        net = torch.compile(net, dynamic=False) if self.compiled else net
        scheduler: Any = DDIMScheduler()
        scheduler.set_timesteps(STEPS)

        def work() -> Any:
            x = torch.randn(n, *self.recipe.shape, device=self.place.device, dtype=torch.bfloat16)
            with torch.no_grad():
                for t in scheduler.timesteps:
                    x = scheduler.step(net(x, t, return_dict=False)[0], t, x, return_dict=False)[0]
            return (127.5 * x.float() + 128).clamp(0, 255).byte().cpu()

        return work

    def training(self, n: int) -> Callable[[], object]:
        """A step of its example: bf16 by autocast, clipped, AdamW, its average."""
        from diffusers import DDPMScheduler
        from diffusers.training_utils import EMAModel

        net = self.network().train()
        model: Any = torch.compile(net, dynamic=False) if self.compiled else net
        scheduler: Any = DDPMScheduler()
        device = self.place.device
        optimizer = torch.optim.AdamW(net.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
        ema = EMAModel(net.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
        x0 = torch.rand(n, *self.recipe.shape, device=device) * 2 - 1
        half = torch.autocast(device, torch.bfloat16) if device == "cuda" else nullcontext()

        def work() -> None:
            noise, t = torch.randn_like(x0), torch.randint(0, 1000, (n,), device=device)
            with half:
                found = model(scheduler.add_noise(x0, noise, t), t, return_dict=False)[0]
                loss = nn.functional.mse_loss(found.float(), noise)
            loss.backward()
            nn.utils.clip_grad_norm_(net.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(net.parameters())

        return work


def diffusers(place: Place) -> None:
    """diffusers, eager and compiled, on the CIFAR-10 and the fashion network."""
    jobs: list[tuple[str, str, str, Callable[[], object]]] = []
    for s in ("CIFAR-10 DDPM", "ddpm/fashion"):
        subject = SUBJECTS[s]
        recipe = DDPM() if s == "CIFAR-10 DDPM" else DDPM(
            (1, 28, 28), HoUNet(32, (1, 2, 2), blocks=1, attention=(4,), dropout=0.0)
        )  # fmt: skip
        for way, last, compiled in (("diffusers", False, False), ("diffusers, compiled, channels last", True, True)):
            theirs = Theirs(recipe, place, last, compiled)
            for k in KINDS:
                job = partial(getattr(theirs, k), getattr(subject, k))
                with place.noted("prepared", name=f"{s}, {k}, {way}") as values:
                    made = job()
                    if compiled:
                        made()
                        settle(place.device)
                    jobs.append((s, k, way, made))
                    values["ok"] = True
    place.tell("ready", "bench:diffusers")
    if place.wait("go", "bench:diffusers") is None:
        return
    for s, k, way, made in jobs:
        batch = getattr(SUBJECTS[s], k)
        with place.noted("bench", subject=s, work=k, way=way, batch=batch) as values:
            values |= timed(place, made, batch)
            values["tflops"] = values["images_per_second"] * COST[k] * forward_flops(SUBJECTS[s].recipe) / 1e12


def work(name: str, place: Place) -> None:
    """A worker."""
    {"loop": loop, "diffusers": diffusers}.get(name, partial(ours, name))(place)
    place.tell("done", f"bench:{name}")
