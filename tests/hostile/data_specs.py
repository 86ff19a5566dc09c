"""Data specs: unknown names, wrong options and values, odd paths; and the folders that hf: and IDX sets lie in."""

from __future__ import annotations

import gzip
import json
import os
from collections.abc import Iterator
from pathlib import Path

from tests.hostile import materials as m
from tests.hostile.case import CANARY, EITHER, REFUSE, Case, short

SPECS = [
    "", ":", "?", "digits:", "digits:validation", "digits:train:test", "digits?", "digits?size", "digits?size=",
    "digits?size=0", "digits?size=-1", "digits?size=1.5",
    "digits?size=nan", "digits?size=100000", "digits?size=99999999999999999999", "digits?size=٣",
    "digits?size=8&size=9", "digits?limit=0", "digits?limit=-5", "digits?limit=x",
    "digits?limit=1&classes=99", "digits?classes=", "digits?classes=,", "digits?classes=0,0",
    "digits?classes=\x1b[31m", "digits?channels=2", "digits?channels=0", "digits?channels=x",
    "digits?background=blue", "digits?background=1,2", "digits?background=256,0,0", "digits?background=-1,0,0",
    "digits?background=²,0,0", "digits?nothing=1", "digits?__class__=1",
    "digits?size=8?limit=2", "digits&size=8", "Digits", "DIGITS:train", "digitS", "nothing", "nothing:here",
    "pipe:touch HACKED", "http://x", "file:///etc/passwd", "/etc/passwd",
    "folder", "folder:", "folder:nowhere", "folder:/etc/passwd", "folder:/dev", "folder:/proc/self", "folder:" +
    "x" * 5000, "folder:~nobody/x", "folder:.", "folder:..\x00"[:-1], "folder:\x1b[31m",
    "folder:\udcff", "npz", "npz:", "npz:nowhere", "npz:/etc/passwd", "npz:/dev/zero", "npz:/dev/null", "npz:.",
    "map:", "map:.", "map:/etc", "map:/dev/null", "wds", "wds:", "hf", "hf:", "hf:.",
    "hf:/etc", "hf:nowhere/at-all", "hf:../../x", "hf:x?split=", "hf:x?split=y", "hf:\x1b[31m", "hf:" + "x" * 5000,
    "hf:http://x", "hf:.?image=x", "swiss_roll?size=64", "swiss_roll?channels=3",
    "heartbeat?size=8", "swiss_roll:x", "dead_leaves?size=100000", "emoji32?background=red", "emoji32?size=4096",
    "mnist?size=8", "fashion:x", "emoji32?channels=7", "x" * 100_000,
    "digits?" + "&".join(f"a{i}=1" for i in range(5000)), "digits?limit=" + "9" * 5000, "%s%n", "digits\n",
    "digits\u202e", "digits:train?limit=1_0", "digits?limit=+5", "digits?size= 8",
]
FINE = {"digits:", "digits?", "digits?classes=0,0", "swiss_roll?channels=3", "swiss_roll?size=64", "heartbeat?size=8",
        "emoji32?size=4096", "digits&size=8", "digits\n"}
"""Specs that may be accepted."""
USES = (["inspect", "{}"], ["prepare", "{}", "out"], ["evaluate", "digits:test?limit=50", "--reference", "{}", "--out",
                                                      "out", "--net", "digits"],
        ["train", "ddpm/digits", "--data", "{}", *m.TINY, "--out", "out"], ["inspect", "--ncsnv2", "{}"],
        ["likelihood", "linear.safetensors", "--data", "{}", "--limit", "2", "--steps", "2", "--out", "out"],
        ["train", "ddpm/digits", "--data", "digits", "--validation", "{}", *m.TINY, "--out", "out"])


def _specs() -> Iterator[Case]:
    for i, spec in enumerate(SPECS):
        uses = dict.fromkeys((0, 1 + i % (len(USES) - 1)))
        for number in uses:
            def build(folder: Path, spec: str = spec, number: int = number) -> list[str]:
                m.copied("linear.safetensors", folder / "linear.safetensors")
                return [spec if word == "{}" else word for word in USES[number]]

            allowed = spec in FINE or (spec == "" and number > 1) or spec in ("map:.", "hf:.")
            yield Case("data specs", f"{short(spec)} to {' '.join(USES[number][:2])} {number}", build, EITHER
                       if allowed else REFUSE)


