"""The commands that `make faults` interrupts, on tiny models, and how what they leave behind is compared.

Every command runs in a folder of its own and writes into disk/ there, so that its words are the same each time.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

OUT = "disk/out"
"""Where every command writes, seen from its folder."""

SMALL = tuple(
    f"--{name}"
    for name in (
        "recipe.conditioning=none", "recipe.network.channels=32", "recipe.network.blocks=1", "recipe.steps=20",
        "train.batch=32", "train.precision=float32", "train.threads=1", "train.preview-images=4",
        "train.preview-steps=2", "train.validation-images=16", "train.checkpoint-every=0", "train.preview-every=0.3",
        "train.validate-every=0.3",
    )
)  # fmt: skip
"""A training of a second that writes a checkpoint at every step."""
PICTURES = 2600
"""In the folder to prepare: a memory map has three entries in its journal."""


@dataclass(frozen=True)
class Job:
    """A command.

    Attributes:
        name: in the table.
        words: of the command line, run in a folder in which OUT can be written.
        processes: how many share it, started side by side.
        resumes: whether it is taken up by --resume once its folder holds a run.
    """

    name: str
    words: tuple[str, ...]
    processes: int = 1
    resumes: bool = False

    def again(self, folder: Path) -> tuple[str, ...]:
        """The words that finish it after an interruption."""
        if self.resumes and (folder / OUT / "config.json").is_file():
            return ("train", "--resume", OUT)
        return self.words


def _train(name: str, *more: str, images: int = 256, processes: int = 1) -> Job:
    words = (
        "train",
        "ddpm/digits",
        *SMALL,
        "--recipe.network.multipliers",
        "1",
        "1",
        "--train.images",
        str(images),
        *more,
        "--out",
        OUT,
    )
    return Job(name, words, processes, resumes=True)


def _convert(to: str, suffix: str) -> Job:
    return Job(f"convert to {to}", ("convert", "../model", "--to", to, "--out", f"{OUT}{suffix}"))


JOBS = {
    job.name: job
    for job in (
        _train("train"),
        _train("train, 2 processes", images=128, processes=2),
        _train("train, 2 processes, sharded", "--train.shard", images=128, processes=2),
        Job("prepare, memory map", ("prepare", "folder:../pictures", OUT)),
        Job("prepare, shards", ("prepare", "folder:../pictures", OUT, "--shards", "--shard-images", "200")),
        _convert("sfumato", ".safetensors"),
        _convert("official", ".pt"),
        _convert("diffusers", ""),
        _convert("onnx", ""),
        Job("sample", ("sample", "../model", "-n", "64", "--batch", "8", "--steps", "10", "--animation", "--out", OUT)),
        Job("sample, 2 workers", ("sample", "../model", "-n", "8", "--batch", "4", "--steps", "5", "--processes", "2",
                                  "--out", OUT)),
        Job("evaluate", ("evaluate", "../model", "-n", "64", "--steps", "4", "--net", "digits", "--cache", "disk/cache",
                         "--out", OUT)),
    )
}  # fmt: skip
"""By name, in the order of the table."""


def inputs(job: Job, work: Path, run: Callable[[tuple[str, ...], Path], object]) -> None:
    """What a command reads, made where it is not there yet: a folder of pictures, or a model, which `run` trains."""
    if "folder:../pictures" in job.words and not (work / "pictures").is_dir():
        _pictures(work / "pictures")
    if "../model" in job.words and not (work / "model").is_dir():
        folder = work / "training"
        (folder / "disk").mkdir(parents=True)
        run(JOBS["train"].words, folder)
        (folder / OUT).rename(work / "model")


def _pictures(folder: Path) -> None:
    from PIL import Image

    from sfumato.data import open_source

    digits = open_source("digits")
    for i in range(PICTURES):
        path = folder / f"class-{i % 3}" / f"{i:05d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(digits.images[i % len(digits), 0].numpy()).save(path)


# ---------------------------------------------------------------- comparing

VOLATILE = re.compile(r"|seconds|.*_per_second|.*_at|time|duration|command", re.IGNORECASE)
"""Keys of values that measure time, which no two runs share; the empty one is a checksum of a text with such values."""


def contents(folder: Path) -> dict[str, str]:
    """Every file below a folder, by its path, with a hash of what is in it apart from measured times.

    A checkpoint in parts is read as a whole, since its index holds times in a form of torch's; so are its files' names.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        name = str(path.relative_to(folder))
        if path.name.endswith(".parts"):
            found[name] = _parts(path)
        elif not path.is_dir():
            found[name] = "a part" if ".parts/" in name else _hash(_timeless(path.name, path.read_bytes()))
    return found


