"""Samplers, guidance, methods, operators and parts of a recipe in words, `NAME?option=value`, with hostile options."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

from tests.hostile import materials as m
from tests.hostile.case import EITHER, REFUSE, Case, short, some
from tests.hostile.words import CHECKPOINT, SHORT, SOURCE, finite, laid

VALUES = ["nan", "inf", "-inf", "1e400", "-1", "0", "1e308", "99999999999999999999", "", "abc", "true", "none",
          "1,2,3", "1.5", "0x10",
          "-1e-300", "1e-320", "$(touch HACKED)", "\x1b[31m", "9" * 5000]
NEVER = {"nan", "", "$(touch HACKED)", "\x1b[31m"}
SHAPES = ["{}?", "{}?&", "{}?a", "{}?=1", "{}?x=1&x=2", "{} ", "{}?{}", "{}&eta=1", "?{}", "{}\x00", "{}#",
          "{}?\udcff=1",
          "{}?__class__=1", "{}?__init__=1", "{}?words=1", "{}?0=1"]


def tables() -> dict[str, tuple[Mapping[str, Any], list[str]]]:
    """What is chosen in words: (the table, the words of a command with {} where the spec stands)."""
    from sfumato.inverse import POSTERIORS
    from sfumato.models.guidance import GUIDANCE
    from sfumato.networks import NETWORKS
    from sfumato.papers import PARTS
    from sfumato.samplers import SAMPLERS

    train = ["train", "ddpm/digits", "--data", SOURCE, *m.TINY, "--out", "out"]
    return {
        "sampler": (SAMPLERS, ["sample", CHECKPOINT, *SHORT, "--sampler", "{}"]),
        "guidance": (GUIDANCE, ["sample", "adm.safetensors", *SHORT, "--guidance", "{}"]),
        "method": (POSTERIORS, ["edit", "superres", CHECKPOINT, "--data", SOURCE, *SHORT, "--draws", "1", "--method",
                                "{}"]),
        "network": (NETWORKS, [*train, "--recipe.network", "{}"]),
        "conditioning": (PARTS["conditioning"], [*train, "--recipe.conditioning", "{}"]),
        "space": (PARTS["space"], [*train, "--recipe.space", "{}"]),
    }


SHARES = {"sampler": 5, "guidance": 7, "method": 7, "network": 3, "conditioning": 4, "space": 4}
"""Hostile values for each option."""


def _case(what: str, words: list[str], spec: str, expect: str) -> Case:
    def build(folder: Path) -> list[str]:
        laid(folder)
        m.copied("adm.safetensors", folder / "adm.safetensors")
        return [spec if word == "{}" else word for word in words]

    return Case("specs", f"{what} {short(spec)}", build, expect, finite)


def _numbers() -> Iterator[Case]:
    """Operators and steps are chosen by words and numbers of their own."""
    for verb, option in (("superres", "--factor"), ("deblur", "--std"), ("restyle", "--strength"),
                         ("superres", "--noise"),
                         ("interpolate", "--level"), ("interpolate", "--temperature")):
        for value in some([Case("", value, list) for value in VALUES], 9):
            words = ["edit", verb, CHECKPOINT, "--data", SOURCE, *SHORT, f"{option}={value.name}"]
            yield _case(f"{verb} {option} {short(value.name)}", words, "{}", REFUSE if value.name in NEVER else EITHER)
    grids = ["10,10,10", "ddim", "ddim0", "ddim-1", "ddim99999999999", "0,0", "1,,2", ",", "1e3", "50.5", "ddim1.5",
             "-5", "0", "41",
             "1000000000", "99999999999999999999", "9" * 5000, "ddim٣", "1,2,3\n", "-0", "1" + ",1" * 5000]
    for text in grids:
        for spacing in ("even", "sections", "ddim-uniform", "ddim-quadratic", "quadratic"):
            words = ["sample", CHECKPOINT, "-n", "2", "--out", "out", "--spacing", spacing, f"--steps={text}"]
            yield _case(f"steps {short(text)} {spacing}", words, "{}", EITHER)


def cases() -> Iterator[Case]:
    for what, (table, words) in tables().items():
        for name, kind in table.items():
            made = []
            for field in fields(kind):
                made += some((_case(what, words, f"{name}?{field.name}={value}", REFUSE if value in NEVER else EITHER)
                              for value in VALUES), SHARES[what])
            yield from made
        first = next(iter(table))
        for shape in some([Case("", shape, list) for shape in SHAPES], 9):
            spec = shape.name.replace("{}", first).replace("\x00", "\x01")
            yield _case(what, words, spec, EITHER)
    yield from some(_numbers(), 110)
