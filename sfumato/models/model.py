"""A trained diffusion model, ready to use: `Model.sample` makes pictures."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Literal

import torch
from torch import Tensor, nn

from sfumato import samplers, spec
from sfumato.core.denoisers import Denoise
from sfumato.core.diffusion import Diffusion
from sfumato.core.sampling import Sampler
from sfumato.core.schedules import Steps
from sfumato.models import generate, inputs
from sfumato.models.classifier import Guide
from sfumato.models.generate import Request
from sfumato.models.guidance import Guidance
from sfumato.models.sizes import sized
from sfumato.models.trained import Trained
from sfumato.papers.recipe import Recipe
from sfumato.runtime.workers import WorkerPool
from sfumato.shapes import kind
from sfumato.spaces import Space

MOST_OF_EACH = 10_000
"""Corrections, rounds or steps per level of a sampler, whose moves are listed before the first is made."""


@dataclass(frozen=True)
class Model(Trained[Recipe]):
    """A trained diffusion model: a recipe with its network (in evaluation mode)."""

    @cached_property
    def diffusion(self) -> Diffusion:
        """What its recipe builds: the forward process, the denoiser, the usual sampler, and what else it can do."""
        built = self.recipe.build()
        if self.times:
            built.times.load_state_dict(dict(self.times))
        return built

    @property
    def space(self) -> Space:
        """What the diffusion sees of an image, with the weights beside the network if it needs any."""
        return self.recipe.space.bound(self.network)

    def sampler(self, chosen: Sampler | str | None = None) -> Sampler:
        """A sampler for this model: a value, a spec such as "heun?churn=40", "own" (the paper's), or the usual one."""
        if chosen is None:
            return self.diffusion.sampler
        if chosen == "own":
            return self.diffusion.own
        made = samplers.by_name(chosen) if isinstance(chosen, str) else chosen
        if not self.diffusion.averages and type(made) is not type(self.diffusion.own):
            raise ValueError("a model of few steps is sampled by its own sampler alone: leave the sampler out")
        spec.finite(made, f"the sampler {samplers.name(made)}", MOST_OF_EACH)
        return made.of(self.diffusion)

    def denoiser(
        self,
        labels: Tensor | None = None,
        picture: Tensor | None = None,
        *,
        scale: float | None = None,
        network: nn.Module | None = None,
        guidance: Guidance | str | None = None,
        guide_model: Model | None = None,
        attributes: Tensor | None = None,
    ) -> Denoise:
        """The denoiser as samplers see it: conditioned, guided by itself where scale is not 1, and clipped.

        Args:
            labels: (B,), for a model with classes.
            picture: (B, C, h, w) in [-1, 1], for an upsampler or a model with pictures as inputs.
            scale: classifier-free guidance; 1 is none, as is None; by a `guide_model` None is 2.
            network: another network than the model's, such as a cast copy.
            guidance, guide_model: see `sample`.
            attributes: (B, A) of 1, -1 or 0, for a model with attributes; 0 is not known.
        """
        return generate.denoiser(self, labels, picture, scale, network, guidance, guide_model, attributes=attributes)

    def controlled(self, scale: float) -> Model:
        """The same with its control (ControlNet) at another scale: 0 is the frozen model alone, 1 is as trained.

        ValueError for a model without a control, and a scale out of range.
        """
        config: Any = self.recipe.network
        if not config.frozen:
            raise ValueError("this model has no control whose scale could be chosen: sfumato train control/edges")
        chosen: Any = replace(config, scale=scale)
        network: Any = copy.copy(self.network)  # which shares the weights
        network.scale = chosen.scale
        recipe: Any = self.recipe
        return replace(self, recipe=replace(recipe, network=chosen), network=network)

    def sized(self, width: int, height: int) -> Model:
        """The same model for images of another size or aspect ratio, as after training in several buckets.

        ValueError where its network, or what it is conditioned on, is made for one size.
        """
        return sized(self, width, height)

    def alone(self, doing: str) -> None:
        """ValueError unless the model makes pictures out of noise alone; `doing` begins the sentence."""
        if self.recipe.conditioning.pictured:
            raise ValueError(f"{doing} needs a model that makes pictures out of noise alone")
        if not self.diffusion.averages:
            raise ValueError(f"{doing} needs a diffusion model, not one of few steps, such as that it was trained from")

    def of_pixels(self, doing: str) -> None:
        """ValueError for a model of latents; `doing` begins the sentence."""
        if not self.recipe.space.keeps_pixels:
            raise ValueError(f"{doing} needs a model of pixels; this one is of the latents of an autoencoder")

    def check_images(self, images: Tensor, labels: Tensor | None, doing: str) -> None:
        """ValueError where images (n, C, H, W) of any depth, or labels (n,) or (sets, n), do not fit the model."""
        self.alone(doing)
        levels, shape = self.recipe.space.levels, tuple(images.shape[1:])
        if not inputs.is_read(images, levels) or shape != self.recipe.shape:
            wanted = f"{inputs.KINDS[levels]} {kind(self.recipe.shape)} of {self.recipe.shape}"
            raise ValueError(f"the model works on {wanted}, not {shape}")
        for row in [None] if labels is None else torch.atleast_2d(labels):
            inputs.check_labels(self, row, len(images))
        self.recipe.conditioning.told(None)

    def sample(
        self,
        n: int,
        *,
        steps: Steps | Literal["usual"] = "usual",
        sampler: Sampler | str | None = None,
        seed: int = 0,
        classes: Sequence[str | int] | Tensor | None = None,
        attributes: Sequence[str] | Tensor | None = None,
        text: Sequence[str] | None = None,
        scale: float | None = None,
        guide: Guide | None = None,
        guidance: Guidance | str | None = None,
        guide_model: Model | None = None,
        low_res: Tensor | None = None,
        picture: Tensor | None = None,
        batch: int = 64,
        precision: str = "auto",
        frames: list[Tensor] | None = None,
        predictions: list[Tensor] | None = None,
        pool: WorkerPool[Model] | None = None,
        progress: Callable[[int], object] | None = None,
    ) -> Tensor:
        """Sample n pictures (n, C, H, W), on the host: uint8; of 16 bits uint16, of real numbers float32 in [-1, 1].

        Args:
            steps: moves from noise to data, or a grid of levels; None takes every level; by default the usual number.
            sampler: a sampler, or a spec string such as "heun?churn=40"; "own" is the paper's. By default
                DPM-Solver++(2M) on Karras' grid, or the paper's own where that does not fit.
            seed: image i depends on (seed, i) alone, whatever the batch.
            classes: names, numbers or labels (n,), taken in turn; evenly over all classes where None.
            attributes, text: words "smiling,-hat", or numbers (n, A): 1 present, -1 absent, 0 open; captions; in turn.
            scale: classifier-free guidance; 1 is none, as is None; by a `guide_model` None is 2.
            guide: a classifier that guides; its classes are the ones that can be asked for.
            guidance: another kind than the classifier-free one of `scale`: "interval?scale=2" (`models.guidance`).
            guide_model: a worse model of the same images, which guides instead of the model without its labels.
            low_res, picture: uint8 inputs (at least n, C, h, w), of an upsampler or an image-to-image model; for
                inpainting the last channel is 255 where a picture is known, 0 in its holes.
            batch: images at a time, which bounds the memory.
            precision: "auto" (bf16 where the machine has it), "bf16" or "float32".
            frames, predictions: lists for the states on the way and the x0 predicted there, uint8 (n, C, H, W) a move.
            pool: worker processes that divide the work by batches and load this very model; what they do is pickled.
            progress: called with the number of images that moved, after each step, or each batch of a pool.

        Raises:
            ChildProcessError: a worker died.
            ValueError: n or batch below 1, steps 0 or above T, an unknown class, too few labels, a guide that does not
                fit, guidance of a model that was not trained for it, inputs missing or of another size.
        """
        chosen = self.diffusion.usual(self.sampler(sampler)) if steps == "usual" else steps
        inputs = low_res if picture is None else picture
        a = attributes if isinstance(attributes, Tensor) else self.described(attributes, text, n)
        request = Request(n, chosen, sampler, seed, scale, guide, inputs, batch, precision, guidance, guide_model, a)
        labels = classes if isinstance(classes, Tensor) else (guide.classifier if guide else self).labels(classes, n)
        film = frames is not None or predictions is not None
        made = generate.fulfilled(self, request, labels, film=film, pool=pool, progress=progress)
        for wanted, states in ((frames, made.frames), (predictions, made.predictions)):
            if wanted is not None:
                wanted.extend(states)
        return made.images
