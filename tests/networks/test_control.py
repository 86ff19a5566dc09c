"""ControlNet: equal to the frozen network before training, trained beside it alone, and added to it by its scale."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from sfumato.networks import Embedded
from sfumato.networks.backbone import Backbone
from sfumato.networks.classifier import Encoder
from sfumato.networks.control import Control, Controlled
from sfumato.networks.dit import DiT
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet

SMALL: dict[str, Any] = {"channels": 16, "multipliers": (1, 2), "blocks": 1, "attention": (2,)}
NETS: dict[str, Backbone] = {
    "ho": HoUNet(**SMALL),
    "improved": ImprovedUNet(**SMALL),
    "adm": ADMUNet(**SMALL, head_channels=16),
    "ncsnpp": NCSNpp(**SMALL),
    "ncsnpp-skip": NCSNpp(**SMALL, progressive="skip"),
    "ddpmpp": DDPMpp(**SMALL),
}
GIVEN = Embedded(labels=3, picture=2)
INPUTS: dict[str, Tensor] = {
    "x": torch.randn(4, 3, 8, 8, generator=torch.Generator().manual_seed(1)),
    "t": torch.tensor([1.0, 5.0, 20.0, 70.0]),
    "y": torch.tensor([0, 1, 2, 0]),
}
PICTURE = torch.randn(4, 2, 8, 8, generator=torch.Generator().manual_seed(2))


def shaken(network: torch.nn.Module, by: float = 0.1) -> torch.nn.Module:
    """The network with all weights random, as after training."""
    torch.manual_seed(3)
    with torch.no_grad():
        for p in network.parameters():
            p.add_(by * torch.randn_like(p))
    return network


def beside(name: str) -> tuple[torch.nn.Module, Controlled]:
    """A network with random weights, and the control of it that has not been trained."""
    base = shaken(NETS[name].build((3, 8, 8), 3, Embedded(labels=3))).eval()
    control: Any = Control(NETS[name]).build((3, 8, 8), 3, GIVEN).eval()
    state = control.state_dict()
    for key, value in Control(NETS[name]).begun(base.state_dict()).items():
        if value.shape != state[key].shape:  # the first layers of the copy, which see the picture
            value = torch.cat([value, torch.zeros_like(state[key][:, value.shape[1] :])], dim=1)
        state[key] = value
    control.load_state_dict(state)
    return base, control


@pytest.mark.parametrize("name", NETS)
def test_before_training_it_is_the_frozen_network(name: str) -> None:
    base, control = beside(name)
    with torch.no_grad():
        assert torch.equal(control(**INPUTS, low_res=PICTURE), base(**INPUTS))
        assert torch.equal(control(**INPUTS, low_res=PICTURE[:, :, ::2, ::2]), base(**INPUTS))


@pytest.mark.parametrize("shape", [(1, 16), (1, 4, 8, 8)])
def test_signals_and_clips_are_controlled_too(shape: tuple[int, ...]) -> None:
    base: Any = shaken(NETS["ho"].build(shape, 1)).eval()
    control: Any = Control(NETS["ho"]).build(shape, 1, Embedded(picture=1)).eval()
    control.frozen.load_state_dict(base.state_dict())
    x, told = torch.randn(2, 2, *shape, generator=torch.Generator().manual_seed(0))
    t = torch.tensor([1.0, 50.0])
    with torch.no_grad():
        assert torch.equal(control(x, t, low_res=told), base(x, t))
        shaken(control.zero, 0.5)
        assert not torch.allclose(control(x, t, low_res=told), base(x, t), atol=1e-3)


@pytest.mark.parametrize("name", NETS)
def test_gradients_reach_the_copy_alone_and_all_of_it(name: str) -> None:
    """At first the zero convolutions, once these are none any more the whole copy, the picture's weights included."""
    _, control = beside(name)
    control.train()
    control(**INPUTS, low_res=PICTURE).square().mean().backward()
    reached = {n for n, p in control.named_parameters() if p.grad is not None and p.grad.any()}
    assert reached == {n for n, _ in control.named_parameters() if n.startswith("zero.")}
    shaken(control.zero, 0.5)
    control.zero_grad()
    control(**INPUTS, low_res=PICTURE).square().mean().backward()
    trained = {n for n, p in control.named_parameters() if p.requires_grad}
    assert trained == {n for n, p in control.named_parameters() if p.grad is not None}
    still = {n for n, p in control.named_parameters() if p.grad is not None and not p.grad.any()}
    assert not {n for n in still if not n.endswith("bias")}
    assert all(p.grad is None for n, p in control.named_parameters() if n.startswith("frozen."))


@pytest.mark.parametrize("name", ["ho", "ncsnpp-skip"])
def test_the_scale_adds_so_much_of_the_control(name: str) -> None:
    base, control = beside(name)
    shaken(control.zero, 0.5)
    with torch.no_grad():
        assert not torch.allclose(control(**INPUTS, low_res=PICTURE), base(**INPUTS), atol=1e-3)
        control.scale = 0.0
        assert torch.equal(control(**INPUTS, low_res=PICTURE), base(**INPUTS))
        half, whole = Control(NETS[name], 0.5), Control(NETS[name], 1.0)
        outs = []
        for config in (half, whole):  # a scale of one half is weights of one half
            made: Any = config.build((3, 8, 8), 3, GIVEN).eval()
            made.load_state_dict(control.state_dict())
            if config is whole:
                for p in made.zero.parameters():
                    p.mul_(0.5)
            outs.append(made(**INPUTS, low_res=PICTURE))
        torch.testing.assert_close(*outs)


def test_the_frozen_network_drops_nothing_out_while_the_copy_trains() -> None:
    made: Any = Control(HoUNet(**SMALL, dropout=0.5)).build((3, 8, 8), 3, GIVEN)
    for mode in (True, False):
        made.train(mode)
        assert not any(module.training for module in made.frozen.modules())
        assert all(module.training == mode for module in made.copy.modules())


def test_the_copy_has_no_way_up_and_a_control_begins_at_a_control() -> None:
    _, control = beside("ho")
    names = set(control.state_dict())
    assert not {n for n in names if n.startswith(("copy.up", "copy.conv_out", "copy.norm_out"))}
    assert {n for n in names if n.startswith("frozen.up")}
    assert Control(NETS["ho"]).begun(control.state_dict()).keys() == names


@pytest.mark.parametrize(("config", "given", "message"), [
    (Control(DiT(width=32, depth=1, heads=2, patch=2)), GIVEN, "for U-Nets and NCSN"),
    (Control(NETS["ho"]), Embedded(), "told of a picture"),
    (Control(Encoder(**SMALL, head_channels=16)), Embedded(picture=1), "conditioned on"),
])  # fmt: skip
def test_what_cannot_be_controlled_is_refused(config: Control, given: Embedded, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        config.build((3, 8, 8), 3, given)
    with pytest.raises(ValueError, match="scale"):
        Control(scale=11.0)


@pytest.mark.parametrize("wrong", [None, PICTURE[:, :1], PICTURE[:2]])
def test_a_picture_that_does_not_fit_is_refused(wrong: Tensor | None) -> None:
    _, control = beside("ho")
    with pytest.raises(ValueError, match="low_res"):
        control(**INPUTS, low_res=wrong)
