"""Finds the messages of the learning path in the syntax trees of its files, for `scripts/messages.py`."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from sfumato.learn import languages

CODE = re.compile(r"```.*?```|`[^`\n]+`", re.DOTALL)
FORMULA = re.compile(r"\$\$.+?\$\$|\$[^$]+\$", re.DOTALL)

TEXTS: dict[str, tuple[int | str, ...]] = {
    "tr": (0,), "md": (0,), "story.md": (0,), "story.source": (1, "equation"), "story.predict": (1, "question"),
    "story.measured": (1, 2), "Exercise": (1, 2, "title", "task"), "Derivation": (1, 2, 3), "Lesson": (2, 3),
    "Reference": (1, 2), "Plan": (1, 3), "Term": (0, 1), "Formula": (0, 2), "AssertionError": (0,),
}  # fmt: skip
"""Call -> its arguments that are messages."""
WHOLE: dict[str, tuple[int | str, ...]] = {
    "story.notation": (0,), "story.quiz": (0,), "story.predict": (2,), "Exercise": ("hints",), "Plan": (4,),
}  # fmt: skip
"""Call -> its arguments in which every string is a message."""
NAMED = ("Scrubber.of", "Frames.of", "figures.scrubber", "figures.frames")
"""Calls whose first argument has messages as its keys."""


@dataclass
class Found:
    """The messages of some files, in order: text -> the files that hold it, and which of them are format strings."""

    places: dict[str, list[str]] = field(default_factory=dict)
    formats: set[str] = field(default_factory=set)
    problems: list[str] = field(default_factory=list)

    def add(self, text: str, file: str, formatted: bool) -> None:
        """A message; nothing where there is no word in it."""
        text = languages.normal(text)
        if not words(text):
            return
        held = self.places.setdefault(text, [])
        if file not in held:
            held.append(file)
        if formatted:
            self.formats.add(text)


def plain(text: str) -> str:
    """A text without its formulas and code."""
    return FORMULA.sub(" ", CODE.sub(" ", text))


def words(text: str) -> bool:
    """Whether there is anything to translate beside formulas and code."""
    return bool(re.search(r"[^\W\d_]{2}", plain(re.sub(r"\{\w+[^{}]*\}", "", text))))


class Finder(ast.NodeVisitor):
    """Finds the messages of a Python file."""

    def __init__(self, file: str, tree: ast.Module, found: Found) -> None:
        self.file, self.found = file, found
        self.constants = {
            target.id: node.value
            for node in tree.body if isinstance(node, ast.Assign)
            for target in node.targets if isinstance(target, ast.Name)
        }  # fmt: skip
        self.checks = file.startswith(("checks/", "programs/"))
        self.visit(tree)

    def text(self, node: ast.expr, formatted: bool = False) -> None:
        """The messages that an argument is."""
        if isinstance(node, ast.Name) and node.id in self.constants:
            node = self.constants[node.id]
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            self.found.add(node.value, self.file, formatted)
        elif isinstance(node, ast.JoinedStr):
            self.problem(node, "an f-string: name its values, tr(text, name=value)")
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            parts = (node.left, node.right)
            if any(isinstance(part, (ast.Constant, ast.JoinedStr)) for part in parts):
                self.problem(node, "a text put together by +: make one message with named values")
        elif isinstance(node, (ast.BoolOp, ast.IfExp)):
            for part in node.values if isinstance(node, ast.BoolOp) else (node.body, node.orelse):
                self.text(part, formatted)

    def problem(self, node: ast.AST, what: str) -> None:
        """Something that cannot be translated as it stands."""
        self.found.problems.append(f"{self.file}:{getattr(node, 'lineno', 0)}: {what}")

    def visit_Call(self, node: ast.Call) -> None:
        name = ast.unparse(node.func) if isinstance(node.func, (ast.Name, ast.Attribute)) else ""
        formatted = name in ("tr", "md", "story.md") and bool(node.keywords)
        for argument in _arguments(node, TEXTS.get(name, ())):
            self.text(argument, formatted)
        for argument in _arguments(node, WHOLE.get(name, ())):
            for part in ast.walk(argument):
                if isinstance(part, (ast.Constant, ast.JoinedStr)) and not _inside(part, argument):
                    self.text(part)
        if name in NAMED and node.args:
            for part in ast.walk(node.args[0]):
                keys = part.keys if isinstance(part, ast.Dict) else [part.key] if isinstance(part, ast.DictComp) else []
                for key in keys:
                    if key is not None:
                        self.text(key)
        if (
            name == "mo.md"
            and self.file.startswith("lessons/")
            and node.args
            and isinstance(node.args[0], (ast.Constant, ast.JoinedStr, ast.BinOp))
        ):
            self.problem(node, "mo.md: use story.md, with named values")
        if name.startswith("mo.ui.") or name == "Live":
            for given in node.keywords:
                if given.arg in ("label", "words") and isinstance(given.value, (ast.Constant, ast.JoinedStr)):
                    self.problem(node, f"{given.arg}: use tr")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        self._assigned(node.targets, node.value)
        self.generic_visit(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        self._assigned([node.target], node.value)
        self.generic_visit(node)

    def _assigned(self, targets: list[ast.expr], value: ast.expr | None) -> None:
        """The messages in tables that have no call around them."""
        names = {target.id for target in targets if isinstance(target, ast.Name)}
        if names & {"SECTIONS", "NOTES"} and isinstance(value, ast.Dict):
            for key, held in zip(value.keys, value.values, strict=True):
                if "SECTIONS" in names and key is not None:
                    self.text(key)
                elif isinstance(held, ast.Tuple):
                    for part in held.elts:
                        self.text(part)
        if "guesses" in names and value is not None:
            for part in ast.walk(value):
                if isinstance(part, (ast.Constant, ast.JoinedStr)) and not _inside(part, value):
                    self.text(part)

    def visit_Assert(self, node: ast.Assert) -> None:
        if self.checks and node.msg is not None:
            self.text(node.msg)
        self.generic_visit(node)


def _arguments(node: ast.Call, which: Iterable[int | str]) -> Iterator[ast.expr]:
    for place in which:
        if isinstance(place, int) and place < len(node.args):
            yield node.args[place]
        yield from (given.value for given in node.keywords if given.arg == place)


def _inside(part: ast.AST, whole: ast.expr) -> bool:
    """Whether a string is a part of an f-string or of a call, which is looked at by itself."""
    outer = [node for node in ast.walk(whole) if isinstance(node, (ast.JoinedStr, ast.Call)) and node is not part]
    return any(part is inner for node in outer for inner in ast.walk(node))
