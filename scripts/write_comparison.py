"""Write the tables of docs/comparison.md and its plots anew from the stored results. `make comparison` runs it."""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

from sfumato.compare import report

ROOT = Path(__file__).parent.parent
PAGE = ROOT / "docs" / "comparison.md"
RESULTS = ROOT / "sfumato" / "compare" / "results"


def written(page: str, data: str, tables: str) -> str:
    """The page with other tables between the marks of a data set. ValueError where it has none."""
    begin, end = f"<!-- begin {data} -->", f"<!-- end {data} -->"
    if begin not in page or end not in page:
        raise ValueError(f"{PAGE.name} has no place for {data}: {begin} and {end}")
    return re.sub(f"{begin}.*{end}", lambda _: f"{begin}\n\n{tables}\n\n{end}", page, flags=re.DOTALL)


def main() -> int:
    page = PAGE.read_text("utf-8")
    for path in sorted(RESULTS.glob("*.json")):
        found = json.loads(path.read_text("utf-8"))
        page = written(page, path.stem, "\n\n".join(report.tables(found)))
        report.plot(found, ROOT / "docs" / "images" / f"{path.stem}-comparison.png")
        print(f"docs/comparison.md and docs/images/{path.stem}-comparison.png: {len(found['scores'])} entries")
    PAGE.write_text(page, "utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
