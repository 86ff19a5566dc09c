"""The house's one-way street: what may import what, read from the syntax trees; and an import that stays cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sfumato"
BELOW = {
    "core": set(),
    "networks": set(),
    "data": set(),
    "papers": {"core", "networks"},
    "convert": {"core", "networks", "papers"},
    "train": {"core", "networks", "papers", "data"},
}
"""What each layer may import besides itself; the modules at the top (model, presets, ...) may import all."""
OUTSIDE = {"core": {"torch"}, "networks": {"torch"}, "papers": {"torch"}}
"""Packages besides the standard library that the inner layers may use."""


def imports(path: Path) -> set[str]:
    """Every module that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: a relative import"
            whole = node.module == "sfumato"
            names = [f"sfumato.{alias.name}" for alias in node.names] if whole else [str(node.module)]
            found |= set(names)
    return found


@pytest.mark.parametrize("layer", BELOW)
def test_imports_run_downwards_only(layer: str) -> None:
    for path in (PACKAGE / layer).glob("*.py"):
        for name in imports(path):
            if name.startswith("sfumato."):
                assert name.split(".")[1] in BELOW[layer] | {layer, "__version__"}, f"{path} imports {name}"


@pytest.mark.parametrize("layer", OUTSIDE)
def test_inner_layers_need_torch_alone(layer: str) -> None:
    for path in (PACKAGE / layer).glob("*.py"):
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"sfumato"}
        assert outside <= OUTSIDE[layer], f"{path} imports {outside - OUTSIDE[layer]}"


def test_every_file_says_what_it_holds() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "lessons":  # a notebook begins with its own first cell
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_import_is_cheap() -> None:
    """`import sfumato` adds less than half a second to `import torch`, and none of the heavy packages."""
    code = (
        "import sys, time, torch; t = time.perf_counter(); import sfumato; s = time.perf_counter() - t;"
        "print(s, *[m for m in ('matplotlib', 'accelerate', 'tyro', 'PIL') if m in sys.modules])"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(3)]
    words = [run.stdout.split() for run in runs]
    assert min(float(w[0]) for w in words) < 0.5
    assert words[0][1:] == []
