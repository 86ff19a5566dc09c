"""The core against the recorded numbers of the official code: schedules, respacing, one step of every kind, and loops.

Official index i is our level i + 1 and level 0 is clean data.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from sfumato.convert import from_official, to_official
from sfumato.core import schedules, times, variances
from sfumato.core.betas import (
    const_betas,
    cosine_betas,
    jsd_betas,
    linear_betas,
    quad_betas,
    scaled_linear_betas,
    sigmoid_betas,
)
from sfumato.core.denoisers import (
    Denoise,
    Denoiser,
    Prediction,
    predict_eps,
    predict_previous_mean,
    predict_x0,
    with_variance,
)
from sfumato.core.distributions import Gaussian, discretised_log_prob, normal_cdf_tanh
from sfumato.core.guidance import classifier_gradient, clipped, score_shifted
from sfumato.core.likelihood import bound_term, prior_term, variational_bound
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.sampling import descend, trajectory
from sfumato.samplers import DDIM, grids
from sfumato.samplers.ancestral import AncestralStep
from sfumato.samplers.ddim import DDIMStep
from tests.golden.cases import compare, filled, load, make_input, normal, sources


def official_betas(name: str, T: int) -> Tensor:
    """Improved DDPM's schedules; its linear one is scaled to any number of levels."""
    if name == "linear":
        return scaled_linear_betas(T)
    return cosine_betas(T)


class Chain:
    """An official diffusion: its levels in ascending order, the level below each, and what conditions the network."""

    def __init__(self, about: dict[str, Any]) -> None:
        self.T = about["T"]
        betas = official_betas(about["schedule"], self.T)
        noisier = torch.ones(1, dtype=torch.float64)  # a level beyond the last, all noise, which encoding can go to
        self.process = GaussianDiffusion(schedules.from_betas(torch.cat([betas, noisier])))
        text = about.get("respacing")
        counts = text if isinstance(text, list) else None
        down = grids.sections(self.T, counts) if counts else grids.respace(self.T, text or str(self.T))
        self.levels = down.flip(0)[1:]
        self.below = torch.cat([torch.zeros(1, dtype=torch.long), self.levels[:-1]])
        self.above = torch.cat([self.levels[1:], torch.tensor([self.T + 1])])
        self.rescale = about.get("rescale_timesteps", False)

    def condition(self, t: Tensor) -> Tensor:
        return (t - 1).float() * (1000.0 / self.T) if self.rescale else t - 1

    def previous(self, t: Tensor) -> Tensor:
        return self.below[torch.searchsorted(self.levels, t)]

    def parameterization(self, mean_type: str, var_type: str) -> Callable[..., Prediction]:
        found = {
            "EPSILON": predict_eps,
            "START_X": predict_x0,
            "PREVIOUS_X": partial(predict_previous_mean, previous=self.previous),
        }[mean_type]
        return with_variance(found) if var_type.startswith("LEARNED") else found


STD = {
    "FIXED_SMALL": variances.fixed_small,
    "FIXED_LARGE": variances.fixed_large,
    "LEARNED": variances.learned,
    "LEARNED_RANGE": variances.learned_range,
}


class Answer(nn.Module):
    """A network that always answers the same."""

    def __init__(self, output: Tensor) -> None:
        super().__init__()
        self.output = output

    def forward(self, x: Tensor, t: Tensor) -> Tensor:
        return self.output


def adjusted(denoise: Denoise) -> Denoise:
    """The recording's denoised_fn, 0.5 x + 0.1."""
    return lambda x, t: (p := denoise(x, t)).with_x0(0.5 * p.x0 + 0.1)


# ---------------------------------------------------------------- tables


