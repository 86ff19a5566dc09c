"""A trained model, ready to use: a recipe, its network with trained weights, and the names of its classes.

`load` makes one from a run folder, a checkpoint or the name of a shipped model; `Model.sample` makes pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from importlib import resources
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.core.denoisers import Denoise, Prediction
from sfumato.core.guidance import Gradient, MeanShifted, clipped, score_shifted, towards, watched
from sfumato.core.kernels import DDIM, Ancestral, large
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, descend, walk
from sfumato.core.sde import ending_clean, grid
from sfumato.core.times import Steps, visits
from sfumato.data.loader import to_float, to_uint8
from sfumato.papers.recipe import Bounded, Classifying, Nonequilibrium, Recipe, Trainable, low_res_side
from sfumato.runtime import checkpoint
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.precision import autocast, best_precision, for_sampling
from sfumato.runtime.workers import WorkerPool, batches, distribute


class Sampler(Protocol):
    """Plans the moves from noise to data. `ancestral`, `sigma_hat` and `ddim_sampler()` are three.

    A gradient, if given, guides: each sampler takes it in its own official form (Dhariwal & Nichol 2021).
    """

    def __call__(
        self, recipe: Recipe, denoise: Denoise, steps: Steps, gradient: Gradient | None = None, /
    ) -> list[Move]: ...


def ancestral(recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None) -> list[Move]:
    """The recipe's own sampler; a gradient shifts the mean of each step (algorithm 1 of ADM)."""
    moves = recipe.moves(denoise, steps)
    if gradient is None:
        return moves
    if not all(isinstance(kernel, Ancestral) for kernel, _, _ in moves):
        raise ValueError("only ancestral steps can be guided by shifting their mean; take the ddim sampler")
    above = moves[-2][1] if len(moves) > 1 else None  # lends the last shift its spread
    return [(MeanShifted(kernel, gradient, above), t, s) for kernel, t, s in moves]  # type: ignore[arg-type]


def sigma_hat(recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None) -> list[Move]:
    """DDIM's comparison with DDPM: ancestral steps with the large variance, whatever the recipe's own (section 5)."""
    process = recipe.process()
    times = visits(int(process.schedule.end), steps)
    kernel = Ancestral(process, denoise, large)
    return descend(
        kernel if gradient is None else MeanShifted(kernel, gradient, times[-3] if len(times) > 2 else None), times
    )


def ddim_sampler(eta: float = 0.0) -> Sampler:
    """DDIM with the given eta, on any recipe's process; a gradient shifts the score (algorithm 2 of ADM).

    Where the recipe clips, x0 is clipped once more after the shift. The official code does not; but from a level with
    next to no signal, as a cosine schedule's last, a shifted score implies an x0 thousands of times too large.
    """

    return partial(_ddim_moves, eta)


def _ddim_moves(
    eta: float, recipe: Recipe, denoise: Denoise, steps: Steps = None, gradient: Gradient | None = None
) -> list[Move]:
    process = recipe.process()
    guided = denoise if gradient is None else score_shifted(denoise, gradient)
    if gradient is not None and getattr(recipe, "clip", False):
        guided = clipped(guided)
    moves = descend(DDIM(process, guided, eta), grid(process.schedule, steps))
    return ending_clean(moves, process, guided)


def usual(recipe: Recipe) -> Sampler:
    """DDIM for the likelihood line, whose steps may be few; the recipe's own sampler for the others."""
    return ddim_sampler() if isinstance(recipe, Bounded) else ancestral


def usual_steps(recipe: Recipe) -> Steps:
    """50 for the likelihood line, 100 in continuous time, and all of their own for the others (NCSN, NCSNv2, 2015)."""
    return 50 if isinstance(recipe, Bounded) else 100 if getattr(recipe, "continuous", False) else None


@dataclass(frozen=True)
class Guide:
    """A classifier of noisy images, and how strongly it guides.

    Attributes:
        classifier: a model whose recipe tells noisy images apart.
        scale: 1 samples from p(x) p(y | x), more exaggerates the class.
    """

    classifier: Model
    scale: float = 1.0

    def check(self, guided: Model) -> None:
        """ValueError unless the classifier fits the model that it is to guide."""
        recipe = self.classifier.recipe
        if not isinstance(recipe, Classifying):
            raise ValueError(f"{type(recipe).__name__} is no classifier of noisy images, so it cannot guide")
        if recipe.shape != guided.recipe.shape:
            raise ValueError(f"the classifier sees {recipe.shape} images, the model makes {guided.recipe.shape}")
        ours, theirs = (_levels(r) for r in (recipe, guided.recipe))
        if ours.shape != theirs.shape or not torch.allclose(ours, theirs):
            raise ValueError("the classifier was trained on other noise levels than the model that it is to guide")
        if guided.recipe.classes and guided.classes != self.classifier.classes:
            raise ValueError("the classifier and the model were trained with other classes")

    def gradient(self, y: Tensor) -> Gradient:
        """What to climb for labels y (B,)."""
        recipe = self.classifier.recipe
        assert isinstance(recipe, Classifying)
        return towards(recipe.classify(self.classifier.network), y, self.scale)


