"""Every word of the path, what it means, and the lesson that explains it; `scripts/write_reference.py` prints it."""

from __future__ import annotations

from typing import NamedTuple

from sfumato.learn.catalogue import lesson
from sfumato.learn.languages import tr


class Term(NamedTuple):
    """A word, its meaning in a sentence, and the name of the lesson that explains it."""

    word: str
    meaning: str
    lesson: str


TERMS = (
    Term("adaLN-Zero", "DiT's layer norms, whose scale, shift and gate come from noise level and class; gates of 0 make a block the identity at first", "latents"),
    Term("adaptive group normalisation (AdaGN)", "group norm whose scale and shift are computed from the noise level and the class", "adm"),
    Term("ancestral sampling", "drawing each state of a Markov chain from the one before; DDPM's algorithm 2", "first_picture"),
    Term("annealed Langevin dynamics", "Langevin steps at a sequence of falling noise levels", "ncsn"),
    Term("autoregressive order", "coarse features are fixed at high noise, details at low noise", "ddpm"),
    Term("average velocity", "the displacement along a path of a flow from one time to another, over the time between them", "few_steps"),
    Term("binomial diffusion", "a forward process on bits, each of which is replaced by a coin flip with some probability", "bits"),
    Term("bits/dim", "negative log likelihood in bits, over the number of values of a picture", "score_sde"),
    Term("cascade", "a model of small pictures, then upsamplers that are given the smaller picture", "latents"),
    Term("change of variables", "how a density changes under an invertible map; for an ODE, by the divergence along the path", "score_sde"),
    Term("churn", "EDM's stochastic sampling: the level is raised by fresh noise before each deterministic step", "edm"),
    Term("classifier guidance", "adding the gradient of a noisy classifier's log probability to the score", "adm"),
    Term("classifier-free guidance", "extrapolating from an unconditional to a conditional prediction of one network", "adm"),
    Term("conditional flow matching", "regression on the velocity of single lines, whose minimum is the velocity of the marginal path", "flow"),
    Term("conditional instance normalisation", "normalisation over the places of one picture, with a scale and a shift of each noise level", "ncsn"),
    Term("conditional mean", r"$\mathbb{E}[x_0 \mid x]$, what the best denoiser in squared error returns", "noise"),
    Term("conditioning augmentation", "noise of a known level on the input of an upsampler, in training and in sampling", "latents"),
    Term("consistency (of DDIM)", "the same noise gives nearly the same picture for any number of steps", "ddim"),
    Term("consistency model", "a network that maps each point of a path of the probability flow to its clean end, learned from itself", "few_steps"),
    Term("continuity equation", "how a density moves with points that follow an ODE", "score_sde"),
    Term("ControlNet", "a trained copy of a frozen U-Net's way down, which is given a picture and joined by zero convolutions", "latents"),
    Term("copies", "samples that are nearer to a training picture than chance explains; memorisation", "measuring"),
    Term("corrector", "Langevin steps at one noise level, after a predictor's step", "score_sde"),
    Term("cosine schedule", "Improved DDPM's schedule, given by the signal that is left", "iddpm"),
    Term("denoiser", "a function that estimates clean data from noisy data", "noise"),
    Term("denoising score matching", "regression on the score of the noise that was added; its minimum is the score of noisy data", "ncsn"),
    Term("dequantisation", "adding noise to bytes so that they have a density", "score_sde"),
    Term("diffusion coefficient, drift", r"$g$ and $f$ of the SDE $dx = f\,dt + g\,dw$", "score_sde"),
    Term("diffusion transformer (DiT)", "a transformer over the patches of a noisy picture or of its latents", "latents"),
    Term("discrete decoder", "the probability of each byte from a Gaussian over its bin; the last term of DDPM's bound", "ddpm"),
    Term("DPS, diffusion posterior sampling", r"a gradient step on $\Vert y - A(\hat x_0)\Vert$ after each step of a sampler", "inverse"),
    Term("ELBO, variational bound", "a lower bound on the log likelihood, a sum of KL divergences over levels", "ddpm"),
    Term("EMA", "exponential moving average of the weights, used for sampling", "ncsnv2"),
    Term("encoding, inversion", "following a deterministic sampler from a picture to its noise", "ddim"),
    Term("epsilon-, x0-, v-prediction", "what the network's output means; each gives the others at a known level", "noise"),
    Term("eta", "the share of DDPM's noise in a DDIM step: 0 is deterministic, 1 ancestral", "ddim"),
    Term("exponential integrator", "a solver that treats the linear part of an ODE exactly; DPM-Solver is one", "edm"),
    Term("fidelity and diversity", "how real samples look, and how much of the data they cover", "adm"),
    Term("first stage, autoencoder", "the network that makes latents of pictures and pictures of latents; its error is a floor for every sample", "latents"),
    Term("floor", "what a measure says of real data against real data", "measuring"),
    Term("flow matching", "training the velocity of a path from noise to data by regression", "flow"),
    Term("Fokker-Planck equation", "how the density of an SDE's points changes in time", "score_sde"),
    Term("forward process", "the fixed chain or SDE that turns data into noise", "ddpm"),
    Term("Fréchet distance, FID", "squared Wasserstein-2 distance of Gaussians fitted to features; FID with Inception's", "measuring"),
    Term("guidance scale", "how strongly a condition is enforced; 1 is Bayes' rule, Ho and Salimans' $1 + w$", "adm"),
    Term("half the log SNR", r"$\log(\alpha/\sigma)$, DPM-Solver's $\lambda$; twice that is the log SNR", "edm"),
    Term("Heun's method", "Euler's step, then the mean of the slopes at both ends: second order, two evaluations", "edm"),
    Term("Hutchinson's estimator", r"a trace from random probes $v$, $\operatorname{tr} A = \mathbb{E}[v^\top A\,v]$", "score_sde"),
    Term("hybrid loss", "the simple loss for the mean plus a little of the bound for the variance", "iddpm"),
    Term("importance sampling (of levels)", "drawing levels in proportion to the size of their losses", "iddpm"),
    Term("inpainting", "sampling the unknown part of a picture given the known one", "spiral"),
    Term("inverse problem", r"finding $x_0$ from a measurement $y = A x_0 + n$", "inverse"),
    Term("Jensen's inequality", "the log of a mean is at least the mean of the log; where bounds come from", "bits"),
    Term("Karras grid", r"noise levels even in $\sigma^{1/\rho}$, $\rho = 7$", "edm"),
    Term("kernel (of a sampler)", "one step from level $t$ to level $s$: a distribution of $x_s$ for each $x_t$", "capstone"),
    Term("kernel distance, KID", "unbiased squared maximum mean discrepancy between features", "measuring"),
    Term("KL divergence", "the mean log ratio of two densities; 0 only where they are equal", "ddpm"),
    Term("Langevin dynamics", "steps along the score with noise, whose stationary law is the density", "ncsn"),
    Term("latent", "the noise that a deterministic sampler starts from, or arrives at", "ddim"),
    Term("latent diffusion", "a diffusion model of an autoencoder's latents in the place of pixels", "latents"),
    Term("level, noise level, timestep", "the index $t$ of how much noise there is; one thing under three names", "first_picture"),
    Term("likelihood", "the density that a model gives to data", "score_sde"),
    Term("local error, order", "what one step of a solver adds to the error; an order p divides the error by $2^p$ for twice the steps", "edm"),
    Term("log SNR", r"$\log(\alpha^2/\sigma^2)$; called $\lambda$ in many papers since 2021, minus $\gamma$ in VDM, and twice DPM-Solver's $\lambda$", "edm"),
    Term("logit-normal times", "training times whose logit is normal: mostly levels in the middle of the path", "flow"),
    Term("manifold hypothesis", "data fill a thin surface in the space of all pictures, off which their score is not defined", "ncsn"),
    Term("marginal", r"the distribution of $x_t$ alone, $q(x_t)$ or $q(x_t \mid x_0)$", "ddpm"),
    Term("Markov chain", "a sequence whose next state depends on the present one only", "first_picture"),
    Term("MeanFlow, mean flow", "a network of the average velocity, trained without a teacher: one evaluation is a step of any length", "few_steps"),
    Term("measurement operator", r"$A$, what is seen of a picture: a mask, a smaller or a blurred picture, its greys", "inverse"),
    Term("MMPS", "posterior sampling with Tweedie's covariance, by conjugate gradients; exact for Gaussian data", "inverse"),
    Term("mode", "a region of high density", "ncsn"),
    Term("multistep method", "a solver that uses the evaluations of steps before; DPM-Solver++(2M), UniPC", "edm"),
    Term("noise schedule", r"$\alpha$ and $\sigma$ of every level, or $\beta$", "iddpm"),
    Term("non-Markovian process", "DDIM's forward process, whose steps depend on the clean data", "ddim"),
    Term("ODE sampler", "a deterministic sampler that integrates the probability flow", "score_sde"),
    Term("optimal transport pairs", "noises of a batch assigned to its images so that the squared distances are least", "flow"),
    Term("PiGDM", "posterior sampling with a Gaussian of one variance around the predicted clean data", "inverse"),
    Term("posterior (of a step)", r"$q(x_s \mid x_t, x_0)$, the reverse step if the data were known", "ddpm"),
    Term("posterior sampling", r"drawing from $p(x_0 \mid y)$ with a model that was not trained for the measurement", "inverse"),
    Term("precision, recall", "shares of samples among real data, and of real data among samples", "measuring"),
    Term("preconditioning", r"EDM's $c_\text{skip}, c_\text{out}, c_\text{in}$: network inputs and targets of unit variance at every level", "edm"),
    Term("predictor", "a step down in noise level, before correctors", "score_sde"),
    Term("prior", r"the distribution that sampling starts from, $N(0, I)$ or $N(0, \sigma_\text{max}^2 I)$", "ddpm"),
    Term("probability flow", "the ODE whose points have the same marginals as the SDE", "score_sde"),
    Term("progressive distillation", "a student makes one step of its teacher's two, and is the next teacher", "few_steps"),
    Term("rate and distortion", "bits spent until $x_t$ is known, and the error of the picture predicted from it", "ddpm"),
    Term("rectified flow", r"the flow along straight lines $x_t = (1-t)x_0 + t\epsilon$, and its training anew by reflow", "flow"),
    Term("reflow", "training a flow on pairs of noise and what an earlier flow made of it; paths become straighter", "flow"),
    Term("RePaint", "inpainting that goes up and down in noise level repeatedly, so that both parts agree", "inverse"),
    Term("reparameterisation", "writing a random variable as a function of parameters and of noise without them", "ddpm"),
    Term("replacement", "inpainting that overwrites the known part by its noisy version after each step; biased", "inverse"),
    Term("respacing", "a shorter chain with the same marginals at the levels that are kept", "iddpm"),
    Term("reverse process", "the learned chain or SDE from noise to data", "ddpm"),
    Term("reverse SDE", "the SDE that runs from noise to data and needs only the score", "score_sde"),
    Term("score", "the gradient of the log density with respect to the data", "noise"),
    Term("score matching", "fitting a score without knowing the density, by integration by parts", "ncsn"),
    Term("shift (of a schedule)", r"$\sigma/\alpha$ multiplied by one number at every time, for pictures of another size", "flow"),
    Term("shortcut model", "a network given the step's length, whose long step is held to two of half the length", "few_steps"),
    Term("sigma", "standard deviation of the noise in noisy data", "noise"),
    Term("signal-to-noise ratio (SNR)", r"$\alpha^2/\sigma^2$ at a level", "iddpm"),
    Term("simple loss", "mean squared error of the predicted noise, every level weighed alike", "ddpm"),
    Term("sinusoidal embedding", "a noise level as sines and cosines of it, at frequencies that fall geometrically", "ddpm"),
    Term("skip connection", "what joins the way down of a U-Net to the way up at the same resolution", "ddpm"),
    Term("sliced score matching", "score matching along random directions", "ncsn"),
    Term("stationary law", "a distribution that a chain's steps leave as it is", "ncsn"),
    Term("stochastic differential equation (SDE)", r"$dx = f\,dt + g\,dw$, the limit of many small noisy steps", "score_sde"),
    Term("stop-gradient", "a value that is passed on while its gradient is 0", "iddpm"),
    Term("straightness", "the mean squared difference of velocity and chord along paths; 0 where one step is exact", "flow"),
    Term("sub-VP", r"VP's drift with less noise, $\sigma = 1 - \alpha^2$", "score_sde"),
    Term("trajectory", "the states of one sample from noise to data", "first_picture"),
    Term("Tweedie's formula", "the conditional mean from the score of noisy data, and the score from the mean", "noise"),
    Term("variance exploding (VE)", "noise added to data that are not scaled down; NCSN's process", "score_sde"),
    Term("variance preserving (VP)", r"noise in exchange for signal, $\alpha^2 + \sigma^2 = 1$; DDPM's process", "score_sde"),
    Term("vector quantisation (VQ)", "each latent vector is replaced by the nearest of a learned codebook", "latents"),
    Term("velocity", r"$dx/dt$ of the probability flow", "score_sde"),
    Term("Wasserstein distance", "the least mean cost of moving one distribution to another", "measuring"),
    Term("weights of levels, lambda", "how much each noise level counts in the loss", "ncsn"),
    Term("zero convolution", "a 1x1 convolution whose weights begin at 0: it changes nothing at first, and learns at once", "latents"),
)  # fmt: skip


def page(lessons: bool = True) -> str:
    """The page as Markdown; with links to the lessons where it is shown beside them."""
    head = tr(
        "# All words\n\nWhat each means in this field, and the lesson that explains it. Formulas:\n{formulas}; symbols, and names in codes: {notation}.\n\n| word | meaning | lesson |",
        formulas=f"[{tr('all formulas')}](/lesson/formulas/)" if lessons else "[formulas.md](formulas.md)",
        notation="docs/notation.md" if lessons else "[notation.md](notation.md)",
    )
    rows = [f"| {_both(term.word)} | {tr(term.meaning)} | {_where(term.lesson, lessons)} |" for term in TERMS]
    return "\n".join([head, "|:--|:--|:--|", *rows]) + "\n"


def _both(word: str) -> str:
    """A word in the language of the page, and in English where it is another."""
    return tr(word) if tr(word) == word else f"{tr(word)}<br>*{word}*"


def _where(name: str, lessons: bool) -> str:
    known = lesson(name)
    words = f"{known.number}. {tr(known.title)}"
    return f"[{words}](/lesson/{name}/)" if lessons else words
