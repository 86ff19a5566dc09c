"""Training the models that ship on a GPU: everything on the device, each model a process, all of them side by side.

The recipes' own losses, averages and learning rates are used; what differs from `sfumato train` is that images, order,
levels and noise are drawn on the device, so that nothing waits for the host. The budget is a number of seconds.
"""

from __future__ import annotations

import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from gpu_common import Place, settle
from torch import Tensor, nn

from sfumato.core.diffusion import Classification, Diffusion
from sfumato.core.times import low_discrepancy
from sfumato.cost.network import parameters
from sfumato.data import open_source, pictures, to_float
from sfumato.data.loader import flip
from sfumato.data.sources import Images
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import Classifier, load
from sfumato.models.trained import Trained
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import autocast
from sfumato.train.captured import graphed, moved
from sfumato.train.ema import EMA
from sfumato.train.learning_rate import learning_rate_at
from sfumato.train.validation import Validation

# ---------------------------------------------------------------- what is trained


@dataclass(frozen=True)
class Task:
    """One model.

    Attributes:
        preset: where recipe, data and training numbers come from.
        network, settings: what differs from it.
        ending: of the model's name, where a preset is trained twice.
    """

    preset: str
    network: dict[str, Any] = field(default_factory=dict)
    settings: dict[str, Any] = field(default_factory=dict)
    ending: str = ""

    @property
    def name(self) -> str:
        """As its file is called."""
        return self.preset.replace("/", "-") + self.ending


TASKS = (
    Task("ddpm/fashion"),
    Task("iddpm/fashion"),
    Task("adm/fashion"),
    Task("adm_classifier/fashion", settings={"images": 4_000_000, "weight_decay": 0.05}),
    Task("ncsn/fashion"),
    Task("ncsnv2/fashion", {"channels": 24}),
    Task("score_sde/fashion"),
    Task("score_sde/fashion-ve"),
    Task("score_sde/fashion-subvp"),
    Task("dpm/fashion", settings={"precision": "float32"}),
    Task("edm/fashion"),
    Task("edm/fashion-labels"),
    Task("flow/fashion"),
    Task("ddpm/emoji32", {"dropout": 0.2}, {"images": 1_500_000, "flip": True}),
    Task("adm/emoji32", {"multipliers": (1, 2, 3)}, {"images": 1_500_000, "flip": True}),
)
TINY = (
    Task("ddpm/digits", {"channels": 8}, {"batch": 32}),
    Task("adm_classifier/digits", {"channels": 8, "head_channels": 8}, {"batch": 32}),
    Task("edm/digits", {"channels": 8}, {"batch": 32}),
)


def tasks(place: Place) -> dict[str, Task]:
    """By name."""
    return {task.name: task for task in (TINY if place.tiny else TASKS)}


# ---------------------------------------------------------------- noise levels that stay on the device


def resident(recipe: Trainable, device: str) -> Diffusion | Classification:
    """What the recipe builds, with the table of its noise levels on the device: its loss takes times from there."""
    built = recipe.build()
    moved(built.process, device)
    return built


# ---------------------------------------------------------------- a step


@dataclass
class Batches:
    """Batches of (images in [-1, 1], their labels or None, the number of the first image), drawn on the device."""

    images: Images
    size: int
    device: str
    flip: bool = False
    labelled: bool = False

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor | None, int]]:
        pixels = self.images.images.to(self.device)
        labels = self.images.labels.to(self.device) if self.labelled and self.images.labels is not None else None
        seen, order = 0, torch.empty(0, dtype=torch.long, device=self.device)
        while True:
            while len(order) < self.size:
                order = torch.cat([order, torch.randperm(len(pixels), device=self.device)])
            index, order = order[: self.size], order[self.size :]
            x0 = to_float(pixels[index])
            if self.flip:
                x0 = flip(x0, torch.rand(self.size, device=self.device) < 0.5)
            yield x0, None if labels is None else labels[index], seen
            seen += self.size


