"""Words and numbers of every option of every command, by the types of the options, and words that no command knows."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from tests.hostile import materials as m
from tests.hostile.case import ACCEPT, EITHER, REFUSE, Case, short, some

HUGE = "99999999999999999999999"
INTEGERS = ["", "abc", "nan", "inf", "1e3", "1.5", "0x10", "-1", "0", HUGE, "-" + HUGE, "1_0", "٣", "²", "1,000", "--",
            "7" * 5000,
            "$(touch HACKED)", "\x1b[31m5", "\udcff"]
FLOATS = ["", "abc", "nan", "-nan", "inf", "-inf", "1e400", "-1", "1e308", "-0.0", "1e-320", "0x1p3", "1,5", "²",
          "\x1b[2J"]
TEXTS = ["", "?", "a?b", "?=", "a?b=c&b=d", "x" * 10_000, "../../etc/passwd", "\x1b]0;title\x07", "%s%n{0}{x!r}",
         "$(touch HACKED)",
         "`touch HACKED`", "\udcff\udcfe", "名前", "a\u202eb", "|touch HACKED", "\n\r\t", "-" * 300]
PATHS = ["", "nowhere/at/all", "/dev/null/x", "/proc/self/nothing", "x" * 300, "file.txt/below", "loop", "fifo",
         "file.txt",
         "/dev/zero", "/dev/urandom", "a\x1b[31mb", "\udcff"]
WORDS = ["", "nothing", "None", "AUTO", "auto ", "\x1b[1m", "auto,auto", "é"]
NEVER = {*INTEGERS} - {"-1", "0", "1_0", "٣"}
"""Texts that are no whole number that any option takes."""


def kind_of(hint: Any) -> tuple[list[str], set[str]]:
    """The hostile words for an option of this type, and those of them that must be refused."""
    inner = get_args(hint)
    if get_origin(hint) is Annotated:
        return kind_of(inner[0])
    if hint is bool:
        return WORDS, set(WORDS)
    if hint is int:
        return INTEGERS, set(NEVER)
    if hint is float:
        return FLOATS, {"", "abc", "nan", "-nan", "inf", "-inf", "1e400", "0x1p3", "1,5", "²", "\x1b[2J"}
    if hint is Path:
        return PATHS, set()
    if get_origin(hint) is Literal:
        return WORDS, set(WORDS)
    for part in inner:
        if part not in (type(None), ...):
            words, never = kind_of(part)
            return words, never - {"", "None"} if type(None) in inner or get_origin(hint) is tuple else never
    return TEXTS, set()


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def laid(folder: Path) -> None:
    """What hostile paths name: a file, a loop of links, a FIFO; and the valid files of the commands."""
    import os

    (folder / "file.txt").write_text("plain")
    (folder / "loop").symlink_to("loop")
    os.mkfifo(folder / "fifo")
    for name in ("linear.safetensors", "images.npz"):
        shutil.copyfile(m.path(name), folder / name)


def finite(work: Path, said: str) -> str | None:
    """What was sampled is there, and is no constant picture, as NaN would be."""
    if re.search(r"\b(nan|inf)\b", said, re.IGNORECASE):
        return f"it prints {said.strip().splitlines()[-1][:100]}"
    for file in work.rglob("images.npz"):
        if file.parent == work:
            continue
        with np.load(file) as held:
            made = held["arr_0"]
        if made.dtype != np.uint8 or not len(made) or made.min() == made.max():
            return f"{file.relative_to(work)} holds {made.dtype} {made.shape}, from {made.min()} to {made.max()}"
    return None


CHECKPOINT = "linear.safetensors"
SOURCE = "npz:images.npz"
SHORT = ["-n", "2", "--steps", "2", "--out", "out"]

BASES: dict[str, list[str]] = {
    "sample": [CHECKPOINT, *SHORT],
    "evaluate": [SOURCE, "--reference", SOURCE, "--training", "none", "--net", "digits", "--out", "out", "--cache",
                 "cache", "-n", "4"],
    "edit reconstruct": [CHECKPOINT, "--data", SOURCE, *SHORT],
    "edit interpolate": [CHECKPOINT, "--data", SOURCE, *SHORT, "--points", "3"],
    "edit superres": [CHECKPOINT, "--data", SOURCE, *SHORT, "--draws", "2"],
    "edit deblur": [CHECKPOINT, "--data", SOURCE, *SHORT, "--draws", "2"],
    "edit inpaint": [CHECKPOINT, "--data", SOURCE, *SHORT, "--draws", "2", "--mask", "mask.png"],
    "edit restyle": [CHECKPOINT, "--data", SOURCE, *SHORT, "--draws", "2"],
    "likelihood": [CHECKPOINT, "--data", SOURCE, "--limit", "2", "--steps", "2", "--out", "out"],
    "convert": [CHECKPOINT, "--out", "out.safetensors"],
    "prepare": [SOURCE, "out"],
    "inspect": [CHECKPOINT, "--no-measure"],
    "reproduce": [],
    "compare": ["digits"],
}
SHARES = {"sample": 8, "evaluate": 6, "likelihood": 6, "edit reconstruct": 5, "edit interpolate": 5, "convert": 5,
          "inspect": 6}
"""Hostile words for each option; 3 of the other commands."""


def arguments_of(verb: str) -> Any:
    """The dataclass of a command's options."""
    from sfumato.cli import compare, convert, edit, evaluate, inspect, likelihood, prepare, reproduce, restore, sample

    return {
        "sample": sample.SampleArguments, "evaluate": evaluate.EvaluateArguments,
        "likelihood": likelihood.LikelihoodArguments,
        "edit reconstruct": edit.ReconstructArguments, "edit interpolate": edit.InterpolateArguments,
        "edit superres": restore.SuperresArguments, "edit deblur": restore.DeblurArguments,
        "edit inpaint": restore.InpaintArguments, "edit restyle": restore.RestyleArguments,
        "convert": convert.ConvertArguments, "prepare": prepare.PrepareArguments, "inspect": inspect.InspectArguments,
        "reproduce": reproduce.ReproduceArguments, "compare": compare.CompareArguments,
    }[verb]


