"""docs/coming_from.md: each library's task runs as it is written, with a tiny budget; what its tables name exists."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato.cli import main
from sfumato.data import pictures
from sfumato.inverse import POSTERIORS
from sfumato.models.guidance import GUIDANCE
from sfumato.networks import NETWORKS
from sfumato.noising import NOISINGS
from sfumato.papers import PAPERS
from sfumato.papers.training import TrainConfig
from sfumato.samplers import SAMPLERS, Ancestral
from sfumato.spec import construct
from tests.test_docs_run import FENCED, ROOT, same_threads

__all__ = ["same_threads"]

PAGE = (ROOT / "docs" / "coming_from.md").read_text("utf-8")
SECTIONS = dict(re.findall(r"^## (\w[\w.-]*).*?\n(.*?)(?=^## |\Z)", PAGE, re.DOTALL | re.MULTILINE))
SMALL = {
    "sfumato train": "--train.images 32 --train.batch 8 --train.threads 1 --train.preview-images 0 "
    "--train.validation-images 0 --train.log csv --train.snapshots 1",
    "sfumato sample": "-n 2 --steps 2",
    "sfumato likelihood": "--limit 1 --solver 3",
    "sfumato evaluate": "-n 8 --steps 2 --training none",
    "sfumato convert": "",
}
"""How each command begins -> what makes it small. What is given twice counts as given last."""
ADDED = {"--train.fd-every": "--train.fd-images 8", "sample workdir": "--steps 20"}
"""What a command holds -> what is given besides; the VP SDE has no fewer than 20 steps."""


def commands(section: str) -> list[str]:
    """The commands of a section, in their order."""
    return [line for language, text in FENCED.findall(SECTIONS[section]) if not language for line in text.splitlines()]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with pictures of two classes."""
    for i in range(24):
        folder = tmp_path / "my" / "pictures" / f"class{i % 2}"
        folder.mkdir(parents=True, exist_ok=True)
        pictures.save_png(folder / f"{i}.png", torch.randint(0, 256, (3, 40, 36), dtype=torch.uint8))
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return tmp_path


def test_there_are_five_libraries_with_their_tasks() -> None:
    assert list(SECTIONS) == ["denoising-diffusion-pytorch", "diffusers", "guided-diffusion", "score_sde", "EDM"]
    assert all(4 <= len(commands(name)) <= 10 for name in SECTIONS)


@pytest.mark.slow
@pytest.mark.parametrize("section", SECTIONS)
def test_the_task_of_its_readme_runs(section: str, place: Path, same_threads: None) -> None:
    for command in commands(section):
        if "fd-every" in command or "evaluate" in command:
            pytest.importorskip("efficientnet_lite_pytorch")
        small = SMALL[" ".join(command.split()[:2])]
        small += "".join(f" {more}" for word, more in ADDED.items() if word in command)
        assert main(shlex.split(f"{command} {small}")[1:]) == 0, command


def test_the_tests_that_it_names_exist() -> None:
    found = re.findall(r"(tests/[\w/]+(?:\.py)?)(?:::(\w+))?", PAGE)
    assert sum(bool(test) for _, test in found) >= 5
    for name, test in found:
        assert (ROOT / name).exists(), name
        assert not test or f"def {test}(" in (ROOT / name).read_text("utf-8"), test


def test_the_options_that_it_names_exist() -> None:
    known = {name.replace("_", "-") for name in TrainConfig.__dataclass_fields__}
    for name in re.findall(r"--train\.([\w-]+)", PAGE):
        assert name in known, name
    tables: dict[str, dict[str, Any]] = {
        "sampler": {**SAMPLERS, "own": Ancestral}, "guidance": GUIDANCE, "recipe.network": NETWORKS,
        "recipe.noising": NOISINGS, "mask hole.png --method": POSTERIORS,
    }  # fmt: skip
    for option, table in tables.items():
        found = re.findall(rf'--{re.escape(option)}[` "]+([\w-]+[^`\s"]*)', PAGE)
        assert found, option
        for text in found:
            construct(table, text.rstrip(",;"), option)
    fields = {name for recipe in PAPERS.values() for name in recipe.__dataclass_fields__}
    for name in re.findall(r"--recipe\.([\w-]+)", PAGE):
        assert name.replace("-", "_") in fields, name