def _saved() -> Iterator[Case]:
    """Folders of `datasets` that are damaged or lie."""
    state = {"_data_files": [{"filename": "data.arrow"}], "_fingerprint": "x", "_format_columns": None,
             "_format_kwargs": {}, "_format_type": None, "_output_all_columns": False, "_split": None}
    info = {"features": {"image": {"_type": "Image"}, "label": {"_type": "ClassLabel", "names": ["a"]}}}
    for i, (name, files) in enumerate({
        "an empty arrow": {"state.json": json.dumps(state), "dataset_info.json": json.dumps(info), "data.arrow": ""},
        "a text as arrow": {"state.json": json.dumps(state), "dataset_info.json": json.dumps(info),
                            "data.arrow": "hello" * 100},
        "no arrow": {"state.json": json.dumps(state), "dataset_info.json": json.dumps(info)},
        "no state": {"dataset_info.json": json.dumps(info)}, "no info": {"state.json": json.dumps(state)},
        "a broken state": {"state.json": "{", "dataset_info.json": "{"},
        "a list as state": {"state.json": "[]", "dataset_info.json": "[]"},
        "an arrow outside": {"state.json": json.dumps(state | {"_data_files": [{"filename": "../../x.arrow"}]}),
                             "dataset_info.json": json.dumps(info)},
        "an unknown feature": {"state.json": json.dumps(state),
                               "dataset_info.json": json.dumps({"features": {"x": {"_type": "os.system"}}}),
                               "data.arrow": ""},
        "a dictionary": {"dataset_dict.json": '{"splits": ["train"]}'},
        "a broken dictionary": {"dataset_dict.json": "{"},
        "a script": {"x.py": f"open('{CANARY}', 'w')"}, "a script of its name": {"saved.py": f"open('{CANARY}', 'w')"},
    }.items()):
        def build(folder: Path, files: dict[str, str] = files, i: int = i) -> list[str]:
            (folder / "saved").mkdir()
            for file, text in files.items():
                (folder / "saved" / file).write_text(text)
            return [["inspect", "hf:saved"], ["prepare", "hf:saved", "out"]][i % 2]

        yield Case("data specs", f"hf: {name}", build)


def _idx() -> Iterator[Case]:
    """MNIST's files, found by SFUMATO_DATA."""
    images, labels = b"\0\0\x08\x03" + b"".join(n.to_bytes(4, "big")
                                                for n in (4, 8, 8)) + bytes(256), b"\0\0\x08\x01" + (4).to_bytes(4,
                                                    "big") + bytes(4)
    for name, (pixels, marks) in {
        "cut": (images[:100], labels), "no header": (b"", labels),
        "another type": (b"\0\0\x0d\x03" + images[4:], labels),
        "255 dimensions": (b"\0\0\x08\xff" + images[4:], labels),
        "a huge shape": (b"\0\0\x08\x03" + b"\xff" * 12 + bytes(100), labels), "no labels": (images, b""),
        "fewer labels": (images, b"\0\0\x08\x01" + (2).to_bytes(4, "big") + bytes(2)),
        "labels of 255": (images, labels[:8] + b"\xff" * 4), "two dimensions": (b"\0\0\x08\x02" +
            b"".join(n.to_bytes(4, "big") for n in (4, 64)) + bytes(256), labels),
        "half a gzip": (gzip.compress(images)[:20], labels), "no pictures": (b"\0\0\x08\x03" + bytes(12),
            b"\0\0\x08\x01" + bytes(4)), "of size 0": (b"\0\0\x08\x03" + (4).to_bytes(4, "big") + bytes(8), labels),
        "a negative size": (b"\0\0\x08\x03" + (4).to_bytes(4, "big") + b"\xff\xff\xff\xff\xff\xff\xff\xff" +
                            bytes(256), labels),
    }.items():
        def build(folder: Path, pixels: bytes = pixels, marks: bytes = marks, gz: bool = "gzip" in name) -> list[str]:
            (folder / "mnist").mkdir()
            (folder / "mnist" / f"train-images-idx3-ubyte{'.gz' if gz else ''}").write_bytes(pixels)
            (folder / "mnist" / "train-labels-idx1-ubyte").write_bytes(marks)
            os.environ["SFUMATO_DATA"] = str(folder)
            return ["inspect", "mnist:train"]

        yield Case("data specs", f"mnist: {name}", build)


def cases() -> Iterator[Case]:
    yield from _specs()
    yield from _saved()
    yield from _idx()
