"""What the lessons on work after 2021 derive, evaluated: one test a derivation, on data whose answers are known."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato import inverse
from sfumato.claims import CLAIMS, judge
from sfumato.claims.toys import cosine, normal, ring, seeded
from sfumato.core.continuous import VP, LinearFlow, PowerVE
from sfumato.core.denoisers import Prediction, predict_f, predict_u, predict_v
from sfumato.core.distillation import two_step_target
from sfumato.core.distributions import Gaussian
from sfumato.core.exact import GaussianMixture, gaussian, gaussian_flow
from sfumato.core.mean_flow import mean_target
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.reflow import straightness
from sfumato.core.schedules import Level
from sfumato.networks.dit import DiT
from sfumato.networks.tokens import MLP, Block, patchify
from sfumato.samplers import DDIM, SiT, run
from sfumato.samplers.ddim import DDIMStep
from sfumato.samplers.grids import karras
from sfumato.samplers.heun import ChurnStep
from sfumato.samplers.multistep import exponential_moments, half_log_snr

ONE = torch.tensor(1.0, dtype=torch.float64)


def close(a: float | Tensor, b: float | Tensor, rtol: float = 1e-9) -> None:
    torch.testing.assert_close(
        torch.as_tensor(a, dtype=torch.float64), torch.as_tensor(b, dtype=torch.float64), rtol=rtol, atol=1e-12
    )


# ---------------------------------------------------------------- fast solvers and EDM


def test_edm_exponential() -> None:
    """The exact integral along the exact path of Gaussian data; held constant, it is DDIM."""
    process, std = GaussianDiffusion(VP()), 0.4 * torch.ones(1, dtype=torch.float64)
    denoise = gaussian(0 * std, std).denoise(process)
    t, s = (torch.tensor(v, dtype=torch.float64) for v in (0.7, 0.5))
    x = normal(0, 6, 1)
    start, end = process.level(t, x), process.level(s, x)
    lambdas = torch.linspace(half_log_snr(start), half_log_snr(end), 2001, dtype=torch.float64)
    times = process.schedule.at(lambdas)
    x0 = torch.stack(
        [denoise(gaussian_flow(0 * std, std, x, start, process.level(time, x)), time).x0 for time in times]
    )
    integral = torch.trapezoid(torch.exp(lambdas - lambdas[-1])[:, None, None] * x0, lambdas, dim=0)
    found = end.sigma / start.sigma * x + end.alpha * integral
    close(found, gaussian_flow(0 * std, std, x, start, end), rtol=1e-5)
    h = float(lambdas[-1] - lambdas[0])
    held = end.sigma / start.sigma * x + end.alpha * -math.expm1(-h) * denoise(x, t).x0
    close(held, DDIMStep(process, denoise)(x, t, s).to.mean, rtol=1e-6)


def test_edm_multistep() -> None:
    h = 0.01
    moment = h * exponential_moments(h, 2)[1]
    close(moment, h - 1 + math.exp(-h), rtol=1e-6)
    assert moment == pytest.approx(h**2 / 2 - h**3 / 6, rel=1e-4)
    assert h / 2 * -math.expm1(-h) == pytest.approx(h**2 / 2 - h**3 / 4, rel=1e-4)
    process, mixture = GaussianDiffusion(VP()), ring()
    x, denoise = normal(0, 40, 2), mixture.denoise(process)
    exact = run("heun?grid=log-snr", process, denoise, x, steps=600)
    errors = [float((run("dpmpp-2m?grid=log-snr", process, denoise, x, steps=n) - exact).norm()) for n in (60, 120)]
    assert math.log2(errors[0] / errors[1]) == pytest.approx(2, abs=0.35)


def test_edm_third() -> None:
    """Newton's parabola; the step without the 2 is the published one, of order 2."""
    r0, r1, a, b, c = 0.7, 1.3, 0.2, -0.5, 0.9
    at = {u: a + b * u + c * u**2 for u in (0.0, -r0, -(r0 + r1))}
    d0, d1 = (at[0.0] - at[-r0]) / r0, (at[-r0] - at[-(r0 + r1)]) / r1
    close(d0 + r0 * (d0 - d1) / (r0 + r1), b)
    close(2 * (d0 - d1) / (r0 + r1), 2 * c)
    verdict = judge(CLAIMS["solvers/third-order"], seeds=1, fast=True)
    assert verdict.mean("published: order") == pytest.approx(2, abs=0.2)
    assert verdict.mean("mended: order") > 2.7


