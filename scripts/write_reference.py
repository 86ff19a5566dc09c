"""Writes docs/formulas.md and docs/glossary.md from the tables of sfumato/learn/reference."""

from __future__ import annotations

from pathlib import Path

from sfumato.learn.reference import formulas, glossary

DOCS = Path(__file__).parents[1] / "docs"
PAGES = {"formulas.md": formulas.page, "glossary.md": glossary.page}


def main() -> None:
    for name, page in PAGES.items():
        (DOCS / name).write_text(page(lessons=False), encoding="utf-8")
        print(f"docs/{name}")


if __name__ == "__main__":
    main()
