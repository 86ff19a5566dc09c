"""What the lessons derive, evaluated: one test a derivation, on data and chains whose answers are known."""

from __future__ import annotations

import itertools
import math
import re
from pathlib import Path

import pytest
import torch
from torch import Tensor

from sfumato.claims.toys import cosine, linear, normal, ring
from sfumato.core import losses
from sfumato.core.denoisers import Prediction, predict_eps, predict_score, predict_v, predict_x0
from sfumato.core.dpm2015.binomial import BinomialDiffusion
from sfumato.core.dpm2015.products import Climbing, Observed
from sfumato.core.exact import GaussianMixture
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Level, from_betas
from sfumato.core.variances import fixed_large, fixed_small, learned_range, reverse
from sfumato.learn import derivations
from sfumato.learn.catalogue import CATALOGUE
from sfumato.samplers.ddim import DDIMStep

ALL = [derivation for lesson in CATALOGUE for derivation in derivations.of(lesson.name)]
T, S = torch.tensor(600), torch.tensor(430)
"""A level, and a lower one."""


def coefficients(process: GaussianDiffusion, t: Tensor = T, s: Tensor = S) -> tuple[float, ...]:
    """alpha_t, sigma_t, alpha_s, sigma_s, alpha_{t|s}, sigma_{t|s}^2."""
    (a_t, s_t), (a_s, s_s) = process.schedule.alpha_sigma(t), process.schedule.alpha_sigma(s)
    return float(a_t), float(s_t), float(a_s), float(s_s), float(a_t / a_s), float(s_t**2 - (a_t / a_s * s_s) ** 2)


def close(a: float | Tensor, b: float | Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=rtol, atol=1e-12
    )


def integral(values: Tensor, width: float) -> Tensor:
    """The integral of smooth functions that vanish at both ends, to rounding: the trapezoid sum."""
    return values.sum(-1) * width


# ---------------------------------------------------------------- the texts


def test_every_lesson_derives_something_and_every_derivation_is_checked() -> None:
    keys = [derivation.key for derivation in ALL]
    assert len(set(keys)) == len(keys) > 40
    text = "".join(path.read_text() for path in Path(__file__).parent.glob("test_derivations*.py"))
    missing = [key for key in keys if f"def test_{key.replace('.', '_')}(" not in text]
    assert missing == []
    for lesson in CATALOGUE:
        assert all(derivation.key.startswith(f"{lesson.name}.") for derivation in derivations.of(lesson.name))
        assert f'story.derivations("{lesson.name}")' in lesson.path.read_text()


@pytest.mark.parametrize("derivation", ALL, ids=lambda derivation: derivation.key)
def test_the_tex_is_balanced(derivation: derivations.Derivation) -> None:
    prose = re.sub(r"```.*?```", "", derivation.text, flags=re.DOTALL)
    display = re.findall(r"\$\$(.*?)\$\$", prose, re.DOTALL)
    inline = re.sub(r"\$\$.*?\$\$", "", prose, flags=re.DOTALL)
    assert inline.count("$") % 2 == 0
    for formula in (*display, *re.findall(r"\$(.*?)\$", inline, re.DOTALL)):
        bare = re.sub(r"\\[{}]", "", formula)
        assert bare.count("{") == bare.count("}"), formula
        assert formula.count(r"\Big(") + formula.count(r"\Big[") == formula.count(r"\Big)") + formula.count(r"\Big]")
        assert formula.count("\n\n") == 0, formula
    for row in (line for line in prose.splitlines() if line.startswith("|")):
        table = [line for line in prose.splitlines() if line.startswith("|")]
        assert row.count("|") == table[0].count("|"), row  # a bar inside a formula would cut a cell


# ---------------------------------------------------------------- first picture, noise


def test_first_picture_chain() -> None:
    process, c = linear(50), 0.7
    after = [float((a * c) ** 2 + s**2) for a, s in (process.schedule.alpha_sigma(torch.tensor(t)) for t in range(51))]
    variance = after[50]
    for t in range(50, 0, -1):
        step = process.between(torch.tensor(t - 1), torch.tensor(t))
        a, b = float(step.alpha), float(step.sigma)
        variance = (a * after[t - 1] / after[t]) ** 2 * variance + b**2 * after[t - 1] / after[t]
        close(variance, after[t - 1])
    close(variance, c**2)


