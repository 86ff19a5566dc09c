"""The house's one-way street: what may import what, read from the syntax trees; no circles; imports that stay cheap."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "sfumato"
LAYERS: list[set[str]] = [
    {"fields", "shapes"},
    {"version", "spec", "core", "networks"},
    {"samplers", "spaces", "noising"},
    {"inverse"},
    {"conditioning"},
    {"papers"},
    {"runtime"},
    {"data", "convert"},
    {"train", "models"},
    {"likelihood", "evaluate", "cost"},
    {"starting"},
    {"fitting"},
    {"one_call", "hub", "distilling"},
    {"__init__"},
    {"claims", "compare"},
    {"learn"},
    {"serve"},
    {"cli"},
    {"__main__"},
]
"""Every folder and module of the package, from the bottom; each imports from the layers below it, and from itself."""
NEEDS_TORCH = ("core", "networks", "samplers", "spaces", "conditioning", "noising", "papers", "inverse")
OUTSIDE: dict[str, set[str]] = {
    "fields": set(), "shapes": set(), "version": set(), "spec": set(), **{unit: {"torch"} for unit in NEEDS_TORCH},
    "networks": {"torch", "triton"}, "runtime": {"torch", "safetensors"},
}  # fmt: skip
"""Packages besides the standard library that the inner units may use."""


def units() -> dict[str, list[Path]]:
    """The files of each folder and module."""
    found: dict[str, list[Path]] = {}
    for path in sorted(PACKAGE.rglob("*.py")):
        found.setdefault(path.relative_to(PACKAGE).parts[0].removesuffix(".py"), []).append(path)
    return found


def name_of(path: Path) -> str:
    """The dotted name of a file."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def statements(tree: ast.AST, types: bool) -> Iterator[ast.Import | ast.ImportFrom]:
    """Every import statement, wherever it stands; those for type checkers only where asked."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node
        elif types or not (isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"):
            yield from statements(node, types)


def imports(path: Path, types: bool = True) -> set[str]:
    """Every module that a file imports, at its top or inside a function."""
    found = set()
    for node in statements(ast.parse(path.read_text()), types):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        else:
            assert node.level == 0, f"{path}: a relative import"
            module = str(node.module)
            members = [f"{module}.{alias.name}" for alias in node.names]
            found |= {member if is_module(member) else module for member in members}
    return found


def is_module(name: str) -> bool:
    path = PACKAGE.parent.joinpath(*name.split("."))
    return name.startswith("sfumato.") and (path.with_suffix(".py").is_file() or (path / "__init__.py").is_file())


def unit_of(name: str) -> str:
    return name.split(".")[1] if "." in name else "__init__"


def test_every_unit_has_its_layer() -> None:
    assert set(units()) == {name for layer in LAYERS for name in layer}


@pytest.mark.parametrize("unit", [name for layer in LAYERS for name in sorted(layer)])
def test_imports_run_downwards_only(unit: str) -> None:
    height = next(i for i, layer in enumerate(LAYERS) if unit in layer)
    below = {unit}.union(*LAYERS[:height])
    for path in units().get(unit, []):
        ours = {name for name in imports(path) if name.split(".")[0] == "sfumato"}
        wrong = [name for name in ours if unit_of(name) not in below]
        assert not wrong, f"{path} imports {wrong}"


def test_no_circles() -> None:
    """Not even inside functions, where an import would only hide one."""
    files = [path for paths in units().values() for path in paths]
    graph = {name_of(path): {n for n in imports(path, types=False) if is_module(n)} for path in files}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(" imports ".join(reversed(error.args[1])))


@pytest.mark.parametrize("unit", OUTSIDE)
def test_inner_layers_need_torch_alone(unit: str) -> None:
    for path in units()[unit]:
        outside = {name.split(".")[0] for name in imports(path)} - set(sys.stdlib_module_names) - {"sfumato"}
        assert outside <= OUTSIDE[unit], f"{path} imports {outside - OUTSIDE[unit]}"


def test_every_file_says_what_it_holds() -> None:
    for path in PACKAGE.rglob("*.py"):
        if path.parent.name != "lessons":  # a notebook begins with its own first cell
            assert ast.get_docstring(ast.parse(path.read_text())), path


def test_files_and_functions_are_short() -> None:
    for path in (path for paths in units().values() for path in paths if path.parent.name != "lessons"):
        lines = path.read_text().splitlines()
        assert len(lines) <= 300, f"{path} has {len(lines)} lines"
        for node in ast.walk(ast.parse("\n".join(lines))):
            if isinstance(node, ast.FunctionDef):
                length = int(node.end_lineno or 0) - node.lineno + 1
                assert length <= 60, f"{path}: {node.name} has {length} lines"


def test_sampling_does_not_import_training() -> None:
    """Whoever only makes pictures loads no loop, no optimiser's state, and none of what belongs to them."""
    modules = [name_of(path) for path in units().get("models", [])]
    code = f"import sys, {', '.join(modules)}; print([m for m in sys.modules if m.startswith('sfumato.train')])"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_import_is_cheap() -> None:
    """`import sfumato` adds less than half a second to `import torch`, and none of the heavy packages."""
    code = (
        "import sys, time, torch; t = time.perf_counter(); import sfumato; s = time.perf_counter() - t;"
        "print(s, *[m for m in ('matplotlib', 'accelerate', 'tyro', 'PIL') if m in sys.modules])"
    )
    for _ in range(3):  # a busy machine may need more than one try
        run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
        seconds, *heavy = run.stdout.split()
        assert heavy == []
        if float(seconds) < 0.5:
            return
    pytest.fail(f"it took {seconds} s")
