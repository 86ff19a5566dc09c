"""The mathematics of diffusion models, in torch alone: no files, no devices, no networks.

Read in this order: `schedules` (how much signal and noise is left at a level), `processes` (the forward q),
`denoisers` (what a network believes), `losses` and `times` (training), `kernels` and `sampling` (the way back). Then
`sde`, `langevin` and `projection` (score-based kernels), `matching` (score matching), `techniques`, `guidance`,
`likelihood`, and `exact` (data of known answers).
"""

from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Prediction,
    predict_eps,
    predict_previous_mean,
    predict_score,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.exact import GaussianMixture
from sfumato.core.guidance import clipped
from sfumato.core.kernels import DDIM, Ancestral, large, learned, learned_range, small
from sfumato.core.langevin import Corrector, Langevin
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.projection import Projection, projected
from sfumato.core.sampling import Kernel, Move, anneal, descend, finish, predict_correct, walk
from sfumato.core.schedules import (
    VE,
    VP,
    Continuous,
    Cosine,
    Level,
    LinearFlow,
    Schedule,
    SubVP,
    Table,
    from_betas,
    from_sigmas,
    geometric_sigmas,
)
from sfumato.core.sde import EulerMaruyama, Heun, ReverseDiffusion, correct_predict, probability_flow

__all__ = [
    "DDIM", "VE", "VP", "Ancestral", "Continuous", "Corrector", "Cosine", "Denoise", "Denoiser", "EulerMaruyama",
    "Gaussian", "GaussianDiffusion", "GaussianMixture", "Heun", "Kernel", "Langevin", "Level", "LinearFlow", "Move",
    "Noise", "Prediction", "Projection", "ReverseDiffusion", "Schedule", "SubVP", "Table", "anneal", "clipped",
    "correct_predict", "descend", "finish", "from_betas", "from_sigmas", "geometric_sigmas", "large", "learned",
    "learned_range", "predict_correct", "predict_eps", "predict_previous_mean", "predict_score", "predict_v",
    "predict_x0", "probability_flow", "projected", "small", "walk", "with_variance",
]  # fmt: skip
