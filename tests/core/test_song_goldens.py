"""The score line against the recorded numbers of the official code: tables, losses, steps, whole runs, flows.

Official time t, label and table index are translated at the top of each test; level i + 1 of our tables is index i.
"""

from __future__ import annotations

from importlib.util import find_spec
from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.core import matching, ode
from sfumato.core.betas import geometric_sigmas
from sfumato.core.continuous import VE, VP, SubVP
from sfumato.core.denoisers import Denoise, Prediction, predict_eps, predict_score
from sfumato.core.inpainting import GREY, Replacement, greyness, turn
from sfumato.core.likelihood import bits_per_dim, flow_log_prob, hutchinson
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import Kernel, Move, finish, trajectory
from sfumato.core.schedules import Schedule, Table, from_betas, from_sigmas, like
from sfumato.core.variances import fixed_large, fixed_small
from sfumato.likelihood.flow import adaptive
from sfumato.samplers import langevin, predictor_corrector, reverse_sde
from sfumato.samplers.ancestral import AncestralStep
from tests.golden.song import Noises, compare, load, sources
from tests.golden.song_data import exact, toy


class Official:
    """An official SDE: our continuous schedule, our table of its N levels, and the published step."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.kind, self.N = about["type"], about["N"]
        self.table: Table | None = None
        if self.kind == "vesde":
            low, high = about["sigma_min"], about["sigma_max"]
            self.schedule: Any = VE(low, high)
            self.table = from_sigmas(geometric_sigmas(self.N, low, high))
            self.step = reverse_sde.published_ve(self.N, low, high)
        else:
            low, high = about["beta_min"], about["beta_max"]
            self.schedule = (VP if self.kind == "vpsde" else SubVP)(low, high)
            self.step = reverse_sde.published_sub_vp(low, high)
            if self.kind == "vpsde":
                self.table = from_betas(torch.linspace(low / self.N, high / self.N, self.N, dtype=torch.float64))
                self.step = reverse_sde.published_vp(self.N, low, high)
        self.process = GaussianDiffusion(self.schedule)
        self.retained = langevin.retained_by(self.step) if self.kind == "vpsde" else langevin.all_retained

    def below(self, t: Tensor) -> Tensor:
        """Where an official step from t begins."""
        return t - 1 / self.N

    def level(self, t: Tensor) -> Tensor:
        """Our level of a time: the official index, and one more."""
        return (t * (self.N - 1)).floor().long() + 1


# ---------------------------------------------------------------- tables and scores


@pytest.mark.parametrize(("source", "name"), sources("tables"))
def test_tables(source: str, name: str) -> None:
    case = load(source, name)
    official = Official(case.recipe["sde"])
    process, schedule, x = official.process, official.schedule, case.input("x").double()
    t = torch.tensor(case.recipe["t"], dtype=torch.float64)
    (f, g2), (alpha, sigma) = schedule.drift_diffusion(t), schedule.alpha_sigma(t)
    denoise = exact(case.recipe["data"], process)
    score, marginal, s = denoise(x, t).score, process.marginal(x, t), official.below(t)
    step, wide = official.step(s, t), like(f, x) * x
    prior = process.prior(tuple(x.shape))
    reverse, flow = (
        reverse_sde.ReverseDiffusionStep(process, denoise, official.step, ode)(x, t, s).to for ode in (False, True)
    )
    ours = {
        "drift": wide, "diffusion": g2.sqrt(), "mean": marginal.mean, "std": sigma, "score": score,
        "exact_mean_coeff_float64": alpha, "exact_std_float64": sigma,
        "prior_logp": prior.log_prob(x).flatten(1).sum(1), "disc_f": (like(step.alpha, x) - 1) * x,
        "disc_G": step.sigma, "rsde_drift": wide - like(g2, x) * score, "rsde_diffusion": g2.sqrt(),
        "rsde_f": x - reverse.mean, "rsde_G": reverse.std.flatten(),
        "ode_drift": ode.probability_flow(process, denoise)(x, t),
        "ode_f": x - flow.mean, "ode_G": flow.std.expand(len(x)),
    }  # fmt: skip
    times = torch.stack([a for a, _ in predictor_corrector.published_pairs(official.N, case.recipe["eps"])])
    ours |= {"pc_timesteps": times, "pc_timestep_index": official.level(times) - 1}
    levels = torch.arange(1, official.N + 1)
    if official.kind == "vesde":
        assert official.table is not None
        ours["discrete_sigmas"] = official.table.alpha_sigma(levels)[1]
    elif official.table is not None:
        alphas, sigmas = official.table.alpha_sigma(levels)
        betas = GaussianDiffusion(official.table).between(levels - 1, levels).sigma ** 2
        ours |= {"discrete_betas": betas, "alphas_cumprod": alphas**2, "sqrt_alphas_cumprod": alphas}
        ours["sqrt_1m_alphas_cumprod"] = sigmas
    assert set(ours) >= set(case.recipe["outputs"])
    for output in case.recipe["outputs"]:
        # officially these are small differences of float32 numbers: of 1, or of the two halves of the flow at time 1
        rough = output in ("std", "disc_f", "rsde_f", "ode_f", "ode_drift")
        compare(case, output, ours[output], 2e-3 if rough else 3e-5)


@pytest.mark.parametrize(("source", "name"), sources("config_tables"))
def test_tables_of_a_configuration(source: str, name: str) -> None:
    case = load(source, name)
    model = case.recipe["config"]["model"]
    N = model["num_scales"]
    sigmas = geometric_sigmas(N, model["sigma_min"], model["sigma_max"])
    compare(case, "get_sigmas", sigmas.flip(0))
    # officially there are 1000 betas whatever num_scales is, and beta_min is given as 999 times the first
    betas = torch.linspace(model["beta_min"] / N, model["beta_max"] / N, 1000, dtype=torch.float64)
    alpha, sigma = from_betas(betas).alpha_sigma(torch.arange(1, 1001))
    ours = {
        "betas": betas, "alphas": 1 - betas, "alphas_cumprod": alpha**2, "sqrt_alphas_cumprod": alpha,
        "sqrt_1m_alphas_cumprod": sigma, "beta_min": betas[0] * 999, "beta_max": betas[-1] * 999,
        "num_diffusion_timesteps": torch.tensor(1000),
    }  # fmt: skip
    for key, values in ours.items():
        compare(case, f"ddpm_{key}", values)


@pytest.mark.parametrize(("source", "name"), sources("score_fn"))
def test_what_a_network_is_conditioned_on_and_what_it_means(source: str, name: str) -> None:
    case = load(source, name)
    official, x = Official(case.recipe["sde"]), case.input("x")
    t = torch.tensor(case.recipe["t"], dtype=torch.float64)
    continuous, N = case.recipe["continuous"], official.N
    if official.kind == "vesde":
        level = official.schedule.alpha_sigma(t)[1]
        labels = level if continuous else ((1 - t) * (N - 1)).round()
        score = predict_score(toy(x, labels), x, t, official.process).score
    else:
        labels = t * 999 if continuous or official.kind == "subvpsde" else t * (N - 1)
        # a discretely trained VP network is read on its table, though its label is not a whole number
        table = official.table if not continuous and official.table is not None else None
        at, process = (t, official.process) if table is None else (official.level(t), GaussianDiffusion(table))
        score = predict_eps(toy(x, labels), x, at, process).score
    compare(case, "labels_passed", labels)
    # officially sigma at t = 0.001 is a float32 difference, 1e-4 off for VP and 2e-4 for sub-VP
    compare(case, "score", score, 3e-4)


# ---------------------------------------------------------------- losses


@pytest.mark.parametrize(("source", "name"), sources("loss"))
def test_losses(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official, x0 = case.recipe, Official(case.recipe["sde"]), case.input("batch")
    number, eps = case.noises()
    reduce = per_image if recipe["reduce_mean"] else matching.half_sum
    if recipe["loss"] == "sde":
        first = recipe.get("eps", 1e-5)
        t = first + (1 - first) * number.double()
        process, schedule = official.process, official.schedule
        labels = schedule.alpha_sigma(t)[1] if official.kind == "vesde" else t * 999
        weight = matching.likelihood_weight(schedule, t, x0)
    else:
        assert official.table is not None
        process = GaussianDiffusion(official.table)
        labels = number
        t = official.N - number if official.kind == "vesde" else number + 1
    if recipe["loss"] != "sde" or not recipe["likelihood_weighting"]:
        weight = matching.anneal_weight(process.level(t, x0))
    x_t = process.level(t, x0).noise(x0, eps)
    output = toy(x_t, labels)
    if recipe.get("continuous") is False:  # officially read with the table's sigma, and matched with the continuous one
        table = GaussianDiffusion(official.table)  # type: ignore[arg-type]
        output = output * process.level(t, x0).sigma / table.level(official.level(t), x0).sigma
    read = predict_score if official.kind == "vesde" else predict_eps
    loss = matching.denoising(read(output, x_t, t, process), eps, weight, reduce)
    compare(case, "labels_passed", labels)
    compare(case, "loss", loss.mean())


# ---------------------------------------------------------------- one step


def predictor(name: str, official: Official, denoise: Denoise, flow: bool = False) -> tuple[Kernel | None, Any]:
    """An official predictor, and how it writes the times of a move: as they are, or as levels."""
    as_times = lambda t, s: (t, s)  # noqa: E731
    if name == "none":
        return None, as_times
    if name == "euler_maruyama":
        kind = reverse_sde.EulerODEStep if flow else reverse_sde.EulerMaruyamaStep
        return kind(official.process, denoise), as_times
    if name == "reverse_diffusion":
        return reverse_sde.ReverseDiffusionStep(official.process, denoise, official.step, flow), as_times
    assert official.table is not None
    variance = fixed_small if official.kind == "vesde" else fixed_large
    kernel = AncestralStep(GaussianDiffusion(official.table), denoise, variance)
    return kernel, lambda t, s: (official.level(t), official.level(t) - 1)


def on_levels(official: Official, denoise: Denoise) -> Denoise:
    """A prediction at a continuous time, asked for at the level of a table and interpreted there."""
    assert official.table is not None
    process = GaussianDiffusion(official.table)
    return lambda x, level: predict_score(denoise(x, level).score, x, level, process)


@pytest.mark.parametrize(("source", "name"), sources("predictor"))
def test_predictors(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official, x = case.recipe, Official(case.recipe["sde"]), case.input("x")
    t = torch.tensor(recipe["t"], dtype=torch.float64)
    denoise = exact(recipe["data"], official.process)
    if recipe["predictor"] == "ancestral_sampling":
        score = denoise(x, t).score  # the continuous time's, though the step is the table's
        process = GaussianDiffusion(official.table)  # type: ignore[arg-type]
        denoise = lambda x, level: predict_score(score, x, level, process)  # noqa: E731
    kernel, timed = predictor(recipe["predictor"], official, denoise, recipe["probability_flow"])
    assert kernel is not None
    step = kernel(x, *timed(t, official.below(t))).to
    compare(case, "x_mean", step.mean)
    compare(case, "x", step.sample(case.noises()))


def corrector(name: str, official: Official, denoise: Denoise, snr: float) -> Kernel | None:
    """An official corrector."""
    if name == "none":
        return None
    if name == "ald":
        return langevin.LangevinStep(denoise, langevin.ratio(snr, official.retained))
    return langevin.CorrectorStep(denoise, snr, official.retained, langevin.mean_length)


class Still:
    """A kernel's draws without their noise: what is officially x_mean."""

    def __init__(self, noises: Noises) -> None:
        self.noises = noises

    def mean_and_sample(self, kernel: Kernel, x: Tensor, t: Tensor) -> tuple[Tensor, Tensor]:
        step, z = kernel(x, t, t).to, self.noises(x)
        if isinstance(step, langevin.Corrected):
            size = step.size(step.length(z))
            return step.x + size * step.score, step.sample(lambda _: z)
        return step.mean, step.sample(lambda _: z)


