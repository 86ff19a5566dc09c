"""Does a GPU compute what the CPU does? Losses, gradients and samplers in float32 and bf16, waits, memory, resuming.

Every check returns what it measured and the tolerance; `checks` lists them all, and tests/gpu runs the same list.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from gpu_common import Place, Result, settle
from gpu_runs import CAPTURED, check_captured, check_resume
from torch import Tensor, nn

from sfumato.core.randomness import ImageNoise
from sfumato.cost import memory
from sfumato.cost.network import some_labels, some_times
from sfumato.models import Model, Request
from sfumato.models.generate import trajectories
from sfumato.papers.ddpm import DDPM
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import Trainable
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import autocast

FASHION = ("ddpm", "iddpm", "adm", "adm_classifier", "ncsn", "ncsnv2", "dpm")
RECIPES = (*(f"{paper}/fashion" for paper in FASHION), *(f"score_sde/fashion{end}" for end in ("", "-ve", "-subvp")))

TOLERANCE = {"float32": (1e-4, 1e-3), "tf32": (1e-2, 3e-2), "bf16": (5e-2, 1.5e-1)}
"""Of losses and of gradients, as a share of their norm on the CPU in float32."""
SAMPLED = {"float32": 1e-3, "bf16": 1e-1}
"""Of the end of a trajectory, likewise."""
PREDICTED = 0.2
"""Of a peak of memory, as a share of what was measured."""


def away(a: Tensor, b: Tensor) -> float:
    """How far a is from b, as a share of b's norm."""
    return float((a.double() - b.double()).norm() / b.double().norm())


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether convolutions and products may round float32 to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = allowed
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


def network(recipe: Trainable, device: str) -> nn.Module:
    """A network from a seed whose zero layers have values, as after training."""
    torch.manual_seed(0)
    net: nn.Module = recipe.model().eval()
    for parameter in net.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return net.to(device)


# ---------------------------------------------------------------- losses and gradients


def gradients(recipe: Trainable, device: str, precision: str, n: int = 8) -> tuple[Tensor, Tensor]:
    """The losses (n,) of fixed images, levels and noise, and the gradient of their mean, both on the host."""
    net, built, count = network(recipe, device), recipe.build(), recipe.conditioning.classes
    x0 = ImageNoise(1, range(n))(torch.empty(n, *recipe.shape)).clamp(-1, 1).to(device)
    labels = {"y": (torch.arange(n) % count).to(device)} if count else {}
    with autocast(device, precision):
        losses = built.loss(net, x0, some_times(built.times, n), ImageNoise(2, range(n)), **labels).float()
    losses.mean().backward()
    found = [p.grad.float().cpu().flatten() for p in net.parameters() if p.grad is not None]
    return losses.detach().cpu(), torch.cat(found)


def check_gradients(preset: str, device: str) -> Result:
    """The loss of a recipe and its gradient, beside the CPU's in float32."""
    recipe = PRESETS[preset].recipe
    reference = gradients(recipe, "cpu", "float32")
    result: Result = {"ok": True}
    for kind, (of_loss, of_gradient) in TOLERANCE.items():
        with tf32(kind == "tf32"):
            found = gradients(recipe, device, "bf16" if kind == "bf16" else "float32")
        loss, gradient = (away(a, b) for a, b in zip(found, reference, strict=True))
        result |= {f"{kind} loss": loss, f"{kind} gradient": gradient}
        result["ok"] &= loss <= of_loss and gradient <= of_gradient
    return result


def check_kernel(shape: tuple[int, int, int, int], groups: int, last: bool) -> Result:
    """The GPU kernel for normalisation, scale, shift and SiLU beside float64, forward and backward."""
    from sfumato.networks import fused_gpu

    torch.manual_seed(0)
    order = torch.channels_last if last else torch.contiguous_format
    B, C, H, W = shape
    result: Result = {"ok": True}
    for dtype, tolerance in ((torch.float32, 1e-5), (torch.bfloat16, 1e-2)):
        x = (torch.randn(B, C, H, W, device="cuda") + 0.5).to(dtype).contiguous(memory_format=order)
        given = [x, *(torch.randn(B, C, device="cuda") for _ in range(3))]
        ours = [v.detach().clone().requires_grad_() for v in given]
        exact = [v.detach().double().requires_grad_() for v in given]
        out = fused_gpu.norm_silu(ours[0], ours[1], ours[2], ours[3], groups, 1e-5)
        h = torch.nn.functional.group_norm(exact[0] + exact[1][:, :, None, None], groups, eps=1e-5)
        true = torch.nn.functional.silu(h * exact[2][:, :, None, None] + exact[3][:, :, None, None])
        dy = torch.randn_like(true)
        found = [out, *torch.autograd.grad(out, ours, dy.to(dtype))]
        wanted = [true, *torch.autograd.grad(true, exact, dy)]
        scale = max(float(v.norm()) for v in wanted[1:])  # the gradient of a shift of whole groups is 0
        pairs = zip(found, wanted, strict=True)
        errors = [float((a.double() - b).norm() / b.norm().clamp(min=0.1 * scale)) for a, b in pairs]
        result[str(dtype).removeprefix("torch.")] = max(errors)
        result["ok"] &= max(errors) <= tolerance and out.stride() == x.stride()
    return result


