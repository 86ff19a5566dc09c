"""A recipe, images and runs so small that a test can train them in a second."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.conditioning import Conditioning, Labels
from sfumato.core import losses, schedules
from sfumato.core.betas import cosine_betas
from sfumato.core.denoisers import Denoise, Denoiser, Prediction, predict_v
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.times import UniformLevels
from sfumato.data.card import make_card
from sfumato.data.images import Images
from sfumato.networks.backbone import Backbone
from sfumato.papers.recipe import denoising_loss
from sfumato.papers.training import TrainConfig
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.processes import started
from sfumato.samplers import DDIM
from sfumato.spaces import Pixels, Space
from sfumato.train.loop import TrainResult, train
from sfumato.train.session import Distance

shards = pytest.mark.skipif(
    not hasattr(torch.cpu.current_stream(), "record_event"), reason="this torch shards networks on GPUs only"
)
"""For tests that shard a network on CPUs."""


class Net(nn.Module):
    """Two convolutions, dropout, a time and a label embedding, and a buffer."""

    def __init__(self, width: int, dropout: float, classes: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(1, width, 3, padding=1)
        self.time = nn.Linear(1, width)
        self.label = nn.Embedding(classes, width) if classes else None
        self.dropout = nn.Dropout(dropout)
        self.last = nn.Conv2d(width, 1, 3, padding=1)
        self.register_buffer("scale", torch.ones(()))

    def forward(self, x: Tensor, t: Tensor, y: Tensor | None = None) -> Tensor:
        embedded = self.time(t[:, None] / 100)
        if self.label is not None:
            embedded = embedded + self.label(y)
        return self.last(self.dropout(torch.relu(self.first(x) + embedded[:, :, None, None]))) * self.scale


@dataclass(frozen=True)
class Toy:
    """A tiny diffusion model with v prediction on cosine betas."""

    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 3
    width: int = 8
    dropout: float = 0.1
    poison: int = -1
    """From this level upwards the loss is NaN; -1 for never."""

    @property
    def conditioning(self) -> Conditioning:
        return Labels(self.classes)

    @property
    def space(self) -> Space:
        return Pixels()

    @property
    def network(self) -> Backbone:
        """Not asked: `model` makes the network."""
        return Backbone()

    def model(self) -> nn.Module:
        return Net(self.width, self.dropout, self.classes)

    def build(self) -> Diffusion:
        process = GaussianDiffusion(schedules.from_betas(cosine_betas(100)))

        def denoise(network: nn.Module, inputs: Inputs) -> Denoise:
            return Denoiser(network, process, predict_v, inputs=inputs)

        def criterion(prediction: Prediction, x0: Tensor, eps: Tensor, t: Tensor) -> Tensor:
            found = losses.weighted(prediction, x0, eps, losses.v_weight)
            poisoned = t.to(found.device) >= self.poison
            return torch.where(poisoned, torch.nan, 1.0) * found if self.poison >= 0 else found

        return Diffusion(
            process, denoise, denoising_loss(self, process, denoise, criterion), UniformLevels(100), process.prior,
            own=DDIM(), sampler=DDIM(), steps=50,
        )  # fmt: skip


def images(n: int = 90, classes: int = 3, seed: int = 0) -> Images:
    """Bright bars on a dark ground, at a height that depends on the class, with some noise."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(n) % classes
    pixels = torch.randint(0, 60, (n, 1, 8, 8), generator=generator, dtype=torch.uint8)
    pixels[torch.arange(n), 0, labels * 2 + 1] += 180
    names = tuple(f"bar{i}" for i in range(classes))
    card = make_card("bars", pixels, labels, names)
    return Images(pixels, labels, None, tuple(f"bar-{i}" for i in range(n)), names, card)


SMALL = TrainConfig(
    images=240, batch=8, learning_rate=3e-3, warmup=40, ema=(0.99, 0.9), precision="float32", flip=True,
    validation_images=16, preview_images=0, checkpoint_every=1000.0, log_every=0.1, threads=1,
)  # fmt: skip


def run(
    out: str | Path, recipe: Toy = Toy(), resume: bool = False, quiet: bool = True,
    preview: Callable[[nn.Module], Tensor] | None = None, data: Images | None = None, distance: Distance | None = None,
    **changes: Any,
) -> TrainResult:  # fmt: skip
    """Train the toy, on bars if on nothing else, with some of the settings changed."""
    config = {"recipe": {"paper": "toy", **asdict(recipe)}}
    settings = replace(SMALL, **changes)
    return train(
        recipe, data or images(), settings, out, config=config, resume=resume, quiet=quiet, preview=preview,
        distance=distance,
    )  # fmt: skip