def _options() -> Iterator[Case]:
    for verb, base in BASES.items():
        hints = get_type_hints(arguments_of(verb), include_extras=True)
        for field in fields(arguments_of(verb)):
            hint = hints[field.name]
            words, never = kind_of(hint)
            positional = any("Positional" in repr(mark) for mark in getattr(hint, "__metadata__", ()))
            if positional or (verb, field.name) in LONG:
                continue
            made = [_option(verb, base, field.name, word, word in never, hint) for word in words]
            yield from some(made, SHARES.get(verb, 3))


LONG = {("compare", "run"), ("reproduce", "fast")}
"""Options after which a command works for hours."""


def _option(verb: str, base: list[str], name: str, word: str, never: bool, hint: Any) -> Case:
    def build(folder: Path) -> list[str]:
        laid(folder)
        if verb == "edit inpaint":
            m.picture().save(folder / "mask.png")
        return [*verb.split(), *base, f"{option(name)}={word}"]

    return Case("command line", f"{verb} {option(name)} {short(word)}", build, REFUSE if never else EITHER, finite,
                ("cache",))


def _targets() -> Iterator[Case]:
    """Words in the place of the model, the data or the file."""
    for verb in BASES:
        made = []
        for word in dict.fromkeys([*PATHS, *TEXTS]):
            def build(folder: Path, verb: str = verb, word: str = word) -> list[str]:
                laid(folder)
                words = BASES[verb][1:]
                return [*verb.split(), *([word, "out"] if verb == "prepare" else [word, *words])]

            expect = EITHER if word == "" or (verb in ("reproduce", "inspect")) else REFUSE
            made.append(Case("command line", f"{verb} TARGET {short(word)}", build, expect, stays=("cache",)))
        yield from some(made, 9)


def _verbs() -> Iterator[Case]:
    """What is no command, and commands without what they need."""
    alone = ["", " ", "-", "--", "--x", "Sample", "sample ", "\x1b[31m", "\udcff", "x" * 9000, "train\n", "__main__",
             "../sample",
             "main", "os.system", "𝓼ample"]
    lines = [[word] for word in alone]
    lines += [[verb, "--nonsense"] for verb in ("sample", "train", "evaluate", "edit", "compare", "likelihood",
                                                "convert",
                                               "prepare", "inspect", "reproduce", "learn", "presets")]
    lines += [[verb] for verb in ("sample", "train", "evaluate", "edit", "likelihood", "convert", "prepare", "inspect")]
    lines += [["train", "--resume"], ["train", "--resume", ""], ["train", "--resume=nowhere"], ["edit", "paint", "x"],
              ["presets", "x"],
              ["train", "nothing/here"], ["train", "ddpm/digits", "--recipe.nothing", "1"],
              ["train", "ddpm/digits", "x"],
              ["learn", "nothing"], ["learn", "--port", "99999"], ["learn", "--port=-1"], ["learn", "--port", "x"],
              ["learn", "99"], ["learn", "\x1b[31m"], ["learn", "../server"],
              ["learn", "playground", "--models", "nowhere"],
              ["learn", "playground", "--models", "file.txt"], ["learn", "--models", "fifo"], ["reproduce", "nothing"],
              ["reproduce", "ddim/consistency", "--seeds", "0"], ["reproduce", "--seeds", "x"],
              ["sample", "ddpm/emoji32"] * 2, ["sample", *["--n"] * 50], ["sample", "x" * 100_000]]
    for line in lines:
        def build(folder: Path, line: list[str] = line) -> list[str]:
            laid(folder)
            return line

        yield Case("command line", f"alone {short(' '.join(line))}", build)


def _helps() -> Iterator[Case]:
    for verb in ("sample", "train", "evaluate", "compare", "likelihood", "convert", "prepare", "inspect", "learn"):
        yield Case("command line", f"help {verb}", lambda folder, verb=verb: [verb, "--help"], ACCEPT)


def _training() -> Iterator[Case]:
    """Training numbers, by their types."""
    from sfumato.papers.training import TrainConfig

    hints = get_type_hints(TrainConfig, include_extras=True)
    base = ["train", "ddpm/digits", "--data", SOURCE, *m.TINY, "--out", "out"]
    for field in fields(TrainConfig):
        words, never = kind_of(hints[field.name])
        made = []
        for word in words:
            def build(folder: Path, word: str = word, name: str = field.name) -> list[str]:
                laid(folder)
                return [*base, f"--train.{name.replace('_', '-')}={word}"]

            expect = REFUSE if word in never and not (field.name in ("images", "warmup") and word == "1e3") else EITHER
            made.append(Case("command line", f"train --train.{field.name} {short(word)}", build, expect))
        yield from some(made, 5)


def cases() -> Iterator[Case]:
    yield from _verbs()
    yield from _helps()
    yield from _targets()
    yield from _options()
    yield from _training()
