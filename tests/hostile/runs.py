"""Run folders, to go on with or to sample from: hostile values in config.json, damaged checkpoints and metrics."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short, some
from tests.hostile.files import THINGS
from tests.hostile.recipes import VALUES, places, put
from tests.hostile.words import finite

RESUME = ["train", "--resume", "run"]
VERBS = (RESUME, ["sample", "run", "-n", "2", "--steps", "2", "--out", "out"], ["inspect", "run", "--no-measure"])
CONFIG: dict[str, Any] = {
    "preset": "ddpm/digits", "data": "npz:images.npz", "validation": None, "command": "sfumato train",
    "parameters": 100,
    "train": {"images": 32, "minutes": None, "batch": 16, "accumulate": 1, "learning_rate": 1e-3, "warmup": 6400,
              "decay": "cosine", "betas": [0.9, 0.99], "ema": [0.999], "precision": "auto",
              "seed": 0, "threads": None, "keep": 2, "shard": False, "compile": False, "times": "stratified",
              "log_every": 0.002},
    "recipe": {"paper": "ddpm", "shape": [1, 8, 8], "steps": 40, "betas": "linear", "prediction": "eps", "clip": True,
               "network": {"kind": "ddpm-unet", "channels": 32, "multipliers": [1], "blocks": 1, "attention": [],
                           "dropout": 0.0}},
}
HOSTILE = [*VALUES, "wds:pipe:touch HACKED", "folder:/", "npz:/dev/zero"]


def _case(name: str, damage: Callable[[Path], object], i: int = 0, expect: str = EITHER) -> Case:
    def build(folder: Path) -> list[str]:
        m.copied("images.npz", folder / "images.npz")
        damage(m.copied("run", folder / "run"))
        return VERBS[i % len(VERBS)]

    return Case("runs", name, build, expect, finite)


def _configs() -> Iterator[Case]:
    made = []
    for path in places(CONFIG):
        for value in HOSTILE:
            def damage(folder: Path, path: tuple[Any, ...] = path, value: Any = value) -> None:
                config = m.read_json(folder / "config.json")
                try:
                    config = put(config, path, value)
                except (LookupError, TypeError):
                    config = put(config, path[:1], value)
                (folder / "config.json").write_text(json.dumps(config))

            made.append(_case(f"config.json {'.'.join(map(str, path))} = {short(value)}", damage))
    yield from some(made, 75)
    for key in CONFIG:
        yield _case(f"config.json without {key}", lambda f, key=key: (f / "config.json").write_text(
            json.dumps({k: v for k, v in m.read_json(f / "config.json").items() if k != key})))
    for text in ("", "{", "[]", "null", "1", "{}", '{"a":' * 50_000, "9" * 6000, "NaN"):
        yield _case(f"config.json says {short(text)}", lambda f, text=text: (f / "config.json").write_text(text), 0,
                    REFUSE)


def _files() -> Iterator[Case]:
    yield _case("whole, to go on", lambda f: None, 0, ACCEPT)
    yield _case("whole, to sample", lambda f: None, 1, ACCEPT)
    for file in ("config.json", "metrics.jsonl", "data_card.json"):
        for thing, make in THINGS.items():
            for verb in (0, 1):
                yield _case(f"{file} {thing} {verb}", lambda f, file=file,
                            make=make: ((f / file).unlink(missing_ok=True), make(f / file)), verb)
    for text in (("[]\n", "null\n", "1\n", "{}\n", '{"kind": 1}\n', '{"images": "x", "kind": "train"}\n',
                              '{"images": NaN, "kind": "train"}\n', '{"a":' * 50_000, "9" * 6000 + "\n",
                              '{"kind": "train", "images": 16}\n')):
        yield _case(f"metrics.jsonl says {short(text)}", lambda f, text=text: (f / "metrics.jsonl").write_text(text), 0)

    def newest(folder: Path) -> Path:
        return sorted((folder / "checkpoints").glob("*.safetensors"))[-1]

    def others(folder: Path) -> None:
        for file in sorted((folder / "checkpoints").glob("*.safetensors"))[:-1]:
            file.unlink()

    for verb in range(3):
        yield _case(f"no checkpoint {verb}", lambda f: [file.unlink() for file in (f / "checkpoints").iterdir()], verb)
        yield _case(f"checkpoint empty {verb}", lambda f: (others(f), newest(f).write_bytes(b"")), verb, REFUSE)
        yield _case(f"checkpoint half {verb}", lambda f: (others(f),
                                                          os.truncate(newest(f), newest(f).stat().st_size // 2)), verb,
                                                          REFUSE)
        yield _case(f"checkpoint a FIFO {verb}", lambda f: (others(f), newest(f).unlink(),
            os.mkfifo(f / "checkpoints" / "000000032.safetensors")), verb, REFUSE)
        yield _case(f"checkpoint a folder {verb}", lambda f: (others(f), newest(f).unlink(),
            (f / "checkpoints" / "000000032.safetensors").mkdir()), verb, REFUSE)
        yield _case(f"checkpoint unreadable {verb}", lambda f: (others(f), newest(f).chmod(0)), verb, REFUSE)
        yield _case(f"checkpoints a file {verb}", lambda f: ((f / "checkpoints").rename(f.parent / "x"),
            (f / "checkpoints").write_text("x")), verb, REFUSE)
        yield _case(f"checkpoints unreadable {verb}", lambda f: (f / "checkpoints").chmod(0), verb, REFUSE)
        yield _case(f"a huge name {verb}", lambda f: (f / "checkpoints" / ("9" * 200 +
            ".safetensors")).write_bytes(b"x"), verb)
        yield _case(f"the run unreadable {verb}", lambda f: f.chmod(0), verb, REFUSE)
    yield _case("the run read-only, to go on", lambda f: ([child.chmod(0o555) for child in f.iterdir()
                                                           if child.is_dir()], f.chmod(0o555)), 0)
    yield _case("the data gone", lambda f: (f.parent / "images.npz").unlink(), 0)
    yield _case("the data of another shape", lambda f: _other(f.parent / "images.npz"), 0)


def _other(file: Path) -> None:
    import numpy as np

    np.savez(file, images=m.pixels(12, 3, 16), labels=np.arange(12) % 3)


def _progress() -> Iterator[Case]:
    """What a checkpoint says of how far it is, and of the data, when a run goes on with it."""
    places_ = [("progress", "images"), ("progress", "step"), ("progress", "seconds"), ("progress",), ("train",),
               ("train", "batch"), ("train", "images"), ("ema",), ("data",), ("data", "fingerprint"),
               ("data", "classes"),
               ("recipe", "steps"), ("recipe", "shape")]
    made = []
    for path in places_:
        for value in VALUES:
            def damage(folder: Path, path: tuple[Any, ...] = path, value: Any = value) -> None:
                from sfumato.runtime import checkpoint

                for file in (folder / "checkpoints").glob("*.safetensors"):
                    saved = checkpoint.read(file)
                    tensors = saved.tensors("")
                    about = {k: v for k, v in saved.about.items() if k not in ("format", "versions")}
                    checkpoint.save(file, tensors, put(about, path, value))

            made.append(_case(f"checkpoint {'.'.join(path)} = {short(value)}", damage, len(made) % 2))
    yield from some(made, 45)


def cases() -> Iterator[Case]:
    yield from _configs()
    yield from _files()
    yield from _progress()
