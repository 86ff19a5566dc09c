"""The weights in a folder of diffusers: one file or several with an index, of full or half precision.

Full precision is taken where there is a choice; files in an index lie in the folder itself, and hold what it says.
"""

from __future__ import annotations

import re
from pathlib import Path

from sfumato.convert.files import read_state
from sfumato.convert.state import ForeignError, State
from sfumato.runtime.json_file import read_object

STEM = "diffusion_pytorch_model"
WEIGHTS = (f"{STEM}.safetensors", f"{STEM}.bin")
"""The names of a single file in full precision."""
NAME = re.compile(
    rf"{STEM}(?:\.(?P<variant>[\w-]+?))??\.(?P<kind>safetensors|bin)(?P<index>\.index(?:\.(?P<later>[\w-]+))?\.json)?"
)
"""diffusion_pytorch_model.fp16.safetensors, ....safetensors.index.json, ....safetensors.index.fp16.json"""
SHARD = re.compile(r"-\d{5}-of-\d{5}\.")
PREFERRED = ("", "fp32", "bf16", "fp16")
FILES = 1000


def holds_weights(folder: Path) -> bool:
    """Whether a folder has such files."""
    return any(NAME.fullmatch(path.name) for path in folder.glob(f"{STEM}*"))


def read_weights(folder: Path) -> tuple[State, str]:
    """The weights by their names, and in words which file was taken where it is not the usual one.

    Raises:
        OSError: files missing.
        ForeignError: no weights, or several between which names do not tell; damaged; an index that is not of them.
    """
    found = {path: _variant(match) for path in sorted(folder.glob(f"{STEM}*"))
             if (match := NAME.fullmatch(path.name)) and not SHARD.search(path.name)}  # fmt: skip
    if not found:
        raise ForeignError(f"{folder} holds no weights; looked for {' and '.join(WEIGHTS)}, their variants and indexes")
    known = [path for variant in PREFERRED for path in found if found[path] == variant]
    if not known and len(found) > 1:
        raise ForeignError(f"{folder} holds several variants of weights: {', '.join(path.name for path in found)}")
    path = min(known or found, key=lambda path: (_rank(found[path]), ".bin" in path.name, path.suffix == ".json"))
    usual = f"; weights from {path.name}" if path.name not in WEIGHTS else ""
    return (_sharded(path) if path.suffix == ".json" else _plain(path)), usual


def _rank(variant: str) -> int:
    return PREFERRED.index(variant) if variant in PREFERRED else len(PREFERRED)


def _variant(match: re.Match[str]) -> str:
    return match["variant"] or match["later"] or ""


def _plain(path: Path) -> State:
    """The weights of one file, by the names that they have in it."""
    return read_state(path).state


def _sharded(index: Path) -> State:
    """The weights of several files, which an index lists."""
    names = read_object(index, ForeignError).get("weight_map")
    if not isinstance(names, dict) or not names or not all(isinstance(file, str) for file in names.values()):
        raise ForeignError(f"{index} lists no weights")
    files = sorted(set(names.values()))
    if len(files) > FILES or any(Path(file).name != file or file.startswith(".") for file in files):
        raise ForeignError(f"{index} lists files outside of its folder, or more than {FILES:,}")
    state: State = {}
    for file in files:
        state |= _plain(index.parent / file)
    if missing := [name for name in names if name not in state]:
        raise ForeignError(f"{index} lists {missing[0]!r:.100}, which {names[missing[0]]!r:.100} does not hold")
    if beyond := [name for name in state if name not in names]:
        raise ForeignError(f"{index} does not list {beyond[0]!r:.100}, which its files hold")
    return state