def test_noise_mean() -> None:
    process, mixture = linear(), ring()
    x0, eps = mixture.sample(40_000, torch.Generator().manual_seed(0)), normal(1, 40_000, 2)
    x = process.level(T, x0).noise(x0, eps)
    best = mixture.denoise(process)(x, T).x0
    for shift in (0.1 * x, 0.2 * torch.sin(3 * x)):
        least, other = (x0 - best).square().sum(1).mean(), (x0 - best - shift).square().sum(1).mean()
        assert float(other - least) == pytest.approx(float(shift.square().sum(1).mean()), rel=0.25)


def test_noise_tweedie() -> None:
    process, mixture = linear(), ring()
    x = normal(0, 5, 2).requires_grad_()
    level = process.level(S, x)
    (score,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x, create_graph=True)
    prediction = mixture.denoise(process)(x, S)
    close(score, (level.alpha * prediction.x0 - x) / level.sigma**2)
    close(score, -prediction.eps / level.sigma)
    curvature = torch.stack([torch.autograd.grad(score[:, i].sum(), x, retain_graph=True)[0] for i in (0, 1)], 1)
    log_joint, residual, variance = mixture._components(x, level)
    share = log_joint.softmax(-1)[..., None]
    means = mixture.means + level.alpha[..., None] * mixture.stds**2 * residual / variance
    centred = means - (share * means).sum(1, keepdim=True)
    inner = torch.diag_embed(mixture.stds**2 * level.sigma[..., None] ** 2 / variance)
    covariance = (share[..., None] * (inner + centred[..., None] * centred[..., None, :])).sum(1)
    scale = (level.sigma / level.alpha)[..., None] ** 2
    close(covariance, scale * (torch.eye(2) + level.sigma[..., None] ** 2 * curvature), rtol=1e-7)


def test_noise_conversions() -> None:
    process, x0, eps = linear(), normal(0, 4, 2), normal(1, 4, 2)
    level = process.level(T, x0)
    x = level.noise(x0, eps)
    v = level.alpha * eps - level.sigma * x0
    outputs = ((predict_eps, eps), (predict_x0, x0), (predict_score, -eps / level.sigma), (predict_v, v))
    for parameterization, output in outputs:
        found = parameterization(output, x, T, process)
        close(found.x0, x0, rtol=1e-7)
        close(found.eps, eps, rtol=1e-7)
    norm = level.alpha**2 + level.sigma**2
    close((level.alpha * x - level.sigma * v) / norm, x0)
    close((level.sigma * x + level.alpha * v) / norm, eps)
    wrong = predict_eps(eps + 0.1, x, T, process)
    close((wrong.x0 - x0).square(), (level.sigma / level.alpha) ** 2 * (wrong.eps - eps).square(), rtol=1e-7)


# ---------------------------------------------------------------- bits, spiral


def test_bits_marginal() -> None:
    betas = torch.tensor([0.1, 0.3, 0.5], dtype=torch.float64)
    process = BinomialDiffusion(betas)
    one = torch.ones(1, dtype=torch.float64)
    for x0 in (0.0, 1.0):
        p = x0
        for t, beta in enumerate(betas.tolist(), 1):
            p = (1 - beta) * p + beta / 2
            close(p, 0.5 + (x0 - 0.5) * float((1 - betas[:t]).prod()))
            close(process.marginal(x0 * one, torch.tensor(t)).p, p * one)
        before, likely = 0.5 + (x0 - 0.5) * 0.9, 0.7 + 0.15
        found = process.posterior(one, x0 * one, torch.tensor(2), torch.tensor(1)).p
        close(found, likely * before / float(process.marginal(x0 * one, torch.tensor(2)).p) * one)


