"""What a recipe has to stand: training in two halves, a checkpoint, sampling, likelihood, ONNX, a device."""

from __future__ import annotations

import math
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers, samplers
from sfumato.core.exact import gaussian_flow
from sfumato.core.sampling import finish
from sfumato.data import open_source
from sfumato.likelihood import ode_likelihood, runge_kutta
from sfumato.models import Model, load_model
from sfumato.models.editing import Editor
from sfumato.networks.unet import HoUNet
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.train.loop import train

NETWORK = HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.1)
MEAN, STD = 0.3, 0.4
"""Of independent Gaussian pixels, for which the best denoiser is known."""


def trained(recipe: Any, out: Path, *, stop: bool = False, resume: bool = False) -> Model:
    """Ten steps on digits; with `stop` a signal arrives after five."""
    pending = [signal.SIGINT] if stop else []

    def interrupt(network: nn.Module) -> Tensor:
        if pending:
            os.kill(os.getpid(), pending.pop())
        return torch.zeros(1, 1, 8, 8, dtype=torch.uint8)

    settings = TrainConfig(
        images=160, batch=16, validation_images=8, preview_images=1, preview_every=0.4, checkpoint_every=1000.0,
        threads=1,
    )  # fmt: skip
    config = {"recipe": papers.to_json(recipe)}
    train(recipe, open_source("digits"), settings, out, config=config, quiet=True, preview=interrupt, resume=resume)
    return load_model(out)


def check_the_whole_way(recipe: Any, folder: Path) -> None:
    """Training, resuming bit for bit, sampling by its own sampler and others, encoding, likelihood, guidance, ONNX."""
    model = trained(recipe, folder / "run")
    trained(recipe, folder / "halves", stop=True)
    trained(recipe, folder / "halves", resume=True)
    whole, halves = (RunFolder.open(folder / name).latest().tensors("") for name in ("run", "halves"))  # type: ignore[union-attr]
    assert whole.keys() == halves.keys()
    assert all(torch.equal(whole[name], halves[name]) for name in whole)

    assert model.recipe == recipe
    pictures = model.sample(3, seed=1)
    assert pictures.shape == (3, 1, 8, 8)
    own = model.sample(3, sampler="own", seed=1)
    assert torch.equal(model.sample(3, sampler=model.diffusion.own, steps=model.diffusion.own_steps, seed=1), own)
    assert not torch.equal(own, pictures)
    assert int((model.sample(1, seed=1).int() - pictures[:1].int()).abs().max()) <= 1
    for spec in ("ddim", "ancestral", "dpmpp-2m?grid=karras", "unipc?grid=log-snr"):
        assert len(model.sample(2, steps=5, sampler=spec)) == 2
    if recipe.conditioning.dropout:  # from the first level on, where a flow has no signal
        x, end = torch.randn(2, 1, 8, 8), torch.tensor(model.diffusion.gaussian.schedule.end)
        plain, guided = (model.denoiser(torch.tensor([1, 2]), scale=scale)(x, end).x0 for scale in (1.0, 3.0))
        assert bool(guided.isfinite().all())
        assert not torch.equal(plain, guided)

    few = replace(open_source("digits?limit=4"))
    editor = Editor(model, steps=20, labels=few.labels if recipe.conditioning.classes else None)
    assert float(editor.reconstruct(few.images)[1].max()) < 0.05
    report = ode_likelihood(model, few, runge_kutta(5))
    assert math.isfinite(report.total)
    assert report.protocol["start"] == max(1e-5, model.diffusion.gaussian.schedule.first)
    check_onnx(model, folder / "onnx")


def check_onnx(model: Model, folder: Path) -> None:
    """The graphs go the way of the library's own sampler."""
    for needed in ("onnx", "onnxscript", "onnxruntime"):
        pytest.importorskip(needed)
    from sfumato.convert import onnx
    from tests.convert.test_onnx import SCALE, here

    recipe = model.recipe
    model = Model(recipe, model.network.float(), model.classes)
    onnx.export(recipe, model.network, folder, chosen={"own": model.diffusion.own}, steps=(4,))
    ours, draws = here(model, model.diffusion.own, 4, 3)
    labels = model.labels(None, 3)
    told = {} if labels is None else {"y": labels.numpy(), "scale": torch.full((3,), SCALE).numpy()}
    theirs = list(onnx.replay(folder, "own", 4, lambda i: draws[i].numpy(), 3, **told))
    assert len(ours) == len(theirs)
    for one, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(torch.from_numpy(other), one, rtol=1e-3, atol=1e-3 * float(one.abs().max()))


def check_no_host(recipe: Any) -> None:
    """Loss and times read no number on the host, and mix no host table in: so they fit into a CUDA graph."""
    diffusion, device = recipe.build(), torch.device("meta")
    with device:
        network = recipe.model()
    t, weight = diffusion.times.draw(torch.rand(4, dtype=torch.float64, device=device))
    given = {"y": torch.zeros(4, dtype=torch.long, device=device)} if recipe.conditioning.classes else {}
    loss = diffusion.loss(network, torch.zeros(4, *recipe.shape, device=device), t, torch.randn_like, **given)
    (loss * weight).mean().backward()
    assert loss.device == t.device == device
    assert (loss.dtype, loss.shape) == (torch.float32, (4,))
    assert any(parameter.grad is not None for parameter in network.parameters())


def converges(recipe: Any, network: nn.Module, steps: tuple[int, int]) -> tuple[float, float]:
    """The order of its own sampler for Gaussian pixels, and the error in more steps, beside the flow's exact end."""
    diffusion, errors = recipe.build(), []
    process, denoise = diffusion.gaussian, diffusion.denoise(network, {})
    x = diffusion.prior((2, *recipe.shape)).sample(torch.randn_like).double()
    for n in steps:
        times = diffusion.own.times(process.schedule, n)
        start, end = (process.level(t, x) for t in (times[0], times[-1]))
        one = torch.ones((), dtype=torch.float64)
        truth = gaussian_flow(MEAN * one, STD * one, x, start, end)
        errors.append(float((finish(x, diffusion.own.moves(process, denoise, times)) - truth).abs().max()))
    return math.log(errors[0] / errors[1]) / math.log(steps[1] / steps[0]), errors[1]


def evaluations(recipe: Any) -> int:
    """Of the network, a picture, by its own sampler in its own number of steps."""
    diffusion = recipe.build()
    return samplers.evaluations(diffusion.own, diffusion.gaussian, diffusion.own_steps)
