"""Gathers the pages of the docs site into build/pages: README, docs/, one page a module, the lessons, the claims.

`python scripts/gather_docs.py` writes the folder anew and puts the navigation into build/mkdocs.yml; `make docs` then
builds the site. Nothing is written twice: every page is what stands in the sources. Lessons that were exported into
build/lessons (`make lessons`) are taken in as they are.
"""

from __future__ import annotations

import ast
import re
import shutil
from collections.abc import Collection
from pathlib import Path

from sfumato.claims import CLAIMS
from sfumato.learn import languages
from sfumato.learn.export import file_of
from sfumato.learn.export.overview import NAME, overview

ROOT = Path(__file__).parent.parent
PACKAGE = ROOT / "sfumato"
LAYERS = (
    "core", "core/dpm2015", "samplers", "inverse", "conditioning", "networks", "papers", "papers/presets", "data",
    "runtime", "convert", "convert/onnx", "train", "models", "likelihood", "evaluate", "cost", "claims", "compare",
    "hub", "learn", "learn/export", "cli",
)  # fmt: skip
"""Folders of the package, from the bottom; its own files come first."""

Pages = dict[str, str]
"""Path -> Markdown."""


def written(pages: Pages) -> list[tuple[str, str]]:
    """README as the first page, and what is written in docs/; returns titles and paths."""
    readme = (ROOT / "README.md").read_text(encoding="utf-8").replace("](docs/", "](")
    for name in ("CONTRIBUTING.md", "CITATION.cff", "sfumato/data/assets/NOTICE"):
        readme = readme.replace(f"]({name})", f"]({Path(name).stem.lower()}.md)")
    pages["index.md"] = readme
    pages["contributing.md"] = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    pages["citation.md"] = f"# Citing\n\n```yaml\n{(ROOT / 'CITATION.cff').read_text(encoding='utf-8')}```\n"
    notice = (PACKAGE / "data" / "assets" / "NOTICE").read_text(encoding="utf-8")
    pages["notice.md"] = f"# Notice\n\n```\n{notice}```\n"
    pages["first_model.ipynb"] = (ROOT / "docs" / "first_model.ipynb").read_text(encoding="utf-8")
    found = [("sfumato", "index.md")]
    for path in sorted((ROOT / "docs").glob("*.md")):
        text = path.read_text(encoding="utf-8")
        pages[path.name] = re.sub(r"\]\(\.\./(\w+)\.md\)", lambda m: f"]({m[1].lower()}.md)", text)
        found.append((title(text), path.name))
    return found


def title(text: str) -> str:
    """Of a Markdown page: its first heading."""
    return next(line[2:] for line in text.splitlines() if line.startswith("# "))


def modules(pages: Pages) -> list[tuple[str, list[tuple[str, str]]]]:
    """A page for every module, from its docstrings; returns (layer, names and paths)."""
    found = []
    for layer in ("", *LAYERS):
        names = []
        for path in sorted((PACKAGE / layer).glob("*.py")):
            module = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            if path.stem.startswith("_") or not ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))):
                continue
            name = f"api/{module.removeprefix('sfumato.')}.md"
            pages[name] = f"# {module}\n\n::: {module}\n"
            names.append((path.stem, name))
        found.append((layer or "top level", names))
    return found


def lessons(pages: Pages, exported: Collection[str]) -> list[tuple[str, str]]:
    """A page about the learning path in each language; returns titles and paths."""
    found, spoken = [], tuple(languages.LANGUAGES)
    for language in spoken:
        with languages.using(language):
            path = file_of(NAME, spoken, "md")
            pages[path] = overview(spoken, exported)
            found.append((languages.tr("The learning path"), path))
    return found


def claims() -> str:
    """Every claim with its source, its bounds and whether it holds at this scale."""
    lines = [
        "# The papers' claims",
        "",
        "Each is an experiment that anyone can run: `sfumato reproduce NAME`.",
        "",
        "| claim | what is said | where | holds at this scale |",
        "|---|---|---|---|",
    ]
    for claim in CLAIMS.values():
        note = f" {claim.note}" if claim.note else ""
        verdict = "yes." if claim.holds else "no."
        lines.append(f"| `{claim.name}` | {claim.statement} | {claim.source} | {verdict}{note} |")
    return "\n".join(lines) + "\n"


def navigation(texts: list[tuple[str, str]], layers: list[tuple[str, list[tuple[str, str]]]]) -> str:
    """The nav of the site."""
    lines = ["nav:", *(f"  - {_quoted(name)}: {path}" for name, path in texts), "  - Library:"]
    for layer, names in layers:
        lines.append(f"      - {layer}:")
        lines += [f"          - {name}: {path}" for name, path in names]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return '"' + text.replace('"', "'") + '"'


def gathered(exported: Collection[str] = ()) -> tuple[Pages, str]:
    """All pages, and the site's configuration with their navigation; `exported` are files of lessons to link to."""
    pages: Pages = {"claims.md": claims()}
    texts = [*written(pages), *lessons(pages, exported), ("The papers' claims", "claims.md")]
    nav = navigation(texts, modules(pages))
    return pages, (ROOT / "docs" / "site.yml").read_text(encoding="utf-8") + nav


def main() -> None:
    build = ROOT / "build"
    shutil.rmtree(build / "pages", ignore_errors=True)
    exports = build / NAME
    pages, config = gathered({path.name for path in exports.glob("*.html")})
    for name, text in pages.items():
        path = build / "pages" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    shutil.copytree(ROOT / "docs" / "images", build / "pages" / "images")
    shutil.copytree(PACKAGE / "learn" / "katex", build / "pages" / "katex")  # formulas are typeset without a network
    shutil.copyfile(ROOT / "docs" / "site-math.js", build / "pages" / "katex" / "site-math.js")
    if exports.is_dir():
        shutil.copytree(exports, build / "pages" / NAME)
    (build / "mkdocs.yml").write_text(config, encoding="utf-8")
    print(f"{len(pages)} pages in {(build / 'pages').relative_to(ROOT)}")


if __name__ == "__main__":
    main()