KERNEL = (
    ((4, 32, 28, 28), 32), ((4, 96, 14, 14), 32), ((2, 48, 7, 9), 16), ((2, 256, 32, 32), 32), ((2, 768, 8, 8), 32),
)  # fmt: skip
"""Shapes and numbers of groups."""


def kernel_checks() -> dict[str, Callable[[], Result]]:
    """Those of the GPU kernel by name."""
    return {
        f"fused norm, {'x'.join(map(str, shape))}, channels {order}": partial(check_kernel, shape, n, order == "last")
        for shape, n in KERNEL
        for order in ("first", "last")
    }


# ---------------------------------------------------------------- samplers


def sampled(preset: str, sampler: str, steps: int | None, device: str, precision: str) -> tuple[Tensor, Tensor]:
    """Where four images begin and end, (4, C, H, W) each on the host; the loop must not wait for the device."""
    recipe: Any = PRESETS[preset].recipe
    model = Model(recipe, network(recipe, device))
    request = Request(4, steps, sampler, precision=precision)
    states = trajectories(model, request, range(4), model.labels(None, 4))
    begin, _ = next(states)
    next(states)  # the first move may prepare what all others use
    settle(device)
    with unwaiting(device):
        for last, _ in states:
            x = last
    return begin.cpu(), x.cpu()


@contextmanager
def unwaiting(device: str) -> Iterator[None]:
    """An error where the host waits for the device."""
    if device == "cuda":
        torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("default")


def check_sampler(preset: str, sampler: str, steps: int | None, device: str) -> Result:
    """A sampler on the device, which never waits for it, beside the CPU's in float32."""
    begin, reference = sampled(preset, sampler, steps, "cpu", "float32")
    result: Result = {"moved": away(reference, begin)}
    result["ok"] = result["moved"] > 1e-3  # two trajectories that go nowhere are alike too
    with tf32(False):
        for precision, tolerance in SAMPLED.items():
            result[precision] = away(sampled(preset, sampler, steps, device, precision)[1], reference)
            result["ok"] &= result[precision] <= tolerance
    return result


SAMPLING: tuple[tuple[str, str, int | None], ...] = (
    *((f"{name}/fashion", "own", 10) for name in ("ddpm", "iddpm", "adm", "ncsn", "ncsnv2", "dpm")),
    *((f"score_sde/fashion{end}", "own", 20) for end in ("", "-ve", "-subvp")),
    *((f"{name}/fashion", "ddim", 10) for name in ("ddpm", "iddpm", "adm", "score_sde")),
    ("score_sde/fashion", "heun", 10),
    *(("ddpm/fashion", sampler, 10) for sampler in ("ddim?eta=0.5", "predictor-corrector", "dpmpp-2m", "unipc")),
)
"""Presets, samplers and numbers of steps."""


# ---------------------------------------------------------------- waits of training


def check_training_waits(preset: str, device: str) -> Result:
    """How often the loss and its gradient make the host wait for the device; levels come from the host."""
    recipe: Any = PRESETS[preset].recipe
    net, built = network(recipe, device), recipe.build()
    x0 = torch.zeros(8, *recipe.shape, device=device)
    y = some_labels(recipe, x0)
    labels = {} if y is None else {"y": y}

    def step() -> None:
        with autocast(device, "bf16"):
            losses = built.loss(net, x0, some_times(built.times, 8), torch.randn_like, **labels).float()
        losses.mean().backward()

    step()
    settle(device)
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        if device == "cuda":
            torch.cuda.set_sync_debug_mode("warn")
        try:
            step()
        finally:
            if device == "cuda":
                torch.cuda.set_sync_debug_mode("default")
    places = [f"{Path(w.filename).name}:{w.lineno}" for w in seen if "synchroniz" in str(w.message)]
    return {"ok": not places, "waits": len(places), "at": sorted(set(places))[:5]}


