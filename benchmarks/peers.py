"""Ours against peers on this machine, in turn, in one process: `python benchmarks/peers.py` prints the ratios.

Sampling is `Model.sample` and diffusers' `DDIMPipeline`; training is our `train` and the loop of diffusers' example for
unconditional images (AdamW, gradients clipped, its EMA). Both in their defaults, and diffusers also in its best bf16
setting; same network (Ho et al.'s), weights and steps. Lucidrains' package has a network of its own, here with as many
parameters, which samples by its DDIM and trains as its trainer does. CPU seconds of this process, the least of several
turns, so that other work on the machine counts little. Results with the machine's facts go to
benchmarks/results/peers-*.json. The peers are installed by name: `pip install diffusers denoising-diffusion-pytorch`.
"""

from __future__ import annotations

import json
import platform
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DDIMPipeline, DDIMScheduler, UNet2DModel
from diffusers.training_utils import EMAModel
from ema_pytorch import EMA
from shares import NETS
from stand_in import without_torchvision
from torch import Tensor

import sfumato
from sfumato.convert.foreign import save_folder
from sfumato.data import Images, open_source
from sfumato.models import Model
from sfumato.networks import fused
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig
from sfumato.runtime.precision import best_precision
from sfumato.train.loop import train

RESULTS = Path(__file__).parent / "results"
SIZES = {name: recipe for name, (recipe, _) in NETS.items()}
STEPS = 10
"""Of sampling."""


@dataclass
class Timed:
    """The least CPU seconds that each of several things took, measured in turn."""

    least: dict[str, float]

    @classmethod
    def of(cls, things: dict[str, Callable[[], object]], turns: int) -> Timed:
        """One warm-up each, then so many turns."""
        least = dict.fromkeys(things, float("inf"))
        for turn in range(turns + 1):
            for name, thing in things.items():
                started = time.process_time()
                thing()
                if turn:
                    least[name] = min(least[name], time.process_time() - started)
        return cls(least)


def built(recipe: DDPM) -> Model:
    """A model whose zero layers have values, as after training."""
    torch.manual_seed(0)
    network = recipe.model().eval()
    for parameter in network.parameters():
        if not parameter.any():
            torch.nn.init.normal_(parameter, std=0.02)
    return Model(recipe, network)


def pipeline(model: Model, bf16: bool) -> DDIMPipeline:
    """diffusers' pipeline with the same weights."""
    with tempfile.TemporaryDirectory() as folder:
        save_folder(model.recipe, model.network, folder)
        network = UNet2DModel.from_pretrained(folder, subfolder="unet")
        pipe = DDIMPipeline(unet=network, scheduler=DDIMScheduler.from_pretrained(folder, subfolder="scheduler"))
    pipe.set_progress_bar_config(disable=True)
    if bf16:
        pipe.unet.to(memory_format=torch.channels_last)
    return pipe


def lucidrains(recipe: DDPM) -> Any:
    """Its diffusion on a network of as many parameters, by its defaults."""
    without_torchvision()
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet

    wide = recipe.shape[-1] == 32
    network = Unet(dim=64 if wide else 32, dim_mults=(1, 2, 4, 8) if wide else (1, 2, 4), channels=recipe.shape[0])
    return GaussianDiffusion(network, image_size=recipe.shape[1], sampling_timesteps=STEPS)


def lucidrains_training(recipe: DDPM, batch: int, images: Tensor) -> Callable[[int], None]:
    """So many steps of its trainer's loop: Adam, gradients clipped, an average every ten steps."""
    diffusion = lucidrains(recipe)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)

    def run(steps: int) -> None:
        for i in range(steps):
            diffusion(images[i * batch % len(images) :][:batch].float() / 255).backward()
            torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.update()

    return run


def sampling(recipe: DDPM, batch: int, turns: int) -> dict[str, float]:
    """CPU seconds of STEPS DDIM steps on so many images."""
    model = built(recipe)
    plain, quick = pipeline(model, False), pipeline(model, True)
    other = lucidrains(recipe).eval()

    def theirs(pipe: DDIMPipeline, bf16: bool) -> Callable[[], object]:
        def run() -> object:
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                return pipe(batch_size=batch, num_inference_steps=STEPS, output_type="np")

        return run

    return Timed.of({
        "diffusers, default": theirs(plain, False),
        "diffusers, bf16 and channels last": theirs(quick, True),
        "lucidrains, default": lambda: other.sample(batch_size=batch),
        "ours, default": lambda: model.sample(batch, steps=STEPS),
        "ours, float32": lambda: model.sample(batch, steps=STEPS, precision="float32"),
    }, turns).least  # fmt: skip