@dataclass
class Step:
    """One update of a network.

    Attributes:
        diffusion: its noise levels resident on the device.
        model: the network, perhaps compiled.
        network: the network itself, whose parameters are updated.
        optimizer: fused AdamW.
        settings: batch, clip and precision count.
    """

    diffusion: Diffusion | Classification
    model: nn.Module
    network: nn.Module
    optimizer: torch.optim.Optimizer
    settings: TrainConfig
    device: str
    layout: torch.memory_format = torch.channels_last

    def __call__(self, x0: Tensor, labels: Tensor | None, u: Tensor) -> Tensor:
        """Images (B, C, H, W), labels (B,), and uniform numbers (B,) that pick the levels -> the mean loss, ()."""
        given = {} if labels is None else {"y": labels}
        t, weight = self.diffusion.times.draw(u)
        with autocast(self.device, self.settings.precision):
            x0 = x0.contiguous(memory_format=self.layout)
            losses = self.diffusion.loss(self.model, x0, t, torch.randn_like, **given).float()
        loss = (losses * weight).mean()
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.settings.clip or torch.inf, foreach=True)
        skip = ~(loss.detach() + norm).isfinite()
        self.optimizer.found_inf = skip.float()  # type: ignore[attr-defined]  # where it is 1, nothing is updated
        self.optimizer.step()
        self.optimizer.zero_grad()
        return loss.detach()


def uniforms(first: int, size: int, device: str) -> Tensor:
    """Numbers (B,) in [0, 1) for the images from this one on, evenly spread, on the device."""
    return low_discrepancy(torch.arange(first, first + size, device=device), 0.37)


def built(recipe: Trainable, settings: TrainConfig, device: str, compiled: bool, layout: torch.memory_format) -> Step:
    """A network from a seed, its optimiser, and the step that trains it."""
    torch.manual_seed(settings.seed)
    network = recipe.model().train().to(device)
    network.to(memory_format=layout)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(
        network.parameters(), lr=settings.learning_rate, betas=settings.betas, weight_decay=settings.weight_decay,
        fused=True,
    )  # fmt: skip
    model: Any = torch.compile(network, dynamic=False) if compiled else network
    return Step(resident(recipe, device), model, network, optimizer, settings, device, layout)


def rate(step: Step, value: float) -> None:
    """Set the learning rate, in place where a graph reads it."""
    for group in step.optimizer.param_groups:
        if isinstance(group["lr"], Tensor):
            group["lr"].fill_(value)
        else:
            group["lr"] = value


@dataclass
class Captured:
    """A step whose launches are one CUDA graph. The rate must be 0 while it is captured, since that takes steps."""

    step: Step
    given: tuple[Tensor, Tensor | None, Tensor]

    def __post_init__(self) -> None:
        self.held = tuple(None if v is None else v.clone() for v in self.given)
        for group in self.step.optimizer.param_groups:
            group["capturable"], group["lr"] = True, torch.tensor(0.0, device=self.step.device)
        self.replay, self.loss = graphed(lambda: self.step(*self.held))  # type: ignore[arg-type]

    def __call__(self, x0: Tensor, labels: Tensor | None, u: Tensor) -> Tensor:
        """As `Step`."""
        for held, value in zip(self.held, (x0, labels, u), strict=True):
            if held is not None and value is not None:
                held.copy_(value)
        self.replay()
        loss: Tensor = self.loss.clone()
        return loss


def use_kernel(wanted: bool) -> None:
    """Whether networks on the GPU use the fused kernel from now on."""
    from sfumato.networks import fused_gpu

    fused_gpu.ENABLED = wanted and fused_gpu.AVAILABLE


def layout(task: Task, fused: bool) -> torch.memory_format:
    """Channels last where the kernel takes it; torch's own norms would turn everything around and back."""
    return torch.channels_last if fused and "ncsn" not in task.name else torch.contiguous_format


# ---------------------------------------------------------------- a training