# ---------------------------------------------------------------- memory


def check_training_memory(recipe: Trainable, config: TrainConfig, device: str) -> Result:
    """The predicted peak of two training steps beside the allocator's."""
    measuring = _measuring()
    predicted = memory.training(recipe, config, device=device).peak
    return _compared(predicted, measuring.peak_bytes(lambda: measuring.train_two_steps(recipe, config, device), device))


def check_sampling_memory(recipe: Trainable, batch: int, device: str) -> Result:
    """The predicted peak of sampling a batch in bf16 beside the allocator's."""
    measuring = _measuring()
    predicted = memory.sampling(recipe, batch, precision="bf16", device=device)
    return _compared(
        predicted, measuring.peak_bytes(lambda: measuring.sample_two_moves(recipe, batch, "bf16", device), device)
    )


def _compared(predicted: int, measured: int) -> Result:
    error = predicted / measured - 1
    return {"ok": abs(error) <= PREDICTED, "predicted": predicted, "measured": measured, "off by": error}


def _measuring() -> Any:
    """tests/cost/measuring.py."""
    root = str(Path(__file__).parents[1])
    if root not in sys.path:
        sys.path.insert(0, root)
    from tests.cost import measuring

    return measuring


# ---------------------------------------------------------------- the list


def checks(device: str, tiny: bool = False) -> dict[str, Callable[[], Result]]:
    """Every check by name."""
    presets = ("ddpm/digits", "score_sde/digits-ve") if tiny else RECIPES
    samplers = (("ddpm/digits", "own", 5),) if tiny else SAMPLING
    found = kernel_checks() if device == "cuda" else {}
    for preset in presets:
        found[f"loss and gradient, {preset}"] = partial(check_gradients, preset, device)
    for preset, sampler, steps in samplers:
        found[f"sampling without waits, {preset}, {sampler}"] = partial(check_sampler, preset, sampler, steps, device)
    for preset in presets:
        found[f"waits of training, {preset}"] = partial(check_training_waits, preset, device)
    for name in ("ddpm/digits",) if tiny else ("ddpm/fashion", "score_sde/fashion-ve", "ncsn/fashion"):
        recipe = PRESETS[name].recipe
        for precision in ("float32",) if tiny else ("float32", "bf16"):
            config = TrainConfig(batch=8 if tiny else 64, precision=precision)  # type: ignore[arg-type]
            found[f"memory of training, {name}, {precision}"] = partial(check_training_memory, recipe, config, device)
        found[f"memory of sampling, {name}"] = partial(check_sampling_memory, recipe, 8 if tiny else 64, device)
    if not tiny:
        config = TrainConfig(batch=64, precision="bf16")
        found["memory of training, CIFAR-10 DDPM, bf16"] = partial(check_training_memory, DDPM(), config, device)
        config = replace(config, checkpoint_activations=True)
        found["memory of training, CIFAR-10 DDPM, recomputed"] = partial(check_training_memory, DDPM(), config, device)
        found["memory of sampling, CIFAR-10 DDPM"] = partial(check_sampling_memory, DDPM(), 64, device)
    found["resuming, ddpm/digits"] = partial(check_resume, "ddpm/digits", 4 if tiny else 20)
    for preset, changes in CAPTURED if device == "cuda" else ():
        found[f"captured steps, {preset}"] = partial(check_captured, preset, **changes)
    if device == "cuda":
        found["resuming captured steps, ddpm/digits"] = partial(check_resume, "ddpm/digits", capture=True)
    return found


def work(place: Place) -> None:
    """All checks, a row each."""
    for name, check in checks(place.device, place.tiny).items():
        with place.noted("checks", name=name) as values:
            values |= check()
    if place.device == "cuda":
        with place.noted("checks", name="tests/gpu") as values:
            values |= _tests()


def _tests() -> Result:
    """The recorded outputs of the official networks, on the device."""
    import subprocess

    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "tests/gpu/test_gpu_goldens.py"]
    done = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    print(done.stdout[-3000:], done.stderr[-2000:], flush=True)
    return {"ok": done.returncode == 0, "said": done.stdout.strip().splitlines()[-1:]}