def test_bits_bound() -> None:
    """By enumeration of all paths of one bit: Jensen, the telescope, and the entropies of eq. 14."""
    betas, model = [0.2, 0.4, 0.6], {2: (0.2, 0.9), 3: (0.35, 0.6)}  # p(x_{t-1} = 1 | x_t = 0, 1)

    def forward(x: int, before: int, t: int) -> float:
        return (1 - betas[t - 1]) * (x == before) + betas[t - 1] / 2

    def bernoulli(p: float, x: int) -> float:
        return p if x else 1 - p

    def entropy(p: float) -> float:
        return -p * math.log(p) - (1 - p) * math.log(1 - p)

    for x0 in (0, 1):
        marginal = {t: 0.5 + (x0 - 0.5) * math.prod(1 - b for b in betas[:t]) for t in (1, 2, 3)}
        likelihood = bound = 0.0
        for path in itertools.product((0, 1), repeat=3):
            x = (x0, *path)
            q = math.prod(forward(x[t], x[t - 1], t) for t in (1, 2, 3))
            back = forward(x[1], x0, 1)  # p(x_0 | x_1), the forward step: pi is one half
            p = 0.5 * math.prod(bernoulli(model[t][x[t]], x[t - 1]) for t in (2, 3)) * back
            likelihood += p
            bound += q * math.log(p / q)
        divergences = 0.0
        for t in (2, 3):
            for now in (0, 1):
                weights = [forward(now, y, t) * bernoulli(marginal[t - 1], y) for y in (0, 1)]
                after = weights[1] / sum(weights)
                divergences += sum(weights) * sum(
                    bernoulli(after, y) * math.log(bernoulli(after, y) / bernoulli(model[t][now], y)) for y in (0, 1)
                )
        K = -divergences + entropy(marginal[3]) - entropy(marginal[1]) - math.log(2)
        close(bound, K)
        assert math.log(likelihood) - 1 < K < math.log(likelihood)


def test_spiral_product() -> None:
    """The factor that leads from one product to the next is exact; normalised, it is nearly so only for smooth r."""
    grid = torch.linspace(-12, 12, 1201, dtype=torch.float64)
    width = float(grid[1] - grid[0])

    def density(mean: Tensor | float, std: float) -> Tensor:
        return torch.exp(-0.5 * ((grid - mean) / std) ** 2) / (std * math.sqrt(2 * math.pi))

    p_t, errors = density(0.4, 1.3), []
    kernel = density(0.8 * grid[:, None], 0.5)  # rows x_t, columns x_s
    p_s = integral(kernel.T * p_t, width)
    for sharp in (0.1, 3.0):
        r = torch.exp(-0.5 * sharp * (grid - 1) ** 2)
        Z_t, Z_s = integral(p_t * r, width), integral(p_s * r, width)
        wanted = p_s * r / Z_s
        exact = kernel * (Z_t * r[None]) / (Z_s * r[:, None].clamp(min=1e-300))
        close(integral((exact * (p_t * r / Z_t)[:, None]).T, width)[400:800], wanted[400:800], rtol=1e-6)
        normalised = kernel * r / integral(kernel * r, width)[:, None]
        errors.append(float((integral((normalised * (p_t * r / Z_t)[:, None]).T, width) - wanted).abs().sum() * width))
    assert errors[0] < 0.1 < errors[1]


def test_spiral_gaussian() -> None:
    from sfumato.core.distributions import Gaussian

    step = Gaussian(normal(0, 3, 1), torch.tensor(0.6, dtype=torch.float64))
    y, w, v = normal(1, 3, 1), 0.3**2, 0.6**2
    found = Observed(y, 0.3)(step, S)
    close(found.mean, (w * step.mean + v * y) / (v + w))
    close(found.std**2, v * w / (v + w))
    moved = Climbing(lambda x: torch.sin(x))(step, S)
    close(moved.mean, step.mean + v * torch.cos(step.mean))
    close(moved.std, step.std)


# ---------------------------------------------------------------- DDPM


def test_ddpm_marginal() -> None:
    process = linear()
    alpha, variance = 1.0, 0.0
    for t in range(1, 1001):
        beta = float(process.between(torch.tensor(t - 1), torch.tensor(t)).sigma ** 2)
        alpha, variance = alpha * math.sqrt(1 - beta), (1 - beta) * variance + beta
        if t in (1, 10, 1000):
            level = process.schedule.alpha_sigma(torch.tensor(t))
            close(alpha, level[0], rtol=1e-7)
            close(variance, level[1] ** 2, rtol=1e-7)
            close(alpha**2 + variance, 1.0)
    a_t, s_t, a_s, s_s, a, v = coefficients(process)
    assert v > 0
    close((a * a_s, a**2 * s_s**2 + v), (a_t, s_t**2))


