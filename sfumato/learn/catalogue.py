"""The lessons in their order."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from sfumato.learn.exercises import Exercise


@dataclass(frozen=True)
class Lesson:
    """One lesson: the notebook lessons/NAME.py and the exercises of checks/NAME.py.

    Attributes:
        number: its place on the path.
        name: of its files, and in its address.
        title, about: what the catalogue says.
    """

    number: int
    name: str
    title: str
    about: str

    @property
    def path(self) -> Path:
        """The notebook."""
        return Path(__file__).parent / "lessons" / f"{self.name}.py"

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """Its exercises, in order."""
        found: tuple[Exercise, ...] = import_module(f"sfumato.learn.checks.{self.name}").EXERCISES
        return found


CATALOGUE = (
    Lesson(0, "first_picture", "Your first picture",
           "Six pictures come out of noise: the whole path in one minute."),
    Lesson(1, "noise", "Noise, denoiser, score",
           "Three words for one thing: drag a noisy point, and see where it may have come from."),
    Lesson(2, "bits", "Where it began: noise that can be undone",
           "DPM (2015) on twenty bits: destroy slowly, learn to undo, and know how well."),
    Lesson(3, "spiral", "Numbers instead of bits, and filling in what is missing",
           "DPM (2015) on a swiss roll: a model can be multiplied by anything you know."),
    Lesson(4, "ncsn", "NCSN: follow the slope, from much noise to little",
           "Learn which way data become more likely, then go there: Langevin dynamics, and why it is annealed."),
    Lesson(5, "ncsnv2", "NCSNv2: how much noise, and how many levels",
           "Five techniques; three of them are numbers computed from the data instead of guessed."),
    Lesson(6, "ddpm", "DDPM: ask for the noise",
           "One question and one simple loss; what the chain decides when."),
    Lesson(7, "ddim", "DDIM: the same pictures in fewer steps",
           "Fewer steps through the same network; noise as a code for pictures."),
    Lesson(8, "iddpm", "Improved DDPM: how to spend the noise",
           "How fast noise grows, the variance of a reverse step, and which levels to keep."),
    Lesson(9, "score_sde", "Score-SDE: one equation for all of it",
           "Noise in continuous time, an ODE without noise, and how likely a picture is."),
    Lesson(10, "adm", "ADM: asking for what you want",
           "Guidance to a class at every step: fidelity against diversity, with a classifier and without."),
    Lesson(11, "measuring", "Measuring honestly",
           "What a distance says and does not say; error bars, floors and copies."),
    Lesson(12, "capstone", "One core, eight papers, and yours",
           "All of them side by side, and a ninth sampler of your own."),
)  # fmt: skip


def lesson(name: str) -> Lesson:
    """The lesson of that name or number; ValueError lists the known ones."""
    for known in CATALOGUE:
        if name in (known.name, str(known.number)):
            return known
    raise ValueError(f"no lesson is called {name!r}; there are: {', '.join(known.name for known in CATALOGUE)}")
