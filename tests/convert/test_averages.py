"""Which weights of a training state are taken: averages in every known layout, and never one that the file lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import safetensors.torch
import torch
from torch import Tensor

from sfumato.convert.averages import EMA, ONLINE, PLAIN, choose
from sfumato.convert.files import ForeignError, read_state

NET = {"conv.weight": torch.ones(2, 3), "conv.bias": torch.ones(2), "sigmas": torch.ones(4)}
MEAN = {name: value + 1 for name, value in NET.items()}
SHADOW = [MEAN["conv.weight"], MEAN["conv.bias"]]
OPTIMISER = {"state": {0: {"exp_avg": torch.zeros(2, 3)}}, "param_groups": [{"lr": 1e-4}]}


def under(prefix: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {prefix + name: value for name, value in state.items()}


def without(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    return {key: value for key, value in state.items() if key != name}


TRAINED = without("sigmas", MEAN)
AVERAGES: dict[str, Any] = {
    "two states": {"model": NET, "ema": MEAN},
    "nested": {"model": NET, "ema": {"decay": 0.999, "model": MEAN}},
    "nested twice": {"model": NET, "trainer": {"averages": 1, "ema": {"decay": 0.999, "state_dict": MEAN}}},
    "without what is not trained": {"model": NET, "ema": {"decay": 0.999, "shadow": TRAINED}},
    "timm": {"state_dict": NET, "state_dict_ema": MEAN, "optimizer": OPTIMISER, "epoch": 3},
    "basicsr": {"params": NET, "params_ema": MEAN},
    "camels": {"model": NET, "emaModel": MEAN, "EMAModel_decay": 0.9},
    "prefixes that differ": {"model": under("module._orig_mod.", NET), "model_ema": under("module.", MEAN)},
    "score_sde": {"model": under("module.", NET), "ema": {"decay": 0.9, "num_updates": 3, "shadow_params": SHADOW}},
    "torch_ema": {"model": NET, "ema": {"shadow_params": SHADOW, "collected_params": [torch.zeros(1)], "decay": 0.9}},
    "ema_pytorch": {
        "step": 3, "model": under("model.", NET), "opt": OPTIMISER,
        "ema": {"initted": torch.tensor(True), "step": torch.tensor(3), **under("online_model.model.", NET),
                **under("ema_model.model.", MEAN)},
    },
    "AveragedModel": {"model": NET, "averaged_model": {"n_averaged": torch.tensor(3), **under("module.", MEAN)}},
    "AveragedModel alone": {"n_averaged": torch.tensor(3), **under("module.", MEAN)},
    "LitEma": {"state_dict": {
        **under("model.", NET), "model_ema.decay": torch.tensor(0.9), "model_ema.num_updates": torch.tensor(3),
        **{f"model_ema.{name.replace('.', '')}": value for name, value in TRAINED.items()},
    }},
    "LitEma of a member": {"state_dict": {
        **under("model.diffusion_model.", NET), "model_ema.num_updates": torch.tensor(3),
        **{f"model_ema.diffusion_model{name.replace('.', '')}": value for name, value in TRAINED.items()},
    }},
    "a list of five": [NET, OPTIMISER, 3, 100, TRAINED],
    "the average alone": {"ema": MEAN},
    "a flat file": under("ema.", MEAN),
}  # fmt: skip


@pytest.mark.parametrize("layout", AVERAGES)
def test_the_average_is_taken_wherever_it_lies(layout: str) -> None:
    state, notes, weights = choose(AVERAGES[layout])
    assert weights == EMA
    assert any("moving average" in note for note in notes)
    assert set(state) == set(NET)
    assert all(torch.equal(state[name], MEAN[name]) for name in TRAINED)


@pytest.mark.parametrize(
    ("held", "weights"),
    [
        (NET, PLAIN),
        ({"state_dict": NET}, PLAIN),
        ({"model": NET, "optimizer": OPTIMISER, "ema_decay": 0.999, "step": 3}, ONLINE),
        ({"model": NET, "discriminator": MEAN, "ema": None}, PLAIN),
        ([NET, OPTIMISER], ONLINE),
        ({"config": {"ema": {"decay": 0.999}}, "model": NET, "opt": OPTIMISER}, ONLINE),
        (under("module.", NET), PLAIN),
        (under("_orig_mod.", NET), PLAIN),
        (under("module._orig_mod.", NET), PLAIN),
        (under("_orig_mod.module.", NET), PLAIN),
        ({name.replace(".", "._orig_mod."): value for name, value in NET.items()}, PLAIN),
        (under("_fsdp_wrapped_module.", NET), PLAIN),
        (under("model.", NET), PLAIN),
    ],
)
def test_other_weights_are_not_called_an_average(held: Any, weights: str) -> None:
    state, _, said = choose(held)
    assert said == weights
    assert set(state) == set(NET)
    assert all(torch.equal(state[name], value) for name, value in NET.items())


@pytest.mark.parametrize(
    ("held", "words"),
    [
        ({"model": NET, "ema_0.999": MEAN, "ema_0.9999": MEAN}, r"several averages \('ema_0.999', 'ema_0.9999'\)"),
        ({"model": NET, "ema": {"decay": 0.9, "model": {"other": torch.ones(2)}}}, "something else than weights"),
        ({"model": NET, "ema": {**MEAN, "conv.bias": torch.ones(7)}}, r"conv.bias \(7,\), which the network does not"),
        ({"model": NET, "ema": without("conv.bias", MEAN)}, "without conv.bias, which the network trains"),
        ({"model": NET, "ema": {"shadow_params": SHADOW[:1]}}, "which has 1 tensors; the network has 2"),
        ({"ema": {"shadow_params": SHADOW}}, "without names .* and no network"),
        ({"model": NET, "ema": {"decay": 0.9}}, "something else than weights in its moving average, the entry 'ema'"),
        ({"generator": NET, "critic": MEAN}, "several sets of weights .* none is named as the network"),
        ([NET, MEAN], "several sets of weights"),
        ({"module.a": torch.ones(2), "module._orig_mod.a": torch.ones(2)}, "the same name"),
        ({"optimizer": OPTIMISER}, "no network.s weights"),
    ],
)
def test_what_cannot_be_told_is_refused(held: Any, words: str) -> None:
    with pytest.raises(ForeignError, match=words):
        choose(held)


def test_a_file_name_proves_nothing(tmp_path: Path) -> None:
    torch.save(NET, tmp_path / "ema_0.9999_model.pt")
    assert read_state(tmp_path / "ema_0.9999_model.pt").weights == PLAIN


def test_safetensors_are_read_as_the_others(tmp_path: Path) -> None:
    safetensors.torch.save_file({**under("model.", NET), **under("model_ema.", MEAN)}, tmp_path / "a.safetensors")
    state, _, weights = read_state(tmp_path / "a.safetensors")
    assert weights == EMA
    assert all(torch.equal(state[name], value) for name, value in MEAN.items())