@dataclass
class Run:
    """A training that has been prepared: the first steps were taken, at rate 0, so that everything is compiled."""

    task: Task
    place: Place
    recipe: Trainable
    settings: TrainConfig
    images: Images
    step: Step
    take: Callable[[Tensor, Tensor | None, Tensor], Tensor]
    batches: Iterator[tuple[Tensor, Tensor | None, int]]

    @classmethod
    def prepared(cls, task: Task, place: Place) -> Run:
        """Build it, the way that is fastest first; what fails is built the plainer way."""
        preset = PRESETS[task.preset]
        images = open_source(preset.data)
        settings = replace(preset.train, **{"batch": 128, "precision": "bf16", "minutes": None, **task.settings})
        recipe: Any = preset.recipe
        recipe = replace(recipe, network=replace(recipe.network, **task.network))
        if recipe.space.has_moments:
            recipe = replace(recipe, space=recipe.space.fitted([to_float(images.images)]))
        if settings.precision == "float32":
            torch.backends.cudnn.allow_tf32 = False
        batches = iter(Batches(images, settings.batch, place.device, settings.flip, bool(recipe.conditioning.classes)))
        ways = [("fused norm, CUDA graph", True, True), ("CUDA graph", False, True), ("plain", False, False)]
        first = 2 if place.device != "cuda" else int(os.environ.get("GPU_KERNEL", "1") == "0")
        for way, fused, graph in ways[first:]:
            use_kernel(fused)
            with place.noted("prepared", name=task.name, way=way) as values:
                step = built(recipe, settings, place.device, False, layout(task, fused))
                run = cls(task, place, recipe, settings, images, step, step, batches)
                values |= run._warmed(graph)
            if "milliseconds" in values:
                return run
        raise RuntimeError(f"{task.name} cannot be trained here")

    def _next(self) -> tuple[Tensor, Tensor | None, Tensor]:
        """Images, labels, and the numbers that pick their levels."""
        x0, labels, first = next(self.batches)
        return x0, labels, uniforms(first, len(x0), self.place.device)

    def _warmed(self, graph: bool) -> dict[str, float]:
        """Take steps that change nothing, and time one."""
        started = time.perf_counter()
        rate(self.step, 0.0)
        for _ in range(2):
            self.step(*self._next())
        if graph:
            self.take = Captured(self.step, self._next())
        settle(self.place.device)
        ready = time.perf_counter()
        for _ in range(3):
            loss = self.take(*self._next())
        if not bool(loss.isfinite()):
            raise FloatingPointError("the loss is not finite")
        return {"seconds": ready - started, "milliseconds": (time.perf_counter() - ready) / 3 * 1000}

    def train(self, seconds: float) -> Path:
        """Train for so long, save the averaged weights, and return their file."""
        settings, size = self.settings, self.settings.batch
        ema = EMA(self.step.network, settings.ema[:1])
        begun, images, steps, losses = time.perf_counter(), 0, 0, deque[Tensor](maxlen=200)
        ahead: deque[Callable[[], object]] = deque()
        progress = 0.0
        while progress < 1:
            rate(self.step, learning_rate_at(progress, images, settings))
            losses.append(self.take(*self._next()))
            images, steps = images + size, steps + 1
            if self.place.device == "cuda":
                event = torch.cuda.Event()
                event.record()
                ahead.append(event.synchronize)
                if len(ahead) > 2:
                    ahead.popleft()()
            spent = time.perf_counter() - begun
            progress = min(1.0, max(spent / seconds, images / (settings.images or float("inf"))))
            ema.update(steps - 1, steps / max(progress, 1e-9))
        settle(self.place.device)
        spent = time.perf_counter() - begun
        averaged = {"images": images, "step": steps, "seconds": round(spent, 1), "weights": str(settings.ema[0])}
        with ema.swapped(settings.ema[0]) as network:
            path = self._save(network.eval(), averaged)
        self.place.row(
            "training", name=self.task.name, **averaged, images_per_second=images / spent, batch=size,
            parameters=parameters(self.step.network), loss=float(torch.stack(list(losses)).mean()),
            kilobytes=path.stat().st_size // 1000,
        )  # fmt: skip
        return path

    def _save(self, network: nn.Module, about: dict[str, Any]) -> Path:
        card = self.images.card
        data = {"spec": card.spec, "shape": card.shape, "classes": self.images.classes, "fingerprint": card.fingerprint}
        classes = self.images.classes if self.recipe.conditioning.classes else ()
        path = self.place.folder / "models" / f"{self.task.name}.safetensors"
        path.parent.mkdir(exist_ok=True)
        Trained(self.recipe, network, classes, {"data": data, **about}).save(path, half=True)
        return path


