"""Progressive distillation: fewer and fewer steps of DDIM from a trained model (Salimans & Ho 2022).

Beside the PDF: the loop is algorithm 2, whose target is `core.distillation.two_step_target`, the weight is max(SNR, 1)
(section 4). A recipe is that of the first teacher, with the number of steps; `sfumato distill` halves it stage by
stage, and may distil guidance in the first (Meng et al. 2023, for one scale).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any

import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning
from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Diffusion, Inputs, Loss
from sfumato.core.distillation import even_times, truncated_snr, two_step_target
from sfumato.core.distributions import Noise
from sfumato.core.guidance import classifier_free
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import Among
from sfumato.fields import Range, check
from sfumato.networks.backbone import Backbone
from sfumato.noising import Noising
from sfumato.papers.ddpm import DDPM
from sfumato.papers.recipe import augmented, encoded, noising_of, of_shape, training_noise
from sfumato.samplers import DDIM
from sfumato.samplers.grids import to_clean
from sfumato.spaces import Space


def student(recipe: Any, steps: int, scale: float = 1.0) -> Distilled:
    """The recipe of what is distilled into so many steps from a model of this recipe, guided at this scale."""
    if recipe.build().distilled is None:
        return Distilled(recipe, steps, scale)
    return dataclasses.replace(recipe, steps=steps, scale=recipe.scale if scale == 1 else scale)


def _depth(space: Space) -> str:
    """The depth of the images of a space, in words."""
    low, high = space.values
    return f"{space.levels:,} grey levels" if space.levels else f"real numbers from {low:g} to {high:g}"


@dataclass(frozen=True)
class Distilled:
    """A model distilled into a few steps of DDIM (Salimans & Ho 2022); by default of a DDPM that predicts v."""

    of: Any = DDPM(betas="cosine", prediction="v")
    """The recipe of the model that it was distilled from: its process, network and reading are the same."""
    steps: Annotated[int, Range(1, 4096)] = 4
    """Steps of DDIM, even in time from noise to data, that it is made for."""
    scale: Annotated[float, Range(-100, 100)] = 1.0
    """Classifier-free guidance that was distilled into it; 1 is none."""

    def __post_init__(self) -> None:
        check(self)
        if not dataclasses.is_dataclass(self.of) or isinstance(self.of, type) or self._again():
            raise ValueError("of is the recipe of the model that was distilled first")

    def _again(self) -> bool:
        """Whether `of` is itself the recipe of a distilled model."""
        return self.of.build().distilled is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image."""
        shape: tuple[int, ...] = self.of.shape
        return shape

    @property
    def network(self) -> Backbone:
        """The backbone."""
        backbone: Backbone = self.of.network
        return backbone

    @property
    def conditioning(self) -> Conditioning:
        """What the network is given besides."""
        conditioning: Conditioning = self.of.conditioning
        return conditioning

    @property
    def space(self) -> Space:
        """What the diffusion sees of an image."""
        space: Space = self.of.space
        return space

    @property
    def noising(self) -> Noising:
        """How noise is drawn in training."""
        return noising_of(self.of)

    def fitted(self, shape: tuple[int, ...], conditioning: Conditioning, space: Space) -> Distilled:
        """The same, whose space keeps the teacher's moments; ValueError for images that are not like the teacher's."""
        if shape != self.shape or conditioning != self.conditioning:
            theirs, ours = ("x".join(map(str, sides)) for sides in (shape, self.shape))
            raise ValueError(
                f"a model is distilled on images like its own, {ours} with {self.conditioning.classes} classes; "
                f"these are {theirs} with {conditioning.classes}"
            )
        if (space.levels, space.values) != (self.space.levels, self.space.values):
            theirs, ours = (_depth(held) for held in (space, self.space))
            raise ValueError(f"a model is distilled on images like its own, of {ours}; these are of {theirs}")
        return self

    def reshaped(self, shape: tuple[int, ...]) -> Distilled:
        """The same for images of another shape (C, H, W), as the recipe that it was distilled from."""
        return dataclasses.replace(self, of=of_shape(self.of, shape))

    def model(self) -> nn.Module:
        network: nn.Module = self.of.model()
        return network

    def build(self) -> Diffusion:
        base = self.of.build()
        if base.sampler is None:
            raise ValueError("a classifier makes no pictures, so there are no steps to distil")
        if not base.averages:
            raise ValueError("distillation needs a diffusion model, and this one was made for few steps already")
        process = base.gaussian
        moments = even_times(process.schedule, self.steps)[:-1].tolist()
        sampler = DDIM() if process.schedule.levels else DDIM(grid=to_clean)

        return Diffusion(
            process, base.denoise, self._loss(process, base.denoise, None, 1.0), Among(tuple(moments)), base.prior,
            own=sampler, sampler=sampler, steps=self.steps, own_steps=self.steps,
            averages=False, distilled=self.steps,
        )  # fmt: skip

    def taught(self, teacher: nn.Module, scale: float = 1.0) -> Diffusion:
        """What runs while the model is trained.

        Args:
            teacher: a network of the same recipe, which is good in twice as many steps; it is not changed.
            scale: classifier-free guidance of the teacher.

        Raises: ValueError where there are not twice as many steps, or nothing to guide by.
        """
        built = self.build()
        if scale != 1 and not self.conditioning.dropout:
            raise ValueError("guidance is distilled from a model that was trained with labels and label dropout alone")
        if self.conditioning.feeds_back:
            raise ValueError("a self-conditioned model is fed its own predictions, which a step of DDIM does not know")
        even_times(built.gaussian.schedule, 2 * self.steps)
        return dataclasses.replace(built, loss=self._loss(built.gaussian, built.denoise, teacher, scale))

    def _loss(
        self, process: GaussianDiffusion, denoise: Callable[[nn.Module, Inputs], Denoise], teacher: nn.Module | None,
        scale: float,
    ) -> Loss:  # fmt: skip
        """The loss of algorithm 2; without a teacher the network is its own."""
        conditioning = self.conditioning

        def loss(
            network: nn.Module, images: Tensor, t: Tensor, noise: Noise = torch.randn_like, /, **given: Tensor
        ) -> Tensor:
            images, known = augmented(self, network, images, given, noise)
            x0 = encoded(self, network, images, known, noise)
            eps = training_noise(self, x0, noise, known)
            inputs = conditioning.training(images, known, noise)
            x_t = process.level(t, x0).noise(x0, eps)
            between, s = self._below(process, t)
            with torch.no_grad():
                better = network if teacher is None else teacher.to(x0.device)
                guide = denoise(better, inputs)
                if scale != 1:
                    guide = classifier_free(guide, denoise(better, conditioning.hidden(inputs)), scale)
                target = two_step_target(guide, x_t, t, between, s, process)
            prediction = denoise(network, inputs)(x_t, t)
            return per_image(truncated_snr(prediction.level) * (prediction.x0 - target) ** 2)

        return loss

    def _below(self, process: GaussianDiffusion, t: Tensor) -> tuple[Tensor, Tensor]:
        """The times (B,) of half a step and of a whole one below t (B,), on the host."""
        grid = even_times(process.schedule, 2 * self.steps)
        at = (grid[:-1:2] - t[:, None]).abs().argmin(1) * 2
        return grid[at + 1], grid[at + 2]
