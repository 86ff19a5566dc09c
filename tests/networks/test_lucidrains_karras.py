"""lucidrains' Karras U-Net: parameters, magnitudes near 1 in every layer, rows, and what only an update changes."""

from __future__ import annotations

import pytest
import torch

from sfumato.networks import Embedded
from sfumato.networks.lucidrains_karras import Along, KarrasBlock, LucidrainsKarras, pixel_norm
from sfumato.networks.magnitude import forced, normalise

SMALL = LucidrainsKarras(16, 32, 2, 1, (2,), 16)


def test_the_default_has_the_packages_number_of_parameters() -> None:
    with torch.device("meta"):
        network = LucidrainsKarras().build((4, 64, 64), 4, Embedded(labels=1000))
    count = sum(p.numel() for p in network.parameters()) + network.rates.numel()
    # sum over KarrasUnet(image_size=64, dim=192, dim_max=768, num_classes=1000).parameters(), version 2.3.4
    assert count == 431_508_725


def test_every_layer_has_magnitude_one_at_first() -> None:
    torch.manual_seed(0)
    network = SMALL.build((3, 16, 16), 3, Embedded(labels=5)).eval()
    found: dict[str, float] = {}
    hooks = [
        module.register_forward_hook(
            lambda m, _, out, name=name: found.update({name: float(out.detach().square().mean().sqrt())})
        )
        for name, module in network.named_modules()
        if isinstance(module, Along | KarrasBlock)
    ]
    network(torch.randn(8, 3, 16, 16), torch.linspace(-1.5, 1, 8), torch.arange(8) % 5)
    for hook in hooks:
        hook.remove()
    inner = {name: value for name, value in found.items() if not name.endswith((".emb", "conv_out"))}
    assert len(inner) > 25
    assert all(1 / 3 < value < 3 for value in inner.values()), inner
    assert all(value == 0 for name, value in found.items() if name.endswith((".emb", "conv_out")))  # gains of 0


def test_the_length_of_a_row_does_not_matter_and_an_update_restores_it() -> None:
    torch.manual_seed(0)
    network = SMALL.build((3, 8, 8), 3)
    torch.nn.init.ones_(network.out_gain)
    network.eval()
    x, t = torch.randn(2, 3, 8, 8), torch.tensor([0.3, -1.0])
    out = network(x, t)
    with torch.no_grad():
        for weight in forced(network):
            weight.mul_(3.0)
    torch.testing.assert_close(network(x, t), out, atol=1e-5, rtol=1e-4)
    normalise(network)
    assert all(torch.allclose(w.flatten(1).square().mean(1), torch.ones(len(w)), atol=1e-5) for w in forced(network))


def test_pixel_norm_and_the_fan_in_without_ones() -> None:
    x = 7 * torch.randn(2, 6, 3, 3)
    torch.testing.assert_close(pixel_norm(x, 1).square().mean(1), torch.ones(2, 3, 3))
    torch.manual_seed(1)
    layer = Along(4, 5, 1, ones=1)
    norms = torch.stack([layer(torch.eye(4)[i].view(1, 4, 1, 1)).flatten() for i in range(4)]).square().sum(0)
    torch.testing.assert_close(norms, torch.full((5,), 4 / 3))  # each row's length squared, over a fan-in of 3


def test_rows_are_images_of_height_1_and_odd_sides_are_refused() -> None:
    rows = LucidrainsKarras(8, 16, 2, 1, (2,), 8, dimensions=1).build((2, 1, 16), 2)
    assert rows(torch.randn(3, 2, 1, 16), torch.tensor([1.0, 2.0, 3.0])).shape == (3, 2, 1, 16)
    with pytest.raises(ValueError, match="height 1"):
        LucidrainsKarras(dimensions=1).build((2, 8, 16), 2)
    with pytest.raises(ValueError, match="multiples of 2"):
        SMALL.build((3, 7, 8), 3)
    with pytest.raises(ValueError, match="attention factors"):
        LucidrainsKarras(levels=2)
    with pytest.raises(ValueError, match="even"):
        LucidrainsKarras(rates=7)


def test_every_input_counts() -> None:
    torch.manual_seed(0)
    network = SMALL.build((3, 8, 8), 6, Embedded(labels=4, picture=3)).eval()
    with torch.no_grad():
        for name, p in network.named_parameters():
            if name.endswith("gain"):
                p.fill_(0.5)
    x, t, y, low = torch.randn(2, 3, 8, 8), torch.tensor([0.3, -2.0]), torch.tensor([0, 3]), torch.randn(2, 3, 4, 4)
    out = network(x, t, y, low)
    assert out.shape == (2, 6, 8, 8)
    for given in ((x + 1, t, y, low), (x, t + 1, y, low), (x, t, 3 - y, low), (x, t, y, -low)):
        assert not torch.allclose(network(*given), out)
    assert network(x.double(), t, y, low).dtype == torch.float64
    with pytest.raises(ValueError, match="needs low_res"):
        network(x, t, y)