def _hash(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()[:16]


def _parts(folder: Path) -> str:
    from sfumato.runtime import checkpoint

    try:
        saved = checkpoint.read(folder)
        tensors = saved.tensors("")
    except (ValueError, OSError) as error:
        return f"cannot be read: {error}"
    bare = {name: _hash(value.contiguous().flatten().numpy().tobytes()) for name, value in sorted(tensors.items())}
    return _hash(json.dumps([_without_times(saved.about), bare], sort_keys=True).encode())


def _timeless(name: str, raw: bytes) -> bytes:
    """The content of a file without measured times; of a report, whose plots show them, only that it is whole."""
    try:
        if name.endswith(".html"):
            return b"whole" if raw.rstrip().endswith(b"</html>") else raw
        if name.endswith(".json"):
            return _json(raw.decode())
        if name.endswith(".jsonl"):
            return b"\n".join(map(_json, raw.decode().splitlines()))
        if name.endswith(".safetensors"):
            size = int.from_bytes(raw[:8], "little")
            return _json(raw[8 : 8 + size].decode()) + raw[8 + size :]
    except ValueError:  # damaged: then its bytes are compared
        pass
    return raw


def _json(text: str) -> bytes:
    return json.dumps(_without_times(json.loads(text)), sort_keys=True).encode()


def _without_times(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_times(part) for key, part in value.items() if not VOLATILE.fullmatch(key)}
    if isinstance(value, list):
        return [_without_times(part) for part in value]
    if isinstance(value, str) and value.startswith("{"):  # JSON within JSON, as in a checkpoint
        try:
            return _without_times(json.loads(value))
        except ValueError:
            return value
    return value


def differences(found: dict[str, str], expected: dict[str, str]) -> list[str]:
    """What a folder lacks, has beside, or has otherwise than it should."""
    lost = [f"lost: {name}" for name in sorted(set(expected) - set(found))]
    stray = [f"stray: {re.sub(r'[.][0-9a-f]{8}[.]', '.*.', name)}" for name in sorted(set(found) - set(expected))]
    other = [f"differs: {name}" for name in sorted(expected) if found.get(name, expected[name]) != expected[name]]
    return lost + stray + other


# ---------------------------------------------------------------- the table

PAGE = Path(__file__).parents[1] / "docs" / "security.md"
HEAD = "| command | kills | full disk | file limit | read-only | identical afterwards | violations |"


def table(found: dict[str, Any]) -> str:
    """The results as Markdown, a line a command."""
    lines = [HEAD, "|---|---|---|---|---|---|---|"]
    total = [0] * 6
    for name in JOBS:
        mine = {key: row for key, row in found.items() if key.startswith(f"{name} / ")}
        counts = [sum(row["kills"] for row in mine.values())]
        counts += [sum(f" / {fault} " in key for key in mine) for fault in ("disk", "limit", "read-only")]
        counts += [sum(not row["wrong"] for row in mine.values()), sum(len(row["wrong"]) for row in mine.values())]
        total = [a + b for a, b in zip(total, counts, strict=True)]
        lines.append(f"| {name} | {' | '.join(map(str, counts[:4]))} | {counts[4]} of {len(mine)} | {counts[5]} |")
    lines.append(f"| all | {' | '.join(map(str, total[:4]))} | {total[4]} of {len(found)} | {total[5]} |")
    return "\n".join(lines)


def quote(text: str, page: Path = PAGE) -> None:
    """Put the table into a page, in the place of the one that is there."""
    old = page.read_text("utf-8")
    start = old.index(HEAD)
    page.write_text(old[:start] + text + old[old.index("\n\n", start) :], encoding="utf-8")
