"""What `sfumato doctor` finds, a section a function: each returns what is said, by what it is said of.

A section may raise anything: whatever is broken on a machine is what is being looked for, and `doctor` says it.
"""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import sys
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from functools import partial
from importlib import metadata, resources
from pathlib import Path
from typing import Any

from sfumato.version import __version__

Facts = dict[str, str]
"""What is said, by what it is said of."""

DEVELOPERS = ("dev", "docs")
"""Extras that only whoever works on the package needs."""
VARIABLES = (
    "OMP_NUM_THREADS", "MKL_NUM_THREADS", "ATEN_CPU_CAPABILITY", "CUDA_VISIBLE_DEVICES", "SFUMATO_DATA", "HF_HOME",
    "XDG_CACHE_HOME", "WORLD_SIZE",
)  # fmt: skip
"""Of the environment: what changes what is found, or how fast it is."""
CPU_FLAGS = ("avx2", "fma", "avx512f", "avx512_vnni", "avx512_bf16", "amx_bf16", "asimd", "sve", "bf16")
"""Of /proc/cpuinfo: what matters to a network's speed."""


def reason(error: BaseException) -> str:
    """The kind of an exception and its words, in one line."""
    return " ".join(f"{type(error).__name__}: {error}".split())[:300]


def _size(count: float) -> str:
    """Bytes in the largest unit that leaves a number of one or more."""
    for unit in ("B", "KiB", "MiB"):
        if count < 1024:
            return f"{count:.0f} {unit}"
        count /= 1024
    return f"{count:,.1f} GiB"


# ---------------------------------------------------------------- what is installed


def program() -> Facts:
    found = {
        "sfumato": f"{__version__}, {_origin()}",
        "Python": f"{platform.python_version()} ({platform.python_implementation()})",
        "system": f"{platform.system()} {platform.release()} {platform.machine()}, {' '.join(platform.libc_ver())}",
    }
    return found | {name: os.environ[name] for name in VARIABLES if name in os.environ}


def _origin() -> str:
    folders = Path(str(resources.files("sfumato"))).parts
    return "installed" if {"site-packages", "dist-packages"} & set(folders) else "run from a folder with its source"


def packages() -> Facts:
    """The releases of what the package needs, and of its extras; what is missing with the command that gets it."""
    from packaging.requirements import Requirement

    needed: dict[str, list[Requirement]] = {}
    for line in metadata.requires("sfumato") or ():
        asked = re.search(r"extra == [\"']([\w-]+)[\"']", line)
        extra = asked[1] if asked else ""
        if extra not in DEVELOPERS:
            needed.setdefault(extra, []).append(Requirement(line.partition(";")[0]))
    found = {part.name: _release(part) for part in needed.pop("", ())}
    return found | {f"extra {extra}": _extra(parts) for extra, parts in needed.items()}


def _release(part: Any) -> str:
    """The installed release of a requirement, or what to do about it."""
    try:
        release = metadata.version(part.name)
    except metadata.PackageNotFoundError:
        return f"missing: pip install '{part}'"
    if part.specifier.contains(release, prereleases=True):
        return release
    return f"{release} does not fit {part.specifier}: pip install '{part}'"


def _extra(parts: Iterable[Any]) -> str:
    releases = {part: _release(part) for part in parts}
    lacking = [part for part, release in releases.items() if "pip install" in release]
    if not lacking:
        return ", ".join(f"{part.name} {release}" for part, release in releases.items())
    what, command = ", ".join(part.name for part in lacking), " ".join(f"'{part}'" for part in lacking)
    return f"missing or too old: {what}: pip install {command}"


# ---------------------------------------------------------------- the machine


def devices() -> Facts:
    import torch

    from sfumato.runtime.precision import best_device, best_layout, best_precision

    found: Facts = {}
    cuda = f"built for CUDA {torch.version.cuda}" if torch.version.cuda else "built without CUDA"
    for i in range(torch.cuda.device_count() if torch.cuda.is_available() else 0):
        about = torch.cuda.get_device_properties(i)
        found[f"cuda:{i}"] = (
            f"{about.name}, {_size(about.total_memory)}, compute capability {about.major}.{about.minor}"
        )
    if torch.backends.mps.is_available():
        found["mps"] = "there"
    found["cpu"] = f"{_processor()}; torch uses {torch.backends.cpu.get_cpu_capability()}"
    device = best_device()
    precision, why = best_precision(device)
    found["auto is"] = f"{device} (torch is {cuda}), {precision} ({why}), {best_layout(device)[1]}"
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    found["threads"] = f"{torch.get_num_threads()} of {cores} cores that this process may use"
    return found


def _processor() -> str:
    """The processor's name and what it can, as the system says."""
    try:
        lines = [line.partition(":") for line in Path("/proc/cpuinfo").read_text().splitlines()]
    except OSError:
        return platform.processor() or platform.machine()
    about = {name.strip().lower(): value.strip() for name, _, value in reversed(lines)}
    flags = set((about.get("flags") or about.get("features") or "").split())
    return f"{about.get('model name', platform.machine())} ({' '.join(f for f in CPU_FLAGS if f in flags) or 'plain'})"