@pytest.mark.parametrize(("source", "name"), sources("corrector"))
def test_correctors(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official, x = case.recipe, Official(case.recipe["sde"]), case.input("x")
    t = torch.tensor(recipe["t"], dtype=torch.float64)
    kernel = corrector(recipe["corrector"], official, exact(recipe["data"], official.process), recipe["snr"])
    assert kernel is not None
    still = Still(case.noises())
    for _ in range(recipe["n_steps"]):
        mean, x = still.mean_and_sample(kernel, x, t)
    compare(case, "x_mean", mean)
    compare(case, "x", x)


# ---------------------------------------------------------------- whole runs


def network_of(recipe: dict[str, Any], official: Official, seen: list[Tensor]) -> Denoise:
    """The denoiser of a run at continuous times, as the official wrapper reads it; keeps its inputs."""
    continuous = recipe["continuous"] or official.kind == "subvpsde"
    process = official.process if continuous else GaussianDiffusion(official.table)  # type: ignore[arg-type]
    inner = exact(recipe["data"], process)

    def denoise(x: Tensor, t: Tensor) -> Prediction:
        seen.append(x)
        if continuous or not t.is_floating_point():
            return inner(x, t)
        if official.kind == "vesde":
            return inner(x, official.N - ((1 - t) * (official.N - 1)).round().long())
        return inner(x, official.level(t))

    return denoise


def shown(x: Tensor, recipe: dict[str, Any]) -> Tensor:
    """The official inverse scaler."""
    return (x + 1) / 2 if recipe["centered"] else x


def run_moves(recipe: dict[str, Any], official: Official, seen: list[Tensor]) -> list[Move]:
    """The official loop as a plan."""
    denoise = network_of(recipe, official, seen)
    down, timed = predictor(recipe["predictor"], official, denoise, recipe["probability_flow"])
    stay = corrector(recipe["corrector"], official, denoise, recipe["snr"])
    pairs = predictor_corrector.published_pairs(official.N, recipe["eps"])
    moves = predictor_corrector.correct_predict(down, stay, pairs, recipe["n_steps"])
    if not recipe["denoise"]:
        moves = [*moves[:-1], (down, *moves[-1][1:])] if down else moves
    return [(kernel, t, s) if t == s else (kernel, *timed(t, s)) for kernel, t, s in moves]


@pytest.mark.parametrize(("source", "name"), sources("pc"))
def test_predictor_corrector_runs(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official, noises = case.recipe, Official(case.recipe["sde"]), case.noises()
    seen: list[Tensor] = []
    x = official.process.prior(tuple(recipe["shape"])).std * noises.next()
    states = [x for x, _ in trajectory(x.float(), run_moves(recipe, official, seen), noises)]
    if recipe["recorded"]["draws"] and recipe["probability_flow"]:
        assert noises.used == 1  # officially noise is drawn and multiplied by 0
    compare(case, "model_inputs", torch.stack(seen), 1e-4)
    compare(case, "samples", shown(states[-1], recipe), 1e-4)


@pytest.mark.parametrize(("source", "name"), sources("control"))
def test_inpainting_and_colouring(source: str, name: str) -> None:
    """Officially what is known gets the noise of the time where a step began, and the picture keeps its last noise."""
    case = load(source, name)
    recipe, official, noises, data = case.recipe, Official(case.recipe["sde"]), case.noises(), case.input("data")
    process = official.process
    if recipe["task"] == "inpaint":
        known = torch.zeros(data.shape[2:], dtype=torch.bool)
        for row0, row1, col0, col1 in recipe["known_boxes"]:
            known[row0:row1, col0:col1] = True
        replacement = Replacement(process, data, known)
    else:
        replacement = Replacement(process, data.mean(1, keepdim=True).expand_as(data), greyness(data), GREY)
    std = process.prior(tuple(data.shape)).std
    first = std * noises.next()
    x = start(replacement, first).float()
    down, timed = predictor(recipe["predictor"], official, denoise := network_of(recipe, official, []))
    assert down is not None
    if isinstance(down, AncestralStep):  # noise on the last move as well
        down = AncestralStep(
            down.process, denoise, lambda process, p, t, s, above=None: like(process.between(s, t).sigma, p.x)
        )
    stay = corrector(recipe["corrector"], official, denoise, recipe["snr"])
    moves: list[Move] = []
    for t, s in predictor_corrector.published_pairs(official.N, recipe["eps"]):
        moves += [(stay, t, t)] * recipe["n_steps"] if stay else []
        moves += [(replacement, t, t)] if recipe["n_steps"] or stay else []
        moves += [(down, *timed(t, s)), (replacement, t, t)]
    moves[-1] = (Replacement(process, replacement.x0, replacement.known, replacement.basis, exact=True), t, t)
    x = finish(x, moves, noises)
    # officially sigma at t = 1e-5 is a float32 difference, 0.6 % off for VP and 1.2 % for sub-VP
    compare(case, "samples", shown(x, recipe), 2e-3)


def start(replacement: Replacement, x: Tensor) -> Tensor:
    """Where the official loops start: clean where known; in colour, the other part is of noise without its red."""
    if replacement.basis is None:
        return torch.where(replacement.known, replacement.x0, x)
    grey = turn(replacement.x0, GREY) * replacement.known
    return turn(grey + turn(x * ~replacement.known, GREY), GREY.T)


# ---------------------------------------------------------------- the flow


needs_solver = pytest.mark.skipif(find_spec("torchdiffeq") is None, reason="torchdiffeq is not installed")


@needs_solver
@pytest.mark.parametrize(("source", "name"), sources("ode"))
def test_flows(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official, z = case.recipe, Official(case.recipe["sde"]), case.input("z").double()
    denoise = exact(recipe["data"], official.process)
    solve = adaptive(recipe["rtol"], recipe["atol"])
    x = ode.follow(official.process, denoise, z, 1.0, recipe["eps"], solve)
    compare(case, "exact_before_denoise_and_scaling_float64", x, 1e-3)
    if recipe["denoise"]:
        t = torch.tensor(recipe["eps"], dtype=torch.float64)
        x = reverse_sde.ReverseDiffusionStep(official.process, denoise, official.step)(x, t, official.below(t)).to.mean
    compare(case, "samples", shown(x, recipe), 1e-3)


@needs_solver
@pytest.mark.parametrize(("source", "name"), sources("likelihood"))
def test_likelihoods(source: str, name: str) -> None:
    case = load(source, name)
    recipe, official = case.recipe, Official(case.recipe["sde"])
    (probe,) = case.noises()
    if recipe["hutchinson_type"] == "Rademacher":
        probe = 2 * probe - 1
    x = case.input("data").double()
    denoise = exact(recipe["data"], official.process)
    divergence = hutchinson(probe[None].double())
    solve = adaptive(recipe["rtol"], recipe["atol"])
    log_prob, z = flow_log_prob(official.process, denoise, x, solve, divergence, recipe["eps"])
    bits = bits_per_dim(log_prob, x[0].numel(), 1 / 128 if recipe["centered"] else 1 / 256)
    compare(case, "bpd", bits, 1e-3)
    compare(case, "z", z, 1e-3)
    compare(case, "ideal_ode_bpd_float64", bits, 1e-4)
    compare(case, "ideal_ode_z_float64", z, 1e-3)
    for when, t in (("eps", recipe["eps"]), ("zero", 0.0)):
        truth = true_log_prob(recipe["data"], official.schedule, x, t)
        compare(case, f"exact_logp_t_{when}_float64", truth)
        width = 1 / 128 if recipe["centered"] else 1 / 256
        compare(case, f"exact_bpd_t_{when}_float64", bits_per_dim(truth, x[0].numel(), width))


def true_log_prob(about: dict[str, Any], schedule: Schedule, x: Tensor, t: float) -> Tensor:
    """log density of the analytic data at time t, (B,); of the data themselves at time 0."""
    alpha, sigma = (
        schedule.alpha_sigma(torch.tensor(t, dtype=torch.float64)) if t else torch.tensor([1.0, 0.0]).double()
    )
    cov = about.get("cov") or torch.diag(torch.tensor(about["s"], dtype=torch.float64) ** 2).tolist()
    whole = alpha**2 * torch.tensor(cov, dtype=torch.float64) + sigma**2 * torch.eye(3, dtype=torch.float64)
    normal = torch.distributions.MultivariateNormal(alpha * torch.tensor(about["m"], dtype=torch.float64), whole)
    return normal.log_prob(x.movedim(1, -1)).flatten(1).sum(1)
