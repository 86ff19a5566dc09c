"""Run denoising-diffusion-pytorch on the cases of `tests.golden.lucidrains` and record what it returns.

    python -m tests.golden.distill_lucidrains VERSION

in an environment with that version of the package: 2.3.4 for the cases that name none, 1.9.0 and 1.7.1 for
theirs. Other cases in the file stay as they are.
"""

from __future__ import annotations

import gzip
import json
import sys
from importlib import import_module
from typing import Any

import torch

from tests.golden.lucidrains import (
    CASES,
    CONTINUOUS,
    FILE,
    KARRAS,
    REAL,
    ROW,
    SIDE,
    STEPS,
    UNET,
    inputs,
    recorded,
    schedule_weights,
    weights,
)

NEWEST = "2.3.4"


def built(case: dict[str, Any]) -> tuple[Any, Any, tuple[int, ...]]:
    """(its diffusion, its network, the shape of an image) with the weights of the formula."""
    kind = case.get("kind", "GaussianDiffusion")
    shape: tuple[int, ...]
    package: Any = import_module("denoising_diffusion_pytorch")
    karras = "net" in case
    options = {n: value for n, value in {**(KARRAS if karras else UNET), **case["unet"]}.items() if value is not None}
    channels = options.get("channels", 3)
    if kind == "GaussianDiffusion1D":
        net = package.KarrasUnet1D(seq_len=ROW, **options) if karras else package.Unet1D(**options)
        shape = (channels, ROW)
        diffusion = package.GaussianDiffusion1D(net, seq_length=ROW, timesteps=STEPS, **case["diffusion"])
    elif kind == "labels":
        guidance: Any = import_module("denoising_diffusion_pytorch.classifier_free_guidance")
        net, shape = guidance.Unet(**options), (channels, SIDE, SIDE)
        diffusion = guidance.GaussianDiffusion(net, image_size=SIDE, timesteps=STEPS, **case["diffusion"])
    else:
        net = package.KarrasUnet(image_size=SIDE, **options) if karras else package.Unet(**options)
        shape = (channels, SIDE, SIDE)
        if karras and kind in REAL:
            net.random_or_learned_sinusoidal_cond = True  # which the diffusion asks for and the network does not say
        steps = {"num_sample_steps": STEPS} if kind in REAL else {"timesteps": STEPS}
        steps |= {"channels": channels} if kind in CONTINUOUS else {}
        diffusion = getattr(package, kind)(net, image_size=SIDE, **steps, **case["diffusion"])
    own = {name: tuple(value.shape) for name, value in net.state_dict().items()}
    net.load_state_dict(weights(own))
    schedule: Any = getattr(diffusion, "log_snr", None)
    if isinstance(schedule, torch.nn.Module):
        made = {name: tuple(value.shape) for name, value in schedule.state_dict().items()}
        schedule.load_state_dict(schedule_weights(made))
    return diffusion.eval(), net.eval(), shape


def record(case: dict[str, Any]) -> dict[str, Any]:
    diffusion, net, shape = built(case)
    if "net" in case:  # attention leaves pixels in another order in memory, in which noise would be drawn
        net.register_forward_hook(lambda module, given, out: out.contiguous())
    x, t = inputs(shape)
    y = torch.tensor([1, 4])
    labelled = case.get("kind") == "labels"
    with torch.no_grad():
        output = net(x, t, y, cond_drop_prob=0.0) if labelled else net(x, t)
        torch.manual_seed(0)
        if labelled:
            # at scale 1 the package takes the batch apart for the two predictions of guidance: it is given two
            net.forward_with_cond_scale = lambda x, t, y, **_: (net(x, t, y, cond_drop_prob=0.0), None)
            sample = diffusion.sample(y, cond_scale=1.0)
        elif case.get("kind") == "ElucidatedDiffusion":
            diffusion.S_churn = 0
            sample = diffusion.sample(2, clamp=False)
        elif case.get("kind") == "WeightedObjectiveGaussianDiffusion":
            # 2.3.4's sampling loop asks its method for an argument and a result that it does not have; and what its
            # einsum returns lies in memory in another order, in which noise would be drawn
            whole = diffusion.p_mean_variance
            diffusion.p_mean_variance = lambda x, t, x_self_cond, clip_denoised: (
                *(part.contiguous() for part in whole(x=x, t=t, clip_denoised=clip_denoised)), None,
            )  # fmt: skip
            sample = diffusion.sample(2)
        else:
            sample = diffusion.sample(2)
    names = {name: list(value.shape) for name, value in diffusion.state_dict().items()}
    tables = {name: value.tolist() for name, value in diffusion.state_dict().items() if "." not in name}
    return {"shapes": names, "tables": tables, "output": _short(output), "sample": _short(sample)}


def _short(value: torch.Tensor) -> Any:
    return [float(f"{number:.7g}") for number in value.flatten().tolist()]


def main(version: str) -> None:
    found = recorded() if FILE.exists() else {}
    for name, case in CASES.items():
        if case.get("version", NEWEST) == version:
            found[name] = record(case)
    text = json.dumps({name: found[name] for name in CASES if name in found})
    FILE.write_bytes(gzip.compress(text.encode(), mtime=0))


if __name__ == "__main__":
    main(sys.argv[1])
