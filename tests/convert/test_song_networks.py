"""Our score networks against the recorded outputs and gradients of NCSN's, NCSNv2's and score SDE's, weight for weight.

Also every released configuration's layout at its full size, and the arguments that are refused.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import golden_song as golden
import pytest
import torch
from torch import Tensor, nn

from sfumato import convert
from sfumato.convert import scores
from sfumato.networks import fir
from sfumato.networks.blocks import sin_cos
from sfumato.networks.ncsnpp import FourierFeatures
from sfumato.networks.refinenet import RefineNetV2
from tests.golden.ledger import record

load = lru_cache(golden.load)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread has nothing to do at these sizes, and waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def build(case: dict[str, Any]) -> tuple[nn.Module, dict[str, Tensor]]:
    """The network of a case with its weights filled, and those weights under their official keys."""
    state_dict = golden.weights(convert.official_shapes(case["layout"], case["args"]), case["args"])
    return convert.from_official(case["layout"], state_dict, case["args"]), state_dict


def count(net: nn.Module, trainable: bool = False) -> int:
    return sum(p.numel() for p in net.parameters() if p.requires_grad or not trainable)


def official_norms(case: dict[str, Any], net: nn.Module) -> Tensor:
    """The norm of the gradient in every official parameter that is trained; NaN where it is not used."""
    unused = torch.tensor(math.nan)
    gradients = {name: unused.expand(p.shape) if p.grad is None else p.grad for name, p in net.named_parameters()}
    official = convert.to_official(case["layout"], gradients, case["args"])
    return torch.stack([g.double().norm() for key, g in official.items() if key not in case["frozen"]])


@pytest.mark.parametrize(("source", "name"), golden.names("networks"))
def test_outputs_and_gradients_equal_the_official_networks(source: str, name: str) -> None:
    case = load(source)["networks"][name]
    net, state_dict = build(case)
    assert golden.digest((key, tensor.shape) for key, tensor in state_dict.items()) == case["keys_sha256"]
    assert (count(net), count(net, trainable=True)) == (case["n_params"], case["n_trainable"])

    inputs = {key: golden.draw(rule) for key, rule in case["inputs"].items()}
    outputs, x = {}, inputs["x"].requires_grad_()
    for i, levels in enumerate(case["noise_levels"]):
        labels = [] if levels is None else [torch.tensor(levels["values"], dtype=getattr(torch, levels["dtype"]))]
        outputs[f"y{i}"] = net(x, *labels)
    if "v" in inputs:
        (outputs["y0"] * inputs["v"]).sum().backward()
        outputs |= {"grad_x": x.grad, "param_grad_norms": official_norms(case, net)}
    assert outputs.keys() == case["outputs"].keys()
    for key, ours in outputs.items():
        relative, share = golden.compare(key, case["outputs"][key], ours)
        record(case["layout"], name, relative, share)
        assert share <= 1, key


@pytest.mark.parametrize("name", golden.load("distilled")["networks"])
def test_weights_return_as_they_came(name: str) -> None:
    case = load("distilled")["networks"][name]
    net, state_dict = build(case)
    back = convert.to_official(case["layout"], net, case["args"])
    assert list(back) == list(state_dict)
    assert all(torch.equal(back[key], tensor.float()) for key, tensor in state_dict.items())


@pytest.mark.parametrize(("source", "name"), golden.names("layouts"))
def test_released_checkpoints_fit_to_the_last_key(source: str, name: str) -> None:
    case = load(source)["layouts"][name]
    shapes = convert.official_shapes(case["layout"], case["args"])
    assert golden.digest(shapes.items()) == case["keys_sha256"]
    state_dict = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    net = convert.from_official(case["layout"], state_dict, case["args"])
    assert (count(net), count(net, trainable=True)) == (case["n_params"], case["n_trainable"])
    assert all(p.is_meta for p in net.parameters())


@pytest.mark.parametrize(("source", "name"), golden.names("blocks"))
def test_resampling_and_embeddings(source: str, name: str) -> None:
    case = load(source)["blocks"][name]
    about, inputs = case["block"], {key: golden.draw(rule) for key, rule in case["inputs"].items()}
    with torch.no_grad():
        ours = BLOCKS[about["name"]](about, **inputs)
    family = "resampling" if "kernel" in about else "embedding"
    relative, share = golden.compare("y", case["outputs"]["y"], ours)
    record(family, name, relative, share)
    assert share <= 1


def conv3x3(w: Tensor) -> nn.Conv2d:
    conv = nn.Conv2d(w.shape[1], w.shape[0], 3, bias=False)
    conv.weight.copy_(w)
    return conv


def fourier(about: dict[str, Any], W: Tensor) -> Tensor:
    features = FourierFeatures(about["size"], 16.0)
    features.rates.copy_(W)
    return features(torch.tensor(about["input"]))


BLOCKS = {
    "upsample_2d": lambda about, x: fir.fir_double(x, about["kernel"]),
    "downsample_2d": lambda about, x: fir.fir_halve(x, about["kernel"]),
    "upsample_conv_2d": lambda about, x, w: fir.fir_double_conv(x, conv3x3(w), about["kernel"]),
    "conv_downsample_2d": lambda about, x, w: fir.fir_conv_halve(x, conv3x3(w), about["kernel"]),
    "get_timestep_embedding": lambda about: sin_cos(torch.tensor(about["timesteps"]), about["dim"]),
    "GaussianFourierProjection": fourier,
}


def changed(case: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {**case["args"], "model": {**case["args"]["model"], **options}}


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("ncsn_32", {"batch_norm": True}, "not batch_norm"),
        ("ncsn_in_ncsnv2_32", {"nonlinearity": "swish"}, "only the nonlinearity elu is supported, not 'swish'"),
        ("ncsnv2_32", {"spec_norm": True}, r"spectral normalisation \(spec_norm\) is not supported"),
        ("ncsnv2_32", {"normalization": "BatchNorm"}, r"normalization is one of .*, not 'BatchNorm'"),
        ("ncsnv2_32", {"sigma_dist": "cosine"}, "sigma_dist is one of geometric, uniform, not 'cosine'"),
        ("ncsnv2_32", {"nonlinearity": "gelu"}, "these are not the arguments of ncsnv2/NCSNv2: 'gelu'"),
        ("score_sde_ncsnv2_64", {"normalization": "None++"}, "normalization is one of InstanceNorm"),
        ("ncsnpp_ve_residual_sum", {"progressive": "both"}, "these are not the arguments of score_sde/ncsnpp: 'both'"),
    ],
)
def test_arguments_that_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    case = load("distilled")["networks"][name]
    with pytest.raises(ValueError, match=message):
        convert.official_shapes(case["layout"], changed(case, **options))


@pytest.mark.parametrize("name", ["ncsnv2_32", "score_sde_ncsnv2_64"])
def test_a_network_without_normalisation_is_recognised(name: str) -> None:
    """NCSNv2's `normalization: NoneNorm`: the same layers, and nothing in the place of the norms."""
    case = load("distilled")["networks"][name]
    normed, args = convert.official_shapes(case["layout"], case["args"]), changed(case, normalization="NoneNorm")
    plain = convert.official_shapes(case["layout"], args)
    norms = set(normed) - set(plain)
    assert norms
    assert {key.rsplit(".", 1)[1] for key in norms} == {"alpha", "gamma", "beta"}
    state = {key: 0.05 * torch.randn(shape) for key, shape in plain.items()}
    state |= {key: state[key].abs() for key in state if key == "sigmas"}  # noise levels are above 0
    facts = scores.recognise(state)
    assert isinstance(facts, scores.RefineNetFacts)
    assert facts.norm == "none"
    assert scores.recognise({**state, "normalizer.gamma": torch.ones(facts.channels)}).norm == "instance++"  # type: ignore[union-attr]
    ours = RefineNetV2(facts.channels, facts.depth, facts.norm).build((facts.image_channels, 16, 16), 3)
    official = convert.from_official(case["layout"], state, args)
    ours.load_state_dict({key: value for key, value in official.state_dict().items() if key != "sigmas"})
    official.unit_range, x = False, torch.randn(1, 3, 16, 16)
    level = official.sigmas[1]  # type: ignore[index, union-attr]
    with torch.no_grad():
        torch.testing.assert_close(official(x, torch.tensor([1])), ours(x) / level)


def test_noise_levels_follow_the_checkpoint() -> None:
    """Not the configuration: a table that was trained with other noise levels keeps them."""
    case = load("distilled")["networks"]["ncsnv2_28_gray"]
    net, state_dict = build(case)
    other = convert.from_official(case["layout"], {**state_dict, "sigmas": 2 * state_dict["sigmas"]}, case["args"])
    x, t = golden.draw(case["inputs"]["x"]), torch.tensor([3, 60])
    with torch.no_grad():
        torch.testing.assert_close(2 * other(x, t), net(x, t))


def test_a_missing_table_of_noise_levels_is_missed() -> None:
    case = load("distilled")["networks"]["ncsnpp_ve_residual_sum"]
    _, state_dict = build(case)
    del state_dict["sigmas"]
    with pytest.raises(ValueError, match="sigmas is missing"):
        convert.from_official(case["layout"], state_dict, case["args"])
