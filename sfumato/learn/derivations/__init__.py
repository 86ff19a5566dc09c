"""The derivations of the lessons, one module a lesson, in the notation of docs/notation.md with the papers' equation numbers.

alpha_t and sigma_t are those of x_t = alpha_t x_0 + sigma_t eps throughout; alpha_t^2 is DDPM's alpha-bar. What the texts
state in formulas is evaluated in tests/learn/test_derivations.py, one test a key.
"""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module


@dataclass(frozen=True)
class Derivation:
    """A derivation or an algorithm of a paper, as a lesson folds it.

    Attributes:
        key: LESSON.NAME, its anchor in the page and its test.
        title: what is derived.
        source: the paper and its equations.
        text: Markdown with TeX.
    """

    key: str
    title: str
    source: str
    text: str

    @property
    def anchor(self) -> str:
        """The id of its element in the lesson."""
        return self.key.replace(".", "-")


def of(lesson: str) -> tuple[Derivation, ...]:
    """The derivations of a lesson, in order; ModuleNotFoundError for an unknown one."""
    found: tuple[Derivation, ...] = import_module(f"sfumato.learn.derivations.{lesson}").DERIVATIONS
    return found
