"""What is written runs: the Python blocks of README and docs as they stand, README's commands with small numbers."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from sfumato.cli import main
from sfumato.cli.learn import LearnArguments
from sfumato.data import open_source, pictures

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
FENCED = re.compile(r"^```(\w*)\n(.*?)^```$", re.DOTALL | re.MULTILINE)

SMALL = {
    "sfumato presets": "",
    "sfumato doctor": "",
    "sfumato inspect ddpm/fashion": "--no-measure",
    "sfumato train ddpm/fashion": "--train.images 128 --train.threads 1 --train.preview-images 4 "
    "--train.preview-steps 2 --train.validation-images 16",
    "sfumato sample runs/fashion -n 64": "-n 4 --steps 2",
    "sfumato sample ddpm/emoji32": "-n 4 --steps 2",
    'sfumato sample runs/fashion --sampler "heun?churn=40"': "-n 4 --steps 2",
    "sfumato sample runs/fashion --sampler ancestral": "-n 2 --steps 1,1,1",
    "sfumato sample ncsn/fashion": "-n 2 --steps 5",
    "sfumato sample adm/fashion": "-n 2 --steps 2",
    "sfumato edit interpolate runs/fashion": "-n 2 --points 3 --steps 2",
    "sfumato edit inpaint runs/fashion": "-n 2 --steps 2",
    "sfumato inspect --ncsnv2 fashion": "",
    "sfumato likelihood runs/fashion": "--limit 4 --steps 4",
    "sfumato evaluate runs/fashion": '-n 24 --steps 2 --reference "fashion:test?limit=200"',
    "sfumato convert runs/fashion --to diffusers": "",
    "sfumato convert runs/fashion --to hub": "--pictures 4",
    "sfumato convert runs/fashion --to onnx": "",
    "sfumato reproduce ddim/consistency": "--fast --seeds 1",
    "sfumato prepare": "",
    "sfumato train --resume": "",
}
"""How each command of README begins -> what makes it small. What is given twice counts as given last."""

SLOW = ("sfumato convert runs/fashion --to onnx", "sfumato evaluate")

NOT_HERE = {
    "make demo": "sets up an environment, then trains for a minute; its three commands are those of README",
    "make test": "sets up an environment, then runs these tests",
    "sfumato learn": "serves until it is stopped; tests/learn starts it, a browser and the playground",
    "sfumato serve": "serves until it is stopped; tests/serve starts it and a browser",
    "sfumato compare fashion --run": "trains ten models; tests/compare runs it whole on small data",
}
"""Commands of README that no test can run as they stand, with the reason."""


def blocks(page: Path, language: str) -> list[str]:
    """The fenced blocks of a page in a language; "" for those without one."""
    return [text for name, text in FENCED.findall(page.read_text("utf-8")) if name == language]


def commands() -> list[str]:
    """Every command of README's blocks, without its comment."""
    lines = "".join(blocks(PAGES[0], "")).splitlines()
    found = [re.sub(r"\s+#.*", "", line) for line in lines if re.match(r"(sfumato|make|python) ", line)]
    return [line for line in found if not line.startswith("sfumato/")]


def entry(command: str, table: dict[str, str]) -> str | None:
    """The longest key of a table with which the command begins."""
    return max((key for key in table if command.startswith(key)), key=len, default=None)


PYTHON = [pytest.param(text, id=f"{page.stem}-{i}") for page in PAGES for i, text in enumerate(blocks(page, "python"))]
RUNNABLE = [
    pytest.param(line, id=line, marks=[pytest.mark.slow] if line.startswith(SLOW) else [])
    for line in commands() if entry(line, NOT_HERE) is None
]  # fmt: skip


@pytest.fixture
def same_threads() -> Iterator[None]:
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.mark.parametrize("code", PYTHON)
def test_python_runs_as_it_stands(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, same_threads: None
) -> None:
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "<block>", "exec"), {"__name__": "__main__"})


def test_the_configuration_of_a_proxy_starts_a_command_that_there_is(monkeypatch: pytest.MonkeyPatch) -> None:
    """docs/learning.md, as jupyter-server-proxy reads it: `c` is its configuration, JupyterHub sets the prefix."""
    monkeypatch.setenv("JUPYTERHUB_SERVICE_PREFIX", "/user/ada/")
    config = SimpleNamespace(ServerProxy=SimpleNamespace())
    [code] = blocks(ROOT / "docs" / "learning.md", "py")
    exec(compile(code, "<block>", "exec"), {"c": config})
    server = config.ServerProxy.servers["sfumato"]
    assert server["command"][:2] == ["sfumato", "learn"]
    assert server["command"][-1] == "https://hub.example/user/ada/sfumato"
    assert server["launcher_entry"]["path_info"].endswith(server["environment"]["SFUMATO_TOKEN"])
    known = {"--" + one.name for one in fields(LearnArguments)} | {"--no-" + one.name for one in fields(LearnArguments)}
    assert {word for word in server["command"] if word.startswith("--")} <= known


def test_every_command_is_run_or_has_a_reason() -> None:
    found = commands()
    assert len(found) > 20
    for command in found:
        assert (entry(command, SMALL) is None) != (entry(command, NOT_HERE) is None), command
    for key in (*SMALL, *NOT_HERE):
        assert any(command.startswith(key) for command in found), f"README has no command {key!r}"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder as README assumes it: a run, a mask, pictures of one's own."""
    try:
        open_source("fashion:test")
    except ValueError as missing:
        pytest.skip(str(missing))
    folder, threads = tmp_path_factory.mktemp("readme"), torch.get_num_threads()
    mask = torch.full((1, 28, 28), 255, dtype=torch.uint8)
    mask[:, 8:20, 8:20] = 0
    pictures.save_png(folder / "hole.png", mask)
    (folder / "my" / "pictures").mkdir(parents=True)
    for i in range(4):
        pictures.save_png(
            folder / "my" / "pictures" / f"{i}.png", torch.randint(0, 256, (3, 70, 90), dtype=torch.uint8)
        )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        (train,) = (line for line in commands() if line.startswith("sfumato train ddpm/fashion"))
        assert run(train) == 0
    torch.set_num_threads(threads)
    return folder


def run(command: str) -> int:
    """The exit code of a command of README with its small numbers."""
    key = entry(command, SMALL)
    assert key is not None
    return main(shlex.split(f"{command} {SMALL[key]}")[1:])


@pytest.mark.parametrize("command", RUNNABLE)
def test_a_command_of_readme_runs(
    command: str, place: Path, monkeypatch: pytest.MonkeyPatch, same_threads: None
) -> None:
    if command.endswith("onnx"):
        pytest.importorskip("onnxscript")
    monkeypatch.chdir(place)
    monkeypatch.setenv("XDG_CACHE_HOME", str(place / "cache"))
    if command.startswith("sfumato train ddpm/fashion"):
        assert (place / "runs" / "fashion" / "report.html").exists()  # the other commands stand on it
    else:
        assert run(command) == 0
