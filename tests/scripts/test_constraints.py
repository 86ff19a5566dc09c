"""constraints.txt names what is installed and what pyproject.toml allows; the check finds whatever does not fit.

The licences of what ships are those that the package says.
"""

from __future__ import annotations

import importlib.util
import sys
import tomllib
from importlib import metadata
from pathlib import Path
from types import ModuleType

import pytest
from packaging.version import Version

ROOT = Path(__file__).parents[2]
CONSTRAINTS, PROJECT = ROOT / "constraints.txt", ROOT / "pyproject.toml"


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("constraints", ROOT / "scripts" / "constraints.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["constraints"] = module
    spec.loader.exec_module(module)
    return module


def test_every_requirement_of_every_extra_has_an_allowed_release(script: ModuleType) -> None:
    pins, wrong = script.read(CONSTRAINTS)
    assert not wrong
    assert not script.missing(pins, PROJECT)
    assert {"torch", "zensical", "pytest", "sympy"} <= set(pins)  # of the package, of docs, of dev, of torch
    assert "torch==2.13.0\n" in CONSTRAINTS.read_text()  # without +cpu, so that a build for CUDA is allowed


def test_what_is_installed_is_what_is_named(script: ModuleType) -> None:
    pins, _ = script.read(CONSTRAINTS)
    if Version(metadata.version("torch")).public != str(pins["torch"]):
        pytest.skip("this environment was made with another torch, so not from constraints.txt")
    assert not script.differences(pins, PROJECT)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("torch==2.13.0+cpu", "names a build"),
        ("triton==3.5.0", "one build or platform"),
        ("nvidia-cublas==13.0", "one build or platform"),
        ("torch>=2.13", "is not NAME==RELEASE"),
        ("torch==2.*", "is not NAME==RELEASE"),
        ("torch==2.13.0; python_version > '3'", "is not NAME==RELEASE"),
        ("torch @ https://example.org/torch.whl", "is not NAME==RELEASE"),
        ("--extra-index-url https://example.org", "is not NAME==RELEASE"),
        ("numpy==2.4.6", "stands there twice"),
        ("aiofiles==24.1", "not sorted"),
    ],
)
def test_a_line_that_does_not_belong_there(script: ModuleType, tmp_path: Path, line: str, said: str) -> None:
    path = tmp_path / "constraints.txt"
    path.write_text(f"# a remark\nnumpy==2.4.6\n{line}\n")
    _, wrong = script.read(path)
    assert said in " ".join(wrong)


def test_what_is_missing_or_not_allowed(script: ModuleType, tmp_path: Path) -> None:
    project, path = tmp_path / "pyproject.toml", tmp_path / "constraints.txt"
    project.write_text('[project]\ndependencies = ["pytest>=8"]\n[project.optional-dependencies]\nx = ["numpy>=99"]\n')
    path.write_text("numpy==2.0\npytest==7.0\n")
    pins, wrong = script.read(path)
    assert not wrong
    assert script.missing(pins, project) == [
        "pyproject.toml asks for pytest>=8, not 7.0",
        "pyproject.toml asks for numpy>=99, not 2.0",
    ]
    differ = " ".join(script.differences(pins, project))
    assert f"pytest {metadata.version('pytest')} is installed, not 7.0" in differ
    assert "pluggy is not named, and pytest asks for it" in differ  # one that only another package asks for


def test_the_script_writes_what_it_accepts(script: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project, path = tmp_path / "pyproject.toml", tmp_path / "constraints.txt"
    project.write_text('[project]\ndependencies = ["torch", "Pillow"]\n')
    monkeypatch.setattr(sys, "argv", ["constraints.py", "--file", str(path), "--project", str(project)])
    assert script.main() == 0
    pins, wrong = script.read(path)
    assert not wrong
    assert {"torch", "pillow", "sympy"} <= set(pins)
    assert not any(pin.local for pin in pins.values())
    project.write_text('[project]\ndependencies = ["torch", "no-such-package-here"]\n')
    assert script.main() == 1


def test_the_licences_of_what_ships_are_said_and_their_texts_go_along() -> None:
    table = tomllib.loads(PROJECT.read_text())["project"]
    assert table["license"] == "MIT AND Apache-2.0 AND CC-BY-4.0"
    texts = {path: (ROOT / path).read_text() for path in table["license-files"]}
    assert "MIT License" in texts["LICENSE"]
    assert "onnxruntime-web" in texts["sfumato/learn/playground/runtime/LICENSE"]
    assert "Version 2.0, January 2004" in texts["sfumato/data/assets/LICENSE-Apache-2.0"]
    notice = texts["sfumato/data/assets/NOTICE"]
    for path in (ROOT / "sfumato" / "data" / "assets").iterdir():
        assert path.name.startswith(("NOTICE", "LICENSE", ".")) or path.name in notice
    assert "creativecommons.org/licenses/by/4.0" in notice
    assert "Zalando" in notice