def kernel() -> Facts:
    """Whether the compiled kernel is there, and what compiles it."""
    from sfumato.networks import fused

    path = fused.library()
    if path.is_file() and fused.load():
        state = f"compiled, {path}"
    else:
        state = f"{'damaged' if path.is_file() else 'not compiled'}: python -m sfumato.networks"
    near = f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', '')}"
    compiler = next(filter(None, map(shutil.which, (os.environ.get("CXX") or "c++", "g++", "clang++"))), None)
    return {
        "kernel": state,
        "compiler": compiler or "none (it needs a C++20 compiler, such as g++)",
        "ninja": shutil.which("ninja", path=near) or "none: pip install ninja",
    }


def room() -> Facts:
    from sfumato.runtime.opening import free_memory

    found = {"memory": f"{_size(free_memory())} free for this process"}
    with suppress(AttributeError, OSError, ValueError):  # no such question outside POSIX
        found["memory"] += f", {_size(os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES'))} in the machine"
    for name, path in {"this folder": Path.cwd(), "caches": _existing(_caches()), "temporary": _temporary()}.items():
        usage = shutil.disk_usage(path)
        allowed = "" if os.access(path, os.W_OK) else "; no permission to write"
        found[f"disk, {name}"] = f"{_size(usage.free)} free of {_size(usage.total)}{allowed}"
    return found


def _temporary() -> Path:
    import tempfile

    return Path(tempfile.gettempdir())


def _existing(path: Path) -> Path:
    """The path, or the nearest folder above it that is there."""
    return next(folder for folder in (path, *path.absolute().parents) if folder.is_dir())


def _caches() -> Path:
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "sfumato"


# ---------------------------------------------------------------- files


def caches() -> Facts:
    """Each cache with its files and their bytes; any of them may be removed."""
    folder = _caches()
    parts = sorted(path for path in folder.iterdir() if path.is_dir()) if folder.is_dir() else []
    found = {}
    for part in parts:
        sizes = [path.lstat().st_size for path in part.rglob("*") if path.is_file() and not path.is_symlink()]
        found[part.name] = f"{len(sizes)} file{'s' * (len(sizes) != 1)}, {_size(sum(sizes))}"
    return {"folder": str(folder) if parts else f"{folder} is empty", **found}


def data_sets() -> Facts:
    """Which are here and where, and the command that gets what is missing."""
    from sfumato.data import DataError, emoji, installed, open_source

    places: dict[str, Callable[[], Path | None]] = {"emoji128": emoji.font}
    places |= {name: partial(installed.place, name) for name in installed.PLACES}
    found = {}
    for name in ("digits", "emoji32", *places):
        try:
            images = open_source(f"{name}:test")
        except DataError as error:
            found[name] = str(error)
            continue
        where = f"in {places[name]()}" if name in places else "shipped"
        found[name] = f"{len(images):,} test images, {where}"
    return found


def shipped() -> Facts:
    """Each model and feature net that ships, read and compared with what was installed or pinned."""
    from sfumato.evaluate import features
    from sfumato.models import load
    from sfumato.models import shipped as models

    recorded = _recorded()
    found = {}
    for name, path in models().items():
        found[name] = verified(partial(load, name), path, recorded)
    for name in features.SHIPPED:
        path = Path(str(resources.files("sfumato.evaluate"))) / "assets" / f"{name}.safetensors"
        found[f"net {name}"] = verified(partial(features.in_domain, name), path, recorded)
    return found


def verified(read: Callable[[], object], path: Path, recorded: Mapping[str, str]) -> str:
    """What reading a file and its hash say; the hash is compared with the record of the installed package."""
    try:
        read()
        digest = hashlib.sha256(path.read_bytes()).hexdigest()
    except (ValueError, OSError, RuntimeError) as error:
        return f"DAMAGED: {reason(error)}"
    expected = recorded.get(path.name)
    if expected and expected != digest:
        return f"CHANGED since it was installed (sha256 {digest[:12]})"
    return f"{'as installed' if expected else 'read'}, sha256 {digest[:12]}"


def _recorded() -> dict[str, str]:
    """The sha256 of each weights file by its name, as the installer wrote it down; nothing for an editable install."""
    from base64 import urlsafe_b64decode

    try:
        files = metadata.files("sfumato") or ()
    except metadata.PackageNotFoundError:
        return {}
    return {
        file.name: urlsafe_b64decode(file.hash.value + "=").hex()
        for file in files
        if file.suffix == ".safetensors" and file.hash and file.hash.mode == "sha256"
    }


SECTIONS: dict[str, Callable[[], Facts]] = {
    "program": program,
    "packages": packages,
    "devices": devices,
    "compiled kernel": kernel,
    "memory and disk": room,
    "data sets": data_sets,
    "caches": caches,
    "shipped models": shipped,
}
"""What is looked at, in this order."""
