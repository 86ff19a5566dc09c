"""The syllabus: hours, prerequisites, learning goals and difficulty of each lesson, listed here alone.

Hours are the authors' estimates for reading, figures, derivations and exercises; no class has been timed yet.
"""

from __future__ import annotations

from dataclasses import dataclass

from sfumato.learn.languages import tr

DIFFICULTIES = ("introductory", "intermediate", "advanced")


@dataclass(frozen=True)
class Plan:
    """What a teacher plans a lesson with.

    Attributes:
        hours: for one learner: (the lesson with its exercises, its programming task and derivations on top).
        difficulty: one of `DIFFICULTIES`.
        needs: the lessons that it builds on, by name.
        knowledge: of mathematics and programming, beside those lessons.
        goals: what a learner can do afterwards.
    """

    hours: tuple[float, float]
    difficulty: str
    needs: tuple[str, ...]
    knowledge: str
    goals: tuple[str, ...]

    @property
    def line(self) -> str:
        """Hours and difficulty in one short line."""
        first, second = self.hours
        return tr(
            "{least:g} to {most:g} hours, {difficulty}",
            least=first,
            most=first + second,
            difficulty=tr(self.difficulty),
        )


SYLLABUS: dict[str, Plan] = {
    "first_picture": Plan(
        (0.75, 0.25), "introductory", (), "Python functions; a mean and a standard deviation.",
        ("say what sampling from a diffusion model is: a chain of distributions from noise to data",
         "make a sample reproducible by its seed",
         "tell what more steps change, and what they do not")),
    "noise": Plan(
        (1.5, 1), "introductory", ("first_picture",), "Normal distributions, conditional expectation, a gradient.",
        ("draw x_t given x_0 in closed form",
         "explain why the denoiser of least squared error is the conditional mean E[x_0 | x_t]",
         "turn a denoiser into a score by Tweedie's formula, and back")),
    "bits": Plan(
        (2, 1.5), "intermediate", ("noise",), "Markov chains, Bayes' rule, Kullback-Leibler divergence.",
        ("derive the posterior q(x_{t-1} | x_t, x_0) of a chain of flipped bits",
         "state the variational bound as a sum of divergences, and compute it",
         "read a bound in bits per sequence against the entropy of the data")),
    "spiral": Plan(
        (1.5, 1), "intermediate", ("bits",), "Products of normal densities.",
        ("write the Gaussian chain of DPM (2015) and its learned reverse",
         "condition a trained model by multiplying it with a second distribution",
         "fill in missing values, and judge whether what is known stays exact")),
    "ncsn": Plan(
        (2, 1), "intermediate", ("noise",), "Gradients; that E[z^2] = 1 for z ~ N(0, 1).",
        ("explain why a score is badly known where data are rare, and how noise levels help",
         "show that denoising score matching equals score matching up to a constant",
         "write annealed Langevin dynamics with the paper's step sizes")),
    "ncsnv2": Plan(
        (1.5, 1), "advanced", ("ncsn",), "The distribution of the norm of a Gaussian vector in many dimensions.",
        ("choose the largest noise level, the ratio of levels and the step size from the data",
         "say which of the five techniques are computed and which are choices",
         "compute the variance at the end of a level in closed form")),
    "ddpm": Plan(
        (2.5, 1.5), "intermediate", ("noise", "bits"), "Kullback-Leibler divergence of two normal distributions.",
        ("go from the variational bound to the simple loss, and name the weights that are dropped",
         "convert between predictions of eps, x_0, v and the score",
         "find an off-by-one error in alpha-bar from what it does to samples")),
    "ddim": Plan(
        (1.5, 1), "intermediate", ("ddpm",), "An ordinary differential equation and Euler's method.",
        ("explain why one trained network fits a whole family of samplers",
         "write a DDIM step for any eta and any pair of levels",
         "encode a picture as noise and decode it, and say what the error depends on")),
    "iddpm": Plan(
        (1.5, 0.5), "intermediate", ("ddpm",), "Variance of an estimate; importance sampling helps.",
        ("compare noise schedules by the signal that is left",
         "place a learned variance between its two bounds, and say what it is good for",
         "respace a chain so that alpha-bar agrees at the levels that are kept")),
    "score_sde": Plan(
        (2.5, 1.5), "advanced", ("ncsn", "ddpm", "ddim"), "Stochastic differential equations as limits of small steps.",
        ("write the forward and the reverse SDE, and the probability-flow ODE with the same marginals",
         "tell VE, VP and sub-VP apart by their variances",
         "compute a log-likelihood along the ODE, and name its sources of error")),
    "adm": Plan(
        (1.5, 0.5), "intermediate", ("ddpm", "ddim"), "Bayes' rule for densities; softmax.",
        ("derive the guided prediction from the gradient of log p(y | x_t)",
         "show the trade of fidelity against diversity with numbers",
         "state classifier-free guidance in both of its scale conventions")),
    "measuring": Plan(
        (2, 0.5), "intermediate", ("first_picture",), "Means, covariances, the bootstrap.",
        ("compute the Fréchet distance of two normal distributions, and say what it cannot see",
         "give every comparison of models an error bar and a floor",
         "tell copies of the training data from samples")),
    "capstone": Plan(
        (2, 2), "advanced", ("ncsnv2", "ddim", "iddpm", "score_sde", "adm", "measuring"), "All of the above.",
        ("place the eight papers in one table of process, target and sampler",
         "compare samplers at equal cost",
         "write a sampler that passes the library's own conformance tests")),
    "edm": Plan(
        (2, 1.5), "advanced", ("ddim", "score_sde"), "Order of convergence; Taylor expansion.",
        ("measure the order of a solver, and say at how few steps it stops to matter",
         "derive a second-order multistep solver from the exponential form of the ODE",
         "derive EDM's preconditioning from unit variance of input and target")),
    "flow": Plan(
        (2, 1.5), "advanced", ("noise", "score_sde"),
        "The chain rule; conditional expectation; the continuity equation.",
        ("show that regression on single lines learns the velocity of the marginal path",
         "read data, noise and score from a velocity, and say which weight its loss puts on the levels",
         "explain why paths bend, and what reflow and optimal pairs change")),
    "few_steps": Plan(
        (2, 1.5), "advanced", ("ddim", "edm", "flow"), "The total derivative along a path; Jacobian-vector products.",
        ("derive the target of a distilled student from two steps of its teacher",
         "write the consistency function and the average velocity of Gaussian data",
         "say what each kind of training needs, and what a model of few steps gives up")),
    "inverse": Plan(
        (2, 1.5), "advanced", ("noise", "score_sde", "adm"),
        "Conditioning of Gaussians; the transpose of a linear map.",
        ("say which term of the posterior's score a trained model does not know",
         "derive the posterior mean with Tweedie's covariance, and what PiGDM and DPS leave out of it",
         "show by two correlated Gaussians that replacement is biased with any number of steps")),
    "latents": Plan(
        (2, 1.5), "advanced", ("ddpm", "adm"), "Principal components; backpropagation; attention.",
        ("say what an autoencoder costs every sample, and why latents are scaled",
         "show that shrinking by k divides the noise by k, and what it means for schedules and cascades",
         "compute the first gradients of a zero convolution, and of the copy behind it")),
}  # fmt: skip
"""Lesson -> its plan."""


def plan(name: str) -> Plan | None:
    """The plan of a lesson; None where there is none yet."""
    return SYLLABUS.get(name)