def official_tables(process: GaussianDiffusion, levels: Tensor) -> dict[str, Tensor]:
    """The tables of GaussianDiffusion by their official names, from the coefficients of our process."""
    below = torch.cat([torch.zeros(1, dtype=torch.long), levels[:-1]])
    alpha, sigma = process.schedule.alpha_sigma(levels)
    alpha_below = process.schedule.alpha_sigma(below)[0]
    of_x, of_x0, std = process.posterior_coefficients(levels, below)
    variance = std**2
    return {
        "betas": process.between(below, levels).sigma ** 2,
        "alphas_cumprod": alpha**2,
        "alphas_cumprod_prev": alpha_below**2,
        "alphas_cumprod_next": torch.cat([alpha[1:] ** 2, torch.zeros(1, dtype=torch.float64)]),
        "sqrt_alphas_cumprod": alpha,
        "sqrt_one_minus_alphas_cumprod": sigma,
        "log_one_minus_alphas_cumprod": (sigma**2).log(),
        "sqrt_recip_alphas_cumprod": 1 / alpha,
        "sqrt_recipm1_alphas_cumprod": sigma / alpha,
        "posterior_variance": variance,
        "posterior_log_variance_clipped": torch.cat([variance[1:2], variance[1:]]).log(),
        "posterior_mean_coef1": of_x0,
        "posterior_mean_coef2": of_x,
    }


@pytest.mark.parametrize(("source", "name"), sources("schedules"))
def test_schedules(source: str, name: str) -> None:
    case = load(source, name)
    for entry in case.recipe["schedules"]:
        process = GaussianDiffusion(schedules.from_betas(official_betas(entry["schedule"], entry["T"])))
        ours = official_tables(process, torch.arange(1, entry["T"] + 1))
        for table in entry["tables"]:
            compare(case, entry["out"] + table, ours[table])


@pytest.mark.parametrize(("source", "name"), sources("ddim_schedule"))
def test_schedules_of_ddim(source: str, name: str) -> None:
    case = load(source, name)
    for entry in case.recipe["schedules"]:
        kind, T, start, end = (entry[k] for k in ("beta_schedule", "T", "beta_start", "beta_end"))
        betas = {
            "linear": lambda T=T, a=start, b=end: linear_betas(T, a, b),
            "quad": lambda T=T, a=start, b=end: quad_betas(T, a, b),
            "sigmoid": lambda T=T, a=start, b=end: sigmoid_betas(T, a, b),
            "const": lambda T=T, b=end: const_betas(T, b),
            "jsd": lambda T=T: jsd_betas(T),
        }[kind]()
        process = GaussianDiffusion(schedules.from_betas(betas))
        levels = torch.arange(T + 1)
        out = entry["out"]
        compare(case, out + "betas", betas)
        compare(case, out + "compute_alpha_from_minus1", process.schedule.alpha_sigma(levels)[0] ** 2)
        small = process.posterior_coefficients(levels[1:], levels[:-1])[2] ** 2
        if out + "logvar_fixedlarge" in case.recipe["outputs"]:
            compare(case, out + "logvar_fixedlarge", betas.log())
            # there 1 - alpha-bar is a difference of float32 numbers near 1, as small as 2e-4
            compare(case, out + "logvar_fixedsmall", small.clamp(min=1e-20).log(), slack=5e-4)


@pytest.mark.parametrize(("source", "name"), sources("respace"))
def test_respacing(source: str, name: str) -> None:
    case = load(source, name)
    for call in case.recipe["calls"]:
        T, wanted, out = call["T"], call["sections"], call["out"]
        grid = partial(grids.respace, T, wanted) if isinstance(wanted, str) else partial(grids.sections, T, wanted)
        if out + "error" in case.recipe.get("errors", {}):
            with pytest.raises(ValueError, match="level"):
                grid()
            continue
        levels = grid().flip(0)[1:]
        compare(case, out + "timesteps", levels - 1)
        if "schedule" in call:
            process = GaussianDiffusion(schedules.from_betas(official_betas(call["schedule"], T)))
            ours = official_tables(process, levels)
            compare(case, out + "timestep_map", levels - 1)
            for table in ("betas", "alphas_cumprod"):
                compare(case, out + table, ours[table])


# ---------------------------------------------------------------- one step


@pytest.mark.parametrize(("source", "name"), sources("diffusion"))
def test_one_step(source: str, name: str) -> None:
    case = load(source, name)
    chain = Chain(case.recipe["process"])
    inputs = {key: make_input(spec) for key, spec in case.recipe["inputs"].items()}
    if case.recipe["precision"] == "float64":
        inputs = {key: value.double() for key, value in inputs.items()}
    t = chain.levels[torch.tensor(case.recipe["t"])]
    done = 0
    for op in case.recipe["ops"]:
        for output, ours in step_outputs(chain, op, inputs, t).items():
            assert op["out"] + output in case.recipe["outputs"]
            compare(case, op["out"] + output, ours)
            done += 1
    assert done == len(case.recipe["outputs"])


