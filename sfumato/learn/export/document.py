"""A whole HTML page around a lesson's parts: formulas are typeset by KaTeX and figures move, without a server.

A page either holds everything itself, so that it is one file, or asks for what lies in a folder beside it.
"""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from sfumato.learn.languages import tr, web

HERE = Path(__file__).parent
KATEX = HERE.parent / "katex"
WIDGETS = HERE.parent / "widgets"
ASSETS = "assets"
"""The folder beside the pages of a site."""
POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data:; font-src data:"
"""Of a page that holds everything itself: it can ask nobody for anything."""

TYPESET = """
for (const e of document.querySelectorAll(".sf-tex")) {
  katex.render(e.textContent, e, { displayMode: e.tagName === "DIV", throwOnError: false });
}
for (const e of document.querySelectorAll("pre, table, .katex-display")) {
  e.tabIndex = 0;  // what scrolls can be scrolled by keys
}
"""
UNFOLD = """
const named = document.getElementById(decodeURIComponent(location.hash.slice(1)));
if (named?.tagName === "DETAILS") {  // an address that ends in #DERIVATION
  named.open = true;
  named.scrollIntoView();
}
"""
START = """
for (const el of document.querySelectorAll('.sf-widget[data-module="MODULE"]:not([data-drawn])')) {
  el.dataset.drawn = "";
  const traits = JSON.parse(el.firstElementChild.textContent);
  const model = { get: (name) => traits[name], set: (name, value) => { traits[name] = value; },
    on: () => {}, off: () => {}, save_changes: () => {} };
  render({ model, el });
}
"""


def page(title: str, parts: Sequence[str], whole: bool = True, addresses: Mapping[str, str] | None = None) -> str:
    """The page.

    Args:
        title: of its window.
        parts: HTML, one below the other.
        whole: hold fonts, styles and scripts itself; otherwise they are asked of the folder `ASSETS` beside it.
        addresses: language -> the file that holds this page in it, for a switch at its top; no switch without them.
    """
    body = "\n".join(f"<section>{part}</section>" for part in parts)
    modules = sorted(set(re.findall(r'class="sf-widget" data-module="(\w+)"', body)))
    formulas = "sf-tex" in body
    head = [
        f"<title>{html.escape(title)}</title>",
        '<meta name="viewport" content="width=device-width, initial-scale=1">',
    ]
    scripts = []
    if whole:
        head.insert(0, f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">')
    if formulas:
        head.append(
            f"<style>{_fonts_inside()}</style>" if whole else f'<link rel="stylesheet" href="{ASSETS}/katex.min.css">'
        )
        library = (KATEX / "katex.min.js").read_text(encoding="utf-8")
        scripts.append(f"<script>{library}</script>" if whole else f'<script src="{ASSETS}/katex.min.js"></script>')
    head.append(f"<style>{(HERE / 'page.css').read_text(encoding='utf-8')}</style>")
    scripts.append(f"<script>{TYPESET if formulas else ''}</script>")
    scripts += [f'<script type="module">{started(module)}</script>' for module in modules]
    scripts.append(f'<script type="module">{UNFOLD}</script>')
    if addresses:
        scripts.append(f'<script type="module">{(HERE / "place.js").read_text(encoding="utf-8")}</script>')
    return (
        f'<!doctype html><html lang="{web.tag()}"><head><meta charset="utf-8">{"".join(head)}</head>'
        f"<body>{_bar(addresses)}<main>\n{body}\n</main>{''.join(scripts)}</body></html>"
    )


def _bar(addresses: Mapping[str, str] | None) -> str:
    """The switch between languages, which stays in sight."""
    if not addresses:
        return ""
    return f'<nav class="sf-switch" aria-label="{html.escape(tr("Languages"))}">{web.switch(addresses)}</nav>'


def started(module: str) -> str:
    """A module of the widgets that draws every figure of its kind in the page."""
    text = (WIDGETS / f"{module}.js").read_text(encoding="utf-8")
    return text.replace("export default { render };", START.replace("MODULE", module))


def _fonts_inside() -> str:
    """KaTeX's style sheet with its fonts in it."""

    def inside(found: re.Match[str]) -> str:
        font = base64.b64encode((KATEX / found[1]).read_bytes()).decode()
        return f"url(data:font/woff2;base64,{font})"

    return re.sub(r"url\((fonts/[\w-]+\.woff2)\)", inside, (KATEX / "katex.min.css").read_text(encoding="utf-8"))
