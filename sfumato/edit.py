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

from sfumato.core.kernels import DDIM
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, descend, finish
from sfumato.core.times import visits
from sfumato.data.loader import to_float, to_uint8
from sfumato.model import Model
from sfumato.papers import ddim
from sfumato.papers.recipe import Classifying, low_res_side


@dataclass(frozen=True)
class Editor:
    """A model that makes pictures, and how it walks.

    Attributes:
        steps: moves from pictures to noise, and as many back.
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
        """The levels on the way down, (steps + 1,)."""
        return visits(int(self.process().schedule.end), self.steps)

    def _denoise(self, labels: Tensor | None) -> Any:
        conditions: dict[str, Any] = (
            {} if labels is None or not self.model.recipe.classes else {"y": labels.to(self.model.device)}
        )
        return self.model.recipe.denoiser(self.model.network, **conditions)

    def _walk(self, x: Tensor, moves: list[Move], keys: Sequence[int]) -> Tensor:
        with torch.inference_mode():
            return finish(x, moves, ImageNoise(self.seed, keys))

    def encode(self, images: Tensor) -> Tensor:
        """uint8 (n, C, H, W) -> their latents x_T, float32, by DDIM towards noise. Nothing is drawn."""
        x0 = to_float(self._checked(images)).to(self.model.device)
        moves = ddim.encoding_moves(self.process(), self._denoise(self.labels), self.steps)
        return self._walk(x0, moves, range(len(x0)))

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (n, C, H, W) -> pictures, uint8, by DDIM with eta 0."""
        denoise = self._denoise(self.labels if labels is None else labels)
        moves = descend(DDIM(self.process(), denoise), self.levels())
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

    def mixtures(self, first: Tensor, second: Tensor, level: int, points: int = 11) -> Tensor:
        """DDPM's interpolation: mix q(x_t | x_0) of two sets of images linearly at a level t, and denoise the mixtures.

        The recipe's own steps go down from the level; the noise of a pair is the same for all of its mixtures.

        Returns: uint8 (n, points, C, H, W).
        """
        recipe, process, n = self.model.recipe, self.process(), len(first)
        times = self.levels()
        if not 1 <= level <= int(times[0]):
            raise ValueError(f"the level to mix at lies between 1 and {int(times[0])}, not {level}")
        down = torch.cat([torch.tensor([level]), times[times < level]])
        noise, t = ImageNoise(self.seed, range(2 * n)), torch.tensor(level)
        both = to_float(torch.cat([self._checked(first), self._checked(second)])).to(self.model.device)
        noisy = process.level(t, both).noise(both, noise(both))
        rows = []
        for share in torch.linspace(0, 1, points).tolist():
            x = (1 - share) * noisy[:n] + share * noisy[n:]
            moves = recipe.moves(self._denoise(self._label_at(share)), lambda T: down)
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