def test_edm_preconditioning() -> None:
    data, x0, eps = 0.5, 0.5 * normal(0, 200_000, 1), normal(1, 200_000, 1)
    process = GaussianDiffusion(PowerVE())
    for sigma in (0.05, 0.5, 5.0):
        skip, out = data**2 / (sigma**2 + data**2), sigma * data / math.hypot(sigma, data)
        x = x0 + sigma * eps
        assert float(((x0 - skip * x) / out).var()) == pytest.approx(1, abs=0.02)
        close(out**2, (1 - skip) ** 2 * data**2 + skip**2 * sigma**2)
        for other in (skip - 0.01, skip + 0.01):
            assert out**2 < (1 - other) ** 2 * data**2 + other**2 * sigma**2
        t = process.schedule.at(torch.tensor(-math.log(sigma), dtype=torch.float64))
        F = normal(2, 5, 1)
        close(predict_f(data)(F, x[:5], t, process).x0, skip * x[:5] + out * F, rtol=1e-6)
        close(1 / out**2, (sigma**2 + data**2) / (sigma * data) ** 2)
    vp, t = cosine(), torch.tensor(500)
    x, v = normal(3, 5, 1), normal(4, 5, 1)
    close(predict_f(1.0)(-v, x, t, vp).x0, predict_v(v, x, t, vp).x0, rtol=1e-6)


def test_edm_grid() -> None:
    n, rho = 18, 7.0
    i = torch.arange(n, dtype=torch.float64)
    stated = (80 ** (1 / rho) + i / (n - 1) * (0.002 ** (1 / rho) - 80 ** (1 / rho))) ** rho
    assert stated[1].item() == pytest.approx(57.59, abs=0.01)
    schedule = PowerVE()
    close(schedule.alpha_sigma(schedule.times(n))[1], torch.cat([stated, 0 * ONE[None]]), rtol=1e-9)
    h = -stated.log().diff()
    assert bool((h.diff() > 0).all())
    close(rho * (1e7 ** (1e-9 / rho) - 1), 1e-9 * math.log(1e7), rtol=1e-5)
    below = GaussianDiffusion(VP()).schedule
    roots = torch.exp(-below.log_snr(karras(below, 9)[:-1]) / 2 / rho).diff()
    close(roots, roots[0].expand(8), rtol=1e-4)


def test_edm_churn() -> None:
    """Up and down again is Langevin's step to first order; the level raised is exact."""
    process, std = GaussianDiffusion(PowerVE()), 0.6
    t = process.schedule.at(torch.tensor(0.0, dtype=torch.float64))
    sigma = float(process.schedule.alpha_sigma(t)[1])
    errors = []
    for gamma in (0.02, 0.01):
        up = process.schedule.at(torch.tensor(-math.log((1 + gamma) * sigma), dtype=torch.float64))
        step = ChurnStep(process)(ONE[None], t, up).to
        assert isinstance(step, Gaussian)
        added = float(step.std) ** 2
        close(added, ((1 + gamma) ** 2 - 1) * sigma**2, rtol=1e-6)
        down = gaussian_flow(0 * ONE, std * ONE, ONE, Level(ONE, (1 + gamma) * sigma * ONE), Level(ONE, sigma * ONE))
        langevin = 1 + added / 2 * -1 / (std**2 + sigma**2)
        errors.append(abs(float(down) - langevin))
    assert errors[0] < 1e-3
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.2)


# ---------------------------------------------------------------- flow matching

FLOW = GaussianDiffusion(LinearFlow())
ONE_DIMENSION = GaussianMixture(
    torch.tensor([0.3, 0.7], dtype=torch.float64),
    torch.tensor([[-1.0], [0.8]], dtype=torch.float64),
    torch.tensor([[0.3], [0.2]], dtype=torch.float64),
)


def velocity(mixture: GaussianMixture, x: Tensor, t: float) -> Tensor:
    prediction = mixture.denoise(FLOW)(x, torch.tensor(t, dtype=torch.float64))
    return prediction.eps - prediction.x0


