"""What the lessons derive of scores, SDEs, guidance and distances, evaluated: one test a derivation."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from sfumato.claims.toys import linear, normal, ring
from sfumato.core import matching, techniques
from sfumato.core.continuous import VE, VP, SubVP
from sfumato.core.denoisers import Prediction, predict_eps
from sfumato.core.exact import GaussianMixture, gaussian, gaussian_flow
from sfumato.core.guidance import classifier_free, classifier_gradient, score_shifted
from sfumato.core.ode import probability_flow
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import Continuous, Level
from sfumato.core.variances import fixed_large, reverse
from sfumato.evaluate.distances import Statistics, frechet_distance, squared_mmd
from sfumato.samplers.ancestral import AncestralStep
from sfumato.samplers.ddim import DDIMStep
from sfumato.samplers.langevin import LangevinStep, constant

T, S = torch.tensor(600), torch.tensor(430)
SDES = pytest.mark.parametrize("schedule", [VE(), VP(), SubVP()], ids=["VE", "VP", "sub-VP"])
GRID = torch.linspace(-9, 9, 3601, dtype=torch.float64)
WIDTH = float(GRID[1] - GRID[0])


def two() -> GaussianMixture:
    """Two Gaussians on a line."""
    weights = torch.tensor([0.3, 0.7], dtype=torch.float64)
    means, stds = torch.tensor([[-1.0], [0.8]]).double(), torch.tensor([[0.3], [0.5]]).double()
    return GaussianMixture(weights, means, stds)


def on_a_line(sigma: float) -> tuple[Tensor, Tensor]:
    """The density of the two Gaussians with noise on the grid, and its score."""
    x = GRID[:, None].clone().requires_grad_()
    log_p = two().log_prob(x, Level(*torch.tensor([1.0, sigma], dtype=torch.float64)))
    (score,) = torch.autograd.grad(log_p.sum(), x)
    return log_p.detach().exp(), score[:, 0]


def close(a: float | Tensor, b: float | Tensor, rtol: float = 1e-9, atol: float = 1e-12) -> None:
    a, b = (torch.as_tensor(c, dtype=torch.float64) for c in (a, b))
    torch.testing.assert_close(a, b, rtol=rtol, atol=atol)


GUESSES = (lambda x: torch.sin(2 * x) - 0.4 * x, lambda x: -x, lambda x: 0.3 * torch.tanh(x) - 0.1 * x**3)
"""Functions that are not the score."""

# ---------------------------------------------------------------- NCSN


def test_ncsn_score_matching() -> None:
    p, score = on_a_line(0.0)
    for guess in GUESSES:
        x = GRID.clone().requires_grad_()
        s = guess(x)
        (slope,) = torch.autograd.grad(s.sum(), x)
        s = s.detach()
        explicit = 0.5 * (p * (s - score) ** 2).sum() * WIDTH
        implicit = (p * (slope + 0.5 * s**2)).sum() * WIDTH
        close(explicit, implicit + 0.5 * (p * score**2).sum() * WIDTH, rtol=1e-6)


def test_ncsn_sliced() -> None:
    """The mean over the four sign vectors is exact: their second moment is the identity."""
    x = normal(0, 6, 2)
    matrix = torch.tensor([[0.4, -1.0], [0.7, 0.2]], dtype=torch.float64)
    signs = torch.tensor(list(itertools.product((-1.0, 1.0), repeat=2)), dtype=torch.float64)

    def score(at: Tensor) -> Tensor:
        return torch.sin(at @ matrix) - at**3

    directions = signs[:, None].expand(-1, 6, -1)
    square, curvature, s, _ = matching.sliced_terms(score, x, directions)
    jacobian = torch.stack([torch.func.jacrev(score)(point) for point in x])
    close(curvature.mean(0).detach(), jacobian.diagonal(dim1=1, dim2=2).sum(1))
    close(square.mean(0).detach(), s.square().sum(1).detach() / 2)
    assert (curvature.detach().std(0) > 0.01).all()  # a single direction is not enough


@pytest.mark.parametrize("sigma", [0.2, 1.0])
def test_ncsn_denoising(sigma: float) -> None:
    p, score = on_a_line(sigma)
    clean, _ = on_a_line(0.0)
    at, near = GRID[::4], clean[::4]
    joint = near[:, None] * torch.exp(-0.5 * ((GRID - at[:, None]) / sigma) ** 2) / (sigma * math.sqrt(2 * math.pi))
    target = -(GRID - at[:, None]) / sigma**2
    area = WIDTH * float(at[1] - at[0])
    apart = []
    for guess in GUESSES:
        denoising = 0.5 * (joint * (guess(GRID) - target) ** 2).sum() * area
        explicit = 0.5 * (p * (guess(GRID) - score) ** 2).sum() * WIDTH
        apart.append(float(denoising - explicit))
    close(apart[1:], [apart[0]] * 2, rtol=1e-6)
    close(apart[0], 0.5 * ((joint * target**2).sum() * area - (p * score**2).sum() * WIDTH), rtol=1e-6)


def test_ncsn_weights() -> None:
    eps, guess = normal(0, 5, 3), normal(1, 5, 3)
    for sigma in (0.01, 1.0, 50.0):
        level = Level(torch.tensor(1.0), torch.full((5, 1), sigma, dtype=torch.float64))
        found = matching.denoising(
            Prediction(eps, level, guess, eps), eps, matching.anneal_weight(level), matching.half_sum
        )
        close(found, 0.5 * (eps - guess).square().sum(1))


def test_ncsn_langevin() -> None:
    """Fokker-Planck of any other density: its divergence from p falls at the rate that is stated; p itself stays."""
    p, score = on_a_line(0.3)

    def change(rho: Tensor) -> Tensor:
        flux = rho * score - torch.gradient(rho, spacing=WIDTH)[0]
        return -torch.gradient(flux, spacing=WIDTH)[0]

    inside = p > 1e-9
    assert float(change(p)[inside].abs().max()) < 1e-3 * float((p * score**2).max())
    rho = torch.exp(-0.5 * ((GRID - 0.5) / 1.2) ** 2) / (1.2 * math.sqrt(2 * math.pi))
    log_ratio = rho.clamp(min=1e-300).log() - p.clamp(min=1e-300).log()
    near = p > 1e-40
    rate = (change(rho) * log_ratio)[near].sum() * WIDTH
    fisher = (rho * (-(GRID - 0.5) / 1.44 - score) ** 2)[near].sum() * WIDTH
    close(rate, -fisher, rtol=1e-3)
    tau, d, v = 0.8, 0.05, 3.0
    for _ in range(400):
        v = (1 - d / tau**2) ** 2 * v + 2 * d
    close(v, tau**2 / (1 - d / (2 * tau**2)))


# ---------------------------------------------------------------- NCSNv2


def test_ncsnv2_first() -> None:
    """The responsibility of the other of two points, by quadrature, is below the bound; and what the bound is worth."""
    for apart in (0.5, 1.0, 3.0):
        here, there = (torch.exp(-0.5 * (GRID - m) ** 2) / math.sqrt(2 * math.pi) for m in (0.0, apart))
        found = float((here * there / (here + there)).sum() * WIDTH)
        bound = 0.5 * math.exp(-(apart**2) / 8)
        assert 0 < found <= bound
        close(0.5 * (here * there).sqrt().sum() * WIDTH, bound, rtol=1e-6)
    assert 0.5 * math.exp(-1 / 8) == pytest.approx(0.44, abs=0.005)


def test_ncsnv2_ratio() -> None:
    D, sigma = 3072, 0.7
    mean = math.sqrt(2) * sigma * math.exp(math.lgamma((D + 1) / 2) - math.lgamma(D / 2))
    assert mean == pytest.approx(math.sqrt(D) * sigma, rel=1e-3)
    assert D * sigma**2 - mean**2 == pytest.approx(sigma**2 / 2, rel=0.01)
    gamma = techniques.ratio_of_levels(D)
    assert math.sqrt(2 * D) * (gamma - 1) == pytest.approx(3 * gamma, rel=1e-6)
    assert gamma == pytest.approx(1 / (1 - 3 / math.sqrt(2 * D)), rel=1e-6)
    here = torch.distributions.Normal(0.0, 1.0)  # radii of level i in its deviations; the shell of level i - 1 around
    shift = math.sqrt(2 * D) * (gamma - 1)
    inside = here.cdf(torch.tensor(shift + 3 * gamma)) - here.cdf(torch.tensor(shift - 3 * gamma))
    assert float(inside) == pytest.approx(techniques.overlap(gamma, D), abs=1e-6)


def test_ncsnv2_conditioning() -> None:
    """The norm of the score of noisy data times sigma is about the square root of D, whatever the data."""
    D, data = 400, normal(0, 20, 400)
    for sigma in (0.3, 3.0, 30.0):
        mixture = GaussianMixture(torch.full((20,), 0.05, dtype=torch.float64), data, torch.full_like(data, 1e-3))
        level = Level(*torch.tensor([1.0, sigma], dtype=torch.float64))
        x = (data + sigma * normal(1, 20, D)).requires_grad_()
        (score,) = torch.autograd.grad(mixture.log_prob(x, level).sum(), x)
        assert float(score.norm(dim=1).mean()) * sigma == pytest.approx(math.sqrt(D), rel=0.1)


def test_ncsnv2_step() -> None:
    for r, gamma, moves in ((0.1, 1.5, 5), (0.02, 1.05, 3)):
        V = gamma**2
        for _ in range(moves):
            V = (1 - r) ** 2 * V + 2 * r
        close(V, techniques.variance_ratio(r, gamma, moves))
        close(2 * r / (1 - (1 - r) ** 2), 2 / (2 - r))


def test_ncsnv2_average() -> None:
    m, thetas = 0.9, normal(0, 60)
    average = float(normal(1, 1))
    start = average
    for theta in thetas.tolist():
        average = m * average + (1 - m) * theta
    powers = m ** torch.arange(59, -1, -1, dtype=torch.float64)
    close(average, m**60 * start + (1 - m) * float((powers * thetas).sum()))
    close((1 - m) ** 2 * float((m ** (2 * torch.arange(400).double())).sum()), (1 - m) / (1 + m))
    assert pytest.approx(5e-4, rel=0.01) == (1 - 0.999) / (1 + 0.999)


# ---------------------------------------------------------------- Score-SDE


def test_score_sde_forward() -> None:
    """Many steps of either chain come to the kernels of the SDE."""
    N = 20_000
    t = (torch.arange(N, dtype=torch.float64) + 0.5) / N
    vp, ve = VP(), VE()
    beta = (0.1 + t * 19.9) / N
    alpha_bar = torch.cumprod(1 - beta, 0)[-1]
    close(alpha_bar, vp.alpha_sigma(torch.tensor(1.0))[0] ** 2, rtol=1e-2)
    close(1 - 0.5 * beta, (1 - beta).sqrt(), atol=1e-6)
    edges = ve.alpha_sigma(torch.arange(N + 1, dtype=torch.float64) / N)[1]
    added = (edges[1:] ** 2 - edges[:-1] ** 2) * N
    close(added, ve.drift_diffusion(t)[1], rtol=1e-3)


@SDES
def test_score_sde_kernels(schedule: Continuous) -> None:
    """The moments' equations, solved by Runge-Kutta, against the closed forms; and the table's g^2."""
    start, n = 0.01, 600
    alpha, sigma = schedule.alpha_sigma(torch.tensor(start))
    state = torch.stack([alpha, sigma**2])

    def field(t: float, m: Tensor) -> Tensor:
        f, g2 = schedule.drift_diffusion(torch.tensor(t, dtype=torch.float64))
        return torch.stack([f * m[0], 2 * f * m[1] + g2])

    h = (1 - start) / n
    for i in range(n):
        t = start + i * h
        k1 = field(t, state)
        state = state + h * field(t + h / 2, state + h / 2 * k1)
    alpha, sigma = schedule.alpha_sigma(torch.tensor(1.0))
    close(state, torch.stack([alpha, sigma**2]), rtol=1e-3)
    t = torch.tensor([0.1, 0.5, 0.9], dtype=torch.float64)
    f, g2 = schedule.drift_diffusion(t)
    if isinstance(schedule, VE):
        close(f, torch.zeros(3))
        close(g2, 2 * math.log(5000) * schedule.alpha_sigma(t)[1] ** 2)
        return
    beta, B = 0.1 + 19.9 * t, schedule.beta_integral(t)  # type: ignore[attr-defined, operator]
    close(f, -beta / 2)
    close(g2, beta * (1 - torch.exp(-2 * B)) if isinstance(schedule, SubVP) else beta, rtol=1e-7)


def on_the_plane(schedule: Continuous, time: float) -> tuple[Tensor, ...]:
    """p, dp/dt, the gradient and the Laplacian of p, score, div of the flow's p f~, at some points; by autograd."""
    mixture, x = ring(), 0.8 * normal(0, 7, 2)
    t = torch.full((7,), time, dtype=torch.float64)

    def density(x: Tensor, t: Tensor) -> Tensor:
        alpha, variance = schedule.alpha_variance(t)
        return mixture.log_prob(x[None], Level(alpha[None, None], variance.sqrt()[None, None])).exp()[0]

    p = torch.stack([density(a, b) for a, b in zip(x, t, strict=True)])
    over_t = torch.stack([torch.func.grad(density, 1)(a, b) for a, b in zip(x, t, strict=True)])
    slope = torch.stack([torch.func.grad(density)(a, b) for a, b in zip(x, t, strict=True)])
    laplacian = torch.stack([torch.func.hessian(density)(a, b).trace() for a, b in zip(x, t, strict=True)])
    return x, p, over_t, slope, laplacian