@dataclass(frozen=True)
class Model:
    """A recipe with a trained network (in evaluation mode).

    Attributes:
        recipe: how it was trained and how it is sampled.
        network: the weights.
        classes: names of the classes, in the order of the labels; empty without labels.
        about: where it comes from: data, images seen, the weights' kind.
    """

    recipe: Recipe
    network: nn.Module
    classes: tuple[str, ...] = ()
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def device(self) -> torch.device:
        return next(self.network.parameters()).device

    def to(self, device: torch.device | str) -> Model:
        """The same model, its network moved to a device."""
        self.network.to(device)
        return self

    def save(self, path: str | Path, *, half: bool = False) -> None:
        """Write one safetensors file with the recipe and these weights, which `load` reads again.

        Args:
            half: store float16, which halves the file; the weights are float32 again once loaded.
        """
        tensors = {f"model/{name}": value.half() if half and value.is_floating_point() else value
                   for name, value in self.network.state_dict().items()}  # fmt: skip
        data = {**self.about.get("data", {}), "classes": list(self.classes)}
        progress = {name: self.about[name] for name in ("images", "step", "seconds") if name in self.about}
        about = {"recipe": papers.to_json(self.recipe), "data": data, "progress": progress, "ema": [], "train": {},
                 "origin": {name: self.about.get(name) for name in ("path", "found", "weights")}}  # fmt: skip
        checkpoint.save(Path(path), tensors, about)

    def labels(self, names: Sequence[str | int] | None, n: int) -> Tensor | None:
        """Labels (n,) from class names or numbers, repeated in turn; evenly over all classes where None.

        None for a model without classes. ValueError for an unknown class.
        """
        count = self.recipe.classes
        if not count:
            if names:
                raise ValueError("this model was trained without classes, so none can be asked for")
            return None
        known = self.classes or tuple(str(i) for i in range(count))
        chosen = [_class_index(name, known) for name in names] if names else list(range(count))
        return torch.tensor([chosen[i % len(chosen)] for i in range(n)])

    def plan(self, request: Request) -> int:
        """How many moves a picture takes. ValueError, before any work, for what cannot be made."""
        if request.n < 1 or request.batch < 1:
            raise ValueError(
                f"the number of pictures and the batch are at least 1, not {request.n} and {request.batch}"
            )
        if isinstance(self.recipe, Classifying):
            raise ValueError("this is a classifier of noisy images; it guides another model, but makes no pictures")
        if isinstance(self.recipe, Nonequilibrium) and request.sampler is not ancestral:
            raise ValueError("a model of 2015 knows its own steps and no noise, so its sampler is ancestral")
        if request.guide:
            request.guide.check(self)
        side, channels = low_res_side(self.recipe), self.recipe.shape[0]
        if side and request.low_res is None:
            raise ValueError(f"this model enlarges {side}x{side} images, so it needs some: give low_res")
        if request.low_res is not None:
            if not side:
                raise ValueError("this model is no upsampler, so it takes no low-resolution images")
            if tuple(request.low_res.shape[1:]) != (channels, side, side) or len(request.low_res) < request.n:
                raise ValueError(
                    f"this model enlarges {channels}x{side}x{side} images, {request.n} are asked for; "
                    f"given are {len(request.low_res)} of {'x'.join(map(str, request.low_res.shape[1:]))}"
                )
        some = (request.guide.classifier if request.guide else self).labels(None, 1)
        moves, _ = self._moves(self.network, request, some, torch.zeros(1, channels, side, side) if side else None)
        return len(moves)

    def _moves(
        self, network: nn.Module, request: Request, labels: Tensor | None, low_res: Tensor | None
    ) -> tuple[list[Move], Seen]:
        """The moves of one batch, and where each prediction of x0 is kept."""
        inputs = {}
        if labels is not None and self.recipe.classes:
            inputs["y"] = labels.to(self.device)
        if low_res is not None:
            inputs["low_res"] = low_res.to(self.device)
        seen = Seen()
        denoise = watched(self.recipe.denoiser(network, request.scale, **inputs), seen)
        gradient = request.guide.gradient(labels.to(self.device)) if request.guide and labels is not None else None
        return request.sampler(self.recipe, denoise, request.steps, gradient), seen

    def walks(self, request: Request, keys: Sequence[int], labels: Tensor | None) -> Iterator[tuple[Tensor, Tensor]]:
        """Walk the images of these keys from noise to data; yields (x_t, predicted x0), (B, C, H, W), move by move."""
        noise = ImageNoise(request.seed, keys)
        x = self.recipe.prior((len(keys), *self.recipe.shape), self.device).sample(noise)
        small = None if request.low_res is None else to_float(request.low_res[list(keys)])
        network = for_sampling(self.network, self.device, request.precision_on(self.device))
        moves, seen = self._moves(network, request, labels, small)
        yield x, x
        states = walk(x, moves, noise)
        while True:
            with torch.inference_mode(), autocast(self.device, request.precision_on(self.device)):
                state = next(states, None)
            if state is None:
                return
            yield state, seen.x0

    def sample(
        self,
        n: int,
        *,
        steps: Steps | Literal["usual"] = "usual",
        sampler: Sampler | None = None,
        seed: int = 0,
        classes: Sequence[str | int] | Tensor | None = None,
        scale: float = 1.0,
        guide: Guide | None = None,
        low_res: Tensor | None = None,
        batch: int = 64,
        precision: str = "auto",
        frames: list[Tensor] | None = None,
        predictions: list[Tensor] | None = None,
        team: WorkerPool[Model] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """n pictures, uint8 (n, C, H, W), on the host.

        Args:
            steps: moves from noise to data, or a grid of levels; None takes every level; by default `usual_steps`.
            sampler: by default DDIM with eta 0, or the recipe's own for score-based models.
            seed: image i depends on (seed, i) alone, whatever the batch.
            classes: names, numbers or labels (n,), taken in turn; evenly over all classes where None.
            scale: classifier-free guidance; 1 is none.
            guide: a classifier that guides; its classes are the ones that can be asked for.
            low_res: for an upsampler, uint8 (at least n, C, h, w).
            batch: images at a time, which bounds the memory.
            precision: "auto" (bf16 where the machine has it), "bf16" or "float32".
            frames: a list to collect the walk in: (moves + 1) uint8 tensors (n, C, H, W).
            predictions: a list to collect the x0 predicted along the way in, likewise.
            team: processes that share the work, batch by batch, and load this very model; a sampler of your own must
                then be one that can be pickled.
            progress: called with the number of images that moved, after each step, or each batch of a team.

        Raises:
            ChildProcessError: a process of the team died.
            ValueError: n or batch below 1, steps 0 or above T, an unknown class, a guide that does not fit, guidance
                of a model that was not trained for it, low-resolution images missing or of another size.
        """
        sampler = sampler or usual(self.recipe)
        chosen = usual_steps(self.recipe) if steps == "usual" else steps
        request = Request(n, chosen, sampler, seed, scale, guide, low_res, batch, precision)
        moves = self.plan(request)
        asker = guide.classifier if guide else self
        labels = classes if isinstance(classes, Tensor) else asker.labels(classes, n)
        work = partial(walked, request=request, labels=labels, film=frames is not None or predictions is not None)
        if team is None:
            parts = distribute(partial(work, progress=progress), self, batches(n, batch))
        else:
            told = None if progress is None else lambda count: progress(count * moves)
            parts = distribute(work, self, batches(n, batch), team, told)
        for wanted, films in ((frames, [p.frames for p in parts]), (predictions, [p.predictions for p in parts])):
            if wanted is not None:
                wanted.extend(torch.cat(states) for states in zip(*films, strict=True))
        return torch.cat([part.images for part in parts])


@dataclass(frozen=True)
class Walked:
    """Images (n, C, H, W) that went from noise to data, uint8 on the host, and where wanted all states and beliefs."""

    images: Tensor
    frames: list[Tensor]
    predictions: list[Tensor]


def walked(
    model: Model,
    keys: Sequence[int],
    *,
    request: Request,
    labels: Tensor | None,
    film: bool = False,
    progress: Callable[[int], object] | None = None,
) -> Walked:
    """The images of these keys; labels (N,) are those of all keys, and progress is called after each step."""
    if request.guide:
        request.guide.classifier.to(model.device)
    frames, predictions = [], []
    for i, (x, x0) in enumerate(model.walks(request, keys, None if labels is None else labels[list(keys)])):
        if i and progress:
            progress(len(keys))
        if film:
            frames.append(to_uint8(x).cpu())
            predictions.append(to_uint8(x0).cpu())
    return Walked(to_uint8(x).cpu(), frames, predictions)


@contextmanager
def counted(network: nn.Module) -> Iterator[list[int]]:
    """A list that collects how many images each forward pass of the network sees."""
    sizes: list[int] = []
    handle = network.register_forward_pre_hook(lambda _, arguments: sizes.append(len(arguments[0])))
    try:
        yield sizes
    finally:
        handle.remove()


@dataclass
class Seen:
    """The last prediction of a walk."""

    x0: Tensor = field(default_factory=lambda: torch.empty(0))

    def __call__(self, prediction: Prediction) -> None:
        self.x0 = prediction.x0


@dataclass(frozen=True)
class Request:
    """What is asked of a model; the fields are the arguments of `Model.sample`."""

    n: int
    steps: Steps
    sampler: Sampler
    seed: int = 0
    scale: float = 1.0
    guide: Guide | None = None
    low_res: Tensor | None = None
    batch: int = 64
    precision: str = "auto"

    def precision_on(self, device: torch.device) -> str:
        """bf16 or float32."""
        return best_precision(device)[0] if self.precision == "auto" else self.precision


def _levels(recipe: Trainable) -> Tensor:
    """alpha at every level of a discrete schedule."""
    schedule = recipe.process().schedule
    return schedule.alpha_sigma(torch.arange(int(schedule.end) + 1))[0]


def _class_index(name: str | int, known: tuple[str, ...]) -> int:
    if str(name) in known:
        return known.index(str(name))
    if str(name).isdigit() and int(name) < len(known):
        return int(name)
    raise ValueError(f"unknown class {name!r}; this model knows {', '.join(known)}")


def shipped() -> dict[str, Path]:
    """The checkpoints that come with the package, by preset name."""
    folder = Path(str(resources.files("sfumato"))) / "checkpoints"
    return {path.stem.replace("-", "/", 1): path for path in sorted(folder.glob("*.safetensors"))}


def load(
    target: str | Path, *, weights: str | None = None, device: torch.device | str = "cpu", **choices: Any
) -> Model:
    """A ready model from a run folder, one of our checkpoints, the name of a shipped model, or a foreign checkpoint.

    Args:
        target: for example "runs/mine", "model.safetensors", "ddpm/emoji32", "256x256_diffusion.pt" (the official files
            of ddim, improved-diffusion, guided-diffusion, ncsn, ncsnv2 and score_sde_pytorch) or a folder of diffusers'
            `UNet2DModel` or `DDPMPipeline`.
        weights: "online", or an EMA rate such as "0.999"; the first EMA where None.
        device: where the network goes.
        choices: what a foreign file cannot say of itself, `foreign.CHOICES` and `foreign_scores.CHOICES`; the
            error names what is missing.

    Raises:
        ValueError: nothing there, or a file that is damaged, unsafe, unknown or of another architecture.
    """
    path = Path(target)
    if path.suffix in (".pt", ".pth", ".ckpt", ".bin") or _is_diffusers(path):
        from sfumato import foreign

        if weights is not None:
            raise ValueError(f"{path} holds one set of weights; there is none to choose")
        opened = foreign.open_diffusers(path, choices) if path.is_dir() else foreign.open_foreign(path, choices)
        return opened.to(device)
    if choices:
        raise ValueError(f"{target} says itself what it is; {', '.join(choices)} cannot be chosen")
    if path.is_dir() and path.suffix != checkpoint.PARTS:
        found = RunFolder.open(path).latest_checkpoint()
        if found is None:
            raise ValueError(f"{path} holds no checkpoint yet")
        path = found
    elif not path.exists():
        known = shipped()
        if str(target) not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{target}: no such run folder or checkpoint, nor a shipped model (shipped: {names})")
        path = known[str(target)]
    return from_checkpoint(checkpoint.read(path), weights=weights, device=device)


def _is_diffusers(path: Path) -> bool:
    """Whether this is a folder that diffusers wrote."""
    if not path.is_dir() or (path / "metrics.jsonl").exists():
        return False
    return (path / "model_index.json").is_file() or any(path.glob("diffusion_pytorch_model.*"))


def from_checkpoint(saved: checkpoint.Checkpoint, *, weights: str | None, device: torch.device | str) -> Model:
    """A model from an opened checkpoint."""
    recipe = papers.from_json(saved.recipe)
    with torch.device("meta"):
        network = recipe.model()
    kind = saved.load_weights(network, weights)
    network.to(device).eval().requires_grad_(False)
    about = {**saved.progress, "data": saved.data, "weights": kind, "path": str(saved.path)}
    return Model(recipe, network, tuple(saved.data.get("classes", ())), about)
