"""Notes for class, lesson by lesson: what to stress, what is often misunderstood, and a question to discuss."""

from __future__ import annotations

NOTES: dict[str, tuple[str, ...]] = {
    "first_picture": (
        "Let the class guess before anybody opens the figure: the point of the prediction is to be committed to it.",
        "Often misunderstood: the network does not draw the picture at the last step; it predicts at every one of them.",
        "To discuss: what does the seed fix, and would another sampler keep the same picture?",
    ),
    "noise": (
        "Denoiser, noise prediction and score are one function in three scales; have it written on the board as a triangle.",
        "Often misunderstood: the conditional mean need not be a likely picture; between two blobs it is none.",
        "Often misunderstood: Tweedie's formula holds for the score of the noisy density at that level, not of the data.",
    ),
    "bits": (
        "Twenty bits are few enough to check every probability by enumeration: let one group do so.",
        "Often misunderstood: q(x_{t-1} | x_t) is unknown, q(x_{t-1} | x_t, x_0) is Bayes' rule.",
        "To discuss: which part of the bound would remain if the network were perfect?",
    ),
    "spiral": (
        "Inpainting here is exact multiplication of densities in small steps; compare it with overwriting known pixels.",
        "Often misunderstood: a model that is multiplied by r(x) needs no new training.",
    ),
    "ncsn": (
        "The mixture with weights 0.8 and 0.2 is the whole argument for annealing: a score does not see the weights of far modes.",
        "Often misunderstood: the paper's step is eps/2 with noise sqrt(eps); codes with d and sqrt(2d) mean d = eps/2.",
        "To discuss: why does denoising score matching not need the density's normalisation?",
    ),
    "ncsnv2": (
        "Have each technique classified: computed from the data, derived, or chosen by experience.",
        "Often misunderstood: the largest sigma follows the diameter of the data set, not the range of a pixel.",
    ),
    "ddpm": (
        "Derive the weighted error in eps first and drop the weights last, so that it is seen what is dropped.",
        "Often misunderstood: the simple loss is no bound on the likelihood.",
        "The planted off-by-one error is worth ten minutes in pairs: samples look almost right.",
    ),
    "ddim": (
        "Often misunderstood: fewer steps are no property of DDIM alone; consistency and inversion are what eta = 0 adds.",
        "To discuss: what in the training fixes the joint distribution of x_1 ... x_T? (Nothing: only the marginals.)",
    ),
    "iddpm": (
        "Average over seeds before comparing schedules: single runs contradict each other.",
        "Often misunderstood: the two bounds of the variance differ only close to the data when steps are many.",
    ),
    "score_sde": (
        "Those who know no stochastic calculus can take every SDE as a limit of the chains of earlier lessons.",
        "Often misunderstood: SDE and ODE have the same marginals, not the same paths.",
        "To discuss: where does the likelihood's error come from: model, solver, estimator or dequantisation?",
    ),
    "adm": (
        "Two conventions of the scale are in use (s and 1 + w); have every number stated with its convention.",
        "Often misunderstood: guidance does not sample p(x | y); it sharpens it, and diversity is the price.",
    ),
    "measuring": (
        "Let the class compute the distance between two halves of the real data first: no model can be asked for less.",
        "Often misunderstood: a lower Fréchet distance does not exclude copies of the training data.",
    ),
    "capstone": (
        "Give the ninth sampler as project work: the conformance tests judge it, so no marking by hand is needed.",
        "To discuss: which comparisons in the lesson would a reviewer refuse, and why? (Cost, number of seeds.)",
    ),
    "edm": (
        "Compare solvers at equal evaluations of the network, not at equal steps: Heun pays two for most steps.",
        "Often misunderstood: a higher order helps once steps are short enough; the grid decides at ten evaluations.",
        "To discuss: which of EDM's choices concern sampling alone, and which need another training?",
    ),
    "flow": (
        "Draw two crossing lines on the board, and ask what a network that sees the crossing alone can answer.",
        "Often misunderstood: straight lines of training do not make straight paths; and time runs the other way in many codes.",
        "To discuss: what is left of the difference between flow matching and a diffusion model with v-prediction?",
    ),
    "few_steps": (
        "Begin with the mean picture of one evaluation: it shows why a better solver is no answer.",
        "Often misunderstood: a consistency function is no denoiser; compare both for Gaussian data before the loss is shown.",
        "To discuss: at equal training cost, is a few-step model better than a good solver with five evaluations?",
    ),
    "inverse": (
        "Have the class compute the posterior of two correlated Gaussians by hand before any method is shown.",
        "Often misunderstood: agreement with what was seen says nothing of the unknown part; judge it by a known posterior.",
        "To discuss: what should a doctor be shown, one draw, the mean, or the deviation over many draws?",
    ),
    "latents": (
        "Let the class guess which of the four papers changes the loss, the data, the condition or the network.",
        "Often misunderstood: a zero convolution has a gradient, since its input is not zero.",
        "To discuss: where does the detail of a picture come from, the diffusion model or the decoder?",
    ),
}
"""Lesson -> notes."""