@SDES
def test_score_sde_reverse(schedule: Continuous) -> None:
    """Fokker-Planck forwards, and backwards with eq. 6: the change of the density is minus that forwards."""
    x, p, over_t, slope, laplacian = on_the_plane(schedule, 0.4)
    f, g2 = schedule.drift_diffusion(torch.tensor(0.4))
    along = 2 * f * p + f * (x * slope).sum(1)  # div (f p), f = f(t) x in the plane
    close(over_t, -along + 0.5 * g2 * laplacian, rtol=1e-6, atol=1e-9)
    backwards = along - g2 * laplacian + 0.5 * g2 * laplacian
    close(backwards, -over_t, rtol=1e-6, atol=1e-9)
    for kappa in (0.0, 0.5, 1.0):  # the family: drift f - (1 + kappa^2) g^2 score / 2, noise kappa g
        own = along - 0.5 * (1 + kappa**2) * g2 * laplacian + 0.5 * kappa**2 * g2 * laplacian
        close(own, -over_t, rtol=1e-6, atol=1e-9)


def test_score_sde_objective() -> None:
    process, x0, eps = GaussianDiffusion(VP()), normal(0, 4, 3), normal(1, 4, 3)
    t = torch.tensor(0.5, dtype=torch.float64)
    level = process.level(t, x0)
    x = level.noise(x0, eps).requires_grad_()
    log_kernel = -((x - level.alpha * x0) ** 2) / (2 * level.sigma**2)
    (slope,) = torch.autograd.grad(log_kernel.sum(), x)
    close(slope, -eps / level.sigma)
    guess = predict_eps(normal(2, 4, 3), x.detach(), t, process)
    close(level.sigma**2 * (guess.score - slope) ** 2, (guess.eps - eps) ** 2)


