"""Every kind of network as a configuration: plain frozen values that JSON carries, and what it builds."""

from __future__ import annotations

import json
from dataclasses import asdict, fields
from typing import Any

import pytest
import torch
from torch import nn

from sfumato.networks import NETWORKS, Embedded
from sfumato.networks.backbone import bare

SMALL: dict[str, Any] = {"channels": 8, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "head_channels": 4,
                         "heads": 1, "hidden": 4, "layers": 2, "dense": 8, "bumps": 3,
                         "width": 32, "depth": 4, "patch": 2}  # fmt: skip
SHAPES = {"dpm-radial": (1, 1, 2), "dpm-local": (1, 1, 2), "dpm-bits": (1, 1, 20)}
OUTPUTS = {"dpm-image": 6, "dpm-radial": 2, "dpm-local": 2, "dpm-bits": 1, "encoder-unet": 5}


def test_a_network_is_found_inside_replicas_and_compilation() -> None:
    network = nn.Linear(2, 2)
    assert bare(network) is network
    assert bare(nn.DataParallel(network)) is network
    compiled: Any = torch.compile(network)
    assert compiled is not network
    assert bare(compiled) is network


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind != "control"])  # test_control.py
def test_a_configuration_is_plain_values_and_builds(kind: str) -> None:
    make: Any = NETWORKS[kind]
    small = {field.name: SMALL[field.name] for field in fields(make) if field.name in SMALL}
    network = make(**small)
    read = json.loads(json.dumps(asdict(network)))
    values = {name: tuple(value) if isinstance(value, list) else value for name, value in read.items()}
    assert make(**values) == network
    assert hash(make(**values)) == hash(network)
    shape, outputs = SHAPES.get(kind, (3, 8, 8)), OUTPUTS.get(kind, 3)
    net = network.build(shape, outputs, Embedded(levels=10))
    if kind == "conv-autoencoder":
        assert net(torch.ones(2, *shape)).image.shape == (2, *shape)
        return
    out = net(torch.ones(2, *shape), torch.tensor([1, 9]))
    classifier = kind == "encoder-unet"
    assert out.shape == ((2, 5) if classifier else (2, outputs, *shape[1:]))


@pytest.mark.parametrize("kind", [kind for kind in NETWORKS if kind.startswith(("dpm", "refine", "encoder"))])
def test_what_cannot_be_conditioned_on_labels_says_so(kind: str) -> None:
    with pytest.raises(ValueError, match="conditioned on"):
        NETWORKS[kind]().build(SHAPES.get(kind, (3, 8, 8)), OUTPUTS.get(kind, 3), Embedded(labels=3, levels=10))


@pytest.mark.parametrize(
    ("kind", "options", "message"),
    [
        ("ncsnpp", {"progressive": "both"}, "progressive is one of residual, skip, not 'both'"),
        ("encoder-unet", {"pool": "max"}, "pool is one of attention, adaptive, spatial, spatial_v2, not 'max'"),
        ("refinenet-v2", {"norm": "batch"}, r"norm is one of instance\+\+, none, not 'batch'"),
    ],
)
def test_a_word_that_is_not_known_is_refused_at_construction(kind: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NETWORKS[kind](**options)
