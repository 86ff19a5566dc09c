"""Image-to-image: what the network is given of a picture, dropout, noise, pairs; and E[x|c] of Gaussian pairs."""

from __future__ import annotations

import json
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from sfumato import papers, samplers
from sfumato.conditioning import Augmented, Conditioning, Labels, LowRes, Picture, Together, Unconditional
from sfumato.core.randomness import ImageNoise
from sfumato.cost import memory
from sfumato.cost.network import forward_flops
from sfumato.inverse import CONDITIONS, Boxes, Edges, Grey, MeanPool
from sfumato.models import Model
from sfumato.networks.backbone import NOTHING, Backbone, Embedded
from sfumato.networks.unet import HoUNet
from sfumato.papers import part_of
from sfumato.papers.ddpm import DDPM
from sfumato.papers.training import TrainConfig

COLOUR = (3, 8, 8)
NETWORK = HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0)


def images(n: int, shape: tuple[int, ...] = COLOUR) -> Tensor:
    return 2 * torch.rand(n, *shape, generator=torch.Generator().manual_seed(0)) - 1


def keyed(n: int) -> ImageNoise:
    return ImageNoise(0, range(n))


# ---------------------------------------------------------------- what the network is given


@pytest.mark.parametrize(("picture", "channels", "asked"), [
    (Picture("grey"), 1, (1, 8, 8)),
    (Picture("grey", 0.1), 2, (1, 8, 8)),
    (Picture("grey", 0.1, 0.5), 3, (1, 8, 8)),
    (Picture("mean-pool?factor=4"), 3, (3, 2, 2)),
    (Picture("bicubic"), 3, (3, 4, 4)),
    (Picture("blur?std=2"), 3, (3, 8, 8)),
    (Picture("edges"), 1, (1, 8, 8)),
    (Picture("mask"), 4, (4, 8, 8)),
    (Picture("mask", 0.1), 4, (4, 8, 8)),
    (Picture(), 3, COLOUR),
    (Picture(shape=(2, 4, 4)), 2, (2, 4, 4)),
])  # fmt: skip
def test_channels_and_shapes(picture: Picture, channels: int, asked: tuple[int, ...]) -> None:
    assert picture.embedded(COLOUR, NOTHING) == Embedded(picture=channels)
    assert picture.asks(COLOUR) == asked
    if picture.by != "pairs":
        made = picture.made(images(2), keyed(2))
        assert made is not None
        assert made.shape == (2, *asked)
        given = picture.training(images(2), {}, keyed(2))["low_res"]
        assert given.shape == (2, channels, *asked[1:])
        assert picture.inputs(picture=made)["low_res"].shape == given.shape


def test_training_gives_what_a_request_would_bring() -> None:
    x = images(3)
    for by, operator in (("grey", Grey()), ("mean-pool?factor=4", MeanPool(4)), ("edges", Edges())):
        seen = Picture(by).training(x, {}, keyed(3))["low_res"]
        assert torch.equal(seen, operator(x))
        assert torch.equal(seen, Picture(by).inputs(picture=operator(x))["low_res"])
    made = Picture("mask").made(x, keyed(3))
    assert made is not None
    trained = Picture("mask").training(x, {}, keyed(3))["low_res"]
    assert torch.equal(trained, Picture("mask").inputs(picture=made)["low_res"])
    known = trained[:, 3:]
    assert set(known.unique().tolist()) == {0.0, 1.0}
    assert torch.equal(trained[:, :3], x * known)
    pairs = Picture(shape=(1, 8, 8)).training(x, {"picture": x[:, :1]}, keyed(3))
    assert torch.equal(pairs["low_res"], x[:, :1])


def test_what_dropout_hides_is_what_guidance_hides() -> None:
    x, picture = images(2000, (3, 4, 4)), Picture("grey", dropout=0.25)
    given = picture.training(x, {}, keyed(2000))["low_res"]
    whole = picture.inputs(picture=x.mean(1, keepdim=True))
    gone = given.flatten(1).abs().sum(1) == 0
    assert float(gone.double().mean()) == pytest.approx(0.25, abs=0.03)
    assert torch.equal(given[~gone], whole["low_res"][~gone])
    assert torch.equal(given[gone], picture.hidden(whole)["low_res"][gone])
    alone = picture.training(x[7:8], {}, ImageNoise(0, [7]))["low_res"]
    assert torch.equal(alone, given[7:8])
    assert torch.equal(Picture("grey").training(x, {}, keyed(2000))["low_res"], whole["low_res"][:, :1])


