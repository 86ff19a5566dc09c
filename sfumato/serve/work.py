"""What a served model does for a request: it is checked at once, and pictures are made later, by the queue's thread.

Results are plain values: pictures as PNG in base64, and the settings that would make them again.
"""

from __future__ import annotations

import base64
import time
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

from torch import Tensor

from sfumato import samplers, spec
from sfumato.data import pictures
from sfumato.data.loader import to_float
from sfumato.data.sources import view_of
from sfumato.inverse import Mask
from sfumato.models import generate
from sfumato.models.generate import Request
from sfumato.models.guidance import Guidance
from sfumato.models.model import Model
from sfumato.models.restoration import restore
from sfumato.serve import wishes
from sfumato.serve.jobs import Tell, Work
from sfumato.shapes import only_images
from sfumato.version import __version__

MOST_PIXELS = 2**22
"""Of all pictures of a request together, which bounds the memory and the answer."""


@dataclass(frozen=True)
class Served:
    """A model that is asked over HTTP.

    Attributes:
        name: what it is called on the page.
        batch: pictures at a time.
    """

    model: Model
    name: str
    batch: int = 16

    def __post_init__(self) -> None:
        only_images(self.model.recipe.shape, "sfumato serve", "sfumato sample draws them")
        self.model.alone("serving")

    # ------------------------------------------------------------ what it can do

    @property
    def classes(self) -> tuple[str, ...]:
        """What can be asked for; empty where the model was trained without classes."""
        count = self.model.recipe.conditioning.classes
        return (self.model.classes or tuple(map(str, range(count)))) if count else ()

    @property
    def most(self) -> int:
        """Pictures of a request, at most."""
        _, height, width = self.model.recipe.shape
        return max(1, min(wishes.MOST_PICTURES, MOST_PIXELS // (height * width)))

    @property
    def inpaints(self) -> bool:
        """Whether pictures can be painted over and filled in: grey and colour, on a fixed schedule."""
        channels, height, _ = self.model.recipe.shape
        return channels in (1, 3) and height > 1 and self.model.diffusion.process is not None

    @cached_property
    def fitting(self) -> dict[str, int | None]:
        """The samplers that the model's schedule bears, each with its usual number of steps; None is every level."""
        diffusion = self.model.diffusion
        found = {"auto": _number(diffusion.usual(diffusion.sampler)), "own": _number(diffusion.own_steps)}
        for name, kind in samplers.SAMPLERS.items() if diffusion.process is not None else ():
            try:
                sampler = self.model.sampler(kind())
                samplers.evaluations(sampler, diffusion.gaussian, 2)
            except ValueError:
                continue
            found[name] = _number(diffusion.usual(sampler))
        return found

    def about(self) -> dict[str, Any]:
        """What GET /api/model says."""
        return {
            "name": self.name, "shape": list(self.model.recipe.shape), "classes": list(self.classes),
            "levels": self.model.recipe.space.levels,
            "guided": bool(self.model.recipe.conditioning.dropout), "inpaints": self.inpaints,
            "reads": self.model.recipe.conditioning.reads,
            "samplers": [{"name": name, "steps": steps} for name, steps in self.fitting.items()],
            "defaults": {"sample": {**wishes.defaults(wishes.Sample), "n": min(wishes.Sample.n, self.most)},
                         "inpaint": wishes.defaults(wishes.Inpaint)},
            "most": {"n": self.most, "draws": min(wishes.MOST_DRAWS, self.most), "steps": wishes.MOST_STEPS},
            "version": __version__,
        }  # fmt: skip

    # ------------------------------------------------------------ what it makes

    def sampling(self, wish: wishes.Sample) -> Work:
        """The work of a sampling request. ValueError, before any, for what cannot be made."""
        model, sampler = self.model, self._sampler(wish.sampler)
        self._fits(wish.n, "n")
        labels, told = model.labels(wish.classes or None, wish.n), model.described(None, wish.text, wish.n)
        steps = model.diffusion.usual(model.sampler(sampler)) if wish.steps is None else wish.steps
        request = Request(wish.n, steps, sampler, wish.seed, wish.scale, batch=self.batch, attributes=told)
        moves = generate.plan(model, request)

        def work(tell: Tell) -> dict[str, Any]:
            done = 0

            def progress(count: int) -> None:
                nonlocal done
                done += count
                tell(done / (wish.n * moves))

            began = time.perf_counter()
            made = generate.fulfilled(model, request, labels, progress=progress)
            settings = {**asdict(wish), "sampler": samplers.name(model.sampler(sampler)), "steps": _number(steps),
                        "classes": self._names(labels)}  # fmt: skip
            return {**self._shown(made.images), "settings": settings, "moves": moves, "evaluations": made.evaluations,
                    "seconds": round(time.perf_counter() - began, 2)}  # fmt: skip

        return work

    def inpainting(self, wish: wishes.Inpaint) -> Work:
        """The work of an inpainting request. ValueError, before any, for what cannot be made."""
        model, shape = self.model, tuple(self.model.recipe.shape)
        if not self.inpaints:
            raise ValueError("this model's pictures cannot be filled in: they are neither grey nor in colour, or its "
                             "noise levels are learned")  # fmt: skip
        self._fits(wish.draws, "draws")
        image = wishes.picture(wish.image, "image", shape)[None]
        known = wishes.picture(wish.mask, "mask", (1, *shape[1:]))[0] > 127
        if bool(known.all()):
            raise ValueError("the mask is white everywhere, so there is nothing to fill in")
        labels = model.labels(wish.classes[:1] or (self.classes[:1]), 1)
        guidance = None if wish.scale == 1 else Guidance(scale=wish.scale)
        request = Request(1, wish.steps or model.diffusion.own_steps, scale=wish.scale)
        generate.plan(model, request)

        def work(tell: Tell) -> dict[str, Any]:
            began = time.perf_counter()
            found = restore(
                model, to_float(image), Mask(known), draws=wish.draws, steps=wish.steps or "usual", labels=labels,
                guidance=guidance, seed=wish.seed, batch=self.batch, progress=tell,
            )  # fmt: skip
            settings = {"draws": wish.draws, "steps": _number(request.steps), "seed": wish.seed, "scale": wish.scale,
                        "classes": self._names(labels)}  # fmt: skip
            seconds = round(time.perf_counter() - began, 2)
            return {**self._shown(found.draws[0]), "settings": settings, "seconds": seconds}

        return work

    def _shown(self, images: Tensor) -> dict[str, Any]:
        """Pictures (n, C, H, W) as PNG of 8 bits, whatever their depth: one sheet, and each by itself.

        What is shown of many channels and of deeper pictures is what the data that it was trained on say. Points in
        the plane are one picture together.
        """
        view = view_of(str(self.model.about.get("data", {}).get("spec", "")))
        shown = pictures.visible(images, view)
        single = [] if tuple(images.shape[1:]) == (1, 1, 2) else [_coded(image) for image in shown]
        return {"sheet": _coded(pictures.grid(images, show=view)), "pictures": single}

    def _sampler(self, name: str) -> str | None:
        if name not in (*samplers.SAMPLERS, "auto", "own"):
            raise ValueError(spec.unknown("sampler", name, self.fitting))
        return None if name == "auto" else name

    def _fits(self, count: int, what: str) -> None:
        if count > self.most:
            raise ValueError(f"{what} is between 1 and {self.most} for pictures of this size, not {count}")

    def _names(self, labels: Tensor | None) -> list[str]:
        return [] if labels is None else [self.classes[label] for label in labels.tolist()]


def _number(steps: Any) -> int | None:
    """A number of steps; None for every level, or a grid."""
    return steps if isinstance(steps, int) else None


def _coded(image: Tensor) -> str:
    return base64.b64encode(pictures.png_bytes(image)).decode()
