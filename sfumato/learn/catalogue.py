"""The lessons in their order, and the pages beside them."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from sfumato.learn import programs
from sfumato.learn.exercises import Exercise


@dataclass(frozen=True)
class Lesson:
    """One lesson: the notebook lessons/NAME.py, the exercises of checks/NAME.py, the program of programs/NAME.py.

    Attributes:
        number: its place on the path.
        name: of its files, and in its address.
        title, about: what the catalogue says.
        papers: (title, number on arXiv) of what it is about.
        code: the files of the package that hold it.
    """

    number: int
    name: str
    title: str
    about: str
    papers: tuple[tuple[str, str], ...] = ()
    code: tuple[str, ...] = ()

    @property
    def path(self) -> Path:
        """The notebook."""
        return Path(__file__).parent / "lessons" / f"{self.name}.py"

    @property
    def exercises(self) -> tuple[Exercise, ...]:
        """Its exercises, in order."""
        found: tuple[Exercise, ...] = import_module(f"sfumato.learn.checks.{self.name}").EXERCISES
        return found

    @property
    def program(self) -> Exercise | None:
        """Its programming task, of programs/NAME.py, if it has one."""
        return programs.of(self.name)

    @property
    def tasks(self) -> tuple[Exercise, ...]:
        """Exercises and programming task: everything that can be solved in it."""
        return self.exercises + ((self.program,) if self.program else ())


CATALOGUE = (
    Lesson(0, "first_picture", "Your first picture",
           "Six pictures come out of noise: the whole path in one minute.",
           (),
           ("core/sampling.py", "core/schedules.py")),
    Lesson(1, "noise", "Noise, denoiser, score",
           "Three words for one thing: drag a noisy point, and see where it may have come from.",
           (("EDM: elucidating the design space", "2206.00364"),),
           ("core/denoisers.py", "core/exact.py")),
    Lesson(2, "bits", "Where it began: noise that can be undone",
           "DPM (2015) on twenty bits: destroy slowly, learn to undo, and know how well.",
           (("DPM: nonequilibrium thermodynamics", "1503.03585"),),
           ("core/dpm2015/binomial.py", "core/dpm2015/nonequilibrium.py")),
    Lesson(3, "spiral", "Numbers instead of bits, and filling in what is missing",
           "DPM (2015) on a swiss roll: a model can be multiplied by anything you know.",
           (("DPM: nonequilibrium thermodynamics", "1503.03585"),),
           ("core/dpm2015/products.py", "papers/dpm.py")),
    Lesson(4, "ncsn", "NCSN: follow the slope, from much noise to little",
           "Learn which way data become more likely, then go there: Langevin dynamics, and why it is annealed.",
           (("NCSN: gradients of the data distribution", "1907.05600"), ("Sliced score matching", "1905.07088")),
           ("core/matching.py", "samplers/langevin.py", "papers/ncsn.py")),
    Lesson(5, "ncsnv2", "NCSNv2: how much noise, and how many levels",
           "Five techniques; three of them are numbers computed from the data instead of guessed.",
           (("NCSNv2: improved techniques", "2006.09011"),),
           ("core/techniques.py", "papers/ncsnv2.py")),
    Lesson(6, "ddpm", "DDPM: ask for the noise",
           "One question and one simple loss; what the chain decides when.",
           (("DDPM", "2006.11239"),),
           ("core/processes.py", "core/losses.py", "samplers/ancestral.py", "papers/ddpm.py")),
    Lesson(7, "ddim", "DDIM: the same pictures in fewer steps",
           "Fewer steps through the same network; noise as a code for pictures.",
           (("DDIM", "2010.02502"),),
           ("samplers/ddim.py",)),
    Lesson(8, "iddpm", "Improved DDPM: how to spend the noise",
           "How fast noise grows, the variance of a reverse step, and which levels to keep.",
           (("Improved DDPM", "2102.09672"),),
           ("core/betas.py", "core/variances.py", "core/times.py", "papers/iddpm.py")),
    Lesson(9, "score_sde", "Score-SDE: one equation for all of it",
           "Noise in continuous time, an ODE without noise, and how likely a picture is.",
           (("Score-SDE", "2011.13456"),),
           ("core/continuous.py", "core/ode.py", "core/likelihood.py", "samplers/reverse_sde.py",
            "papers/score_sde.py")),
    Lesson(10, "adm", "ADM: asking for what you want",
           "Guidance to a class at every step: fidelity against diversity, with a classifier and without.",
           (("ADM: diffusion models beat GANs", "2105.05233"), ("Classifier-free guidance", "2207.12598")),
           ("core/guidance.py", "papers/adm.py")),
    Lesson(11, "measuring", "Measuring honestly",
           "What a distance says and does not say; error bars, floors and copies.",
           (("FID", "1706.08500"), ("KID", "1801.01401"), ("Precision and recall", "1904.06991")),
           ("evaluate/distances.py", "evaluate/neighbours.py")),
    Lesson(12, "capstone", "One core, eight papers, and yours",
           "All of them side by side, and a ninth sampler of your own.",
           (),
           ("core/sampling.py", "samplers/__init__.py")),
    Lesson(13, "edm", "Fast solvers and EDM: ten evaluations instead of fifty",
           "Orders, grids and memory of an ODE solver; a network whose input and target are always of unit variance.",
           (("DPM-Solver++", "2211.01095"), ("EDM: elucidating the design space", "2206.00364")),
           ("samplers/dpm_solver.py", "samplers/grids.py", "samplers/heun.py", "core/denoisers.py", "papers/edm.py")),
    Lesson(14, "flow", "Flow matching: straight lines from noise to data",
           "Lines between noises and pictures: what their mean is, why it bends, and how it is made straight.",
           (("Flow matching", "2210.02747"), ("Rectified flow", "2209.03003"), ("SiT", "2401.08740"),
            ("Stable Diffusion 3", "2403.03206")),
           ("core/continuous.py", "core/pairing.py", "core/reflow.py", "samplers/sit.py",
            "papers/flow_matching.py")),
    Lesson(15, "few_steps", "Few steps: distillation, consistency, mean flows",
           "Functions that say where a path ends, instead of the mean of what may be there: one or two evaluations.",
           (("Progressive distillation", "2202.00512"), ("Consistency models", "2303.01469"),
            ("Consistency tuning", "2406.14548"), ("Mean flows", "2505.13447")),
           ("core/distillation.py", "core/mean_flow.py", "samplers/consistency.py", "papers/consistency.py",
            "papers/mean_flow.py")),
    Lesson(16, "inverse", "Inverse problems: pictures from what was seen of them",
           "Missing, blurred or small: draws from the posterior by a model that was not told of it, and how exact.",
           (("RePaint", "2201.09865"), ("DPS: diffusion posterior sampling", "2209.14687"),
            ("MMPS: moment matching posterior sampling", "2405.13712")),
           ("inverse/posterior.py", "inverse/derivatives.py", "inverse/replacing.py", "inverse/operators.py")),
    Lesson(17, "latents", "Latents, cascades, ControlNet and DiT: larger pictures",
           "What diffusion runs on, what it is told, and which network it is, beyond 32 pixels.",
           (("Latent diffusion", "2112.10752"), ("Cascaded diffusion models", "2106.15282"),
            ("ControlNet", "2302.05543"), ("DiT", "2212.09748")),
           ("networks/autoencoder.py", "models/cascade.py", "networks/control.py", "networks/dit.py",
            "networks/tokens.py")),
)  # fmt: skip


@dataclass(frozen=True)
class Reference:
    """A page to look things up in: the notebook lessons/NAME.py.

    Attributes:
        name: of its file, and in its address.
        title, about: what the catalogue says.
    """

    name: str
    title: str
    about: str

    @property
    def path(self) -> Path:
        """The notebook."""
        return Path(__file__).parent / "lessons" / f"{self.name}.py"


REFERENCE = (
    Reference("formulas", "All formulas", "In one notation, with each paper's symbols beside them."),
    Reference("glossary", "All words", "What each word means, and where the path explains it."),
)


def code(path: str) -> str | None:
    """The text of a file of the package that a lesson links to, by its path in the package; None for any other."""
    if path not in {file for known in CATALOGUE for file in known.code}:
        return None
    return (Path(__file__).parents[1] / path).read_text(encoding="utf-8")


def lesson(name: str) -> Lesson:
    """The lesson of that name or number; ValueError lists the known ones."""
    for known in CATALOGUE:
        if name in (known.name, str(known.number)):
            return known
    raise ValueError(f"no lesson is called {name!r}; there are: {', '.join(known.name for known in CATALOGUE)}")


def exercise(key: str) -> Exercise:
    """The exercise or programming task of that key; ValueError where there is none."""
    found = {task.key: task for known in CATALOGUE if known.name == key.partition(".")[0] for task in known.tasks}
    if key not in found:
        raise ValueError(f"no exercise is called {key!r}")
    return found[key]