def diffusers_training(recipe: DDPM, batch: int, bf16: bool, images: Tensor) -> Callable[[int], None]:
    """So many steps of the loop that diffusers' example for unconditional images has."""
    network = pipeline(built(recipe), bf16).unet.train()
    scheduler = DDIMScheduler()
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6)
    ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)

    def run(steps: int) -> None:
        for i in range(steps):
            x0 = images[i * batch % len(images) :][:batch].float() / 127.5 - 1
            noise, t = torch.randn_like(x0), torch.randint(0, 1000, (len(x0),))
            with torch.autocast("cpu", torch.bfloat16) if bf16 else nullcontext():
                found = network(scheduler.add_noise(x0, noise, t), t).sample
                loss = torch.nn.functional.mse_loss(found.float(), noise)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
            ema.step(network.parameters())

    return run


def our_training(recipe: DDPM, batch: int, images: Images) -> Callable[[int], None]:
    """So many steps of `train`, in a folder that is thrown away."""

    def run(steps: int) -> None:
        settings = TrainConfig(images=steps * batch, batch=batch, preview_images=0, validation_images=0)
        with tempfile.TemporaryDirectory() as out:
            train(recipe, images, settings, Path(out) / "run", config={"recipe": {}}, quiet=True)

    return run


def training(recipe: DDPM, batch: int, turns: int) -> dict[str, float]:
    """CPU seconds of one step, from the difference between a longer and a shorter run."""
    pixels = torch.randint(0, 256, (256, *recipe.shape), dtype=torch.uint8)
    with tempfile.TemporaryDirectory() as folder:
        np.savez(Path(folder) / "noise.npz", pixels.permute(0, 2, 3, 1).numpy())
        images = open_source(f"npz:{folder}/noise.npz")
    ways = {
        "diffusers, default": diffusers_training(recipe, batch, False, pixels),
        "diffusers, bf16 and channels last": diffusers_training(recipe, batch, True, pixels),
        "lucidrains, default": lucidrains_training(recipe, batch, pixels),
        "ours, default": our_training(recipe, batch, images),
    }
    short, long = 1, 5
    timed = {f"{name}|{n}": (lambda run=run, n=n: run(n)) for name, run in ways.items() for n in (short, long)}
    least = Timed.of(timed, turns).least
    return {name: (least[f"{name}|{long}"] - least[f"{name}|{short}"]) / (long - short) for name in ways}


def main(arguments: list[str]) -> None:
    torch.set_num_threads(1)
    turns = 2 if "--quick" in arguments else 4
    fused.load()
    machine = {
        "cpu": _cpu(), "torch": torch.__version__, "threads": 1, "precision": best_precision("cpu")[1],
        "kernel": fused.loaded(), "sfumato": sfumato.__version__,
    }  # fmt: skip
    found: dict[str, Any] = {"machine": machine, "sampling": {}, "training": {}}
    for name, recipe in SIZES.items():
        for batch in (1, 16):
            found["sampling"][f"{name}, batch {batch}"] = sampling(recipe, batch, turns)
        found["training"][f"{name}, batch 16"] = training(recipe, 16, turns)
    RESULTS.mkdir(exist_ok=True)
    kind = "amx" if "AMX" in machine["precision"] else "avx512-bf16" if "AVX512" in machine["precision"] else "float32"
    (RESULTS / f"peers-{kind}.json").write_text(json.dumps(found, indent=1) + "\n")
    print(table(found))


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor()


def table(found: dict[str, Any]) -> str:
    """CPU milliseconds, and how many times as long each peer takes as ours in its default."""
    lines = [f"{', '.join(f'{k} {v}' for k, v in found['machine'].items())}"]
    for part in ("sampling", "training"):
        unit = f"{STEPS} DDIM steps" if part == "sampling" else "a step"
        names = list(next(iter(found[part].values())))
        lines += ["", f"| {part}, ms for {unit} | " + " | ".join(names) + " |", "|---" * (len(names) + 1) + "|"]
        for what, seconds in found[part].items():
            ours = seconds["ours, default"]
            cells = (f"{s * 1e3:.0f} ({s / ours:.2f}x)" for s in seconds.values())
            lines.append(f"| {what} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


if __name__ == "__main__":
    main(sys.argv[1:])
