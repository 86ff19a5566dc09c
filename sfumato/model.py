"""A trained model, ready to use: a recipe, its network with trained weights, and the names of its classes.

`load` makes one from a run folder, a checkpoint or the name of a shipped model; `Model.sample` makes pictures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from sfumato import papers
from sfumato.core.denoisers import Denoise
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, walk
from sfumato.data.loader import to_uint8
from sfumato.papers import ddim
from sfumato.papers.recipe import Recipe
from sfumato.train import checkpoint
from sfumato.train.precision import autocast, best_precision
from sfumato.train.run import RunFolder

Sampler = Callable[[Recipe, Denoise, int | None], list[Move]]
"""(recipe, denoise, steps) -> moves; `ancestral` and `ddim_sampler` are two."""


def ancestral(recipe: Recipe, denoise: Denoise, steps: int | None = None) -> list[Move]:
    """The recipe's own sampler."""
    return recipe.moves(denoise, steps)


def ddim_sampler(eta: float = 0.0) -> Sampler:
    """DDIM with the given eta, on any recipe's process."""

    def moves(recipe: Recipe, denoise: Denoise, steps: int | None = None) -> list[Move]:
        process = recipe.process()
        return ddim.moves(process, denoise, int(process.schedule.end) if steps is None else steps, eta)

    return moves


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

    def check(self, n: int, batch: int, steps: int | None, sampler: Sampler) -> None:
        """ValueError before any work where so many pictures cannot be made in so many steps."""
        if n < 1 or batch < 1:
            raise ValueError(f"the number of pictures and the batch are at least 1, not {n} and {batch}")
        sampler(self.recipe, self.recipe.denoiser(self.network), steps)  # planning the moves costs nothing

    def trajectories(
        self,
        labels: Tensor | None,
        keys: Sequence[int],
        *,
        steps: int | None,
        sampler: Sampler,
        seed: int,
        precision: str,
    ) -> Iterator[Tensor]:
        """Walk one batch from noise to data; yields every state, (B, C, H, W) float32, the noise first."""
        noise = ImageNoise(seed, keys)
        x = self.recipe.prior((len(keys), *self.recipe.shape), self.device).sample(noise)
        conditions = {} if labels is None else {"y": labels.to(self.device)}
        moves = sampler(self.recipe, self.recipe.denoiser(self.network, **conditions), steps)
        yield x
        states = walk(x, moves, noise)
        while True:
            with torch.inference_mode(), autocast(self.device, precision):
                state = next(states, None)
            if state is None:
                return
            yield state

    def sample(
        self,
        n: int,
        *,
        steps: int | None = 50,
        sampler: Sampler | None = None,
        seed: int = 0,
        classes: Sequence[str | int] | Tensor | None = None,
        batch: int = 64,
        precision: str = "auto",
        frames: list[Tensor] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """n pictures, uint8 (n, C, H, W), on the host.

        Args:
            steps: moves from noise to data; None takes every level.
            sampler: DDIM with eta 0 by default.
            seed: image i depends on (seed, i) alone, whatever the batch.
            classes: names, numbers or labels (n,), taken in turn; evenly over all classes where None.
            batch: images at a time, which bounds the memory.
            precision: "auto" (bf16 where the machine has it), "bf16" or "float32".
            frames: a list to collect the walk in: (steps + 1) uint8 tensors (n, C, H, W).
            progress: called after each step with the number of images that moved.

        Raises:
            ValueError: n or batch below 1, steps 0 or above T, an unknown class.
        """
        sampler = sampler or ddim_sampler()
        self.check(n, batch, steps, sampler)
        labels = classes if isinstance(classes, Tensor) else self.labels(classes, n)
        precision = best_precision(self.device)[0] if precision == "auto" else precision
        finals, films = [], []
        for start in range(0, n, batch):
            keys = range(start, min(start + batch, n))
            part = None if labels is None else labels[start : start + batch]
            film = []
            for i, x in enumerate(
                self.trajectories(part, keys, steps=steps, sampler=sampler, seed=seed, precision=precision)
            ):
                if i and progress:
                    progress(len(keys))
                if frames is not None:
                    film.append(to_uint8(x).cpu())
            finals.append(to_uint8(x).cpu())
            films.append(film)
        if frames is not None:
            frames.extend(torch.cat(states) for states in zip(*films, strict=True))
        return torch.cat(finals)


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


def load(target: str | Path, *, weights: str | None = None, device: torch.device | str = "cpu") -> Model:
    """A ready model from a run folder, one of our checkpoints, or the name of a shipped model.

    Args:
        target: for example "runs/mine", "model.safetensors" or "ddpm/emoji32".
        weights: "online", or an EMA rate such as "0.999"; the first EMA where None.
        device: where the network goes.

    Raises:
        ValueError: nothing there, or a file that is damaged, foreign or of another architecture.
    """
    path = Path(target)
    if path.is_dir():
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


def from_checkpoint(saved: checkpoint.Checkpoint, *, weights: str | None, device: torch.device | str) -> Model:
    """A model from an opened checkpoint."""
    recipe = papers.from_json(saved.recipe)
    with torch.device("meta"):
        network = recipe.model()
    kind = saved.load_weights(network, weights)
    network.to(device).eval().requires_grad_(False)
    about = {**saved.progress, "data": saved.data, "weights": kind, "path": str(saved.path)}
    return Model(recipe, network, tuple(saved.data.get("classes", ())), about)
