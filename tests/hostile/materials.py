"""Valid files of every kind, made once when a case asks for them: what the hostile ones are damaged copies of."""

from __future__ import annotations

import io
import json
import os
import shutil
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

SIDE = 8
"""Of the pictures, which are grey."""

CHOICES = ["--size", "8", "--steps", "40", "--betas", "linear", "--prediction", "eps", "--variance", "large"]
"""What an official file of no published network leaves open."""

TINY = ["--recipe.network", "ddpm-unet?channels=32&multipliers=1&blocks=1&attention=none&dropout=0", "--recipe.steps",
        "40", "--train.images", "32", "--train.batch", "16", "--train.preview-images", "0",
        "--train.validation-images", "0"]
"""Options of a training that takes a second."""


def place() -> Path:
    return Path(os.environ["SFUMATO_HOSTILE"])


def path(name: str) -> Path:
    """Where a material lies; made now where it is not there yet, in a process of its own."""
    found = place() / name
    if not found.exists():
        child = os.fork()
        if child == 0:
            try:
                making = place().with_name("making")
                shutil.rmtree(making, ignore_errors=True)
                making.mkdir(parents=True)
                place().mkdir(exist_ok=True)
                os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
                warnings.simplefilter("ignore")
                _maker(name)(making / name)
                os.rename(making / name, found)
            except BaseException:
                import traceback

                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        if os.waitpid(child, 0)[1]:
            raise RuntimeError(f"the material {name} cannot be made")
    return found


def copied(name: str, to: Path) -> Path:
    """A copy of a material, to be damaged; returns where it lies."""
    if path(name).is_dir():
        shutil.copytree(path(name), to)
    else:
        shutil.copyfile(path(name), to)
    return to


def _maker(name: str) -> Callable[[Path], None]:
    stem, _, end = name.partition(".")
    if end == "safetensors":
        return lambda to: _checkpoint(stem, to)
    return {"images.npz": _npz, "images": _images, "shard.tar": _shard, "map": _map, "run": _run, "model.parts": _parts,
            "official.pt": _official, "diffusers": _diffusers}[name]


# ---------------------------------------------------------------- models


def recipe(name: str) -> Any:
    """The recipe of a small model: a name of `small.RECIPES`, 2015's dpm, classifier, or linear for DDPM's own."""
    from sfumato.papers.ddpm import DDPM
    from tests.models import small

    if name == "linear":
        made = small.RECIPES["ddpm"]
        return DDPM(made.shape, made.network, steps=40)
    return {**small.RECIPES, **small.OF_2015, "classifier": small.CLASSIFIER}[name]


def about_of(name: str) -> dict[str, Any]:
    """What a checkpoint of a small model says of itself."""
    from sfumato import papers

    chosen = recipe(name)
    classes = [str(i) for i in range(chosen.conditioning.classes)]
    data = {"spec": "digits:train", "shape": list(chosen.shape), "classes": classes, "fingerprint": "0" * 64}
    return {"recipe": papers.to_json(chosen), "train": {}, "data": data, "ema": [0.999],
            "progress": {"images": 64, "step": 4, "seconds": 1.0, "skipped": 0}}


def tensors_of(name: str) -> dict[str, torch.Tensor]:
    """The tensors of a checkpoint of a small model."""
    from tests.models import small

    state = small.made(recipe(name)).network.state_dict()
    return {**{f"model/{key}": value.clone() for key, value in state.items()},
            **{f"ema/0.999/{key}": value.clone() for key, value in state.items()}}


def _checkpoint(name: str, to: Path) -> None:
    from sfumato.runtime import checkpoint

    checkpoint.save(to, tensors_of(name), about_of(name))


def _parts(to: Path) -> None:
    import torch.distributed.checkpoint as dcp

    from sfumato.runtime import checkpoint

    dcp.save(tensors_of("linear"), checkpoint_id=str(to), no_dist=True)
    (to / "about.json").write_text(checkpoint.described(about_of("linear")))


def _official(to: Path) -> None:
    torch.save(official_state(), to)


def official_state() -> dict[str, torch.Tensor]:
    """The weights of a small DDPM under the names of ermongroup/ddim."""
    from sfumato.convert import foreign
    from tests.models import small

    made = small.made(recipe("linear"))
    return foreign.official_state(made.recipe, made.network)


def _diffusers(to: Path) -> None:
    from sfumato.convert import foreign
    from tests.models import small

    made = small.made(recipe("linear"))
    foreign.save_folder(made.recipe, made.network, to)


def _run(to: Path) -> None:
    from sfumato.cli import main

    copied("images.npz", to.with_name("images.npz"))
    os.chdir(to.parent)
    assert main(["train", "ddpm/digits", "--data", "npz:images.npz", *TINY, "--out", to.name]) == 0


# ---------------------------------------------------------------- pictures


def pixels(n: int = 12, channels: int = 1, side: int = SIDE) -> np.ndarray:
    """uint8 (n, side, side, channels), the same each time."""
    return np.random.default_rng(0).integers(0, 256, (n, side, side, channels), dtype=np.uint8)


def picture(channels: int = 1, side: int = SIDE) -> Image.Image:
    """One picture for Pillow."""
    made = pixels(1, channels, side)[0]
    return Image.fromarray(made[..., 0] if channels == 1 else made)


def png(channels: int = 1, side: int = SIDE) -> bytes:
    """One PNG file."""
    buffer = io.BytesIO()
    picture(channels, side).save(buffer, "png")
    return buffer.getvalue()


def _npz(to: Path) -> None:
    np.savez_compressed(to, images=pixels(), labels=np.arange(12) % 3)


def _images(to: Path) -> None:
    for i, made in enumerate(pixels()):
        (to / f"class{i % 3}").mkdir(parents=True, exist_ok=True)
        Image.fromarray(made[..., 0]).save(to / f"class{i % 3}" / f"{i:02}.png")


def tar(members: list[tuple[str, bytes]]) -> bytes:
    """A tar file of such members."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as file:
        for name, content in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            file.addfile(member, io.BytesIO(content))
    return buffer.getvalue()


def samples(n: int = 4) -> list[tuple[str, bytes]]:
    """The members of a valid shard."""
    return [member for i in range(n) for member in ((f"{i:03}.png", png()), (f"{i:03}.cls", str(i % 3).encode()))]


def _shard(to: Path) -> None:
    to.write_bytes(tar(samples()))


def _map(to: Path) -> None:
    from sfumato.data.prepare import prepare

    copied("images.npz", to.with_name("images.npz"))
    os.chdir(to.parent)
    prepare("npz:images.npz", Path(to.name))


def read_json(file: Path) -> Any:
    return json.loads(file.read_text())
