"""Moving averages: the formula, how they fit themselves to a run, and that looking through them changes nothing."""

from __future__ import annotations

import contextlib

import pytest
import torch

from sfumato.train.ema import EMA, decay_at
from tests.train import toy


def test_the_decay_is_the_least_of_three() -> None:
    assert decay_at(0.999, 0, 1e9) == 0.1
    assert decay_at(0.999, 90, 1e9) == pytest.approx(91 / 100)
    assert decay_at(0.999, 10**6, 1e9) == 0.999
    assert decay_at(0.999, 10**6, 1_000) == pytest.approx(0.99)  # a window of a tenth of the run
    assert decay_at(0.999, 0, 5) == 0.0


def test_updates_follow_the_formula() -> None:
    torch.manual_seed(0)
    net = toy.Net(4, 0.0, 0).double().float()
    ema = EMA(net, (0.99, 0.5))
    expected = {rate: [p.detach().clone().double() for p in net.parameters()] for rate in ema.rates}
    for n in range(30):
        with torch.no_grad():
            for p in net.parameters():
                p.add_(torch.randn_like(p))
        decays = ema.update(n, total=300)
        for rate, shadow in expected.items():
            decay = min(rate, (1 + n) / (10 + n), 1 - 10 / 300)
            assert decays[rate] == decay
            for average, p in zip(shadow, net.parameters(), strict=True):
                average.mul_(decay).add_((1 - decay) * p.detach().double())
    for rate in ema.rates:
        for average, value in zip(expected[rate], ema.shadows[rate], strict=True):
            assert value.dtype == torch.float32
            torch.testing.assert_close(value.double(), average, rtol=1e-5, atol=1e-6)


def test_looking_through_the_average_leaves_the_network_as_it_was() -> None:
    net = toy.Net(4, 0.0, 0)
    ema = EMA(net, (0.9,))
    with torch.no_grad():
        for p in net.parameters():
            p.add_(1)
    online = {k: v.clone() for k, v in net.state_dict().items()}
    with contextlib.suppress(KeyError), ema.swapped(0.9) as averaged:
        assert averaged is net
        assert not torch.equal(net.first.weight, online["first.weight"])
        raise KeyError
    assert toy.same(dict(net.state_dict()), online)
    ema.update(0, 1e9)
    assert torch.equal(net.first.weight, online["first.weight"])


def test_buffers_are_the_networks_own_and_state_goes_round() -> None:
    net = toy.Net(4, 0.0, 0)
    ema = EMA(net, (0.9,))
    with torch.no_grad():
        net.scale.fill_(3)
        net.first.weight.add_(1)
    state = {k: v.clone() for k, v in ema.state_dict(0.9).items()}
    assert state["scale"] == 3
    torch.testing.assert_close(state["first.weight"] + 1, net.first.weight.detach())
    other = EMA(toy.Net(4, 0.0, 0), (0.9,))
    other.load_state_dict(0.9, state)
    assert toy.same(dict(other.state_dict(0.9)), state)


def test_a_rate_too_slow_for_the_run_is_named() -> None:
    ema = EMA(toy.Net(4, 0.0, 0), (0.9999, 0.9))
    assert ema.shortened(10**6) == []
    (sentence,) = ema.shortened(2_000)
    assert sentence == (
        "EMA 0.9999 looks back over 10,000 steps, too many for a run of about 2,000; held at 0.995"
    )  # fmt: skip