def test_ddpm_posterior() -> None:
    process, x_t, x0 = linear(), 0.4, -0.9
    _, s_t, a_s, s_s, a, v = coefficients(process)
    of_x, of_x0, std = process.posterior_coefficients(T, S)
    close((of_x, of_x0, std**2), (a * s_s**2 / s_t**2, a_s * v / s_t**2, v * s_s**2 / s_t**2))
    grid = torch.linspace(-8, 8, 4001, dtype=torch.float64)
    joint = torch.exp(-((x_t - a * grid) ** 2) / (2 * v) - (grid - a_s * x0) ** 2 / (2 * s_s**2))
    joint = joint / joint.sum()
    mean = float((joint * grid).sum())
    close(mean, of_x * x_t + of_x0 * x0)
    close((joint * (grid - mean) ** 2).sum(), std**2)


def test_ddpm_bound() -> None:
    """The telescope, on one number and Gaussian reverse steps: the mean of the log ratio is the sum of the terms."""
    process = linear(5)
    levels = [tuple(map(float, process.schedule.alpha_sigma(torch.tensor(t)))) for t in range(6)]
    n, x0 = 400_000, torch.tensor(0.6, dtype=torch.float64)
    path = [x0.expand(n)]
    log_q = torch.zeros(n, dtype=torch.float64)

    def log_normal(x: Tensor, mean: Tensor, variance: float) -> Tensor:
        return -0.5 * ((x - mean) ** 2 / variance + math.log(2 * math.pi * variance))

    back = [(0.9, 0.1, 0.2), (0.8, 0.1, 0.05), (0.85, 0.0, 0.1), (0.9, 0.1, 0.2), (0.7, 0.2, 0.3)]  # slope, shift, var
    log_p = torch.zeros(n, dtype=torch.float64)
    for t in range(1, 6):
        step = process.between(torch.tensor(t - 1), torch.tensor(t))
        mean, variance = float(step.alpha) * path[-1], float(step.sigma) ** 2
        path.append(mean + variance**0.5 * normal(t, n))
        log_q += log_normal(path[-1], mean, variance)
        slope, shift, of_p = back[t - 1]
        log_p += log_normal(path[-2], slope * path[-1] + shift, of_p)
    log_p += log_normal(path[-1], torch.zeros(()), 1.0)
    a_T, s_T = levels[5]
    terms = 0.5 * (s_T**2 + (a_T * float(x0)) ** 2 - 1 - math.log(s_T**2))  # L_T
    for t in range(2, 6):
        of_x, of_x0, std = map(float, process.posterior_coefficients(torch.tensor(t), torch.tensor(t - 1)))
        slope, shift, of_p = back[t - 1]
        (a, s), x = levels[t], float(x0)
        difference = (of_x - slope) * a * x + of_x0 * x - shift  # of the means, at the mean of x_t
        square = difference**2 + ((of_x - slope) * s) ** 2
        terms += 0.5 * (math.log(of_p / std**2) + (std**2 + square) / of_p - 1)
    slope, shift, of_p = back[0]
    (a, s), x = levels[1], float(x0)
    terms += 0.5 * (math.log(2 * math.pi * of_p) + ((x - slope * a * x - shift) ** 2 + (slope * s) ** 2) / of_p)
    ratio = log_q - log_p
    assert float(ratio.mean()) == pytest.approx(terms, abs=5 * float(ratio.std()) / n**0.5)


def test_ddpm_simple() -> None:
    process, x0, eps, guess = linear(), normal(0, 6, 3), normal(1, 6, 3), normal(2, 6, 3)
    s = T - 1
    beta = float(process.between(s, T).sigma ** 2)
    level = process.level(T, x0)
    x = level.noise(x0, eps)
    mean = process.posterior(x, x0, T, s)
    close(mean.mean, (x - beta / level.sigma * eps) / math.sqrt(1 - beta), rtol=1e-7)
    prediction = predict_eps(guess, x, T, process)
    for variance, weight in (
        (fixed_small, 0.5 * float((process.schedule.log_snr(s) - process.schedule.log_snr(T)).expm1())),
        (fixed_large, beta**2 / (2 * beta * (1 - beta) * float(level.sigma) ** 2)),
    ):
        model = reverse(process, variance, prediction, T, s)
        mine = (mean.mean - model.mean).square() / (2 * model.std**2)
        close(mine, weight * (eps - guess).square(), rtol=1e-6)
    close(losses.simple(prediction, eps), (eps - guess).square().mean(1))


