"""What a trained model does with pictures that exist: encode and reconstruct them, and walk from one to another.

DDIM encodes by its own step run towards noise and interpolates on the sphere (Song et al. 2020, sections 5.3 and 5.4);
DDPM mixes two noisy images and denoises the mixture (Ho et al. 2020, section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from sfumato.core.kernels import DDIM, Ancestral
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, descend, finish
from sfumato.core.schedules import Table
from sfumato.core.sde import ending_clean, grid
from sfumato.data.loader import to_float, to_uint8
from sfumato.model import Model
from sfumato.papers import ddim
from sfumato.papers.recipe import Classifying, low_res_side

FIRST_TIME = 1e-5
"""The first noisy time of a continuous model (Song et al. 2021, appendix C)."""


@dataclass(frozen=True)
class Editor:
    """A model that makes pictures, and how it walks.

    Attributes:
        steps: moves from pictures to noise, and as many back, on levels or in continuous time.
        labels: (n,) for a model with classes, one a picture.
        seed: where noise is drawn, that of picture i depends on (seed, i).
    """

    model: Model
    steps: int = 100
    labels: Tensor | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        recipe = self.model.recipe
        if isinstance(recipe, Classifying) or low_res_side(recipe):
            raise ValueError("editing needs a model that makes pictures out of noise alone")
        if recipe.classes and self.labels is None:
            raise ValueError("this model was trained with classes, so each picture needs its label")
        self.levels()  # refuses impossible steps at once

    def process(self) -> GaussianDiffusion:
        """The model's forward process."""
        return self.model.recipe.process()

    def levels(self) -> Tensor:
        """The levels or times on the way down, (steps + 1,)."""
        return grid(self.process().schedule, self.steps)

    def _denoise(self, labels: Tensor | None) -> Any:
        conditions: dict[str, Any] = (
            {} if labels is None or not self.model.recipe.classes else {"y": labels.to(self.model.device)}
        )
        return self.model.recipe.denoiser(self.model.network, **conditions)

    def _walk(self, x: Tensor, moves: list[Move], keys: Sequence[int]) -> Tensor:
        with torch.inference_mode():
            return finish(x, moves, ImageNoise(self.seed, keys))

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> their latents x_T, float32, by DDIM towards noise. Nothing is drawn.

        Clean data have no noise to keep, so the walk starts with the image itself at level 1, or near time 0.
        """
        x0 = to_float(self._checked(images)).to(self.model.device)
        process, up = self.process(), self.levels().flip(0)
        up[0] = up.new_tensor(1 if isinstance(process.schedule, Table) else FIRST_TIME)
        moves = descend(DDIM(process, self._denoise(self.labels)), up.unique())
        return self._walk(x0, moves, range(len(x0)))

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (n, C, H, W) -> pictures, uint8, by DDIM with eta 0."""
        denoise, process = self._denoise(self.labels if labels is None else labels), self.process()
        moves = ending_clean(descend(DDIM(process, denoise), self.levels()), process, denoise)
        return to_uint8(self._walk(latents.to(self.model.device), moves, range(len(latents)))).cpu()

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode: pictures, and the mean squared error of each on the scale [0, 1] (DDIM, table 2)."""
        back = self.decode(self.encode(images))
        error = ((back.double() - images.double()) / 255).square().flatten(1).mean(1)
        return back, error

    def slerp(self, first: Tensor, second: Tensor, points: int) -> Tensor:
        """Latents on the great circle from first to second, (n, C, H, W) each -> (n, points, C, H, W)."""
        shares = torch.linspace(0, 1, points)
        return torch.stack([ddim.slerp(first, second, float(share)) for share in shares], dim=1)

    def between(self, first: Tensor, second: Tensor, points: int = 11) -> Tensor:
        """Pictures on the way between latents, uint8 (n, points, C, H, W). A class changes half way."""
        return self._decoded(self.slerp(first, second, points))

    def mixtures(self, first: Tensor, second: Tensor, level: float, points: int = 11) -> Tensor:
        """DDPM's interpolation: mix q(x_t | x_0) of two sets of images linearly at a level t, and denoise the mixtures.

        The recipe's own steps, or in continuous time ancestral ones, go down from the level; the noise of a pair is the
        same for all of its mixtures.

        Returns: uint8 (n, points, C, H, W).
        """
        recipe, process, n = self.model.recipe, self.process(), len(first)
        times = self.levels()
        discrete, end = isinstance(process.schedule, Table), float(times[0])
        least = 1 if discrete else FIRST_TIME
        if not least <= level <= end:
            raise ValueError(f"the level to mix at lies between {least:g} and {end:g}, not {level}")
        t = torch.tensor(level).to(times.dtype)
        down = torch.cat([t[None], times[times < t]])
        noise = ImageNoise(self.seed, range(2 * n))
        both = to_float(torch.cat([self._checked(first), self._checked(second)])).to(self.model.device)
        noisy = process.level(t, both).noise(both, noise(both))
        rows = []
        for share in torch.linspace(0, 1, points).tolist():
            x = (1 - share) * noisy[:n] + share * noisy[n:]
            denoise = self._denoise(self._label_at(share))
            if discrete:
                moves = recipe.moves(denoise, lambda T: down)
            else:
                moves = ending_clean(descend(Ancestral(process, denoise), down), process, denoise)
            rows.append(to_uint8(self._walk(x, moves, range(n))).cpu())
        return torch.stack(rows, dim=1)

    def _decoded(self, latents: Tensor) -> Tensor:
        points = latents.shape[1]
        rows = [self.decode(latents[:, i], self._label_at(i / max(points - 1, 1))) for i in range(points)]
        return torch.stack(rows, dim=1)

    def _label_at(self, share: float) -> Tensor | None:
        """The labels along an interpolation; where there are two sets, the second takes over half way."""
        if self.labels is None or self.labels.ndim == 1:
            return self.labels
        return self.labels[0] if share < 0.5 else self.labels[1]

    def _checked(self, images: Tensor) -> Tensor:
        if images.dtype != torch.uint8 or tuple(images.shape[1:]) != self.model.recipe.shape:
            wanted = self.model.recipe.shape
            raise ValueError(f"the model works on uint8 images of {wanted}, not {tuple(images.shape[1:])}")
        return images