@SDES
def test_score_sde_flow(schedule: Continuous) -> None:
    """Continuity: dp/dt + div(p f~) is 0 with the field of the library; and f~ is the two-term form."""
    x, p, over_t, slope, _ = on_the_plane(schedule, 0.4)
    process, mixture = GaussianDiffusion(schedule), ring()
    field, t = probability_flow(process, mixture.denoise(process)), torch.tensor(0.4, dtype=torch.float64)

    def at(point: Tensor) -> Tensor:
        return field(point[None], t)[0]

    divergence = torch.stack([torch.autograd.functional.jacobian(at, point).trace() for point in x])
    moved = field(x, t)
    close(over_t + p * divergence + (slope * moved).sum(1), torch.zeros(7), atol=1e-8)
    f, g2 = schedule.drift_diffusion(t)
    close(moved, f * x - 0.5 * g2 * slope / p[:, None], rtol=1e-7)


def test_score_sde_likelihood() -> None:
    """On Gaussian data the flow is linear: the log density changes by the log of what it spreads, its divergence."""
    schedule = VP()
    mean, std = torch.tensor([0.5, -1.0], dtype=torch.float64), torch.tensor([0.4, 0.8], dtype=torch.float64)
    data, x = gaussian(mean, std), normal(0, 3, 2)

    def level(t: float) -> Level:
        return Level(*schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64)))

    start, end, n = 0.05, 0.9, 400
    h = (end - start) / n
    process = GaussianDiffusion(schedule)
    field, total = probability_flow(process, data.denoise(process)), 0.0
    for i in range(n):
        t = torch.tensor(start + (i + 0.5) * h, dtype=torch.float64)
        slopes = field(torch.stack([mean * 0, *torch.eye(2).double()]), t)
        total += h * float((slopes[1:] - slopes[0]).diagonal().sum())
    there = gaussian_flow(mean, std, x, level(start), level(end))
    change = data.log_prob(x, level(start)) - data.log_prob(there, level(end))
    close(change, torch.full((3,), total), rtol=1e-5)


