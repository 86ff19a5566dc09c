"""A whole evaluation: real images against real ones, spoilt ones and copies; its protocol, its floor, its files."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from sfumato.data import Images, open_source
from sfumato.data.pictures import View
from sfumato.evaluate import Result, Samples, evaluate, from_function, from_images, in_domain, memorisation_sheet, sets
from sfumato.evaluate import measures as m
from sfumato.evaluate.features import FeatureNet
from sfumato.evaluate.run import thumbnails


@pytest.fixture(scope="module")
def train() -> Images:
    return open_source("digits")


@pytest.fixture(scope="module")
def test() -> Images:
    return open_source("digits:test")


@pytest.fixture(scope="module")
def net() -> FeatureNet:
    return in_domain("digits")


@pytest.fixture(scope="module")
def real(train: Images, test: Images, net: FeatureNet) -> Result:
    samples = train.take(torch.arange(299))
    return evaluate(from_images(samples), test, net, other=train, training=train)


def test_real_images_are_at_the_floor(real: Result) -> None:
    for name in ("precision", "recall", "density", "coverage"):
        assert real.metrics[name].value == pytest.approx(real.metrics[name].floor, abs=0.25)
    frechet, kernel = real.metrics["frechet"], real.metrics["kernel"]
    assert frechet.floor is not None
    assert frechet.value < 4 * frechet.floor
    assert kernel.deviation is not None
    assert abs(kernel.value) < 4 * kernel.deviation
    assert real.metrics["class_accuracy"].value == 1  # the net was trained on them
    assert real.metrics["class_accuracy"].floor == pytest.approx(0.987, abs=0.001)
    assert real.metrics["copies_pixels"].value == real.metrics["copies_features"].value == 1  # they are training images
    assert real.metrics["copies_pixels"].floor == 0


def noisy(images: Tensor) -> Tensor:
    chance = torch.Generator().manual_seed(0)
    return (images + 40 * torch.randn(images.shape, generator=chance)).clamp(0, 255).to(torch.uint8)


def test_defects_are_far_from_the_floor_and_in_order(train: Images, test: Images, net: FeatureNet) -> None:
    fresh = train.take(torch.arange(0, 1498, 5))
    assert fresh.labels is not None
    chance = torch.Generator().manual_seed(0)
    found = {
        name: evaluate(images, test, net, other=train).metrics
        for name, images in {
            "real": fresh.images,
            "noise": noisy(fresh.images),
            "five classes": fresh.images[fresh.labels < 5],
            "ten images": fresh.images[:10].repeat(30, 1, 1, 1),
            "chance": torch.randint(0, 256, fresh.images.shape, generator=chance, dtype=torch.uint8),
        }.items()
    }
    floor = found["real"]["frechet"].floor
    assert floor is not None
    distance = {name: metrics["frechet"].value for name, metrics in found.items()}
    assert distance["real"] < 3 * floor < distance["noise"] < distance["five classes"] < distance["chance"]
    assert distance["chance"] > 20 * floor
    assert found["ten images"]["recall"].value < 0.2 < 0.6 < found["real"]["recall"].value
    assert found["chance"]["precision"].value < 0.3
    assert found["five classes"]["coverage"].value < found["real"]["coverage"].value - 0.2


# ---------------------------------------------------------------- protocol


def test_the_protocol_says_everything(real: Result, test: Images) -> None:
    p = real.protocol
    assert (p.samples, p.count, p.shape) == ("digits", 299, (1, 8, 8))
    assert (p.net, p.net_sha256[:8], p.resize) == ("digits", "c5b001fa", "none")
    assert (p.reference, p.reference_count, p.reference_sha256) == ("digits:test", 299, test.card.fingerprint)
    assert p.quantiser == "bytes as stored"
    assert p.floor == "299 images of digits, on which the net was trained, against the same reference"


def test_nothing_but_fid_is_called_fid(real: Result) -> None:
    assert real.metrics["frechet"].label == "FD-digits-c5b001fa"
    assert real.metrics["spatial_frechet"].label == "sFD-digits-c5b001fa"
    for word in ("FID", "KID", "50k"):
        assert word not in str(real)
        assert word not in json.dumps(real.to_json())


def test_the_table_and_the_file(real: Result, tmp_path: Path) -> None:
    lines = str(real).splitlines()
    assert lines[0] == "samples    digits: 299 images of 8x8, 1 channel"
    assert any(line.startswith("FD-digits-c5b001fa") and "lower is better" in line for line in lines)
    assert all(len(line) < 120 for line in lines)
    real.save(tmp_path / "evaluation.json")
    assert Result.read(tmp_path / "evaluation.json") == real
    for text in ("{}", "no json", '{"format": 7}'):
        (tmp_path / "x.json").write_text(text)
        with pytest.raises(ValueError, match=r"x\.json"):
            Result.read(tmp_path / "x.json")


# ---------------------------------------------------------------- floors


def test_floor_without_other_images_comes_from_halves(train: Images, net: FeatureNet) -> None:
    found = evaluate(train.images[:1000], train, net, measures=[m.FrechetDistance()])
    assert found.protocol.floor == "749 images of digits against 749 others of it (at N 749, not 1,000)"
    assert found.metrics["frechet"].floor is not None


def test_floor_of_images_that_the_net_has_not_seen(train: Images, test: Images, net: FeatureNet) -> None:
    partly = replace(net, seen=("digits", 1000))
    found = evaluate(test.images[:200], test, partly, other=train, measures=[m.FrechetDistance()])
    assert "200 images of digits that the net has not seen" in found.protocol.floor
    many = evaluate(train.images, test, net, other=train.take(torch.arange(50)), measures=[m.FrechetDistance()])
    assert "(no more are there for N 1,498)" in many.protocol.floor


def test_a_cached_evaluation_is_the_same(train: Images, test: Images, net: FeatureNet, tmp_path: Path) -> None:
    first, second = (
        evaluate(train.images[:200], test, net, other=train, training=train, cache=tmp_path) for _ in range(2)
    )
    assert first == second
    assert first == evaluate(train.images[:200], test, net, other=train, training=train)


# ---------------------------------------------------------------- references of statistics, nets of users


def test_a_file_of_statistics(train: Images, test: Images, net: FeatureNet, tmp_path: Path) -> None:
    whole = sets.measured(test, net)
    sets.write(tmp_path / "mine.npz", replace(whole, features=None), net)
    known = sets.read(tmp_path / "mine.npz")
    found = evaluate(train.images[:299], known, net)
    assert set(found.metrics) == {"frechet", "spatial_frechet", "inception_score"}
    assert found.metrics["frechet"].floor is None
    assert "statistics alone" not in found.protocol.reference
    assert found.protocol.floor.startswith("none")
    assert found.metrics["frechet"].value == pytest.approx(
        evaluate(train.images[:299], test, net).metrics["frechet"].value
    )
    with pytest.raises(ValueError, match="KernelDistance needs the reference's images"):
        evaluate(train.images[:299], known, net, measures=[m.KernelDistance()])
    with pytest.raises(ValueError, match="measured with another net"):
        evaluate(train.images[:299], known, replace(net, sha256="0" * 64))
    np.savez(tmp_path / "adm.npz", mu=np.zeros(64), sigma=np.eye(64))
    with pytest.raises(ValueError, match="needs the 2015 Inception"):
        evaluate(train.images[:299], sets.read(tmp_path / "adm.npz"), net)


def test_a_users_net_takes_what_it_can(train: Images, test: Images) -> None:
    net = from_function(lambda images: images.float().flatten(1), "pixels")
    found = evaluate(train.images[:100], test, net)
    assert set(found.metrics) == {"frechet", "kernel", "precision", "recall", "density", "coverage"}
    with pytest.raises(ValueError, match="InceptionScore needs logits"):
        evaluate(train.images[:100], test, net, measures=[m.InceptionScore()])


def test_five_channels_by_a_users_net_alone(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (60, 8, 8, 5), np.uint8)
    np.save(tmp_path / "five.npy", pixels)
    images = open_source(f"npy:{tmp_path}/five.npy")
    net = from_function(lambda images: images.float().flatten(2).mean(2), "means")
    found = evaluate(images.images[:30], images, net, training=images, measures=[m.FrechetDistance()])
    assert found.metrics["copies_pixels"].value == 1
    views = (View((4,)), View((4, 2, 0)))
    one, three = (memorisation_sheet(images.images, images.images, found.nearest, show=view) for view in views)
    assert (one.shape[0], three.shape[0]) == (1, 3)
    assert torch.equal(one[0], three[0])
    with pytest.raises(ValueError, match="digits is for images of 8x8 with 1 channel, not 8x8 with 5"):
        evaluate(images.images, images, in_domain("digits"))


# ---------------------------------------------------------------- copies


def test_copies_are_found_and_shown(train: Images, test: Images, net: FeatureNet) -> None:
    mixed = torch.cat([train.images[:20], noisy(test.images[:20])])
    found = evaluate(mixed, test, net, training=train, measures=[m.FrechetDistance()])
    assert found.metrics["copies_pixels"].value == 0.5
    assert found.metrics["nearest_pixels"].floor is not None
    near = found.nearest["pixels"]
    assert near.places[:20, 0].tolist() == list(range(20))
    sheet = memorisation_sheet(mixed, train.images, found.nearest, count=12)
    assert sheet.shape == (1, 8 * (2 + 4 * 10), 8 * (2 + 12 * 10))


def test_large_images_are_compared_small() -> None:
    chance = torch.Generator().manual_seed(0)
    pixels = torch.randint(0, 256, (12, 3, 64, 64), generator=chance, dtype=torch.uint8)
    assert thumbnails(pixels).shape == (12, 3 * 32 * 32)
    assert thumbnails(pixels[..., :32, :32]).shape == (12, 3 * 32 * 32)


# ---------------------------------------------------------------- bad input


def test_bad_input(train: Images, test: Images, net: FeatureNet) -> None:
    fashion = torch.zeros(20, 1, 28, 28, dtype=torch.uint8)
    with pytest.raises(ValueError, match="there are 3 images to measure"):
        evaluate(train.images[:3], test, net)
    with pytest.raises(ValueError, match="is for images of 8x8"):
        evaluate(fashion, test, net)
    with pytest.raises(ValueError, match=r"are \(1, 28, 28\) \(C, H, W\); the reference, digits:test"):
        evaluate(fashion, test, from_function(lambda images: images.float().flatten(1), "pixels"))
    with pytest.raises(ValueError, match=r"uint8 \(N, C, H, W\), not torch.float32"):
        evaluate(train.images[:20].float(), test, net)
    with pytest.raises(ValueError, match="the same set"):
        evaluate(train.images[:20], test, net, other=test)
    with pytest.raises(ValueError, match="hold 4 images"):
        evaluate(train.images[:20], test.take(torch.arange(4)), net)
    with pytest.raises(ValueError, match="holds 299 images, not 300"):
        from_images(test, 300)
    assert from_images(test).images.equal(test.images)
    in_order = test.take(test.labels.argsort())  # a folder in order of its classes: some of it is some of each
    few = from_images(in_order, 30).labels
    assert few is not None
    assert len(few) == 30
    assert few.unique().tolist() == list(range(10))
    assert Samples(train.images, "x").sha256 != Samples(test.images, "x").sha256