def test_ddpm_algorithms() -> None:
    process, x, guess = linear(), normal(0, 4, 2), normal(1, 4, 2)
    beta, level = float(process.between(T - 1, T).sigma ** 2), process.level(T, x)
    step = reverse(process, fixed_large, predict_eps(guess, x, T, process), T, T - 1)
    close(step.mean, (x - beta / level.sigma * guess) / math.sqrt(1 - beta), rtol=1e-7)
    close(step.std**2, torch.full_like(step.std, beta), rtol=1e-7)


# ---------------------------------------------------------------- DDIM


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_ddim_family(eta: float) -> None:
    """The marginal by induction down a whole grid, and DDPM's posterior as one member."""
    process, x0 = linear(), 0.7
    grid = torch.arange(1000, 0, -83)
    mean, variance = (float(c) for c in process.schedule.alpha_sigma(grid[0]))
    mean, variance = mean * x0, variance**2
    for t, s in itertools.pairwise(grid):
        a_t, s_t, a_s, s_s, a, v = coefficients(process, t, s)
        own = eta**2 * v * s_s**2 / s_t**2
        slope = math.sqrt(s_s**2 - own) / s_t
        mean, variance = a_s * x0 + slope * (mean - a_t * x0), slope**2 * variance + own
        close((mean, variance), (a_s * x0, s_s**2))
        if eta == 1:
            of_x, of_x0, std = process.posterior_coefficients(t, s)
            close((slope, a_s - slope * a_t, own), (of_x, of_x0, std**2), rtol=1e-6)
            close(slope * s_t, a * s_s**2 / s_t, rtol=1e-6)


def test_ddim_theorem() -> None:
    process, x0, eps, guess = linear(), normal(0, 5, 2), normal(1, 5, 2), normal(2, 5, 2)
    a_t, s_t, a_s, s_s, _, _ = coefficients(process)
    x = a_t * x0 + s_t * eps
    predicted = (x - s_t * guess) / a_t
    for own in (0.05, 0.2, s_s):
        slope = math.sqrt(max(0.0, s_s**2 - own**2)) / s_t
        apart = (a_s * x0 + slope * (x - a_t * x0)) - (a_s * predicted + slope * (x - a_t * predicted))
        c = a_s - slope * a_t
        assert c > 0
        gamma = c**2 * s_t**2 / (2 * own**2 * a_t**2)
        close(apart.square() / (2 * own**2), gamma * (eps - guess).square())


def test_ddim_step() -> None:
    process, mixture, x = linear(), ring(), normal(0, 5, 2)
    denoise = mixture.denoise(process)
    a_t, s_t, a_s, s_s, _, v = coefficients(process)
    prediction = denoise(x, T)
    for eta in (0.0, 0.6, 1.0):
        own = eta * s_s / s_t * math.sqrt(1 - a_t**2 / a_s**2)
        close(own, eta * math.sqrt(v) * s_s / s_t)
        step, _ = DDIMStep(process, denoise, eta)(x, T, S)
        close(step.mean, a_s * prediction.x0 + math.sqrt(s_s**2 - own**2) * prediction.eps)
        close(step.std, own * torch.ones_like(step.std))


def test_ddim_ode() -> None:
    """The step is Euler's in sigma / alpha, and its error on Gaussian data falls as the step does."""
    from sfumato.core.exact import gaussian, gaussian_flow
    from sfumato.core.sampling import finish
    from sfumato.samplers import DDIM

    process, mixture, x = linear(), ring(), normal(0, 5, 2)
    a_t, s_t, a_s, s_s, _, _ = coefficients(process)
    step, prediction = DDIMStep(process, mixture.denoise(process))(x, T, S)
    close(step.mean / a_s - x / a_t, (s_s / a_s - s_t / a_t) * prediction.eps)
    mean, std = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.4, 0.8], dtype=torch.float64)
    start, end = (Level(*process.schedule.alpha_sigma(torch.tensor(t))) for t in (1000, 0))
    exact = gaussian_flow(mean, std, x, start, end)
    denoise = gaussian(mean, std).denoise(process)
    errors = [float((finish(x, DDIM().plan(process, denoise, n)) - exact).abs().mean()) for n in (50, 100, 200)]
    for coarse, fine in itertools.pairwise(errors):
        assert 1.6 < coarse / fine < 2.6


# ---------------------------------------------------------------- Improved DDPM