def test_score_sde_algorithm() -> None:
    """A corrector's move leaves the density as it is; its size has the wanted ratio of lengths."""
    ratio, z, s = 0.16, normal(0, 8), normal(1, 8)
    d = 2 * (ratio * float(z.norm() / s.norm())) ** 2
    close(d * s.norm(), ratio * (math.sqrt(2 * d) * z).norm())
    p, score = on_a_line(0.5)
    errors = []
    for size in (0.04, 0.02):
        after = GRID + size * score
        kernel = torch.exp(-((GRID[:, None] - after) ** 2) / (4 * size)) / math.sqrt(4 * math.pi * size)
        errors.append(float(((kernel @ p) * WIDTH - p).abs().sum() * WIDTH))
    assert errors[0] < 0.02
    assert 3 < errors[0] / errors[1] < 5  # of second order in the size of one move


# ---------------------------------------------------------------- ADM


def classify(x: Tensor, t: Tensor) -> Tensor:
    """Logits of three classes, a smooth function."""
    return torch.stack([x[:, 0] - x[:, 1] ** 2, torch.sin(x[:, 1]), 0.3 * x[:, 0] * x[:, 1]], 1)


def test_adm_taylor() -> None:
    """The product of a narrow step with the classifier has, by quadrature, the mean mu + Sigma g, up to its square."""
    mu = 0.3

    def log_r(x: Tensor) -> Tensor:
        return torch.sin(2 * x) - 0.3 * x**2

    g, errors = 2 * math.cos(2 * mu) - 0.6 * mu, []
    for variance in (0.04, 0.02):
        weights = torch.exp(-((GRID - mu) ** 2) / (2 * variance) + log_r(GRID))
        mean = float((weights * GRID).sum() / weights.sum())
        errors.append(abs(mean - mu - variance * g))
        assert errors[-1] < 0.2 * abs(variance * g)
    assert 3 < errors[0] / errors[1] < 5
    process, x = linear(), normal(0, 4, 2)
    denoise, y = ring().denoise(process), torch.tensor([0, 1, 2, 0])
    slope = classifier_gradient(classify, y)(x, T)
    plain = reverse(process, fixed_large, denoise(x, T), T, S)
    step, _ = AncestralStep(process, denoise, fixed_large, lambda at, t: 2.0 * slope)(x, T, S)
    close(step.mean, plain.mean + 2.0 * plain.std**2 * slope)
    close(step.std, plain.std)
    at = x.clone().requires_grad_()
    (wanted,) = torch.autograd.grad(classify(at, T).log_softmax(1)[torch.arange(4), y].sum(), at)
    close(slope, wanted, rtol=1e-4)  # a classifier's probabilities are in float32