def step_outputs(chain: Chain, op: dict[str, Any], inputs: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
    """What the official operation returns, from the pieces of the core; t (B,) are levels."""
    process, below = chain.process, chain.previous(t)
    x0, x, noise = inputs["x_start"], inputs["x_t"], inputs["noise"]
    kind = op["op"]
    if kind == "tables":
        return {**official_tables(process, chain.levels), "timestep_map": chain.levels - 1}
    if kind == "model_timesteps":
        return {"passed": chain.condition(t)}
    if kind == "q_mean_variance":
        marginal = process.marginal(x0, t)
        variance = process.schedule.alpha_sigma(t)[1] ** 2
        both = {"variance": variance, "log_variance": variance.log()}  # in float64, then cast, as the tables are
        return {"mean": marginal.mean, **{key: schedules.like(v, x0).expand_as(x0) for key, v in both.items()}}
    if kind == "q_sample":
        return {"x_t": process.level(t, x0).noise(x0, noise)}
    above = chain.above[torch.searchsorted(chain.levels, t)]
    if kind == "q_posterior_mean_variance":
        posterior = process.posterior(x, x0, t, below)
        patched = torch.where(below > 0, t, above)  # officially, the first level's log is the second's
        log = schedules.like(2 * process.posterior_coefficients(patched, chain.previous(patched))[2].log(), x)
        return {"mean": posterior.mean, "variance": (posterior.std**2).expand_as(x), "log_variance": log.expand_as(x)}
    if kind == "prior_bpd":
        return {"value": prior_term(process, x0, chain.levels[-1])}
    if kind == "training_losses":
        return training_losses(chain, op, inputs, t)

    output = inputs["model_out_2c" if op["var_type"].startswith("LEARNED") else "model_out"]
    raw = Denoiser(Answer(output), process, chain.parameterization(op["mean_type"], op["var_type"]), chain.condition)
    denoise = adjusted(raw) if "denoised_fn" in op else raw
    denoise = clipped(denoise) if op.get("clip_denoised", True) else denoise
    prediction = denoise(x, t)
    # officially a predicted mean is taken as it is, even where the x0 that it implies is clipped
    of_mean = raw if op["mean_type"] == "PREVIOUS_X" else denoise
    if kind == "vb_terms_bpd":
        noisy = of_mean(process.level(t, x0).noise(x0, noise), t)
        return {"output": bound_term(process, STD[op["var_type"]], noisy, x0, t, below, above)}
    shifted = score_shifted(denoise, lambda x, t: inputs["grad"])
    if kind == "condition_score":
        prediction = shifted(x, t)
        mean = variances.reverse(process, variances.fixed_small, prediction, t, below).mean
        return {"mean": mean, "pred_xstart": prediction.x0}
    if kind == "ddim_sample":
        used = shifted if "cond_fn" in op else denoise
        sample = DDIMStep(process, used, op["eta"])(x, t, below).to.sample(lambda _: noise)
        return {"sample": sample, "pred_xstart": used(x, t).x0}
    if kind == "ddim_reverse_sample":
        return {"sample": DDIMStep(process, denoise)(x, t, above).to.mean, "pred_xstart": prediction.x0}
    kernel = AncestralStep(process, of_mean, STD[op["var_type"]])
    guided = replace(kernel, gradient=lambda x, t: inputs["grad"], above=chain.levels[1])
    if kind == "condition_mean":
        return {"mean": guided(x, t, below).to.mean}
    ancestral = (guided if "cond_fn" in op else kernel)(x, t, below).to
    if kind == "p_sample":
        return {"sample": ancestral.sample(lambda _: noise), "pred_xstart": prediction.x0}
    assert kind == "p_mean_variance", kind
    std = kernel.variance(process, raw(x.double(), t), t, below, above)  # in float64: its log may be as small as 1e-3
    variance = std**2
    if op["var_type"] == "FIXED_SMALL":  # officially exactly 0 into clean data, though its log says otherwise
        variance = ancestral.std**2
    return {
        "mean": ancestral.mean, "variance": variance.expand_as(x), "log_variance": (2 * std.log()).expand_as(x),
        "pred_xstart": prediction.x0,
    }  # fmt: skip


def training_losses(chain: Chain, op: dict[str, Any], inputs: dict[str, Tensor], t: Tensor) -> dict[str, Tensor]:
    """The official losses of one call: squared error, hybrid or the bound."""
    network = Answer(inputs["model_out_2c" if op["var_type"].startswith("LEARNED") else "model_out"])
    x0, noise = inputs["x_start"], inputs["noise"]
    parts = loss_parts(chain, op, network, x0, noise, t)
    if op["var_type"].startswith("LEARNED") and op["loss_type"].endswith("MSE"):
        return parts
    return {"loss": parts["loss"], **({"mse": parts["mse"]} if op["loss_type"].endswith("MSE") else {})}


def loss_parts(
    chain: Chain, op: dict[str, Any], network: nn.Module, x0: Tensor, noise: Tensor, t: Tensor, **labels: Any
) -> dict[str, Tensor]:
    """mse, vb and loss (B,) of a network under one of the official kinds of loss."""
    process, number, below = chain.process, len(chain.levels), chain.previous(t)
    above = chain.above[torch.searchsorted(chain.levels, t)]
    parameterization = chain.parameterization(op["mean_type"], op["var_type"])
    prediction = Denoiser(network, process, parameterization, chain.condition, inputs=labels)(
        process.level(t, x0).noise(x0, noise), t
    )
    learns = op["var_type"].startswith("LEARNED")
    hybrid = op["loss_type"].endswith("MSE")
    vb = bound_term(
        process, STD[op["var_type"]], prediction.mean_detached() if hybrid else prediction, x0, t, below, above
    )
    of_x0 = schedules.like(process.posterior_coefficients(t, below)[1], x0)
    error = {
        "EPSILON": prediction.eps - noise,
        "START_X": prediction.x0 - x0,
        "PREVIOUS_X": of_x0 * (prediction.x0 - x0),
    }
    mse = per_image(error[op["mean_type"]] ** 2)
    if not hybrid:
        return {"loss": vb * (number if op["loss_type"] == "RESCALED_KL" else 1), "mse": mse}
    vb = vb * (number / 1000 if op["loss_type"] == "RESCALED_MSE" else 1)
    return {"mse": mse, "vb": vb, "loss": mse + vb if learns else mse}


@pytest.mark.parametrize(("source", "name"), sources("train_grad"))
def test_gradients_of_the_losses(source: str, name: str) -> None:
    """The gradient shows what the value hides: in the hybrid loss the bound does not move the mean."""
    case = load(source, name)
    recipe = case.recipe
    network = recorded_network(recipe["model"])
    x0, noise = (make_input(recipe["inputs"][key]) for key in ("x_start", "noise"))
    if recipe["repo"] == "ddim":
        about = recipe["schedule"]
        betas = linear_betas(about["num_diffusion_timesteps"], about["beta_start"], about["beta_end"])
        process, t = GaussianDiffusion(schedules.from_betas(betas)), torch.tensor(recipe["t"]) + 1
        prediction = Denoiser(network, process, condition=lambda t: t - 1)(process.level(t, x0).noise(x0, noise), t)
        parts = {"loss": (per_image((prediction.eps - noise) ** 2) * x0[0].numel()).mean()}
    else:
        chain = Chain(recipe["process"])
        labels = {"y": torch.tensor(recipe["y"])} if recipe["y"] else {}
        t = chain.levels[torch.tensor(recipe["t"])]
        parts = loss_parts(chain, recipe, network, x0, noise, t, **labels)
    parts["loss"].mean().backward()
    gradients = to_official(
        f"{recipe['model']['repo']}/{recipe['model']['class']}",
        {key: p.grad for key, p in network.named_parameters() if p.grad is not None},
        recipe["model"]["args"],
    )
    for output in case.recipe["outputs"]:
        if output == "grad_norms":
            compare(case, output, torch.stack([gradients[key].norm() for key in recipe["grad_norms_order"]]))
        elif output.startswith("grad/"):
            compare(case, output, gradients[output.removeprefix("grad/")])
        else:
            compare(case, output, parts[output])


@pytest.mark.parametrize(("source", "name"), sources("bpd"))
def test_bounds(source: str, name: str) -> None:
    case = load(source, name)
    recipe = case.recipe
    chain = Chain(recipe["process"])
    network = (
        recorded_network(recipe["model"]) if "model" in recipe else Answer(make_input(recipe["inputs"]["model_out"]))
    )
    raw = Denoiser(
        network, chain.process, chain.parameterization(recipe["mean_type"], recipe["var_type"]), chain.condition
    )
    denoise = clipped(raw) if recipe["clip_denoised"] else raw
    down = torch.cat([chain.levels.flip(0), torch.zeros(1, dtype=torch.long)])
    x0, noise = make_input(recipe["inputs"]["x_start"]), RecordedNoise(recipe["noise_label"])
    with torch.no_grad():
        found = variational_bound(chain.process, denoise, STD[recipe["var_type"]], x0, down, noise)
    compare(case, "prior_bpd", found.prior)
    compare(case, "vb", found.terms)
    compare(case, "total_bpd", found.total)
    compare(case, "xstart_mse", found.x0_error)
    compare(case, "mse", found.eps_error)


@pytest.mark.parametrize(("source", "name"), sources("resampler"))
def test_importance_sampling_of_levels(source: str, name: str) -> None:
    case = load(source, name)
    for run in case.recipe["runs"]:
        levels = times.LossSecondMoment(run["T"], run["history_per_term"], run["uniform_prob"])
        for i, (t, losses) in enumerate(run["updates"]):
            levels.update(torch.tensor(t) + 1, torch.tensor(losses, dtype=torch.float64))
            weights, known = levels.probabilities, levels.seen.min() >= run["history_per_term"]
            # officially the weights are not normalised: all ones before every level is known, then shares of one
            compare(case, f"{run['out']}weights_after_{i}", weights if known else weights * run["T"])
        u = np.random.RandomState(run["numpy_seed"]).random_sample(run["sample_batch"])
        t, weights = levels.draw(torch.from_numpy(u))
        compare(case, f"{run['out']}sample_indices", t - 1)
        compare(case, f"{run['out']}sample_weights", weights.float())


@pytest.mark.parametrize(("source", "name"), sources("likelihood"))
def test_likelihood_terms(source: str, name: str) -> None:
    case = load(source, name)
    recipe = case.recipe
    x = torch.tensor(recipe["x_int"], dtype=torch.float32) / 127.5 - 1
    means, scales = torch.tensor(recipe["means"]), torch.tensor(recipe["log_scales"])
    decoder = Gaussian(means[None, :, None], scales.exp())
    close = {"log_probs": discretised_log_prob(decoder, x[:, None, None]).expand(len(x), len(means), len(scales))}
    close["approx_cdf"] = normal_cdf_tanh(torch.tensor(recipe["cdf_x"]))
    parts = {key: make_input(spec) for key, spec in recipe["inputs"].items()}
    first = Gaussian(parts["mean1"], (parts["logvar1"] / 2).exp())
    second = Gaussian(parts["mean2"], (parts["logvar2"] / 2).exp())
    close["normal_kl"] = first.kl(second)
    close["normal_kl_vs_standard"] = first.kl(Gaussian(torch.zeros(()), torch.ones(())))
    for output, ours in close.items():
        expected, where = case.numbers[output], case.places[output]
        flat = ours.reshape(-1).double().numpy()
        flat = flat if where is None else flat[where]
        # the difference of two rounded CDFs, each good to 6e-8, decides the log of a small mass
        masses = np.exp(np.minimum(expected, 0))
        slack = 1e-4 + 3e-7 / masses if output == "log_probs" else 1e-5 * (1 + np.abs(expected))
        assert np.all(np.abs(flat - expected) <= slack), output


@pytest.mark.parametrize(("source", "name"), sources("ddim_loss"))
def test_loss_of_ddim(source: str, name: str) -> None:
    """DDIM's training loss sums over pixels what L_simple averages."""
    from sfumato.core.losses import simple

    case = load(source, name)
    inputs = {key: make_input(spec) for key, spec in case.recipe["inputs"].items()}
    for call in case.recipe["calls"]:
        about = call["schedule"]
        betas = linear_betas(about["num_diffusion_timesteps"], about["beta_start"], about["beta_end"])
        process = GaussianDiffusion(schedules.from_betas(betas))
        t = torch.tensor(call["t"]) + 1
        x_t = process.level(t, inputs["x0"]).noise(inputs["x0"], inputs["noise"])
        prediction = Denoiser(Answer(inputs["model_out"]), process)(x_t, t)
        per_image = simple(prediction, inputs["noise"]) * inputs["x0"][0].numel()
        compare(case, call["out"] + "loss_per_sample", per_image)
        compare(case, call["out"] + "loss", per_image.mean())


# ---------------------------------------------------------------- whole loops


def recorded_network(model: dict[str, Any]) -> nn.Module:
    """The official network of a loop, with its recorded weights, as ours."""
    state = {key: filled(key, shape) for key, shape in model["params"]}
    return from_official(f"{model['repo']}/{model['class']}", state, model["args"]).eval()


class RecordedNoise:
    """The k-th draw has a label of its own."""

    def __init__(self, label: str) -> None:
        self.label, self.k = label, 0

    def __call__(self, x: Tensor) -> Tensor:
        z = normal(self.label.replace("*", str(self.k)), list(x.shape))
        self.k += 1
        return torch.from_numpy(z)


@pytest.mark.parametrize(("source", "name"), sources("loop"))
def test_sampling_loops(source: str, name: str) -> None:
    case = load(source, name)
    recipe = case.recipe
    chain = Chain(recipe["process"])
    labels = {"y": torch.tensor(recipe["y"])} if "num_classes" in recipe["model"]["args"] else {}
    labels |= {key: make_input(spec) for key, spec in recipe["inputs"].items() if key == "low_res"}
    parameterization = chain.parameterization(recipe["mean_type"], recipe["var_type"])
    denoise: Denoise = Denoiser(
        recorded_network(recipe["model"]), chain.process, parameterization, chain.condition, inputs=labels
    )
    denoise = clipped(denoise) if recipe["clip_denoised"] else denoise
    gradient = None
    if "classifier" in recipe:
        classifier = recorded_network(recipe["classifier"])
        gradient = classifier_gradient(
            lambda x, t: classifier(x, chain.condition(t).float().expand(len(x))),
            torch.tensor(recipe["y"]),
            recipe["classifier_scale"],
        )
    kernel: Any
    if recipe["sampler"] == "ddim_sample_loop":
        kernel = DDIMStep(chain.process, score_shifted(denoise, gradient) if gradient else denoise, recipe["eta"])
    else:
        kernel = AncestralStep(chain.process, denoise, STD[recipe["var_type"]])
        kernel = replace(kernel, gradient=gradient, above=chain.levels[1]) if gradient else kernel
    down = torch.cat([chain.levels.flip(0), torch.zeros(1, dtype=torch.long)])
    with torch.no_grad():
        moves, noise = descend(kernel, down), RecordedNoise(recipe["noise_label"])
        states = [x for x, _ in trajectory(make_input(recipe["inputs"]["x_T"]), moves, noise)]
    compare(case, "final", states[-1])
    if recipe["keep_steps"]:
        compare(case, "steps", torch.stack(states))


@pytest.mark.parametrize(("source", "name"), sources("ddim_loop"))
def test_sampling_loops_of_ddim(source: str, name: str) -> None:
    case = load(source, name)
    recipe, about = case.recipe, case.recipe["diffusion"]
    T = about["num_diffusion_timesteps"]
    process = GaussianDiffusion(schedules.from_betas(linear_betas(T, about["beta_start"], about["beta_end"])))
    network = recorded_network(recipe["model"])
    denoise = Denoiser(network, process, condition=lambda t: t - 1)
    for call in recipe["calls"]:
        spacing = {"uniform": grids.ddim_uniform, "quad": grids.ddim_quadratic}[call["skip_type"]]
        down = spacing(T, call["timesteps"])
        out, noise = call["out"], RecordedNoise(recipe["noise_label"])
        compare(case, out + "seq", down[:-1] - 1)
        if call["sample_type"] == "generalized":
            moves = DDIM(call["eta"]).moves(process, denoise, down)
        else:
            moves = descend(AncestralStep(process, clipped(denoise), variances.fixed_large), down)
        with torch.no_grad():
            states = [x for x, _ in trajectory(make_input(recipe["inputs"]["x_T"]), moves, noise)]
        compare(case, out + "final", states[-1])
        if call.get("keep_steps"):
            compare(case, out + "steps", torch.stack(states))


def test_the_random_numbers_are_the_recordings() -> None:
    """The README of the recording gives these."""
    expected = [2.4332392, 1.6408331, 0.5772560, 0.0343083]
    assert all(math.isclose(a, b, abs_tol=1e-7) for a, b in zip(normal("x", [4]).tolist(), expected, strict=True))
