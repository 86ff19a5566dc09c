"""Editing with a trained model: encode and reconstruct pictures, interpolate between them, mix them.

DDIM encodes by its own step run towards noise and interpolates on the sphere (Song et al. 2020, sections 5.3 and 5.4);
DDPM mixes two noisy images and denoises the mixture (Ho et al. 2020, section 4.4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from sfumato.core.denoisers import Denoise
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.randomness import ImageNoise
from sfumato.core.sampling import Move, finish
from sfumato.data.loader import to_float
from sfumato.models.decoded import as_pictures, decoded
from sfumato.models.model import Model
from sfumato.samplers import DDIM, Ancestral
from sfumato.samplers.ddim import encoding, slerp


@dataclass(frozen=True)
class Editor:
    """Image editing by DDIM inversion and interpolation with a model that makes pictures.

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
        self.model.alone("editing")
        if self.model.recipe.conditioning.classes and self.labels is None:
            raise ValueError("this model was trained with classes, so each picture needs its label")
        self.levels()  # refuses impossible steps at once

    @property
    def process(self) -> GaussianDiffusion:
        """The model's forward process."""
        return self.model.diffusion.gaussian

    def levels(self) -> Tensor:
        """The levels or times on the way down, (steps + 1,)."""
        return self.process.schedule.times(self.steps)

    def _denoise(self, labels: Tensor | None) -> Denoise:
        return self.model.denoiser(labels)

    def _run(self, x: Tensor, moves: list[Move], keys: Sequence[int]) -> Tensor:
        with torch.inference_mode():
            return finish(x, moves, ImageNoise(self.seed, keys))

    def _encoded(self, images: Tensor) -> Tensor:
        self.model.check_images(images, self.labels, "editing")
        with torch.no_grad():
            return self.model.space.encode(to_float(images).to(self.model.device))

    def _decoded(self, x: Tensor) -> Tensor:
        return as_pictures(decoded(self.model.space, x), self.model.recipe.space.levels)

    def encode(self, images: Tensor) -> Tensor:
        """DDIM inversion: pictures (n, C, H, W) -> their latents x_T, float32. Nothing is drawn."""
        x0 = self._encoded(images)
        return self._run(x0, encoding(self.process, self._denoise(self.labels), self.steps), range(len(x0)))

    def decode(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        """Latents (n, C, H, W) -> pictures, uint8, by DDIM with eta 0."""
        denoise = self._denoise(self.labels if labels is None else labels)
        moves = DDIM().plan(self.process, denoise, self.steps)
        return self._decoded(self._run(latents.to(self.model.device), moves, range(len(latents))))

    def reconstruct(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Encode and decode: pictures, and the mean squared error of each on the scale [0, 1] (DDIM, table 2)."""
        back = self.decode(self.encode(images))
        error = ((to_float(back).double() - to_float(images).double()) / 2).square().flatten(1).mean(1)
        return back, error

    def slerp(self, first: Tensor, second: Tensor, points: int) -> Tensor:
        """Spherical interpolation of latents (n, C, H, W) each -> (n, points, C, H, W)."""
        shares = torch.linspace(0, 1, points)
        return torch.stack([slerp(first, second, float(share)) for share in shares], dim=1)

    def between(self, first: Tensor, second: Tensor, points: int = 11) -> Tensor:
        """Pictures on the way between latents, uint8 (n, points, C, H, W). A class changes half way."""
        latents = self.slerp(first, second, points)
        rows = [self.decode(latents[:, i], self._label_at(i / max(points - 1, 1))) for i in range(points)]
        return torch.stack(rows, dim=1)

    def mixing(self, level: float) -> float:
        """The level, where pictures can be mixed at it. ValueError elsewhere."""
        schedule = self.process.schedule
        if not schedule.first <= level <= schedule.end:
            raise ValueError(f"the level to mix at lies between {schedule.first:g} and {schedule.end:g}, not {level}")
        return level

    def mixtures(self, first: Tensor, second: Tensor, level: float, points: int = 11) -> Tensor:
        """DDPM's interpolation: mix q(x_t | x_0) of two sets of images linearly at a level t, and denoise the mixtures.

        Ancestral steps go down from the level, with the model's own variance; the noise of a pair is the same for all
        of its mixtures.

        Returns: uint8 (n, points, C, H, W).
        """
        n, times, level = len(first), self.levels(), self.mixing(level)
        t = torch.tensor(level).to(times.dtype)
        down = torch.cat([t[None], times[times < t]])
        noise = ImageNoise(self.seed, range(2 * n))
        both = torch.cat([self._encoded(first), self._encoded(second)])
        noisy = self.process.level(t, both).noise(both, noise(both))
        sampler, rows = self.model.sampler(Ancestral()), []
        for share in torch.linspace(0, 1, points).tolist():
            x = (1 - share) * noisy[:n] + share * noisy[n:]
            moves = sampler.moves(self.process, self._denoise(self._label_at(share)), down)
            rows.append(self._decoded(self._run(x, moves, range(n))))
        return torch.stack(rows, dim=1)

    def _label_at(self, share: float) -> Tensor | None:
        """The labels along an interpolation; where there are two sets, the second takes over half way."""
        if self.labels is None or self.labels.ndim == 1:
            return self.labels
        return self.labels[0] if share < 0.5 else self.labels[1]