# ---------------------------------------------------------------- how good it is


def judged(path: Path, place: Place) -> None:
    """Rows about a saved model: its loss on images seen and held out, its distance from held-out images, a sheet."""
    model = load(path, device=place.device)
    built = model.classification if isinstance(model, Classifier) else model.diffusion
    spec, labelled = str(model.about["data"]["spec"]), bool(model.recipe.conditioning.classes)
    precision = "float32" if isinstance(built, Diffusion) and built.lower_bound else "bf16"
    test = open_source(f"{spec}:test")
    with place.noted("losses", name=path.stem) as values:
        for what, images in (("seen", open_source(spec)), ("held_out", test)):
            count, device = 128 if place.tiny else 1024, torch.device(place.device)
            look = Validation(built.loss, built.times, images, labelled, count, 0, device, precision, 128)
            values[what] = look.loss_by_level(model.network)
    if isinstance(model, Classifier):
        with place.noted("accuracy", name=path.stem) as values:
            values |= accuracy(model, test)
        return
    with place.noted("distance", name=path.stem, pictures=place.pictures) as values:
        started = time.perf_counter()
        samples = model.sample(place.pictures, batch=min(1000, place.pictures), seed=1)
        values["seconds"] = time.perf_counter() - started
        (place.folder / "sheets").mkdir(exist_ok=True)
        pictures.save_png(place.folder / "sheets" / f"{path.stem}.png", pictures.grid(samples[:64], columns=16))
        values |= distances(samples, spec, place.device)


def distances(samples: Tensor, spec: str, device: str) -> dict[str, float | str]:
    """The Frechet distance of pictures (N, C, H, W) from the test images, and that of as many training images."""
    net, train, test = in_domain(spec, device), open_source(spec), open_source(f"{spec}:test")
    real = statistics(net(test.images).pooled)
    floor = frechet_distance(statistics(net(train.images[-len(samples) :]).pooled), real)
    return {"net": net.distance, "fd": frechet_distance(statistics(net(samples).pooled), real), "floor": floor}


@torch.inference_mode()
def accuracy(model: Classifier, test: Images, levels: tuple[int, ...] = (100, 300, 500, 700)) -> dict[str, float]:
    """The share of noisy test images whose class is found, at these levels."""
    x0, device = to_float(test.images[:2000]), model.device
    process, classify = model.classification.process, model.classify
    labels, chance = test.labels, torch.Generator().manual_seed(0)
    assert labels is not None
    found = {}
    for level in levels:
        t = torch.tensor(level)
        noise = torch.randn(x0.shape, generator=chance)
        x = process.level(t, x0).noise(x0, noise).to(device)
        logits = torch.cat([classify(part, t) for part in x.split(250)])
        found[str(level)] = float((logits.argmax(1).cpu() == labels[:2000]).float().mean())
    return found


def work(name: str, place: Place) -> None:
    """A worker's life: prepare, wait for the start, train for as long as it says, judge, leave."""
    run = Run.prepared(tasks(place)[name], place)
    place.tell("ready", f"train:{name}")
    until = place.wait("go", "train")
    if until is None:
        return
    path = run.train(max(1.0, float(until) - time.time()))
    place.tell("done", f"train:{name}")
    judged(path, place)
    place.tell("done", f"judge:{name}")
