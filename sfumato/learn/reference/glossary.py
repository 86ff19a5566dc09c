"""Every word of the path, what it means, and the lesson that explains it; `scripts/write_reference.py` prints it."""

from __future__ import annotations

from typing import NamedTuple

from sfumato.learn.catalogue import lesson


class Term(NamedTuple):
    """A word, its meaning in a sentence, and the name of the lesson that explains it."""

    word: str
    meaning: str
    lesson: str


TERMS = (
    Term("adaptive group normalisation (AdaGN)", "group norm whose scale and shift are computed from the noise level and the class", "adm"),
    Term("ancestral sampling", "drawing each state of a Markov chain from the one before; DDPM's algorithm 2", "first_picture"),
    Term("annealed Langevin dynamics", "Langevin steps at a sequence of falling noise levels", "ncsn"),
    Term("autoregressive order", "coarse features are fixed at high noise, details at low noise", "ddpm"),
    Term("binomial diffusion", "a forward process on bits, each of which is replaced by a coin flip with some probability", "bits"),
    Term("bits/dim", "negative log likelihood in bits, over the number of values of a picture", "score_sde"),
    Term("change of variables", "how a density changes under an invertible map; for an ODE, by the divergence along the path", "score_sde"),
    Term("classifier guidance", "adding the gradient of a noisy classifier's log probability to the score", "adm"),
    Term("classifier-free guidance", "extrapolating from an unconditional to a conditional prediction of one network", "adm"),
    Term("conditional mean", r"$\mathbb{E}[x_0 \mid x]$, what the best denoiser in squared error returns", "noise"),
    Term("consistency (of DDIM)", "the same noise gives nearly the same picture for any number of steps", "ddim"),
    Term("continuity equation", "how a density moves with points that follow an ODE", "score_sde"),
    Term("copies", "samples that are nearer to a training picture than chance explains; memorisation", "measuring"),
    Term("corrector", "Langevin steps at one noise level, after a predictor's step", "score_sde"),
    Term("cosine schedule", "Improved DDPM's schedule, given by the signal that is left", "iddpm"),
    Term("denoiser", "a function that estimates clean data from noisy data", "noise"),
    Term("denoising score matching", "regression on the score of the noise that was added; its minimum is the score of noisy data", "ncsn"),
    Term("dequantisation", "adding noise to bytes so that they have a density", "score_sde"),
    Term("diffusion coefficient, drift", r"$g$ and $f$ of the SDE $dx = f\,dt + g\,dw$", "score_sde"),
    Term("discrete decoder", "the probability of each byte from a Gaussian over its bin; the last term of DDPM's bound", "ddpm"),
    Term("ELBO, variational bound", "a lower bound on the log likelihood, a sum of KL divergences over levels", "ddpm"),
    Term("EMA", "exponential moving average of the weights, used for sampling", "ncsnv2"),
    Term("encoding, inversion", "following a deterministic sampler from a picture to its noise", "ddim"),
    Term("epsilon-, x0-, v-prediction", "what the network's output means; each gives the others at a known level", "noise"),
    Term("eta", "the share of DDPM's noise in a DDIM step: 0 is deterministic, 1 ancestral", "ddim"),
    Term("fidelity and diversity", "how real samples look, and how much of the data they cover", "adm"),
    Term("floor", "what a measure says of real data against real data", "measuring"),
    Term("Fokker-Planck equation", "how the density of an SDE's points changes in time", "score_sde"),
    Term("forward process", "the fixed chain or SDE that turns data into noise", "ddpm"),
    Term("Fréchet distance, FID", "squared Wasserstein-2 distance of Gaussians fitted to features; FID with Inception's", "measuring"),
    Term("guidance scale", "how strongly a condition is enforced; 1 is Bayes' rule, Ho and Salimans' $1 + w$", "adm"),
    Term("Hutchinson's estimator", r"a trace from random probes $v$, $\operatorname{tr} A = \mathbb{E}[v^\top A\,v]$", "score_sde"),
    Term("hybrid loss", "the simple loss for the mean plus a little of the bound for the variance", "iddpm"),
    Term("importance sampling (of levels)", "drawing levels in proportion to the size of their losses", "iddpm"),
    Term("inpainting", "sampling the unknown part of a picture given the known one", "spiral"),
    Term("Jensen's inequality", "the log of a mean is at least the mean of the log; where bounds come from", "bits"),
    Term("kernel (of a sampler)", "one step from level $t$ to level $s$: a distribution of $x_s$ for each $x_t$", "capstone"),
    Term("kernel distance, KID", "unbiased squared maximum mean discrepancy between features", "measuring"),
    Term("KL divergence", "the mean log ratio of two densities; 0 only where they are equal", "ddpm"),
    Term("Langevin dynamics", "steps along the score with noise, whose stationary law is the density", "ncsn"),
    Term("latent", "the noise that a deterministic sampler starts from, or arrives at", "ddim"),
    Term("level, noise level, timestep", "the index $t$ of how much noise there is; one thing under three names", "first_picture"),
    Term("likelihood", "the density that a model gives to data", "score_sde"),
    Term("manifold hypothesis", "data fill a thin surface in the space of all pictures, off which their score is not defined", "ncsn"),
    Term("marginal", r"the distribution of $x_t$ alone, $q(x_t)$ or $q(x_t \mid x_0)$", "ddpm"),
    Term("Markov chain", "a sequence whose next state depends on the present one only", "first_picture"),
    Term("mode", "a region of high density", "ncsn"),
    Term("noise schedule", r"$\alpha$ and $\sigma$ of every level, or $\beta$", "iddpm"),
    Term("non-Markovian process", "DDIM's forward process, whose steps depend on the clean data", "ddim"),
    Term("ODE sampler", "a deterministic sampler that integrates the probability flow", "score_sde"),
    Term("posterior (of a step)", r"$q(x_s \mid x_t, x_0)$, the reverse step if the data were known", "ddpm"),
    Term("precision, recall", "shares of samples among real data, and of real data among samples", "measuring"),
    Term("predictor", "a step down in noise level, before correctors", "score_sde"),
    Term("prior", r"the distribution that sampling starts from, $N(0, I)$ or $N(0, \sigma_\text{max}^2 I)$", "ddpm"),
    Term("probability flow", "the ODE whose points have the same marginals as the SDE", "score_sde"),
    Term("reparameterisation", "writing a random variable as a function of parameters and of noise without them", "ddpm"),
    Term("respacing", "a shorter chain with the same marginals at the levels that are kept", "iddpm"),
    Term("reverse process", "the learned chain or SDE from noise to data", "ddpm"),
    Term("reverse SDE", "the SDE that runs from noise to data and needs only the score", "score_sde"),
    Term("score", "the gradient of the log density with respect to the data", "noise"),
    Term("score matching", "fitting a score without knowing the density, by integration by parts", "ncsn"),
    Term("sigma", "standard deviation of the noise in noisy data", "noise"),
    Term("signal-to-noise ratio (SNR)", r"$\alpha^2/\sigma^2$ at a level", "iddpm"),
    Term("simple loss", "mean squared error of the predicted noise, every level weighed alike", "ddpm"),
    Term("sliced score matching", "score matching along random directions", "ncsn"),
    Term("stationary law", "a distribution that a chain's steps leave as it is", "ncsn"),
    Term("stochastic differential equation (SDE)", r"$dx = f\,dt + g\,dw$, the limit of many small noisy steps", "score_sde"),
    Term("stop-gradient", "a value that is passed on while its gradient is 0", "iddpm"),
    Term("sub-VP", r"VP\'s drift with less noise, $\sigma = 1 - \alpha^2$", "score_sde"),
    Term("trajectory", "the states of one sample from noise to data", "first_picture"),
    Term("Tweedie's formula", "the conditional mean from the score of noisy data, and the score from the mean", "noise"),
    Term("variance exploding (VE)", "noise added to data that are not scaled down; NCSN's process", "score_sde"),
    Term("variance preserving (VP)", r"noise in exchange for signal, $\alpha^2 + \sigma^2 = 1$; DDPM's process", "score_sde"),
    Term("velocity", r"$dx/dt$ of the probability flow", "score_sde"),
    Term("Wasserstein distance", "the least mean cost of moving one distribution to another", "measuring"),
    Term("weights of levels, lambda", "how much each noise level counts in the loss", "ncsn"),
)  # fmt: skip


def page(lessons: bool = True) -> str:
    """The page as Markdown; with links to the lessons where it is shown beside them."""
    head = (
        "# All words\n\nWhat each means in this field, and the lesson that explains it. Formulas: "
        + ("[all formulas](/lesson/formulas/)" if lessons else "[formulas.md](formulas.md)")
        + "; symbols, and names in codes: "
        + ("docs/notation.md" if lessons else "[notation.md](notation.md)")
        + ".\n\n| word | meaning | lesson |\n|:--|:--|:--|\n"
    )
    return head + "\n".join(f"| {t.word} | {t.meaning} | {_where(t.lesson, lessons)} |" for t in TERMS) + "\n"


def _where(name: str, lessons: bool) -> str:
    known = lesson(name)
    words = f"{known.number}. {known.title}"
    return f"[{words}](/lesson/{name}/)" if lessons else words
