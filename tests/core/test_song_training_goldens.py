"""Training against the recorded numbers of the official score-based code: averages, learning rates, whole steps.

Our average counts updates from 0 and takes its first decay at 1, which is where the official counter begins.
"""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato.convert import from_official, to_official
from sfumato.core import matching, techniques
from sfumato.core.continuous import VE
from sfumato.core.denoisers import predict_eps, predict_score
from sfumato.core.losses import per_image
from sfumato.core.processes import GaussianDiffusion
from sfumato.core.schedules import from_betas
from sfumato.papers.training import TrainConfig
from sfumato.train.ema import EMA
from sfumato.train.learning_rate import learning_rate_at
from tests.golden.song import compare, draw, load, sources, weights

LONG = 10**15
"""So many updates that an average is no longer warming up."""


@pytest.mark.parametrize(("source", "name"), sources("ema"))
def test_averages(source: str, name: str) -> None:
    case = load(source, name)
    recipe, shapes = case.recipe, case.recipe["param_shapes"]
    network = nn.ParameterDict({key: torch.zeros(shape) for key, shape in shapes.items()})

    def fill(i: int) -> None:
        for key, shape in shapes.items():
            network[key].data = draw({"label": f"{key}_{i}", "shape": shape})

    fill(0)
    rate = recipe.get("decay", recipe.get("mu"))
    ema, warms_up = EMA(network, [rate]), recipe.get("use_num_updates", False)
    for i in range(1, recipe["n_updates"] + 1):
        fill(i)
        decays = ema.update(i if warms_up else LONG, math.inf)
        if "effective_decay" in recipe["recorded"]:
            assert decays[rate] == pytest.approx(recipe["recorded"]["effective_decay"][i - 1])
        for key, shadow in ema.state_dict(rate).items():
            compare(case, f"{key}_shadow_after_{i}", shadow)


def official_config(config: dict[str, Any]) -> TrainConfig:
    """The training numbers of an official configuration, with one image a step."""
    return TrainConfig(
        images=LONG, batch=1, learning_rate=config["lr"], warmup=config["warmup"], decay="constant",
        betas=(config["beta1"], 0.999), weight_decay=config["weight_decay"], clip=config["grad_clip"],
    )  # fmt: skip


def update(parameters: list[nn.Parameter], optimizer: torch.optim.Optimizer, step: int, config: TrainConfig) -> float:
    """What the training loop does with gradients; the learning rate is that of the official step, which is one late."""
    rate = learning_rate_at(0.0, step - 1, config)
    nn.utils.clip_grad_norm_(parameters, config.clip)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.step()
    return rate


@pytest.mark.parametrize(("source", "name"), sources("lr"))
def test_warm_up_and_clipping(source: str, name: str) -> None:
    case = load(source, name)
    config = official_config(case.recipe["config"]["optim"])
    rates, after = [], []
    for step in case.recipe["steps"]:
        parameter = nn.Parameter(torch.zeros(3))
        parameter.grad = torch.tensor(case.recipe["grad"])
        rates.append(
            update([parameter], torch.optim.AdamW([parameter], betas=config.betas, weight_decay=0), step, config)
        )
        after.append(parameter.detach())
        clipped = parameter.grad
    compare(case, "lr", torch.tensor(rates, dtype=torch.float64))
    compare(case, "param_after", torch.stack(after))
    compare(case, "clipped_grad", clipped)


