"""Folders of diffusers: hostile values in each configuration, weights that are damaged, elsewhere, or lying."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short, some
from tests.hostile.recipes import VALUES, WILD, places, put
from tests.hostile.words import finite

FOLDER = "pipeline"
VERBS = (["convert", FOLDER, "--out", "out.safetensors"], ["sample", FOLDER, "-n", "2", "--steps", "2", "--out", "out"])
UNET, SCHEDULER, INDEX = "unet/config.json", "scheduler/scheduler_config.json", "model_index.json"
WEIGHTS = "unet/diffusion_pytorch_model.safetensors"

CONFIGS: dict[str, dict[str, Any]] = {
    UNET: {"_class_name": "UNet2DModel", "center_input_sample": False, "time_embedding_type": "positional",
           "freq_shift": 1,
           "flip_sin_to_cos": False, "mid_block_scale_factor": 1, "downsample_padding": 0, "downsample_type": "conv",
           "upsample_type": "conv", "act_fn": "silu", "norm_num_groups": 32, "norm_eps": 1e-6, "sample_size": 8,
           "in_channels": 1,
           "out_channels": 1, "layers_per_block": 1, "block_out_channels": [32], "down_block_types": ["DownBlock2D"],
           "up_block_types": ["UpBlock2D"], "attention_head_dim": None, "num_class_embeds": None, "dropout": 0.0},
    SCHEDULER: {"_class_name": "DDPMScheduler", "num_train_timesteps": 40, "beta_start": 1e-4, "beta_end": 0.02,
                "beta_schedule": "linear",
                "prediction_type": "epsilon", "variance_type": "fixed_large", "clip_sample": True,
                "clip_sample_range": 1.0,
                "trained_betas": None, "thresholding": False, "timestep_spacing": "leading", "steps_offset": 0},
    INDEX: {"_class_name": "DDPMPipeline", "scheduler": ["diffusers", "DDPMScheduler"],
            "unet": ["diffusers", "UNet2DModel"]},
}
MATTERS = {"_class_name", "num_train_timesteps", "in_channels", "out_channels", "layers_per_block",
           "block_out_channels", "down_block_types",
           "up_block_types", "beta_schedule", "prediction_type", "clip_sample", "norm_num_groups", "act_fn"}
"""Options in which a wild value must be refused."""


def _case(name: str, damage: Callable[[Path], object], i: int = 0, expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        damage(m.copied("diffusers", folder / FOLDER))
        return VERBS[i % len(VERBS)]

    return Case("diffusers", name, build, expect, finite)


def _configs() -> Iterator[Case]:
    for file, config in CONFIGS.items():
        made = []
        for path in places(config):
            for value in VALUES:
                def damage(folder: Path, file: str = file, path: tuple[Any, ...] = path, value: Any = value) -> None:
                    whole = {**m.read_json(folder / file), **CONFIGS[file]}
                    (folder / file).write_text(json.dumps(put(whole, path, value)))

                expect = REFUSE if path[0] in MATTERS and file != INDEX and short(value) in WILD else EITHER
                made.append(_case(f"{file} {'.'.join(map(str, path))} = {short(value)}", damage, len(made), expect))
        yield from some(made, {UNET: 80, SCHEDULER: 50, INDEX: 12}[file])
        for key in config:
            yield _case(f"{file} without {key}", lambda f, file=file, key=key: (f / file).write_text(
                json.dumps({k: v for k, v in m.read_json(f / file).items() if k != key})), expect=EITHER)


def _files() -> Iterator[Case]:
    yield _case("whole", lambda f: None, 0, ACCEPT)
    for file in (UNET, SCHEDULER, INDEX):
        for text in ("", "{", "[]", "null", "1", '"x"', "\x00", "{}", '{"a":' * 50_000, "[" * 100_000, "9" * 6000,
                     "NaN", '{"a": 1} x'):
            def damage(folder: Path, file: str = file, text: str = text) -> None:
                (folder / file).write_text(text)
            yield _case(f"{file} says {short(text)}", damage, 0, EITHER)
        yield _case(f"{file} is not text", lambda f, file=file: (f / file).write_bytes(b"\xff\xfe\x00" * 50), 0, EITHER)
        yield _case(f"{file} a FIFO", lambda f, file=file: ((f / file).unlink(), os.mkfifo(f / file)), 0, EITHER)
        yield _case(f"{file} a loop", lambda f, file=file: ((f / file).unlink(),
            (f / file).symlink_to((f / file).name)), 0, EITHER)
        yield _case(f"{file} a folder", lambda f, file=file: ((f / file).unlink(), (f / file).mkdir()), 0, EITHER)
        yield _case(f"{file} unreadable", lambda f, file=file: (f / file).chmod(0), 0, EITHER)
        yield _case(f"{file} sparse, 8 GB", lambda f, file=file: os.truncate(f / file, 8 << 30), 0, EITHER)


def _weights() -> Iterator[Case]:
    chance = random.Random(3)
    for i in range(12):
        share = chance.random() ** 2
        yield _case(f"weights cut at {share:.4f}", lambda f, share=share: os.truncate(f / WEIGHTS,
            int(share * (f / WEIGHTS).stat().st_size)), i)
    for i in range(10):
        place, bit = chance.random() ** 3, chance.randrange(8)
        def flip(folder: Path, place: float = place, bit: int = bit) -> None:
            content = bytearray((folder / WEIGHTS).read_bytes())
            content[int(place * len(content))] ^= 1 << bit
            (folder / WEIGHTS).write_bytes(content)
        yield _case(f"weights bit {bit} at {place:.4f}", flip, i, EITHER)
    for name, content in {"empty": b"", "HTML": b"<html>",
                          "a pickle": b"\x80\x02cos\nsystem\nX\x0c\x00\x00\x00touch HACKED\x85R.",
                          "a pointer": b"version https://git-lfs"}.items():
        for end in ("safetensors", "bin"):
            def swap(folder: Path, content: bytes = content, end: str = end) -> None:
                (folder / WEIGHTS).unlink()
                (folder / WEIGHTS).with_suffix("." + end).write_bytes(content)
            yield _case(f"weights are {name} as {end}", swap)
    yield _case("without weights", lambda f: (f / WEIGHTS).unlink())
    yield _case("weights a FIFO", lambda f: ((f / WEIGHTS).unlink(), os.mkfifo(f / WEIGHTS)))
    yield _case("weights a folder", lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).mkdir()))
    yield _case("weights a link to a device", lambda f: ((f / WEIGHTS).unlink(), (f / WEIGHTS).symlink_to("/dev/zero")))

    def values(value: float) -> Callable[[Path], None]:
        def damage(folder: Path) -> None:
            from safetensors.torch import load_file, save_file

            held = load_file(folder / WEIGHTS)
            next(iter(held.values())).reshape(-1)[0] = value
            save_file(held, folder / WEIGHTS)
        return damage

    for value in (float("nan"), float("inf")):
        yield _case(f"{value} in the weights", values(value))


def _sharded() -> Iterator[Case]:
    """Weights in shards, with an index that lies."""
    def index(folder: Path, weight_map: Any, more: dict[str, Any] | None = None) -> None:
        (folder / WEIGHTS).rename(folder / "unet/diffusion_pytorch_model-00001-of-00001.safetensors")
        (folder / f"{WEIGHTS}.index.json").write_text(json.dumps({"metadata": {"total_size": 1},
            "weight_map": weight_map, **(more or {})}))

    def names(folder: Path) -> list[str]:
        from safetensors import safe_open

        with safe_open(folder / WEIGHTS, "pt") as file:
            return list(file.keys())

    for where in ("../../outside.safetensors", "/etc/passwd", "", ".", "nowhere.safetensors", "/dev/zero", "x" * 300,
                  None, 3, [], "\x1b[31m",
                  "config.json"):
        yield _case(f"shards at {short(where)}", lambda f, where=where: index(f, dict.fromkeys(names(f), where)))
    for value in (None, [], {}, "x", {"": ""}, {"a": "diffusion_pytorch_model-00001-of-00001.safetensors"}):
        yield _case(f"weight_map {short(value)}", lambda f, value=value: index(f, value), expect=EITHER)
    yield _case("a million names", lambda f: index(f, {f"w{i}": f"s{i}.safetensors" for i in range(200_000)}))
    whole = "diffusion_pytorch_model-00001-of-00001.safetensors"
    yield _case("half of the names", lambda f: index(f, dict.fromkeys(names(f)[::2], whole)), expect=EITHER)
    yield _case("whole shards", lambda f: index(f, dict.fromkeys(names(f), whole)), expect=EITHER)


def cases() -> Iterator[Case]:
    yield from _configs()
    yield from _files()
    yield from _weights()
    yield from _sharded()