def test_adm_score() -> None:
    process, x, y = linear(), normal(0, 4, 2), torch.tensor([0, 1, 2, 0])
    denoise, slope = ring().denoise(process), classifier_gradient(classify, y)
    plain, level = denoise(x, T), process.level(T, x)
    guided = score_shifted(denoise, slope)(x, T)
    close(guided.eps, plain.eps - level.sigma * slope(x, T))
    close(guided.score, plain.score + slope(x, T))
    a_s, s_s = process.schedule.alpha_sigma(S)
    step, _ = DDIMStep(process, score_shifted(denoise, slope))(x, T, S)
    close(step.mean, a_s * (x - level.sigma * guided.eps) / level.alpha + s_s * guided.eps, rtol=1e-7)
    # a power and noise cannot be exchanged: the noisy version of p^2 / Z is not (noisy p)^2 / Z
    clean, noisy = on_a_line(0.0)[0] ** 2, on_a_line(0.8)[0] ** 2
    clean, noisy = clean / (clean.sum() * WIDTH), noisy / (noisy.sum() * WIDTH)
    kernel = torch.exp(-0.5 * ((GRID[:, None] - GRID) / 0.8) ** 2) / (0.8 * math.sqrt(2 * math.pi))
    assert float(((kernel @ clean) * WIDTH - noisy).abs().sum() * WIDTH) > 0.2


