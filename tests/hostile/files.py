"""Files where folders are expected and the other way round, what cannot be read or written, and results that lie."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import EITHER, REFUSE, Case, short, some
from tests.hostile.recipes import VALUES, places, put
from tests.hostile.words import BASES, SOURCE, laid

THINGS: dict[str, Callable[[Path], object]] = {
    "a file": lambda p: p.write_text("hello"),
    "nothing": lambda p: None,
    "an empty file": lambda p: p.write_bytes(b""),
    "a folder": lambda p: p.mkdir(),
    "a FIFO": lambda p: os.mkfifo(p),
    "a loop": lambda p: p.symlink_to(p.name),
    "a link to nothing": lambda p: p.symlink_to("nowhere/x"),
    "a device": lambda p: p.symlink_to("/dev/zero"),
    "unreadable": lambda p: (p.write_text("x"), p.chmod(0)),
    "an unreadable folder": lambda p: (p.mkdir(), (p / "config.json").write_text("{}"), p.chmod(0)),
    "8 GB of holes": lambda p: os.truncate(os.open(p, os.O_CREAT | os.O_RDWR), 8 << 30),
}
"""What lies where something else should."""

ENDS = ("", ".safetensors", ".parts", ".pt", ".pth", ".ckpt", ".bin", ".npz", ".pth.tar", ".PT")


def _targets() -> Iterator[Case]:
    """Each thing as a model, under each ending."""
    for end in ENDS:
        made = []
        for thing, make in THINGS.items():
            for verb in ("sample", "inspect", "convert", "likelihood", "evaluate", "edit reconstruct"):
                def build(folder: Path, end: str = end, make: Callable[[Path], object] = make,
                          verb: str = verb) -> list[str]:
                    laid(folder)
                    make(folder / f"target{end}")
                    base = BASES[verb][1:]
                    return [*verb.split(), f"target{end}", *base]

                made.append(Case("files", f"{thing} as target{end} of {verb}", build, stays=("cache",)))
        yield from some(made, 12)


def _outputs() -> Iterator[Case]:
    """Each thing in the place of the output."""
    verbs = {verb: base for verb, base in BASES.items() if "--out" in base or verb in ("convert", "prepare")}
    verbs["train"] = ["ddpm/digits", "--data", SOURCE, *m.TINY, "--out", "out"]
    places_: dict[str, Callable[[Path], object]] = {
        **{thing: THINGS[thing] for thing in ("a file", "a FIFO", "a loop", "a device", "an unreadable folder")},
        "a read-only folder": lambda p: (p.mkdir(), p.chmod(0o555)),
        "below a file": lambda p: p.parent.joinpath("flat").write_text("x"),
        "in a read-only folder": lambda p: (p.parent.joinpath("locked").mkdir(),
                                            p.parent.joinpath("locked").chmod(0o555)),
    }
    where = {"below a file": "flat/out", "in a read-only folder": "locked/out"}
    for verb, base in verbs.items():
        for thing, make in places_.items():
            def build(folder: Path, verb: str = verb, base: list[str] = base, thing: str = thing,
                      make: Callable[[Path], object] = make) -> list[str]:
                laid(folder)
                if verb == "edit inpaint":
                    m.picture().save(folder / "mask.png")
                end = ".safetensors" if verb == "convert" else ""
                make(folder / f"out{end}")
                out = where.get(thing, "out") + end
                return [*verb.split(), *(out if word in ("out", "out.safetensors") else word for word in base)]

            yield Case("files", f"{verb} writes to {thing}", build, EITHER if verb == "convert" and
                       "folder" in thing and thing[0] == "a" and "in" not in thing else REFUSE)


def _comparisons() -> Iterator[Case]:
    """Stored results of `compare`, and its places."""
    import sfumato.compare

    stored = Path(sfumato.compare.__file__).parent / "results" / "digits.json"
    whole = json.loads(stored.read_text())
    made = []
    for path in [path for path in places(whole) if len(path) <= 4]:
        made += [(path, value) for value in VALUES]
    chosen = some((Case("", f"{i}", list) for i in range(len(made))), 30)
    for case in chosen:
        path, value = made[int(case.name)]
        def build(folder: Path, path: tuple[Any, ...] = path, value: Any = value) -> list[str]:
            (folder / "results.json").write_text(json.dumps(put(whole, path, value)))
            return ["compare", "digits", "--results", "results.json"]

        yield Case("files", f"results {'.'.join(map(str, path))} = {short(value)}", build, EITHER)
    for text in ("", "{", "[]", "null", "1", "{}", '{"a":' * 50_000, "9" * 6000, "\xff"):
        def built(folder: Path, text: str = text) -> list[str]:
            (folder / "results.json").write_text(text)
            return ["compare", "digits", "--results", "results.json"]

        yield Case("files", f"results say {short(text)}", built)
    for thing in ("a FIFO", "a loop", "a device", "unreadable", "8 GB of holes", "a folder"):
        def laid_out(folder: Path, thing: str = thing) -> list[str]:
            THINGS[thing](folder / "results.json")
            return ["compare", "digits", "--results", "results.json"]

        yield Case("files", f"results are {thing}", laid_out)
    for plot in ("nowhere/x.png", "/dev/null/x.png", "loop", "x.exe", ""):
        def plotted(folder: Path, plot: str = plot) -> list[str]:
            laid(folder)
            return ["compare", "digits", f"--plot={plot}"]

        yield Case("files", f"a plot into {plot}", plotted, EITHER)


def _classifiers() -> Iterator[Case]:
    """The wrong model in the wrong place."""
    pairs = [("classifier", ["sample", "classifier.safetensors"]),
             ("linear", ["sample", "adm.safetensors", "--classifier", "linear.safetensors", "-n", "2", "--steps", "2",
                         "--out", "out"]),
             ("VE", ["sample", "linear.safetensors", "--guide-model", "VE.safetensors", "-n", "2", "--steps", "2",
                     "--out", "out"]),
             ("classifier", ["sample", "linear.safetensors", "--guide-model", "classifier.safetensors", "-n", "2",
                             "--steps", "2", "--out", "out"]),
             ("dpm", ["edit", "reconstruct", "dpm.safetensors", "--data", SOURCE]),
             ("classifier", ["likelihood", "classifier.safetensors"]),
             ("adm", ["convert", "adm.safetensors", "--to", "diffusers", "--out", "out"]),
             ("VE", ["convert", "VE.safetensors", "--to", "diffusers", "--out", "out"]),
             ("ncsn", ["convert", "ncsn.safetensors", "--to", "diffusers", "--out", "out"]),
             ("dpm", ["convert", "dpm.safetensors", "--to", "official", "--out", "out.pt"]),
             ("adm", ["sample", "adm.safetensors", "--classes", "-1", "-n", "2", "--steps", "2", "--out", "out"]),
             ("adm", ["sample", "adm.safetensors", "--classes", "99", "-n", "2", "--steps", "2", "--out", "out"]),
             ("adm", ["sample", "adm.safetensors", "--classes", "²", "-n", "2", "--steps", "2", "--out", "out"]),
             ("linear", ["sample", "linear.safetensors", "--classes", "0", "-n", "2", "--steps", "2", "--out", "out"]),
             ("adm", ["sample", "adm.safetensors", "--classes", "9" * 5000, "-n", "2", "--steps", "2", "--out", "out"])]
    for name, words in pairs:
        def build(folder: Path, name: str = name, words: list[str] = words) -> list[str]:
            laid(folder)
            for model in {name, "adm"}:
                shutil.copyfile(m.path(f"{model}.safetensors"), folder / f"{model}.safetensors")
            return words

        yield Case("files", f"{name} in {short(' '.join(words[:4]))}", build)


def cases() -> Iterator[Case]:
    yield from _targets()
    yield from _outputs()
    yield from _comparisons()
    yield from _classifiers()