def tensors(out: str | Path) -> dict[str, Tensor]:
    """Everything in the newest checkpoint of a run."""
    saved = RunFolder.open(out).latest()
    assert saved is not None
    return saved.tensors("")


def same(a: dict[str, Tensor], b: dict[str, Tensor]) -> bool:
    """Whether two checkpoints are equal bit for bit."""
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def wait_for(condition: Callable[[], object], seconds: float = 60.0) -> None:
    """Wait until something is true."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.005)


def first_look(network: nn.Module) -> Tensor:
    """A preview: what the network says about nothing, as a picture."""
    with torch.inference_mode():
        said = network(torch.zeros(1, 1, 8, 8), torch.zeros(1), torch.zeros(1, dtype=torch.long))
    return (said * 100).clamp(0, 255).byte()


def die_once(out: Path, rank: int, network: nn.Module) -> Tensor:
    """A preview that is the end of one of several processes, the first time."""
    if int(os.environ["RANK"]) == rank and not (out.parent / "died").exists():
        (out.parent / "died").touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return first_look(network)


def in_child(out: str, options: dict[str, Any]) -> None:
    """The target of a process: train with these options of `run`, then leave with the exit code of the result.

    Besides those: dropout; sleepy and look, two previews; mortal, which process dies at its first preview.
    """
    dropout, sleepy, look = options.pop("dropout", 0.1), options.pop("sleepy", False), options.pop("look", False)
    preview = (lambda network: time.sleep(60)) if sleepy else first_look if look else None
    if "mortal" in options:
        preview, options["resume"] = partial(die_once, Path(out), options.pop("mortal")), started(out)
    sys.exit(run(out, Toy(dropout=dropout), preview=preview, **options).exit_code)


ALONE = ("--standalone", "--nproc-per-node", "2")
"""Both processes are on one machine."""


def launch(out: Path, restarts: int = 0, place: Sequence[str] = ALONE, **options: Any) -> str:
    """Two processes do `in_child`; returns what they print."""
    words, new = (__file__, str(out), json.dumps({"quiet": False, **options})), not out.exists()
    try:
        return torchrun(*words, restarts=restarts, place=place)
    except AssertionError as error:
        if not new or "100%" not in str(error) or ENDED_BY_GLOO not in str(error):
            raise
    shutil.rmtree(out)  # the run was whole; it is made once more
    return torchrun(*words, restarts=restarts, place=place)


ENDED_BY_GLOO = "terminate called without an active exception"
"""What a process says that the threads of gloo abort as it ends, rarely, when all is done (`runtime/processes`)."""


def torchrun(*words: str, restarts: int = 0, place: Sequence[str] = ALONE) -> str:
    """Two processes of a command of Python's, or this machine's part of them, by torchrun; returns what they print."""
    command = [sys.executable, "-m", "torch.distributed.run", *place]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}  # whatever the network is like
    done = subprocess.run(
        [*command, "--max-restarts", str(restarts), *words],
        env=environment, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def train_losses(out: Path) -> dict[int, float]:
    """The losses of a run, by the number of images."""
    records = RunFolder.open(out).metrics("train")
    assert len({r["images"] for r in records}) == len(records)  # nothing is doubled
    return {r["images"]: r["loss"] for r in records}


def assert_close(out: Path, other: Path) -> None:
    """Two runs that differ by rounding, in their losses and in what was seen on the way."""
    assert train_losses(out) == pytest.approx(train_losses(other), rel=1e-5)
    looks = [RunFolder.open(path).metrics("validation") for path in (out, other)]
    assert len(looks[0]) == len(looks[1])
    for a, b in zip(*looks, strict=True):
        assert (a["images"], a["online"], a["ema"]) == (
            b["images"], pytest.approx(b["online"], rel=1e-4), pytest.approx(b["ema"], rel=1e-4),
        )  # fmt: skip
    one, two = tensors(out), tensors(other)
    assert one.keys() == two.keys()
    for name, value in one.items():
        torch.testing.assert_close(two[name], value, rtol=1e-5, atol=1e-5)


if __name__ == "__main__":
    in_child(sys.argv[1], json.loads(sys.argv[2]))