def test_noise_on_the_picture_keeps_its_variance_and_is_told() -> None:
    x = torch.randn(4000, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    given = Picture("blur?std=0.01", noise=0.8).training(x, {}, keyed(4000))["low_res"]
    seen, level = given[:, :3], given[:, 3, 0, 0]
    assert float(level.min()) >= 0
    assert float(level.max()) <= 0.8
    assert float(level.mean()) == pytest.approx(0.4, abs=0.02)
    noisy = level > 0.6
    residual = (seen - (1 - level.square()).sqrt()[:, None, None, None] * x)[noisy]
    scaled = residual / level[noisy][:, None, None, None]
    assert float(scaled.std()) == pytest.approx(1, abs=0.02)
    assert float(seen.std()) == pytest.approx(1, abs=0.02)
    told = Picture("blur?std=0.01", noise=0.8).inputs(picture=x)["low_res"]
    assert float(told[:, 3].abs().max()) == 0


def test_boxes_have_their_sides_and_lie_anywhere() -> None:
    boxes, x = Boxes(0.25, 0.5), images(500, (1, 16, 12))
    holes = ~boxes.drawn(x, keyed(500)).known[:, 0]
    heights, widths = holes.any(2).sum(1), holes.any(1).sum(1)
    assert torch.equal(heights * widths, holes.sum((1, 2)))  # each is one box
    assert (int(heights.min()), int(heights.max())) == (4, 8)
    assert (int(widths.min()), int(widths.max())) == (3, 6)
    assert bool(holes.any(0).all())


def test_edges_of_a_step_and_of_nothing() -> None:
    flat = torch.full((1, 3, 6, 6), 0.3)
    assert torch.allclose(Edges()(flat), torch.full((1, 1, 6, 6), -1.0))
    step = torch.where(torch.arange(6) < 3, -1.0, 1.0).expand(1, 3, 6, 6)
    found = Edges()(step)[0, 0]
    assert torch.allclose(found[:, 2:4], torch.ones(6, 2))
    assert torch.allclose(found[:, [0, 1, 4, 5]], -torch.ones(6, 4))
    assert torch.allclose(Edges()(step.mT)[0, 0], found.T)


# ---------------------------------------------------------------- specs, JSON, what is refused


@pytest.mark.parametrize("picture", [
    Picture(), Picture("mask?least=0.1"), Picture("bicubic?factor=4", 0.1, 0.5), Picture(shape=(1, 4, 6)),
    Together((Labels(3, 0.1), Picture("grey", 0.2))),
])  # fmt: skip
def test_json_round_trip(picture: Conditioning) -> None:
    recipe = DDPM(COLOUR, NETWORK, picture)
    assert papers.from_json(json.loads(json.dumps(papers.to_json(recipe)))) == recipe


def test_specs() -> None:
    assert part_of("conditioning", "picture?by=mean-pool?factor=4&dropout=0.1") == Picture("mean-pool?factor=4", 0.1)
    both = part_of("conditioning", "labels?dropout=0.1+picture?by=grey")
    assert both == Together((Labels(10, 0.1), Picture("grey")))
    assert set(CONDITIONS) == {"mean-pool", "bicubic", "blur", "grey", "channels", "mask", "edges"}


@pytest.mark.parametrize(("spec", "message"), [
    ("picture?by=gray", "did you mean grey"),
    ("picture?by=blur?std=0", "above 0"),
    ("picture?by=mask?least=0.9", "from least to most"),
    ("picture?dropout=1", "below 1"),
    ("picture?noise=2", "between 0 and 1"),
    ("picture?by=grey&shape=1,8,8", "for pairs alone"),
    ("picture?by=grey+low-res?picture=4", "one picture"),
])  # fmt: skip
def test_bad_specs_end_in_one_line(spec: str, message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        part_of("conditioning", spec)
    assert "\n" not in str(caught.value)


def test_pairs_and_conditionings_that_do_not_fit() -> None:
    assert Picture().paired((1, 4, 4)) == Picture(shape=(1, 4, 4))
    assert Picture("grey").paired(None) == Picture("grey")
    assert Together((Labels(), Picture())).paired((1, 4, 4)) == Together((Labels(), Picture(shape=(1, 4, 4))))
    refused: list[tuple[Conditioning, Any, str]] = [
        (Picture(), None, "pair:INPUTS"), (Picture("grey"), (1, 4, 4), "by=grey"), (LowRes(4), (1, 4, 4), "low-res"),
        (Unconditional(), (1, 4, 4), "set conditioning to picture"), (Labels(), (1, 4, 4), "set conditioning"),
        (Together((Augmented(), Picture())), (1, 4, 4), "augmented"),
    ]  # fmt: skip
    for conditioning, shape, message in refused:
        with pytest.raises(ValueError, match=message):
            conditioning.paired(shape)
    with pytest.raises(ValueError, match="needs some"):
        Picture("grey").inputs()
    with pytest.raises(ValueError, match=r"picture\?dropout=0.1"):
        Picture("grey").hidden({})
    with pytest.raises(ValueError, match="grey of 3 channels"):
        Picture("grey").embedded((1, 8, 8), NOTHING)


def test_dropout_of_pictures_is_none_of_labels() -> None:
    both = Together((Labels(3), Picture("grey", 0.2)))
    assert (both.classes, both.dropout, both.pictured) == (3, 0.0, True)
    inputs = both.inputs(torch.tensor([0, 2]), images(2)[:, :1])
    hidden = both.hidden(inputs)
    assert torch.equal(hidden["y"], inputs["y"])
    assert not hidden["low_res"].any()


# ---------------------------------------------------------------- models


def made(conditioning: Conditioning, shape: tuple[int, ...] = COLOUR) -> Model:
    torch.manual_seed(0)
    recipe = DDPM(shape, NETWORK, conditioning, betas="cosine", prediction="v", steps=40)
    network = recipe.model().eval().requires_grad_(False)
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.add_(0.05 * torch.randn_like(parameter))
    return Model(recipe, network, tuple("abc") if conditioning.classes else ())


def test_sampling_follows_the_picture_and_guidance_leaves_it() -> None:
    model = made(Together((Labels(3), Picture("mean-pool?factor=2", 0.1))))
    small = torch.randint(0, 256, (3, 3, 4, 4), dtype=torch.uint8)
    first = model.sample(3, steps=3, picture=small, precision="float32")
    assert torch.equal(first, model.sample(3, steps=3, low_res=small, batch=2, precision="float32"))
    assert not torch.equal(first, model.sample(3, steps=3, picture=255 - small, precision="float32"))
    assert torch.equal(first, model.sample(3, steps=3, picture=small, scale=1.0, precision="float32"))
    assert not torch.equal(first, model.sample(3, steps=3, picture=small, scale=3.0, precision="float32"))


def test_what_a_model_does_not_take_ends_in_one_line() -> None:
    small = torch.zeros(1, 1, 8, 8, dtype=torch.uint8)
    for call, message in (
        (lambda: made(Unconditional()).sample(1, picture=small), "takes none"),
        (lambda: made(Picture("grey")).sample(1), "needs some"),
        (lambda: made(Picture("grey")).sample(1, picture=small[..., :4]), "inputs of 1x8x8"),
        (lambda: made(Picture("grey")).sample(2, picture=small), "given are 1"),
        (lambda: made(Picture("grey")).sample(1, picture=small.float()), "float32"),
        (lambda: made(Picture("grey")).sample(1, picture=small, scale=2.0), "hidden in training"),
    ):
        with pytest.raises(ValueError, match=message) as caught:
            call()
        assert "\n" not in str(caught.value)


def test_onnx_is_refused_in_one_line(tmp_path: Any) -> None:
    from sfumato.convert.onnx import ExportError, export

    model = made(Picture("grey"))
    with pytest.raises(ExportError, match="pictures as inputs"):
        export(model.recipe, model.network, tmp_path / "onnx")


# ---------------------------------------------------------------- Gaussian pairs, where E[x|c] is known


class Linear(nn.Module):
    """x0 as a linear function of x_t and the picture, at one noise level."""

    def __init__(self) -> None:
        super().__init__()
        self.of_x, self.of_c, self.bias = (nn.Parameter(torch.zeros(())) for _ in range(3))

    def forward(self, x: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
        return self.of_x * x + self.of_c * low_res + self.bias


class LinearNetwork(Backbone):
    def build(self, shape: tuple[int, ...], outputs: int, given: Embedded = NOTHING) -> nn.Module:
        return Linear()


def test_the_loss_of_gaussian_pairs_leads_to_the_posterior_mean() -> None:
    """c = a x + s n of scalar x ~ N(0, v): at noise level t, E[x | x_t, c] has the precision-weighted coefficients."""
    v, a, s, n, t = 0.3, 0.8, 0.4, 40_000, 20
    generator = torch.Generator().manual_seed(0)
    x = v**0.5 * torch.randn(n, 1, 1, 1, generator=generator)
    c = a * x + s * torch.randn(n, 1, 1, 1, generator=generator)
    recipe = DDPM((1, 1, 1), LinearNetwork(), Picture(shape=(1, 1, 1)), betas="cosine", steps=40, prediction="x0",
                  weight="x0")  # fmt: skip
    built, network = recipe.build(), recipe.model()
    optimizer = torch.optim.LBFGS(network.parameters(), max_iter=50, line_search_fn="strong_wolfe")
    eps = torch.randn(n, 1, 1, 1, generator=generator)

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = built.loss(network, x, torch.full((n,), t), torch.randn_like, picture=c, eps=eps).mean()
        value.backward()
        return value

    optimizer.step(loss)
    level = built.gaussian.level(torch.tensor([t]), x[:1])
    alpha, sigma = float(level.alpha), float(level.sigma)
    precision = 1 / v + a**2 / s**2 + alpha**2 / sigma**2
    expected = (alpha / sigma**2 / precision, a / s**2 / precision)
    found = [float(p.detach()) for p in (network.of_x, network.of_c, network.bias)]  # type: ignore[arg-type, union-attr]
    assert found == pytest.approx([*expected, 0.0], abs=0.01)


def test_the_flow_of_gaussian_pairs_ends_at_the_posterior() -> None:
    """With the exact denoiser of c = a x + s n, samples given c have its mean and its variance."""
    v, a, s, n = 0.3, 0.8, 0.4, 20_000
    recipe = DDPM((1, 1, 1), LinearNetwork(), Picture(shape=(1, 1, 1)), betas="cosine", steps=400, prediction="x0",
                  clip=False)  # fmt: skip
    process = recipe.build().gaussian

    class Exact(nn.Module):
        def forward(self, x: Tensor, t: Tensor, low_res: Tensor) -> Tensor:
            level = process.level((t + 1).long(), x)  # the network is told t - 1
            alpha, sigma = level.alpha, level.sigma
            precision = 1 / v + a**2 / s**2 + alpha**2 / sigma**2
            return (alpha * x / sigma**2 + a * low_res / s**2) / precision

    built, c = recipe.build(), 0.5
    denoise = built.denoise(Exact(), Picture(shape=(1, 1, 1)).inputs(picture=torch.full((n, 1, 1, 1), c)))
    x = torch.randn(n, 1, 1, 1, generator=torch.Generator().manual_seed(0)).double()
    out = samplers.run("ddim", process, denoise, x, steps=200)
    precision = 1 / v + a**2 / s**2
    assert float(out.mean()) == pytest.approx(a * c / s**2 / precision, abs=0.01)
    assert float(out.var()) == pytest.approx(1 / precision, rel=0.05)


@pytest.mark.parametrize("conditioning", [
    Picture(), Picture(shape=(1, 4, 4)), Picture("mask", 0.1, 0.3), Together((Labels(3), Picture("mean-pool"))),
])  # fmt: skip
def test_costs_are_counted(conditioning: Conditioning) -> None:
    recipe = DDPM(COLOUR, NETWORK, conditioning, steps=40)
    assert forward_flops(recipe) > 1000
    assert memory.training(recipe, TrainConfig(images=8, batch=4, precision="float32")).peak > 1000
    assert memory.sampling(recipe, 2, precision="float32") > 1000