@pytest.mark.parametrize(("source", "name"), sources("train"))
def test_training_steps(source: str, name: str) -> None:
    case = load(source, name)
    recipe = case.recipe
    layout = f"score_sde/{recipe['class']}"
    network = from_official(layout, weights(recipe), recipe["config"]).train()
    config = official_config(recipe["config"]["optim"])
    parameters = list(network.parameters())
    optimizer = torch.optim.AdamW(parameters, betas=config.betas, weight_decay=0)
    rate = recipe["config"]["model"]["ema_rate"]
    ema = EMA(network, [rate])
    draws, rule = iter(case.noises()), recipe["inputs"]["batch"]
    losses, rates = [], []
    for i in range(recipe["n_steps"]):
        batch = draw({**rule, "label": f"batch_{i}"})
        optimizer.zero_grad()
        loss = loss_of(recipe, network, batch, next(draws), next(draws))
        loss.backward()
        rates.append(update(parameters, optimizer, recipe["start_step"] + i, config))
        ema.update(i + 1, math.inf)
        losses.append(loss.detach())
    batch = draw({**rule, "label": "batch_eval"})
    with ema.swapped(rate), torch.no_grad():
        evaluated = loss_of(recipe, network, batch, next(draws), next(draws))
    compare(case, "losses", torch.stack(losses), 1e-4)
    compare(case, "lrs", torch.tensor(rates, dtype=torch.float64))
    compare(case, "eval_loss_ema", evaluated, 1e-4)
    trained = to_official(layout, dict(network.state_dict()), recipe["config"])
    averaged = to_official(layout, ema.state_dict(rate), recipe["config"])
    names = recipe["recorded"]["trainable"]
    compare(case, "param_norms", torch.stack([trained[key].double().norm() for key in names]), 1e-4)
    compare(case, "ema_norms", torch.stack([averaged[key].double().norm() for key in names]), 1e-4)
    for key in recipe["store_params"]:
        # Adam divides a gradient by its own size: where that is rounding alone, a step of the learning rate is chance
        compare(case, f"param/{key}", trained[key], 1e-3)
        compare(case, f"ema/{key}", averaged[key], 1e-3)


def loss_of(recipe: dict[str, Any], network: nn.Module, batch: Tensor, number: Tensor, eps: Tensor) -> Tensor:
    """The loss of a batch: NCSN++ in continuous time, or DDPM++ on the levels of its table."""
    about, reduce = recipe["sde"], per_image if recipe["reduce_mean"] else matching.half_sum
    if recipe["continuous"]:
        process = GaussianDiffusion(VE(about["sigma_min"], about["sigma_max"]))
        t = 1e-5 + (1 - 1e-5) * number.double()
        label, read = process.schedule.alpha_sigma(t)[1].float(), predict_score
    else:
        N = about["N"]
        betas = torch.linspace(about["beta_min"] / N, about["beta_max"] / N, N, dtype=torch.float64)
        process = GaussianDiffusion(from_betas(betas))
        t, label, read = number + 1, number, predict_eps
    x_t = process.level(t, batch).noise(batch, eps)
    prediction = read(network(x_t, label).float(), x_t, t, process)
    return matching.denoising(prediction, eps, matching.anneal_weight(prediction.level), reduce).mean()


@pytest.mark.parametrize(("source", "name"), sources("ncsnv2_rules"))
def test_rules_of_the_techniques(source: str, name: str) -> None:
    """Technique 2 gives the published numbers of levels up to its own tolerance, technique 4 the recorded variances."""
    case = load(source, name)
    ratios = []
    for key, about in case.recipe["cases"].items():
        recorded = case.recipe["recorded"][key]
        gamma = (about["sigma_begin"] / about["sigma_end"]) ** (1 / (about["num_classes"] - 1))
        D = 3 * about["size"] ** 2
        assert gamma == pytest.approx(recorded["gamma"], rel=1e-12)
        assert techniques.overlap(gamma, D) == pytest.approx(recorded["technique2_probability"], rel=1e-9)
        assert techniques.ratio_of_levels(D) == pytest.approx(recorded["gamma_for_half"], rel=1e-9)
        levels = techniques.number_of_levels(about["sigma_begin"], about["sigma_end"], D)
        assert abs(levels - recorded["levels_for_half"]) <= 1
        r = about["step_lr"] / about["sigma_end"] ** 2
        ratios.append(techniques.variance_ratio(r, gamma, about["n_steps_each"]))
    compare(case, "ratio", torch.tensor(ratios, dtype=torch.float64))


@pytest.mark.parametrize(("source", "name"), sources("transform"))
def test_the_recording_of_data_transforms_is_empty(source: str, name: str) -> None:
    """The case lists six transforms, and no number of any: there is nothing that ours could differ from."""
    case = load(source, name)
    assert all(about["shape"] == [0] for about in case.recipe["outputs"].values())
    for output in case.recipe["outputs"]:
        compare(case, output, torch.zeros(0))
