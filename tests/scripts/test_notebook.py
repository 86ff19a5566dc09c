"""docs/first_model.ipynb is what its source makes, is a valid notebook, and its cells run in order without Jupyter."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import Any

import pytest
import torch

ROOT = Path(__file__).parents[2]
SPEC = importlib.util.spec_from_file_location("make_notebook", ROOT / "scripts" / "make_notebook.py")
assert SPEC is not None
assert SPEC.loader is not None
script = importlib.util.module_from_spec(SPEC)
SPEC.loader.exec_module(script)
HELD: dict[str, Any] = json.loads(script.NOTEBOOK.read_text("utf-8"))


def test_the_notebook_is_what_the_source_makes() -> None:
    made = script.text(script.SOURCE.read_text("utf-8"))
    assert script.NOTEBOOK.read_text("utf-8") == made, "python scripts/make_notebook.py"


def test_cells_are_taken_apart() -> None:
    source = "# %% [markdown]\n# # Title\n#\n# Text.\n\n# %%\nx = 1\n\n# %%\nx\n"
    assert script.cells(source) == [("markdown", "# Title\n\nText."), ("code", "x = 1"), ("code", "x")]
    assert script.notebook(source)["cells"][1]["source"] == ["x = 1"]
    with pytest.raises(ValueError, match="begins with a cell"):
        script.cells("x = 1\n# %%\n")


def test_it_is_a_notebook() -> None:
    assert (HELD["nbformat"], HELD["nbformat_minor"]) == (4, 5)
    ids = [cell["id"] for cell in HELD["cells"]]
    assert len(set(ids)) == len(ids) > 10
    for cell in HELD["cells"]:
        wanted = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            wanted |= {"execution_count", "outputs"}
            assert cell["outputs"] == []
        assert set(cell) == wanted
        assert "".join(cell["source"]).strip()
    first = next(cell for cell in HELD["cells"] if cell["cell_type"] == "code")
    assert '"pip", "install", "-q", FOLDER]' in "".join(first["source"])


def test_it_validates() -> None:
    pytest.importorskip("nbformat").validate(HELD)


@pytest.mark.slow  # half a minute
def test_its_cells_run_in_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    plt = pytest.importorskip("matplotlib.pyplot")
    plt.switch_backend("Agg")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SFUMATO_MINUTES", "0.05")
    names: dict[str, Any] = {"__name__": "__main__"}
    threads = torch.get_num_threads()
    for cell in HELD["cells"]:
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), cell["id"], "exec"), names)
    torch.set_num_threads(threads)
    plt.close("all")
    heard = capsys.readouterr().out
    assert names["model"].recipe.shape == (1, 8, 8)
    assert names["losses"]
    assert "real v real" in heard
    assert list((tmp_path / "runs").glob("ddpm-digits-*/report.html"))
