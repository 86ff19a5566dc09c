"""The recorded outputs of the official networks (DDPM's port, Improved DDPM, ADM), on a GPU in float32."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
import torch

from sfumato import convert
from tests.convert import golden_networks as golden

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA device here"),
]
CASES = golden.load("distilled")["networks"]
SLACK = 5
"""A GPU adds up in another order: so many times the tolerance that two orders on a CPU needed."""


@pytest.fixture(autouse=True)
def exact() -> Iterator[None]:
    """Convolutions and products in float32, not rounded to 10 bits."""
    before = torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32
    torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = False
    yield
    torch.backends.cudnn.allow_tf32, torch.backends.cuda.matmul.allow_tf32 = before


@pytest.mark.parametrize("name", CASES)
def test_outputs_equal_the_official_networks(name: str) -> None:
    case = CASES[name]
    shapes = convert.official_shapes(case["layout"], case["args"])
    weights = {key: golden.filled(key, shape) for key, shape in shapes.items()}
    net = convert.from_official(case["layout"], weights, case["args"]).cuda()
    inputs = {key: golden.normal(rule["label"], tuple(rule["shape"])).cuda() for key, rule in case["inputs"].items()}
    for call in case["calls"]:
        further = {"low_res": inputs["low_res"]} if "low_res" in inputs else {}
        if call.get("y"):
            further["y"] = torch.tensor(call["y"], device="cuda")
        with torch.inference_mode():
            found = net(inputs["x"], torch.tensor(call["timesteps"], device="cuda"), **further).cpu()
        recorded = case["outputs"][call["output"]]
        assert golden.difference(call["output"], recorded, found) <= SLACK * recorded["tolerance"]