def test_flow_marginal() -> None:
    """The continuity equation in one dimension: dp/dt + (u p)' is 0."""
    x = torch.linspace(-2, 2, 9, dtype=torch.float64)[:, None].requires_grad_()
    for t in (0.3, 0.7):

        def density(at: float) -> Tensor:
            level = FLOW.level(torch.tensor(at, dtype=torch.float64), x)
            return ONE_DIMENSION.log_prob(x, level).exp()

        in_time = (density(t + 1e-5) - density(t - 1e-5)) / 2e-5
        (in_space,) = torch.autograd.grad((velocity(ONE_DIMENSION, x, t)[:, 0] * density(t)).sum(), x)
        assert float((in_time + in_space[:, 0]).detach().abs().max()) < 1e-6


def test_flow_conditional() -> None:
    x0, eps = ring().sample(60_000, torch.Generator().manual_seed(0)), normal(1, 60_000, 2)
    x = 0.5 * (x0 + eps)
    u = velocity(ring(), x, 0.5)
    gaps = []
    for field in (u, 0 * u, torch.sin(2 * x), u + 0.3):
        gaps.append(float((field - (eps - x0)).square().sum(1).mean() - (field - u).square().sum(1).mean()))
    assert max(gaps) - min(gaps) < 0.05
    assert gaps[0] > 0.1


def test_flow_velocity() -> None:
    x0, eps = normal(0, 4, 2), normal(1, 4, 2)
    for t in (0.2, 0.9):
        time = torch.tensor(t, dtype=torch.float64)
        x = (1 - t) * x0 + t * eps
        found = predict_u(eps - x0, x, time, FLOW)
        close(found.x0, x - t * (eps - x0))
        close(found.eps, x + (1 - t) * (eps - x0))
        wrong = predict_u(eps - x0 + 0.1, x, time, FLOW)
        close(torch.full_like(x, 0.1**2), (1 + (1 - t) / t) ** 2 * (wrong.x0 - x0) ** 2, rtol=1e-6)


def test_flow_euler() -> None:
    x, t, s = normal(0, 5, 2), torch.tensor(0.8, dtype=torch.float64), torch.tensor(0.35, dtype=torch.float64)
    stepped = DDIMStep(FLOW, ring().denoise(FLOW))(x, t, s).to.mean
    close(stepped, x - 0.45 * velocity(ring(), x, 0.8), rtol=1e-7)


def test_flow_times() -> None:
    n = normal(0, 7)
    t = torch.sigmoid(-1.2 + 1.2 * n)
    alpha, sigma = FLOW.schedule.alpha_sigma(t)
    close((sigma / alpha).log(), -1.2 + 1.2 * n, rtol=1e-7)
    (a, b), (a_s, b_s) = FLOW.schedule.alpha_sigma(t), LinearFlow(3.0).alpha_sigma(t)
    close(b_s / a_s, 3 * b / a)
    close(b_s, 3 * t / (1 + 2 * t))
    assert float(normal(1, 4000, 16).mean(1).std()) == pytest.approx(1 / 4, rel=0.05)


def test_flow_reflow() -> None:
    """One step goes to the mean; no cost grows; in one dimension the second flow is straight."""
    z = normal(0, 3000, 1)
    ends = run("heun", FLOW, ONE_DIMENSION.denoise(FLOW), z, steps=100)
    one = run("ddim", FLOW, ONE_DIMENSION.denoise(FLOW), z, steps=1)
    close(one, torch.full_like(one, 0.7 * 0.8 - 0.3), rtol=1e-6)
    order = z[:, 0].argsort()
    assert bool((ends[order, 0].diff() > 0).all())  # increasing, so lines do not cross
    blind = ONE_DIMENSION.sample(3000, torch.Generator().manual_seed(2))
    for cost in (torch.square, torch.abs):
        assert float(cost(z - ends).mean()) < float(cost(z - blind).mean())
    bent = straightness(z, DDIM().plan(FLOW, ONE_DIMENSION.denoise(FLOW), 100)).mean()
    assert float(bent) > 0.01
    for t in (0.25, 0.75):  # on the new lines the order stays, so a point and a time tell the line
        assert bool(((1 - t) * ends + t * z)[order, 0].diff().gt(0).all())


def test_flow_sde() -> None:
    """Variance of Gaussian data along SiT's steps, for any amount of noise."""
    std, ends = 0.5, []
    denoise = gaussian(0 * ONE[None], std * ONE[None]).denoise(FLOW)
    for scale in (0.0, 1.0, 4.0):
        x = normal(3, 40_000, 1)
        ends.append(float(run(SiT(scale=scale), FLOW, denoise, x, steps=100).std()))
    assert ends == pytest.approx([std] * 3, rel=0.02)