def test_iddpm_schedule() -> None:
    process, t = cosine(), torch.arange(1001, dtype=torch.float64)
    f = torch.cos((t / 1000 + 0.008) / 1.008 * math.pi / 2) ** 2
    alpha_bar = process.schedule.alpha_sigma(torch.arange(1001))[0] ** 2
    close(alpha_bar[:999], (f / f[0])[:999], rtol=1e-6)
    betas = 1 - (f / f[0])[1:] / (f / f[0])[:-1]
    assert float(betas.max()) > 0.999 > float(betas[-2])
    assert 0.75 * 2 / 255 < float(betas[0].sqrt()) < 2 / 255
    kept = torch.tensor([1, 100, 400, 800, 1000])
    ours = alpha_bar[torch.cat([torch.zeros(1, dtype=torch.long), kept])]
    respaced = from_betas(1 - ours[1:] / ours[:-1])
    close(respaced.alpha_sigma(torch.arange(1, 6))[0] ** 2, alpha_bar[kept], rtol=1e-7)


def test_iddpm_range() -> None:
    """The variance of x_s given x_t, of a mixture of variance 1 by quadrature, lies between the two."""
    process = linear()
    a_t, s_t, a_s, s_s, _, v = coefficients(process)
    small, factor = v * s_s**2 / s_t**2, a_s * v / s_t**2
    close(small + factor**2 * s_t**2, v)
    close(s_s**2 + a_s**2 * v, s_t**2)
    two = GaussianMixture(
        torch.tensor([0.5, 0.5], dtype=torch.float64), torch.tensor([[-0.9], [0.9]], dtype=torch.float64),
        torch.full((2, 1), math.sqrt(1 - 0.81), dtype=torch.float64),
    )  # fmt: skip
    x = torch.linspace(-6, 6, 2001, dtype=torch.float64)[:, None].requires_grad_()
    level = process.level(T, x)
    log_p = two.log_prob(x, level)
    (score,) = torch.autograd.grad(log_p.sum(), x, create_graph=True)
    (slope,) = torch.autograd.grad(score.sum(), x)
    of_x0 = (s_t / a_t) ** 2 * (1 + s_t**2 * slope[:, 0])
    mean = float((log_p.detach().exp() * of_x0).sum() * 12 / 2000)
    assert small < small + factor**2 * mean < v
    x = torch.zeros(1, 1, dtype=torch.float64)
    at = Prediction(x, process.level(T, x), x, x, variance=torch.full_like(x, 0.2))
    wanted = math.exp(0.6 * math.log(v) + 0.4 * math.log(small))
    close(learned_range(process, at, T, S) ** 2, torch.full_like(x, wanted), rtol=1e-6)


def test_iddpm_hybrid() -> None:
    """The best variance, by a search; and the weights of the bound on the mean, which DDPM left out."""
    small, square = 0.3, 0.17
    sizes = torch.linspace(0.1, 1.5, 140_001, dtype=torch.float64)
    kl = 0.5 * ((sizes / small).log() + (small + square) / sizes - 1)
    close(sizes[kl.argmin()], small + square, rtol=1e-4)
    p, q = (torch.distributions.Normal(m, s**0.5) for m, s in ((0.2, small), (0.2 + square**0.5, 0.7)))
    stated = 0.5 * (math.log(0.7 / small) + (small + square) / 0.7 - 1)
    close(torch.distributions.kl_divergence(p, q), stated, 1e-6)
    process, t = linear(), torch.arange(1, 1001)
    beta = process.between(t - 1, t).sigma ** 2
    weight = beta / (2 * (1 - beta) * process.schedule.alpha_sigma(t)[1] ** 2)
    assert 50 < float(weight.max() / weight.min()) < 200
    assert int(weight.argmax()) == 0
    x = torch.zeros(1, 1, dtype=torch.float64, requires_grad=True)
    held = Prediction(x, process.level(T, x), x + 1, x + 2, variance=3 * x).mean_detached()
    assert not held.eps.requires_grad
    assert not held.x0.requires_grad
    assert held.variance is not None
    assert held.variance.requires_grad


def test_iddpm_importance() -> None:
    second = torch.tensor([4.0, 1.0, 0.25, 9.0], dtype=torch.float64)
    best = second.sqrt() / second.sqrt().sum()
    close((second / best).sum(), second.sqrt().sum() ** 2)
    for seed in range(20):
        other = torch.softmax(best.log() + 0.3 * normal(seed, 4), 0)
        assert float((second / other).sum()) > float((second / best).sum())
