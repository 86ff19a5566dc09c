"""Time to quality: eight minutes of training on fashion with no flag but the budget, ours beside two peers' recipes.

`python benchmarks/eight_minutes.py` trains them in turn on this machine (all its threads), samples 1,000 pictures of
each in 50 DDIM steps from the averages, judges them by one feature net against the 10,000 test images and prints a
table; of ours also 1,000 by the sampler that is used without a flag. The peers' recipes and `ddpm/fashion` use no
labels; `adm/fashion` is conditioned on them. `--minutes=1` is a rehearsal, `--only=NAME` does those again whose name
begins so, `--table` prints what is stored. The peers, which only they need, are installed by name:
`pip install diffusers denoising-diffusion-pytorch ema-pytorch`.
"""

from __future__ import annotations

import json
import math
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato.cli import main as sfumato
from sfumato.data import open_source, pictures, to_uint8
from sfumato.evaluate.distances import frechet_distance, statistics
from sfumato.evaluate.features import in_domain
from sfumato.models import load_model

ROOT = Path(__file__).parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "eight_minutes.json"
COUNT, STEPS, BATCH = 1000, 50, 64


def diffusers_run(minutes: float, images: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """diffusers' example for unconditional images: linear schedule, eps, AdamW 1e-4, 500 steps of warm-up, EMA."""
    from diffusers import DDIMScheduler, UNet2DModel
    from diffusers.optimization import get_scheduler
    from diffusers.training_utils import EMAModel

    torch.manual_seed(0)
    # 28 is divided twice only, so three levels; attention in the last but one, as far as its example has it
    network = UNet2DModel(
        sample_size=28, in_channels=1, out_channels=1, block_out_channels=(32, 64, 96), layers_per_block=2,
        down_block_types=("DownBlock2D", "AttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "AttnUpBlock2D", "UpBlock2D"),
    )  # fmt: skip
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-4, betas=(0.95, 0.999), weight_decay=1e-6, eps=1e-8)
    rate = get_scheduler("cosine", optimizer, num_warmup_steps=500, num_training_steps=100 * len(images) // BATCH)
    ema = EMAModel(network.parameters(), decay=0.9999, use_ema_warmup=True, inv_gamma=1.0, power=0.75)
    scheduler = DDIMScheduler(num_train_timesteps=1000, beta_schedule="linear")

    def step(batch: Tensor) -> None:
        x0 = batch.float() / 127.5 - 1
        noise, t = torch.randn_like(x0), torch.randint(0, 1000, (BATCH,))
        loss = torch.nn.functional.mse_loss(network(scheduler.add_noise(x0, noise, t), t).sample, noise)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(network.parameters(), 1.0)
        optimizer.step()
        rate.step()
        optimizer.zero_grad()
        ema.step(network.parameters())

    def sample(count: int) -> Tensor:
        x = torch.randn(count, 1, 28, 28)
        for t in scheduler.timesteps:
            x = scheduler.step(network(x, t).sample, t, x).prev_sample
        return to_uint8(x)

    seen = _train(minutes, images, step)
    ema.copy_to(network.parameters())
    network.eval()
    scheduler.set_timesteps(STEPS)
    return _sample(sample, network, seen)


def lucidrains_run(minutes: float, images: Tensor) -> tuple[Tensor, dict[str, Any]]:
    """denoising-diffusion-pytorch as its trainer sets it: sigmoid schedule, v, Adam 1e-4, EMA .995 each ten steps."""
    from stand_in import without_torchvision

    without_torchvision()  # which it needs for its folder of images only
    from denoising_diffusion_pytorch.denoising_diffusion_pytorch import GaussianDiffusion, Unet
    from ema_pytorch import EMA

    torch.manual_seed(0)
    network = Unet(dim=32, dim_mults=(1, 2, 4), channels=1)
    diffusion = GaussianDiffusion(network, image_size=28, sampling_timesteps=STEPS)
    optimizer = torch.optim.Adam(diffusion.parameters(), lr=1e-4, betas=(0.9, 0.99))
    ema = EMA(diffusion, beta=0.995, update_every=10)

    def step(batch: Tensor) -> None:
        diffusion(batch.float() / 255).backward()
        torch.nn.utils.clip_grad_norm_(diffusion.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        ema.update()

    seen = _train(minutes, images, step)
    ema.ema_model.eval()
    return _sample(lambda count: to_uint8(ema.ema_model.sample(batch_size=count) * 2 - 1), network, seen)


def _train(minutes: float, images: Tensor, step: Callable[[Tensor], None]) -> int:
    """Steps on random batches until the time is over; how many images were seen."""
    started, seen = time.perf_counter(), 0
    while time.perf_counter() - started < 60 * minutes:
        step(images[torch.randint(len(images), (BATCH,))])
        seen += BATCH
    return seen


def _sample(sample: Callable[[int], Tensor], network: torch.nn.Module, seen: int) -> tuple[Tensor, dict[str, Any]]:
    started = time.perf_counter()
    with torch.inference_mode():
        parts = [sample(min(125, COUNT - start)) for start in range(0, COUNT, 125)]
    return torch.cat(parts), _about(network, seen, time.perf_counter() - started)


def our_run(preset: str, minutes: float, judge: Callable[[Tensor], float]) -> tuple[Tensor, dict[str, Any]]:
    """`sfumato train PRESET --train.minutes M`, and nothing else said; judged by the default sampler besides."""
    out = ROOT / "runs" / "eight-minutes" / f"{preset.partition('/')[0]}-{time.strftime('%H%M%S')}"
    if sfumato(["train", preset, "--train.minutes", f"{minutes:g}", "--out", str(out)]):
        raise SystemExit("training did not finish")
    model = load_model(out)
    started = time.perf_counter()
    samples = model.sample(COUNT, sampler="ddim", steps=STEPS, batch=125)
    about = _about(model.network, model.about["images"], time.perf_counter() - started)
    return samples, {**about, "fd_default": judge(model.sample(COUNT, batch=125))}


def _about(network: torch.nn.Module, images: int, seconds: float) -> dict[str, Any]:
    count = sum(p.numel() for p in network.parameters())
    return {"parameters": count, "images": images, "seconds_per_picture": seconds / COUNT}


def table(found: dict[str, Any]) -> str:
    budget = f"{found['minutes']:g} minutes, {found['threads']} threads"
    lines = [f"| {budget} | parameters | images/s | s a picture | {found['net']} | by default, 10 steps |",
             "|---" * 6 + "|"]  # fmt: skip
    for name, row in found["runs"].items():
        speed = row["images"] / (60 * found["minutes"])
        size, pace = f"{row['parameters'] / 1e6:.1f}M", f"{row['seconds_per_picture']:.3f}"
        quick = f"{row['fd_default']:.2f}" if "fd_default" in row else ""
        lines.append(f"| {name} | {size} | {speed:.0f} | {pace} | {row['fd']:.2f} | {quick} |")
    lines.append(f"| real images ({COUNT:,} of training) | | | | {found['floor']:.2f} | |")
    return "\n".join(lines)


def main(arguments: list[str]) -> None:
    minutes = next((float(a.partition("=")[2]) for a in arguments if a.startswith("--minutes=")), 8.0)
    only = next((a.partition("=")[2] for a in arguments if a.startswith("--only=")), "")
    if not (math.isfinite(minutes) and minutes > 0):
        raise SystemExit(f"minutes are above 0, not {minutes}")
    if "--table" not in arguments:
        run(minutes, only)
    print(table(json.loads(RESULTS.read_text())))


def run(minutes: float, only: str) -> None:
    """Train and judge those whose name begins with `only`; the others' stored rows and pictures stay."""
    net, train, test = in_domain("fashion"), open_source("fashion"), open_source("fashion:test")
    real = statistics(net(test.images).pooled)

    def judge(images: Tensor) -> float:
        return frechet_distance(statistics(net(images).pooled), real)

    ways = {
        "diffusers' example": lambda: diffusers_run(minutes, train.images),
        "lucidrains' trainer": lambda: lucidrains_run(minutes, train.images),
        "ours, ddpm/fashion": lambda: our_run("ddpm/fashion", minutes, judge),
        "ours with labels, adm/fashion": lambda: our_run("adm/fashion", minutes, judge),
    }
    runs = {} if not only else json.loads(RESULTS.read_text())["runs"]
    kept = ROOT / "runs" / "eight-minutes"
    kept.mkdir(parents=True, exist_ok=True)

    def strip(name: str) -> Path:
        """The first pictures of a run."""
        return kept / f"{name.replace('/', '-')}.pt"

    if lost := [name for name in ways if not name.startswith(only) and not strip(name).exists()]:
        raise SystemExit(f"--only needs the others' pictures from an earlier run here; missing: {', '.join(lost)}")
    for name, way in ways.items():
        if name.startswith(only):
            samples, about = way()
            runs[name] = {**about, "fd": judge(samples)}
            torch.save(samples[:32], strip(name))
    found = {
        "minutes": minutes, "threads": torch.get_num_threads(), "net": net.distance,
        "runs": {name: runs[name] for name in ways},
        "floor": judge(train.images[-COUNT:]),
    }  # fmt: skip
    RESULTS.write_text(json.dumps(found, indent=1) + "\n")
    sheet = torch.cat([torch.load(strip(name), weights_only=True) for name in ways])
    pictures.save_png(ROOT / "docs" / "images" / "eight-minutes.png", pictures.grid(sheet, columns=16, scale=2))


if __name__ == "__main__":
    main(sys.argv[1:])