# ---------------------------------------------------------------- few steps


def test_few_steps_distillation() -> None:
    denoise, x = ring().denoise(FLOW), normal(0, 6, 2)
    t, m, s = (torch.full((6,), v, dtype=torch.float64) for v in (0.9, 0.6, 0.3))
    found = two_step_target(denoise, x, t, m, s, FLOW)
    x_m = DDIMStep(FLOW, denoise)(x, t[0], m[0]).to.mean
    x_s = DDIMStep(FLOW, denoise)(x_m, m[0], s[0]).to.mean
    close(found, (x_s - 0.3 / 0.9 * x) / (0.7 - 0.3 / 0.9 * 0.1), rtol=1e-6)
    w = (0.4 / 0.6 - 0.1 / 0.9) / (0.7 / 0.3 - 0.1 / 0.9)
    close(found, (1 - w) * denoise(x_m, m[0]).x0 + w * denoise(x, t[0]).x0, rtol=1e-6)


def test_few_steps_consistency() -> None:
    """For Gaussian data: what f says a little lower on the line, in the mean, up to the square of the way."""
    v, x, t = 0.3, 1.7, 1.2
    errors = []
    for step in (0.1, 0.05):
        r = t - step
        mean = x - step * t * x / (v + t**2)  # E[x_r | x_t], by the mean of eps
        errors.append(abs(math.sqrt(v / (v + r**2)) * mean - math.sqrt(v / (v + t**2)) * x))
    assert errors[0] / errors[1] == pytest.approx(4, rel=0.15)
    process = GaussianDiffusion(PowerVE())
    output, at = normal(0, 3, 1), torch.tensor(0.0, dtype=torch.float64)
    close(predict_f(0.5)(output, output + 1, at, process).x0, output + 1)


def test_few_steps_gaussian() -> None:
    m, v, sigma, x = 0.4, 0.3, 1.5, normal(0, 6, 1)
    mean, std = m * ONE[None], v**0.5 * ONE[None]
    clean, noisy = Level(ONE, 0 * ONE), Level(ONE, sigma * ONE)
    close(gaussian_flow(mean, std, x, noisy, clean), m + math.sqrt(v / (v + sigma**2)) * (x - m))
    process = GaussianDiffusion(PowerVE())
    t = process.schedule.at(torch.tensor(-math.log(sigma), dtype=torch.float64))
    close(gaussian(mean, std).denoise(process)(x, t).x0, m + v / (v + sigma**2) * (x - m), rtol=1e-6)
    (a_t, b_t), (a_r, b_r) = (0.3, 0.7), (0.6, 0.4)
    s_t, s_r = math.hypot(a_t * v**0.5, b_t), math.hypot(a_r * v**0.5, b_r)
    found = gaussian_flow(mean, std, x, Level(a_t * ONE, b_t * ONE), Level(a_r * ONE, b_r * ONE))
    close(found, a_r * m + s_r / s_t * (x - a_t * m))


def test_few_steps_multistep() -> None:
    """The exact function keeps the data's variance in any number of steps; the denoiser does not in one."""
    v = 0.3
    process = GaussianDiffusion(PowerVE())
    exact = gaussian(0 * ONE[None], v**0.5 * ONE[None]).denoise(process)

    def f(x: Tensor, t: Tensor) -> Prediction:
        level = process.level(t, x)
        return exact(x, t).with_x0((v / (v + level.sigma**2)).sqrt() * x)

    x = 80 * normal(0, 40_000, 1)
    for n in (1, 2, 4):
        assert float(run("consistency", process, f, x, steps=n, noise=seeded(5)).var()) == pytest.approx(v, rel=0.04)
    assert float(exact(x, torch.tensor(1.0, dtype=torch.float64)).x0.var()) == pytest.approx(v**2 / 6400, rel=0.05)


