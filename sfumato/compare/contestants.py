"""Who takes part: the small preset of every paper, and the samplers that each is judged with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sfumato import lenses
from sfumato.model import Sampler, ancestral, ddim_sampler
from sfumato.papers.recipe import Classifying
from sfumato.presets import PRESETS

NUMBERS = (5, 10, 20, 50, 100, 250, 1000)
"""Network evaluations a picture at which every contestant is scored."""


@dataclass(frozen=True)
class Contestant:
    """A model and one way to sample it.

    Attributes:
        preset: of the model, PAPER/DATA with an ending perhaps.
        how: the sampler in words.
        sampler: what walks.
        per_step: network evaluations that one of its steps costs.
        scale: of classifier-free guidance.
        classifier: preset of the classifier that guides, with its scale; empty for none.
    """

    preset: str
    how: str
    sampler: Sampler = ancestral
    per_step: int = 1
    scale: float = 1.0
    classifier: str = ""
    classifier_scale: float = 1.0

    @property
    def name(self) -> str:
        """As the results call it."""
        return f"{self.preset}, {self.how}"

    def steps(self, evaluations: int) -> int:
        """How many steps so many evaluations allow; 0 where they do not suffice for one."""
        return evaluations // self.per_step


WAYS: tuple[tuple[str, Callable[[str], tuple[Contestant, ...]]], ...] = (
    ("dpm/{}", lambda p: (Contestant(p, "ancestral"),)),
    ("ncsn/{}", lambda p: (Contestant(p, "annealed Langevin"),)),
    ("ncsnv2/{}", lambda p: (Contestant(p, "annealed Langevin, denoised"),)),
    ("ddpm/{}", lambda p: (Contestant(p, "ancestral"), Contestant(p, "DDIM", ddim_sampler()))),
    ("iddpm/{}", lambda p: (Contestant(p, "ancestral, learned variance"),)),
    ("score_sde/{}-ve", lambda p: (
        Contestant(p, "predictor-corrector", per_step=2), Contestant(p, "flow by Heun", lenses.heun(), per_step=2))),
    ("score_sde/{}", lambda p: (
        Contestant(p, "reverse diffusion"), Contestant(p, "flow by Heun", lenses.heun(), per_step=2))),
    ("score_sde/{}-subvp", lambda p: (
        Contestant(p, "Euler-Maruyama"), Contestant(p, "flow by Heun", lenses.heun(), per_step=2))),
    ("adm/{}", lambda p: (
        Contestant(p, "ancestral, labels"),
        Contestant(p, "classifier guidance 1", classifier=p.replace("adm/", "adm_classifier/")),
        Contestant(p, "classifier-free guidance 2", per_step=2, scale=2.0))),
)  # fmt: skip
"""In the order of the papers."""


def contestants(data: str) -> tuple[Contestant, ...]:
    """Those of a data set; ValueError where there is no preset for it."""
    found = [one for pattern, ways in WAYS if (name := pattern.format(data)) in PRESETS for one in ways(name)]
    if not found:
        known = sorted({name.partition("/")[2] for name in PRESETS if name.startswith("ncsn/")})
        raise ValueError(f"no presets of all papers for {data!r}; there are for {', '.join(known)}")
    return tuple(found)


def presets(data: str) -> tuple[str, ...]:
    """Every model to train, classifiers included, each once."""
    every = [name for one in contestants(data) for name in (one.preset, one.classifier) if name]
    return tuple(dict.fromkeys(every))


def makes_pictures(preset: str) -> bool:
    """Whether it is no classifier."""
    return not isinstance(PRESETS[preset].recipe, Classifying)
