"""The entries of a comparison: the small preset of every paper, and the samplers that each is judged with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sfumato import samplers
from sfumato.papers.presets import PRESETS

NUMBERS = (5, 10, 20, 50, 100, 250, 1000)
"""Network evaluations a picture at which every entry is scored."""


@dataclass(frozen=True)
class Entry:
    """A model and one way to sample it.

    Attributes:
        preset: of the model, PAPER/DATA with an ending perhaps.
        how: the sampler in words.
        sampler: its spec; "own" is the paper's.
        per_step: network evaluations that one of its steps costs.
        saved: how many fewer a whole trajectory costs: Heun's last step is one of Euler's.
        scale: of classifier-free guidance.
        classifier: preset of the classifier that guides, with its scale; empty for none.
    """

    preset: str
    how: str
    sampler: str = "own"
    per_step: int = 1
    saved: int = 0
    scale: float = 1.0
    classifier: str = ""
    classifier_scale: float = 1.0

    @property
    def name(self) -> str:
        """As the results call it."""
        return f"{self.preset}, {self.how}"

    def steps(self, evaluations: int) -> int:
        """How many steps so many evaluations allow; 0 where they do not suffice for one."""
        return (evaluations + self.saved) // self.per_step if evaluations >= self.per_step else 0


def _with_heun(preset: str, own: Entry) -> tuple[Entry, ...]:
    return own, Entry(preset, "ODE by Heun", "heun", per_step=2, saved=1)


WAYS: tuple[tuple[str, Callable[[str], tuple[Entry, ...]]], ...] = (
    ("dpm/{}", lambda p: (Entry(p, "ancestral"),)),
    ("ncsn/{}", lambda p: (Entry(p, "annealed Langevin"),)),
    ("ncsnv2/{}", lambda p: (Entry(p, "annealed Langevin, denoised"),)),
    ("ddpm/{}", lambda p: (Entry(p, "ancestral"), Entry(p, "DDIM", "ddim"))),
    ("iddpm/{}", lambda p: (Entry(p, "ancestral, learned variance"),)),
    ("score_sde/{}-ve", lambda p: _with_heun(p, Entry(p, "predictor-corrector", per_step=2))),
    ("score_sde/{}", lambda p: _with_heun(p, Entry(p, "reverse diffusion"))),
    ("score_sde/{}-subvp", lambda p: _with_heun(p, Entry(p, "Euler-Maruyama"))),
    ("adm/{}", lambda p: (
        Entry(p, "ancestral, labels"),
        Entry(p, "classifier guidance 1", classifier=p.replace("adm/", "adm_classifier/")),
        Entry(p, "classifier-free guidance 2", per_step=2, scale=2.0))),
)  # fmt: skip
"""In the order of the papers."""


def entries(data: str, sampler: str = "") -> tuple[Entry, ...]:
    """Those of a data set, and where a sampler's spec is given each model by it besides.

    ValueError where there is no preset for the data, or no such sampler.
    """
    found = [one for pattern, ways in WAYS if (name := pattern.format(data)) in PRESETS for one in ways(name)]
    if not found:
        known = sorted({name.partition("/")[2] for name in PRESETS if name.startswith("ncsn/")})
        raise ValueError(f"no presets of all papers for {data!r}; there are for {', '.join(known)}")
    if sampler:
        cost, done = samplers.by_name(sampler).evaluations, {(one.preset, one.sampler) for one in found}
        models = dict.fromkeys(one.preset for one in found)
        found += [Entry(name, sampler, sampler, cost) for name in models if (name, sampler) not in done]
    return tuple(found)


def presets(data: str) -> tuple[str, ...]:
    """Every model to train, classifiers included, each once."""
    every = [name for one in entries(data) for name in (one.preset, one.classifier) if name]
    return tuple(dict.fromkeys(every))


def makes_pictures(preset: str) -> bool:
    """Whether it is no classifier."""
    return PRESETS[preset].recipe.build().sampler is not None