def test_few_steps_mean_flow() -> None:
    def s(t: Tensor) -> Tensor:
        return ((1 - t) ** 2 * 0.3 + t**2).sqrt()

    def average(z: Tensor, t: Tensor, length: Tensor) -> Tensor:
        r = t - length
        return z * ((1 - s(r) / s(t)) / length)[:, None]

    t, length, z = torch.tensor([0.9, 0.5]), torch.tensor([0.6, 0.2]), torch.tensor([[1.0], [-0.4]])
    v = z * ((t - (1 - t) * 0.3) / s(t) ** 2)[:, None]
    torch.testing.assert_close(mean_target(average, z, v, t, length), average(z, t, length), rtol=1e-4, atol=1e-5)
    times = torch.linspace(0.3, 0.9, 4001, dtype=torch.float64)
    path = s(times) / s(times[-1:])
    integral = torch.trapezoid(path * (times - (1 - times) * 0.3) / s(times) ** 2, times) / 0.6
    assert float(integral) == pytest.approx(float(average(z[:1], t[:1], length[:1])), rel=1e-4)


# ---------------------------------------------------------------- inverse problems

RHO = 0.9
C = torch.tensor([[1.0, RHO], [RHO, 1.0]], dtype=torch.float64)


def correlated(x: Tensor, t: Tensor) -> Prediction:
    """The denoiser of two unit Gaussians with correlation RHO."""
    level = cosine().level(t, x)
    inverted = torch.linalg.inv(level.alpha**2 * C + level.sigma**2 * torch.eye(2, dtype=torch.float64))
    x0 = x @ (level.alpha * C @ inverted).T
    return Prediction(x, level, level.eps(x, x0), x0)


def test_inverse_bayes() -> None:
    """The gradient of log p(y | x_t), a shift of x0 times sigma^2 / alpha, for Gaussians in closed form."""
    t, noise, x = torch.tensor(400), 0.3, normal(0, 5, 2).requires_grad_()
    level = cosine().level(t, x)
    mean = correlated(x, t).x0
    V = C - level.alpha**2 * C @ torch.linalg.inv(level.alpha**2 * C + level.sigma**2 * torch.eye(2)) @ C
    likelihood = torch.distributions.Normal(mean[:, 0], (V[0, 0] + noise**2).sqrt()).log_prob(0.7 * ONE)
    (gradient,) = torch.autograd.grad(likelihood.sum(), x)
    shifted = mean.detach() + level.sigma**2 / level.alpha * gradient
    seen = torch.tensor([[level.alpha, 0, level.sigma, 0], [0, level.alpha, 0, level.sigma]], dtype=torch.float64)
    joint = torch.cat([seen, torch.tensor([[1.0, 0, 0, 0]], dtype=torch.float64)])  # x_t and y of (x0, eps)
    prior = torch.block_diag(C, torch.eye(2, dtype=torch.float64))
    noisy = joint @ prior @ joint.T + torch.diag(torch.tensor([0, 0, noise**2], dtype=torch.float64))
    values = torch.cat([x.detach(), torch.full((5, 1), 0.7, dtype=torch.float64)], dim=1)
    close(shifted, values @ torch.linalg.inv(noisy) @ joint @ prior[:, :2], rtol=1e-6)


def test_inverse_gaussian() -> None:
    """MMPS is that posterior mean; PiGDM is, where data are uncorrelated and of unit variance."""
    t, x = torch.tensor(400), normal(0, 5, 2)
    level = cosine().level(t, x)
    measured = inverse.Measurement(
        inverse.Mask(torch.tensor([True, False])), torch.tensor([[0.7, 0.0]] * 5, dtype=torch.float64), 0.3
    )
    D = correlated(x, t).x0
    V = C - level.alpha**2 * C @ torch.linalg.inv(level.alpha**2 * C + level.sigma**2 * torch.eye(2)) @ C
    stated = D + V[:, 0] / (0.3**2 + V[0, 0]) * (0.7 - D[:, :1])
    close(inverse.MMPS().denoiser(correlated, measured)(x, t).x0, stated, rtol=1e-6)
    assert float((inverse.PiGDM().denoiser(correlated, measured)(x, t).x0 - stated).abs().max()) > 0.01
    unit = gaussian(torch.zeros(2, dtype=torch.float64), torch.ones(2, dtype=torch.float64)).denoise(cosine())
    both = [method.denoiser(unit, measured)(x, t).x0 for method in (inverse.MMPS(), inverse.PiGDM())]
    close(both[0], both[1], rtol=1e-6)


