"""A lesson as static HTML: its notebook is run once, and marimo's elements become plain ones that need no server.

Controls stand as they were, predictions show every answer folded, and figures keep their own module (`widgets`).
"""

from __future__ import annotations

import contextlib
import html
import json
import re
from collections.abc import Iterator
from importlib import import_module
from typing import Any

from sfumato.learn.languages import tr

_still = False

Links = dict[str, str]
"""Addresses of the server, without what follows a #, and where they lead in what is written."""


def active() -> bool:
    """Whether a lesson is being run for export: `story` then writes what needs no server."""
    return _still


def start() -> None:
    """From now on this process exports: in a Jupyter notebook no server is there."""
    global _still
    _still = True


@contextlib.contextmanager
def exporting() -> Iterator[None]:
    """While this is open, `active`."""
    global _still
    before, _still = _still, True
    try:
        yield
    finally:
        _still = before


def outputs(name: str) -> list[str]:
    """The notebook lessons/NAME.py, run from head to tail: the HTML of each cell that shows something."""
    app = import_module(f"sfumato.learn.lessons.{name}").app
    with exporting():
        shown, definitions = app.run()
    found = [static(output.text) for output in shown if output is not None]
    del definitions  # holds the figures until they are written
    return found


# ---------------------------------------------------------------- marimo's elements

ATTRIBUTE = re.compile(r"data-([a-z-]+)='([^']*)'")
ELEMENT = re.compile(r"<marimo-([a-z-]+)((?:\s+[a-z-]+=(?:'[^']*'|\"[^\"]*\"))*)\s*>(.*?)</marimo-\1>", re.DOTALL)
WRAPPER = re.compile(r"</?marimo-ui-element[^>]*>")
TEX = re.compile(r"^\s*\|\|([(\[])(.*)\|\|[)\]]\s*$", re.DOTALL)


def static(text: str) -> str:
    """HTML of marimo as HTML without its elements."""
    return ELEMENT.sub(_plain, WRAPPER.sub("", text))


def _plain(found: re.Match[str]) -> str:
    """An element of marimo as plain HTML. ValueError for one that has no plain form."""
    kind, inner = found[1], found[3]
    given = {name: json.loads(html.unescape(value) or "null") for name, value in ATTRIBUTE.findall(found[2])}
    label = static(given.get("label") or "")
    if kind == "tex":
        return tex(inner)
    if kind == "anywidget":
        return _figure(str(given["model-id"]))
    if kind == "callout-output":
        return f'<div class="sf-callout">{static(given["html"])}</div>'
    if kind == "radio" and given.get("initial-value") is None:
        options = "".join(f"<li>{html.escape(str(option))}</li>" for option in given["options"])
        return f'<div class="sf-question">{label}<ul>{options}</ul></div>'
    if kind == "button":
        return f'<p class="sf-control">{tr("In the live lesson a button starts this:")} {label}</p>'
    if kind in ("slider", "range-slider", "radio", "dropdown", "number", "switch", "checkbox"):
        value = given.get("initial-value")
        shown = ", ".join(map(str, value)) if isinstance(value, list) else str(value)
        return f'<p class="sf-control">{label}: <b>{html.escape(shown)}</b></p>'
    raise ValueError(f"the element marimo-{kind} has no static form: add it to sfumato/learn/export/still.py")


def tex(inner: str) -> str:
    """A formula as an element that `katex` typesets in the page; its text is the TeX."""
    parts = TEX.match(html.unescape(inner))
    opening, formula = (parts[1], parts[2]) if parts else ("(", html.unescape(inner))
    kind = "div" if opening == "[" else "span"
    return f'<{kind} class="sf-tex">{html.escape(formula.strip())}</{kind}>'


def _figure(model: str) -> str:
    """A widget with all that it was given, as its module in the page reads it; nothing for a training to watch."""
    from sfumato.learn import widgets

    made = widgets.made(model)
    if isinstance(made, widgets.Live):
        return ""  # shows what a button starts
    traits = {name: made.get_state(name)[name] for name in made.trait_names(sync=True) if not name.startswith("_")}
    plain = {name: value for name, value in traits.items() if isinstance(value, (str, int, float, list, dict, bool))}
    return figure(widgets.module(made), plain)


def figure(module: str, traits: dict[str, Any]) -> str:
    """A figure as an element for the module widgets/MODULE.js."""
    data = json.dumps(traits).replace("</", "<\\/")
    return f'<div class="sf-widget" data-module="{module}"><script type="application/json">{data}</script></div>'


# ---------------------------------------------------------------- what `story` writes instead


def folded(title: str, inner: str) -> str:
    """HTML folded under a title."""
    return f"<details><summary>{title}</summary>{inner}</details>"


NAVIGATION = re.compile(r"<p>[^<]* (?:<a href=\"/[^>]*>[^<]*</a>\s*)+</p>")
"""A row of `story.links` that leads to other pages of the server."""
HREF = re.compile(r'<a\b[^>]*?href="(/[^"#]*)(#[^"]*)?"[^>]*>(.*?)</a>', re.DOTALL)


def relinked(text: str, links: Links) -> str:
    """HTML whose links to the server lead to what was written; what was not written is text without a link."""

    text = text if links else NAVIGATION.sub("", text)

    def lead(found: re.Match[str]) -> str:
        if found[1] not in links:
            return found[3]
        return f'<a href="{links[found[1]]}{found[2] or ""}">{found[3]}</a>'

    return HREF.sub(lead, text)
