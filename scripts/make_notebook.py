"""docs/first_model.ipynb from docs/first_model.py, whose cells begin with `# %%` or `# %% [markdown]`.

    python scripts/make_notebook.py           write it anew
    python scripts/make_notebook.py --check   exit 1 where it is not what the source makes

A notebook is JSON (nbformat 4.5) without outputs, so that nothing here needs Jupyter.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parents[1] / "docs"
SOURCE, NOTEBOOK = DOCS / "first_model.py", DOCS / "first_model.ipynb"


def cells(source: str) -> list[tuple[str, str]]:
    """The cells of a source, "code" or "markdown", and the text. ValueError where something stands before the first."""
    parts = re.split(r"^# %%( \[markdown\])?\n", source, flags=re.MULTILINE)
    if parts[0].strip():
        raise ValueError("the source begins with a cell: # %%")
    pairs = zip(parts[1::2], parts[2::2], strict=True)
    return [("markdown", _text(body)) if mark else ("code", body.strip("\n")) for mark, body in pairs]


def _text(body: str) -> str:
    """A comment without its marks."""
    return "\n".join(re.sub(r"^# ?", "", line) for line in body.strip("\n").split("\n"))


def notebook(source: str) -> dict[str, Any]:
    """The notebook of a source, as plain values."""
    made = []
    for i, (kind, text) in enumerate(cells(source)):
        cell: dict[str, Any] = {"cell_type": kind, "id": f"cell-{i:02}", "metadata": {}}
        cell |= {"execution_count": None, "outputs": []} if kind == "code" else {}
        made.append(cell | {"source": text.splitlines(keepends=True)})
    about = {
        "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
        "language_info": {"name": "python"},
    }
    return {"cells": made, "metadata": about, "nbformat": 4, "nbformat_minor": 5}


def text(source: str) -> str:
    """The file."""
    return json.dumps(notebook(source), indent=1, ensure_ascii=False) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Write or check docs/first_model.ipynb.")
    parser.add_argument("--check", action="store_true", help="compare; write nothing")
    made = text(SOURCE.read_text("utf-8"))
    if parser.parse_args().check:
        return int(not NOTEBOOK.exists() or NOTEBOOK.read_text("utf-8") != made)
    NOTEBOOK.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
