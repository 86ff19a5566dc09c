"""Prepared maps whose arrays, rows or description are damaged, lying or of another kind of file."""

from __future__ import annotations

import json
import os
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.arrays import npy
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short, some
from tests.hostile.recipes import VALUES, places, put

FOLDER = "prepared"
VERBS = (["inspect", f"map:{FOLDER}"], ["inspect", f"map:{FOLDER}?limit=2"], ["prepare", f"map:{FOLDER}", "out"],
         ["train", "ddpm/digits", "--data", f"map:{FOLDER}", *m.TINY, "--out", "out"])
FILES = ("images.npy", "rows.jsonl", "set.json")


def _case(name: str, damage: Callable[[Path], object], i: int = 0, expect: str = REFUSE) -> Case:
    def build(folder: Path) -> list[str]:
        damage(m.copied("map", folder / FOLDER))
        return VERBS[i % len(VERBS)]

    return Case("maps", name, build, expect)


def _files() -> Iterator[Case]:
    chance = random.Random(7)
    yield _case("whole", lambda f: None, 0, ACCEPT)
    for file in FILES:
        yield _case(f"without {file}", lambda f, file=file: (f / file).unlink())
        yield _case(f"{file} empty", lambda f, file=file: (f / file).write_bytes(b""))
        yield _case(f"{file} a FIFO", lambda f, file=file: ((f / file).unlink(), os.mkfifo(f / file)))
        yield _case(f"{file} a loop", lambda f, file=file: ((f / file).unlink(), (f / file).symlink_to(file)))
        yield _case(f"{file} a folder", lambda f, file=file: ((f / file).unlink(), (f / file).mkdir()))
        yield _case(f"{file} a device", lambda f, file=file: ((f / file).unlink(), (f / file).symlink_to("/dev/zero")))
        yield _case(f"{file} unreadable", lambda f, file=file: (f / file).chmod(0))
        yield _case(f"{file} with 8 GB of holes", lambda f, file=file: os.truncate(f / file, 8 << 30), 0, EITHER)
        yield _case(f"{file} not text", lambda f, file=file: (f / file).write_bytes(b"\xff\xfe\x00" * 100))
        for i in range(6):
            share = chance.random()
            yield _case(f"{file} cut at {share:.3f}", lambda f, file=file,
                        share=share: os.truncate(f / file, int(share * (f / file).stat().st_size)), i)
        for i in range(5):
            place, bit = chance.random() ** 2, chance.randrange(8)
            def flip(folder: Path, file: str = file, place: float = place, bit: int = bit) -> None:
                content = bytearray((folder / file).read_bytes())
                content[int(place * len(content))] ^= 1 << bit
                (folder / file).write_bytes(content)
            yield _case(f"{file} bit {bit} at {place:.3f}", flip, i, EITHER)
    shapes: list[Any] = [(10**9, 1, 8, 8), (12, 8, 8, 1), (11, 1, 8, 8), (12, 1, 8), (-1, 1, 8, 8), (2**63,),
                         (12, 1, 8, 2**40), None]
    for i, shape in enumerate(shapes):
        yield _case(f"images.npy of shape {shape}", lambda f,
                    shape=shape: (f / "images.npy").write_bytes(npy("|u1", shape, bytes(768))), i)
    for i, kind in enumerate(("<f4", "|O", "|i1", "<u2", "|b1")):
        yield _case(f"images.npy of type {kind}", lambda f, kind=kind: (f / "images.npy").write_bytes(npy(kind,
            (12, 1, 8, 8), bytes(768 * 4))), i)


def _rows() -> Iterator[Case]:
    for key in ("label", "text", "key"):
        for i, value in enumerate([None, -1, 10**12, 2**70, 1.5, float("nan"), "x", [], {}, True, "x" * 100_000,
                                   "\x1b[31m"]):
            def change(folder: Path, key: str = key, value: Any = value) -> None:
                rows = [json.loads(line) for line in (folder / "rows.jsonl").read_text().splitlines()]
                rows[-1][key] = value
                (folder / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
            bad = key == "label" and value is not True
            yield _case(f"a row with {key} {short(value)}", change, i, REFUSE if bad else EITHER)
    for i, text in enumerate(("", "\n" * 12, "{}\n" * 12, "[]\n" * 12, "null\n" * 12, "1\n" * 12, "{\n" * 12,
                              '{"a":' * 50_000, "9" * 6000 + "\n", '{"label": 0}\n' * 12)):
        yield _case(f"rows of {short(text)}", lambda f, text=text: (f / "rows.jsonl").write_text(text), i)
    yield _case("a million rows",
                lambda f: (f / "rows.jsonl").write_text('{"label": 0, "text": null, "key": "a"}\n' * 1_000_000))


ABOUT: dict[str, Any] = {
    "classes": ["0", "1", "2"],
    "card": {"spec": "map:x", "count": 12, "shape": [1, 8, 8], "bits": "8 bits a channel",
             "classes": {"0": 4, "1": 4, "2": 4}, "fingerprint": "0",
             "corrupt": [], "licence": "", "notes": [], "sizes": {}, "low": 0, "high": 255},
}


def _about() -> Iterator[Case]:
    made = []
    for path in places(ABOUT):
        for value in VALUES:
            def change(folder: Path, path: tuple[Any, ...] = path, value: Any = value) -> None:
                about = m.read_json(folder / "set.json")
                try:
                    about = put(about, path, value)
                except (LookupError, TypeError):
                    about = put(about, path[:1], value)
                (folder / "set.json").write_text(json.dumps(about))
            made.append(_case(f"set.json {'.'.join(map(str, path))} = {short(value)}", change, len(made) % 2, EITHER))
    yield from some(made, 45)
    for text in ("[]", "null", "1", "{", "{}", '{"classes": []}', '{"a":' * 50_000, "9" * 6000):
        yield _case(f"set.json says {short(text)}", lambda f, text=text: (f / "set.json").write_text(text))


def cases() -> Iterator[Case]:
    yield from _files()
    yield from _rows()
    yield from _about()