def test_adm_classifier_free() -> None:
    """With exact scores of all and of one component, the difference is the gradient of the exact classifier."""
    process, mixture, x = linear(), ring(), normal(0, 4, 2)
    every, one = mixture.denoise(process), gaussian(mixture.means[2], mixture.stds[2]).denoise(process)
    level = process.level(T, x)
    at = x.clone().requires_grad_()
    (slope,) = torch.autograd.grad(mixture.responsibilities(at, level)[:, 2].log().sum(), at)
    close(slope, -(one(x, T).eps - every(x, T).eps) / level.sigma)
    for scale in (0.0, 1.0, 3.0):
        close(classifier_free(one, every, scale)(x, T).eps, every(x, T).eps - scale * level.sigma * slope)
        w = scale - 1
        close(classifier_free(one, every, scale)(x, T).eps, (1 + w) * one(x, T).eps - w * every(x, T).eps)


# ---------------------------------------------------------------- measuring, capstone


def test_measuring_frechet() -> None:
    """No coupling is better than the formula; the one of an orthogonal Q reaches it."""
    first, second = (m @ m.T + 0.1 * torch.eye(3) for m in (normal(0, 3, 3), normal(1, 3, 3)))

    def root(C: Tensor) -> Tensor:
        values, vectors = torch.linalg.eigh(C)
        return (vectors * values.sqrt()) @ vectors.T

    shift = torch.tensor([0.3, -0.2, 1.0], dtype=torch.float64)
    distance = frechet_distance(Statistics(shift, first, 10), Statistics(0 * shift, second, 10))

    def squared(Q: Tensor) -> float:
        K = root(first) @ Q @ root(second)
        return float(shift.square().sum() + first.trace() + second.trace() - 2 * K.trace())

    U, _, V = torch.linalg.svd(root(second) @ root(first))
    assert squared(V.T @ U.T) == pytest.approx(distance, rel=1e-9)
    for seed in range(30):
        Q = normal(seed, 3, 3)
        assert squared(Q / torch.linalg.matrix_norm(Q, 2)) > distance


def test_measuring_floor() -> None:
    n, m, trials = 20, 50, 2000
    a, b = normal(0, trials, n, 3), normal(1, trials, m, 3)
    found = (a.mean(1) - b.mean(1)).square().sum(1)
    assert float(found.mean()) == pytest.approx(3 * (1 / n + 1 / m), abs=4 * float(found.std()) / trials**0.5)
    mmd = torch.tensor([squared_mmd(x, y) for x, y in zip(a[:300], b[:300], strict=True)])
    assert abs(float(mmd.mean())) < 4 * float(mmd.std()) / 300**0.5
    assert 0.3 < float((mmd < 0).double().mean()) < 0.8


def test_capstone_one_step() -> None:
    process, x, d = linear(), normal(0, 5, 2), 0.01
    denoise = ring().denoise(process)
    (_, s_t), (a_s, s_s) = process.schedule.alpha_sigma(T), process.schedule.alpha_sigma(S)
    prediction, tilde = denoise(x, T), process.posterior_coefficients(T, S)[2]
    for eta in (0.0, 1.0):
        c = eta * tilde
        step, _ = DDIMStep(process, denoise, eta)(x, T, S)
        close(step.mean, a_s * prediction.x0 + (s_s**2 - c**2).sqrt() * prediction.eps)
    large = reverse(process, fixed_large, prediction, T, S)
    close(large.mean, a_s * prediction.x0 + (s_s**2 - tilde**2).sqrt() * prediction.eps, rtol=1e-7)
    close(large.std, process.between(S, T).sigma.expand_as(large.std), rtol=1e-7)
    moved, _ = LangevinStep(denoise, constant(d))(x, T, T)
    a_t = process.schedule.alpha_sigma(T)[0]
    close(moved.mean, a_t * prediction.x0 + (s_t - d / s_t) * prediction.eps)
    close((s_t - d / s_t) ** 2 + 2 * d, s_t**2 + d**2 / s_t**2)
    close((s_t**2 - 2 * d).sqrt(), s_t - d / s_t, atol=float(d**2 / s_t**3))