def test_inverse_dps() -> None:
    """Without V in the inverse the factor of y - D has no bound; with it, it is at most 1."""
    v, sigma = 0.5, 1.0
    V = v * sigma**2 / (v + sigma**2)
    x = torch.tensor(0.4, dtype=torch.float64, requires_grad=True)
    for noise in (0.5, 0.01):
        D = v / (v + sigma**2) * x
        (gradient,) = torch.autograd.grad((0.7 - D) ** 2 / (2 * noise**2), x)
        close(-(sigma**2) * gradient / (0.7 - D.detach()), V / noise**2, rtol=1e-7)
        assert V / (noise**2 + V) <= 1
    assert V / 0.01**2 > 1000


def test_inverse_replacement() -> None:
    """The mean drift of the unknown part, by sampling, and the bias that it ends in."""
    a = 0.6
    s = math.sqrt(1 - a**2)
    y, b = 1.3, 0.4
    known = a * y + s * normal(0, 400_000)
    score = -(b - a**2 * RHO * known) / (1 - a**4 * RHO**2)
    assert float(score.mean()) == pytest.approx(-(b - a**3 * RHO * y) / (1 - a**4 * RHO**2), abs=0.01)
    mean, variance = a * RHO * y, a**2 * (1 - RHO**2) + s**2  # of b_t given y
    close(-(b - mean) / variance, -(b - a * RHO * y) / (1 - a**2 * RHO**2))
    seen = torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(4000, 2)
    measured = inverse.Measurement(inverse.Mask(torch.tensor([True, False])), seen)
    for steps in (50, 150):
        ends = inverse.run(
            "replacement", cosine(), correlated, measured, normal(0, 4000, 2), sampler="ancestral", steps=steps,
            noise=seeded(3),
        )  # fmt: skip
        assert float(ends[:, 1].mean()) == pytest.approx(0.624, abs=0.03)


# ---------------------------------------------------------------- latents, cascades, ControlNet, DiT


def test_latents_linear() -> None:
    x = normal(0, 3000, 6) @ torch.diag(torch.tensor([3, 2, 1, 0.5, 0.3, 0.1], dtype=torch.float64)) @ normal(1, 6, 6)
    x = x - x.mean(0)
    values, vectors = torch.linalg.eigh(x.T @ x / len(x))
    for k in (1, 3):
        W = vectors[:, -k:].T
        close((x - x @ W.T @ W).square().sum(1).mean(), values[:-k].sum(), rtol=1e-7)
        other = torch.linalg.qr(normal(2, 6, k))[0].T
        assert float((x - x @ other.T @ other).square().sum(1).mean()) > float(values[:-k].sum())


def test_latents_shrinking() -> None:
    x0, eps = normal(0, 50, 1, 16, 16), normal(1, 50, 1, 16, 16)
    for k in (2, 4):
        shrink = inverse.MeanPool(k)
        close(shrink(0.6 * x0 + 0.8 * eps), 0.6 * shrink(x0) + 0.8 * shrink(eps), rtol=1e-7)
        assert float(shrink(eps).std()) == pytest.approx(1 / k, rel=0.05)


def test_latents_zero() -> None:
    frozen, copy, zero = (torch.nn.Linear(3, 3).double() for _ in range(3))
    torch.nn.init.zeros_(zero.weight)
    torch.nn.init.zeros_(zero.bias)
    x = normal(0, 5, 3)
    out = frozen(x) + zero(copy(x))
    close(out, frozen(x))
    out.square().sum().backward()
    assert zero.weight.grad is not None
    assert copy.weight.grad is not None
    assert float(zero.weight.grad.abs().max()) > 0
    assert float(copy.weight.grad.abs().max()) == 0
    close(zero.weight.grad, (2 * out.detach()).T @ copy(x).detach(), rtol=1e-6)


def test_latents_adaln() -> None:
    block, h = Block(16, 2, MLP(16, 32)), normal(0, 2, 9, 16).float()
    assert torch.equal(block(h, torch.randn(2, 16)), h)
    net = DiT(patch=4, width=16, depth=3, heads=2).build((1, 8, 8), 1)
    assert float(net(torch.randn(2, 1, 8, 8), torch.tensor([1.0, 9.0])).detach().abs().max()) == 0
    tokens = [patchify(torch.zeros(1, 1, 32, 32), p).shape[1] for p in (4, 2)]
    assert tokens == [64, 256]
    assert tokens[1] ** 2 == 16 * tokens[0] ** 2
