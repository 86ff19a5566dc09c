"""The mathematics of diffusion models, in torch alone: no files, no devices, no networks.

Read in this order: `schedules` (how much signal and noise is left at a level), `processes` (the forward q),
`denoisers` (what a network's output means), `losses` and `times` (training), `variances` and `sampling` (the sampling
loop; the samplers are in `sfumato.samplers`), `diffusion` (all of it for one model). Then `guidance`, `inpainting`,
`matching` (score matching), `techniques`, `ode` and `likelihood`, and `exact` (data of known answers).
`dpm2015` is the model of Sohl-Dickstein et al. 2015, which a newcomer may skip.
"""

from sfumato.core.betas import geometric_sigmas, linear_betas
from sfumato.core.continuous import VE, VP, Cosine, LinearFlow, PowerVE, SubVP
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Parameterization,
    Prediction,
    predict_eps,
    predict_f,
    predict_previous_mean,
    predict_score,
    predict_u,
    predict_v,
    predict_x0,
    with_variance,
)
from sfumato.core.diffusion import Diffusion, Inputs
from sfumato.core.distributions import Gaussian, Noise
from sfumato.core.exact import GaussianMixture
from sfumato.core.guidance import classifier_free, clipped
from sfumato.core.inpainting import Replacement, with_replacement
from sfumato.core.ode import probability_flow, runge_kutta
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move, Past, Sampler, Step, descend, finish, trajectory
from sfumato.core.schedules import Continuous, Level, Schedule, Table, from_betas, from_sigmas
from sfumato.core.variances import ReverseVariance, fixed_large, fixed_small, learned, learned_range

__all__ = [
    "VE", "VP", "Continuous", "Cosine", "Denoise", "Denoiser", "Diffusion", "Gaussian", "GaussianDiffusion",
    "GaussianMixture", "Inputs", "Kernel", "Level", "LinearFlow", "Move", "Noise", "Parameterization", "Past",
    "PowerVE", "Prediction", "Replacement", "ReverseVariance", "Sampler", "Schedule", "Step", "SubVP", "Table",
    "classifier_free", "clipped", "descend", "finish", "fixed_large", "fixed_small", "from_betas", "from_sigmas",
    "geometric_sigmas", "learned", "learned_range", "linear_betas", "predict_eps", "predict_f",
    "predict_previous_mean", "predict_score", "predict_u", "predict_v", "predict_x0", "probability_flow",
    "runge_kutta", "trajectory", "with_replacement", "with_variance",
]  # fmt: skip
