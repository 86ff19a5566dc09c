"""Peers that import torchvision for things that are not used here, where torchvision is missing."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from types import ModuleType

NAMES = ("torchvision", "torchvision.datasets", "torchvision.transforms", "torchvision.transforms.functional")


class _Empty(ModuleType):
    """A module whose every public name is an empty class: enough to be imported from and inherited."""

    def __getattr__(self, name: str) -> type:
        if name.startswith("__"):
            raise AttributeError(name)
        return type(name, (), {})


def without_torchvision() -> None:
    """Let `import torchvision` succeed; nothing of it works."""
    if "torchvision" not in sys.modules and find_spec("torchvision") is None:
        for name in NAMES:
            sys.modules[name] = module = _Empty(name)
            parent, _, last = name.rpartition(".")
            if parent:
                setattr(sys.modules[parent], last, module)
