"""constraints.txt: the tested release of every package that an extra brings, so that `make` sets up the same later on.

    python scripts/constraints.py           write it anew from this environment, which must hold every extra
    python scripts/constraints.py --check   exit 1 where it differs from pyproject.toml or from this environment

A release is named without its build: torch==2.13.0 allows 2.13.0+cpu as well as a build for CUDA. What one build or one
platform alone brings (nvidia-*, triton) is not named, nor is any place that packages come from.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from collections.abc import Iterable, Iterator
from importlib import metadata
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

ROOT = Path(__file__).parents[1]
PLATFORM = ("nvidia-", "cuda-", "triton", "pytorch-triton", "colorama", "pywin32", "appnope")
"""Beginnings of the names of packages that one build or one platform alone brings."""
HEAD = """\
# The releases that were tested, for every extra; `make` installs these. The package allows ranges (pyproject.toml).
# Written by `python scripts/constraints.py`, checked by `make constraints` and a test.
"""

Pins = dict[str, Version]
"""Release by normalised name."""


# ---------------------------------------------------------------- what is asked for, and what is here


def required(project: Path) -> list[Requirement]:
    """The requirements of a pyproject.toml: the package's, and every extra's."""
    table = tomllib.loads(project.read_text("utf-8"))["project"]
    lists = (table.get("dependencies", []), *table.get("optional-dependencies", {}).values())
    return [Requirement(line) for lines in lists for line in lines]


def named(name: str) -> bool:
    """Whether a package, by its normalised name, belongs into the file."""
    return not name.startswith(PLATFORM)


def reached(wanted: Iterable[Requirement]) -> tuple[dict[str, metadata.Distribution], list[tuple[str, Requirement]]]:
    """What the requirements bring here, by normalised name, and who is asking for what on the way.

    Packages that are not installed are left out of the first, and stay in the second.
    """
    found: dict[str, metadata.Distribution] = {}
    asked = [("pyproject.toml", requirement) for requirement in wanted]
    seen: set[tuple[str, str]] = set()
    for _, requirement in asked:  # it grows on the way
        name = canonicalize_name(requirement.name)
        for extra in ("", *sorted(requirement.extras)):
            if (name, extra) in seen or not named(name):
                continue
            seen.add((name, extra))
            try:
                found.setdefault(name, metadata.distribution(name))
            except metadata.PackageNotFoundError:
                continue
            asked += [(name, part) for part in _parts(found[name], extra)]
    return found, asked


def _parts(package: metadata.Distribution, extra: str) -> Iterator[Requirement]:
    """What a package, or one of its extras, asks for on this Python and platform."""
    for line in package.requires or ():
        part = Requirement(line)
        always = part.marker is None or part.marker.evaluate({"extra": ""})
        if always if not extra else not always and part.marker and part.marker.evaluate({"extra": extra}):
            yield part


# ---------------------------------------------------------------- the file


def read(path: Path) -> tuple[Pins, list[str]]:
    """The pins of a file, and what is wrong with its lines."""
    pins: Pins = {}
    wrong = []
    for number, line in enumerate(path.read_text("utf-8").splitlines(), 1):
        text = line.partition("#")[0].strip()
        if not text:
            continue
        try:
            pin = Requirement(text)
            exact = [part.version for part in pin.specifier if part.operator == "==" and "*" not in part.version]
            if pin.url or pin.extras or pin.marker or len(pin.specifier) != 1 or not exact:
                raise InvalidRequirement(text)
        except InvalidRequirement:
            wrong.append(f"line {number}: {text!r} is not NAME==RELEASE")
            continue
        name, release = canonicalize_name(pin.name), Version(exact[0])
        if release.local:
            wrong.append(f"line {number}: {text} names a build; the release is {release.public}")
        if not named(name):
            wrong.append(f"line {number}: {name} belongs to one build or platform")
        if name in pins:
            wrong.append(f"line {number}: {name} stands there twice")
        pins[name] = release
    if list(pins) != sorted(pins):
        wrong.append("the names are not sorted")
    return pins, wrong


def written(found: dict[str, metadata.Distribution]) -> str:
    """The text of the file for these packages."""
    pins = {name: Version(package.version).public for name, package in found.items()}
    return HEAD + "".join(f"{name}=={release}\n" for name, release in sorted(pins.items()))


def missing(pins: Pins, project: Path) -> list[str]:
    """What pyproject.toml asks for and the file does not name, or names in a release that is not allowed."""
    return list(_unmet(pins, (("pyproject.toml", requirement) for requirement in required(project))))


def _unmet(pins: Pins, asked: Iterable[tuple[str, Requirement]]) -> Iterator[str]:
    said = set()
    for who, requirement in asked:
        name = canonicalize_name(requirement.name)
        if name in pins:
            if not requirement.specifier.contains(pins[name], prereleases=True):
                yield f"{who} asks for {requirement.name}{requirement.specifier}, not {pins[name]}"
        elif named(name) and name not in said:
            said.add(name)
            yield f"{name} is not named, and {who} asks for it"


def differences(pins: Pins, project: Path) -> list[str]:
    """Where this environment, as far as the extras are installed, differs from the file."""
    found, asked = reached(required(project))
    differ = [
        f"{name} {package.version} is installed, not {pins[name]}"
        for name, package in sorted(found.items())
        if name in pins and Version(package.version).public != pins[name].public
    ]
    return differ + list(_unmet(pins, asked))


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check constraints.txt.")
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    parser.add_argument("--file", type=Path, default=ROOT / "constraints.txt")
    parser.add_argument("--project", type=Path, default=ROOT / "pyproject.toml")
    words = parser.parse_args()
    if not words.check:
        found, asked = reached(required(words.project))
        absent = sorted({canonicalize_name(r.name) for _, r in asked if named(r.name)} - set(found))
        if absent:
            print(f"not installed here: {', '.join(absent)}; first: pip install -e '.[dev,docs]'", file=sys.stderr)
            return 1
        words.file.write_text(written(found), encoding="utf-8")
    pins, wrong = read(words.file)
    wrong += missing(pins, words.project)
    wrong += [line for line in differences(pins, words.project) if line not in wrong]
    for line in wrong:
        print(f"{words.file.name}: {line}", file=sys.stderr)
    if not wrong:
        print(f"{words.file.name}: {len(pins)} releases, as installed and as pyproject.toml allows")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
