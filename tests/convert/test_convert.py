"""Our networks against the recorded outputs of DDPM's port (ermongroup/ddim), Improved DDPM and ADM, weight for weight.

Also every released checkpoint's layout, and what is said about a state dict that does not fit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

import golden_networks as golden
import pytest
import torch
from torch import Tensor, nn

from sfumato import convert
from sfumato.networks.blocks import cos_sin, sin_cos
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
    shapes = convert.official_shapes(case["layout"], case["args"])
    state_dict = {key: golden.filled(key, shape) for key, shape in shapes.items()}
    return convert.from_official(case["layout"], state_dict, case["args"]), state_dict


@pytest.mark.parametrize(("source", "name"), golden.names("networks"))
def test_outputs_equal_the_official_networks(source: str, name: str) -> None:
    case = load(source)["networks"][name]
    net, state_dict = build(case)
    assert golden.sha256((key, tensor.shape) for key, tensor in state_dict.items()) == case["params_sha256"]
    assert sum(p.numel() for p in net.parameters()) == case["num_params"]

    inputs = {key: golden.normal(rule["label"], tuple(rule["shape"])) for key, rule in case["inputs"].items()}
    for call in case["calls"]:
        x = inputs["x"].requires_grad_("grad" in call)
        further = {"low_res": inputs["low_res"]} if "low_res" in inputs else {}
        if call.get("y"):
            further["y"] = torch.tensor(call["y"])
        with torch.set_grad_enabled("grad" in call):
            outputs = {call["output"]: net(x, torch.tensor(call["timesteps"]), **further)}
        if "grad" in call:
            chosen = outputs[call["output"]].log_softmax(dim=1).gather(1, torch.tensor(call["grad"]["y"])[:, None])
            outputs[call["grad"]["output"]] = torch.autograd.grad(chosen.sum(), x)[0]
        for key, ours in outputs.items():
            recorded = case["outputs"][key]
            error = golden.difference(key, recorded, ours)
            record(case["layout"], name, error / float(ours.detach().abs().max()), error / recorded["tolerance"])
            assert error <= recorded["tolerance"], key


@pytest.mark.parametrize(("source", "name"), golden.names("networks"))
def test_weights_return_as_they_came(source: str, name: str) -> None:
    case = load(source)["networks"][name]
    net, state_dict = build(case)
    back = convert.to_official(case["layout"], net, case["args"])
    assert all(torch.equal(back[key], tensor) for key, tensor in state_dict.items())
    assert sum(tensor.double().abs().sum().item() for tensor in back.values()) == pytest.approx(case["filled_abs_sum"])
    digest = hashlib.sha256(b"".join(tensor.numpy().tobytes() for tensor in back.values()))  # in the official order
    assert digest.hexdigest() == case["filled_sha256"]


@pytest.mark.parametrize(("source", "name"), golden.names("layouts"))
def test_released_checkpoints_fit_to_the_last_key(source: str, name: str) -> None:
    case = load(source)["layouts"][name]
    shapes = convert.official_shapes(case["layout"], case["args"])
    assert len(shapes) == case["num_tensors"]
    assert golden.sha256(shapes.items()) == case["params_sha256"]
    state_dict = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    net = convert.from_official(case["layout"], state_dict, case["args"])
    assert sum(p.numel() for p in net.parameters()) == case["num_params"]
    assert all(p.is_meta for p in net.parameters())


@pytest.mark.parametrize(("source", "name"), golden.names("embeddings"))
def test_time_embeddings(source: str, name: str) -> None:
    case = load(source)["embeddings"][name]
    t = torch.tensor(case["timesteps"])
    for call in case["calls"]:
        period = {"period": call["max_period"]} if call["style"] == "openai" else {}
        ours = (cos_sin if call["style"] == "openai" else sin_cos)(t, call["dim"], **period)
        recorded = case["outputs"][call["out"]]
        error = golden.difference(call["out"], recorded, ours)
        record("embedding", name, error, error / recorded["tolerance"])
        assert error <= recorded["tolerance"]


def test_gradients_map_like_weights() -> None:
    """The gradient in an official weight: change that weight and see whether the loss follows."""
    case = load("distilled")["networks"]["g_unet_updown_legacyorder"]
    net, state_dict = build(case)
    x, t = golden.normal("x", (2, 3, 8, 8)), torch.tensor([3, 700])
    net(x, t).square().mean().backward()
    gradients = {name: p.grad for name, p in net.named_parameters() if p.grad is not None}
    official = convert.to_official(case["layout"], gradients, case["args"])
    for key in ("input_blocks.1.1.qkv.weight", "middle_block.1.proj_out.weight", "time_embed.0.bias"):
        step = torch.zeros_like(state_dict[key]).view(-1)
        step[5] = 1e-2
        losses = []
        for sign in (1, -1):
            moved = {**state_dict, key: state_dict[key] + sign * step.view_as(state_dict[key])}
            with torch.no_grad():
                other = convert.from_official(case["layout"], moved, case["args"]).double()
                losses.append(other(x.double(), t).square().mean().item())
        assert official[key].view(-1)[5].item() == pytest.approx((losses[0] - losses[1]) / 2e-2, rel=2e-2, abs=1e-6)


SMALL = {
    "in_channels": 3,
    "model_channels": 32,
    "out_channels": 3,
    "num_res_blocks": 1,
    "attention_resolutions": [2],
    "channel_mult": [1, 2],
}


def small_state_dict() -> dict[str, Tensor]:
    return {key: torch.zeros(shape) for key, shape in convert.official_shapes("improved/UNetModel", SMALL).items()}


def test_a_wrong_attention_order_would_change_the_output() -> None:
    """Both orders have the same keys and shapes, so only the arguments can tell."""
    networks = load("distilled")["networks"]
    case = networks["g_unet_updown_legacyorder"]
    net, _ = build({**case, "args": {**case["args"], "use_new_attention_order": True}})
    with torch.no_grad():
        out = net(golden.normal("x", (2, 3, 16, 16)), torch.tensor(case["calls"][0]["timesteps"]))
    assert golden.difference("out_0", networks["g_unet_updown_neworder"]["outputs"]["out_0"], out) < 1e-4
    assert golden.difference("out_0", case["outputs"]["out_0"], out) > 0.1


def test_prefix_of_data_parallel() -> None:
    state_dict = {f"module.{key}": tensor for key, tensor in small_state_dict().items()}
    convert.from_official("improved/UNetModel", state_dict, SMALL)


def test_half_precision_weights_become_float32() -> None:
    state_dict = {key: tensor.half() for key, tensor in small_state_dict().items()}
    net = convert.from_official("improved/UNetModel", state_dict, SMALL)
    assert {p.dtype for p in net.parameters()} == {torch.float32}


def test_from_official_copies() -> None:
    state_dict = small_state_dict()
    net = convert.from_official("improved/UNetModel", state_dict, SMALL)
    for p in net.parameters():
        nn.init.ones_(p)
    assert not any(tensor.any() for tensor in state_dict.values())


def test_errors_name_the_differences() -> None:
    state_dict = small_state_dict()
    state_dict["strange"] = torch.zeros(1)
    state_dict["out.2.bias"] = torch.zeros(6)
    del state_dict["out.0.weight"]
    with pytest.raises(ValueError, match="does not fit") as error:
        convert.from_official("improved/UNetModel", state_dict, SMALL)
    message = str(error.value)
    assert "out.0.weight is missing" in message
    assert "strange (1,) is left over" in message
    assert "out.2.bias is (6,) and should be (3,)" in message


def test_errors_list_five_differences_at_most() -> None:
    with pytest.raises(ValueError, match="and 123 more") as error:
        convert.from_official("improved/UNetModel", {}, SMALL)
    assert str(error.value).count("is missing") == 5


def test_unknown_layouts_and_arguments() -> None:
    with pytest.raises(ValueError, match="known are ddim/Model, improved/UNetModel"):
        convert.from_official("improved/Unet", {}, SMALL)
    with pytest.raises(ValueError, match=r"not the arguments of improved/UNetModel.*'width'"):
        convert.from_official("improved/UNetModel", {}, {**SMALL, "width": 3})
    with pytest.raises(ValueError, match="not the arguments of ddim/Model"):
        convert.to_official("ddim/Model", {}, SMALL)
    with pytest.raises(ValueError, match="dims=3"):
        convert.official_shapes("guided/UNetModel", {**SMALL, "dims": 3})
