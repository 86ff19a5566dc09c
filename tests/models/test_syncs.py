"""Sampling and the losses of training never wait for the device: no value is read back, no copy to the device blocks.

The networks lie on torch's `meta` device, whose tensors hold no data, so that reading one would fail even where it were
not counted; every operation is seen by a dispatch mode.
"""

from __future__ import annotations

import traceback
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from sfumato.cost.network import some_labels, some_times
from sfumato.models import Model, Request
from sfumato.models.generate import trajectories
from sfumato.papers.presets import PRESETS


class Waits(TorchDispatchMode):
    """Collects the operations that make the host wait for the device."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        places = {leaf.device.type for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, torch.Tensor)}
        given = {argument.name: value for argument, value in zip(func._schema.arguments, args, strict=False)} | kwargs
        name = func.overloadpacket.__name__
        if name in ("item", "_local_scalar_dense") and "meta" in places:
            self.found.append("read")
        if name in ("to", "_to_copy", "copy_") and not given.get("non_blocking"):
            device = given.get("device")
            places |= set() if device is None else {torch.device(device).type}
            # torch.func takes python numbers to `meta` for its own ends, whatever device they are for
            if len(places) > 1 and not any("_functorch" in frame.filename for frame in traceback.extract_stack()):
                self.found.append(f"copy among {' '.join(sorted(places))}")
        return func(*args, **kwargs)


def waits(preset: str, sampler: str, steps: int | None, at_most: int = 20) -> list[str]:
    """What waits after the first move, which may prepare what all others use."""
    recipe = PRESETS[preset].recipe
    with torch.device("meta"):
        model = Model(recipe, recipe.model().eval())
    request = Request(2, steps, sampler, precision="float32")
    states = trajectories(model, request, range(2), model.labels(None, 2))
    next(states), next(states)
    with Waits() as mode:
        for _ in zip(range(at_most), states, strict=False):
            pass
    return mode.found


@pytest.mark.parametrize(
    ("preset", "steps"),
    [("ddpm/digits", 20), ("iddpm/digits", 20), ("adm/digits", 20), ("score_sde/digits", 20), ("dpm/digits", 20),
     ("score_sde/digits-ve", 20), ("score_sde/digits-subvp", 20), ("ncsn/digits", None), ("ncsnv2/digits", None)],
)  # fmt: skip
def test_own_sampler_never_waits(preset: str, steps: int | None) -> None:
    assert waits(preset, "own", steps) == []


FREE = ("ddim", "ddim?eta=0.5", "ancestral", "heun", "heun?churn=5", "dpmpp-2m", "unipc", "reverse-diffusion",
        "predictor-corrector", "annealed-langevin")  # fmt: skip


@pytest.mark.parametrize("sampler", FREE)
def test_samplers_never_wait(sampler: str) -> None:
    assert waits("ddpm/digits", sampler, 8) == []


@pytest.mark.parametrize("sampler", ["euler-maruyama", "euler-ode"])
def test_samplers_of_continuous_time_never_wait(sampler: str) -> None:
    assert waits("score_sde/digits", sampler, 8) == []


@pytest.mark.parametrize(
    "preset",
    ["ddpm/digits", "iddpm/digits", "adm/digits", "adm_classifier/digits", "dpm/digits", "score_sde/digits",
     "score_sde/digits-ve", "score_sde/digits-subvp", "ncsn/digits", "ncsnv2/digits"],
)  # fmt: skip
def test_a_training_loss_never_waits(preset: str) -> None:
    """Forward and backward; the levels come from the host."""
    recipe = PRESETS[preset].recipe
    built = recipe.build()
    with torch.device("meta"):
        network, images = recipe.model(), torch.empty(4, *recipe.shape)
    labels = some_labels(recipe, images)
    given = {} if labels is None else {"y": labels}
    with Waits() as mode:
        losses = built.loss(network, images, some_times(built.times, 4), torch.randn_like, **given)
        losses.mean().backward()
    assert losses.device.type == "meta"
    assert mode.found == []


def test_waits_are_seen() -> None:
    with Waits() as mode:
        x = torch.zeros(3).to("meta")
        torch.zeros(3).to("meta", non_blocking=True)
        with pytest.raises(RuntimeError):
            x.sum().item()
        with torch.inference_mode():
            torch.zeros(3).to("meta")
    assert mode.found == ["copy among cpu meta", "read", "copy among cpu meta"]
