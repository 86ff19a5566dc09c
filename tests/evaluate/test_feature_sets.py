"""Statistics of real images: the cache knows what it holds, ADM's files are read, damaged ones are not believed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from sfumato.data import open_source
from sfumato.evaluate import sets
from sfumato.evaluate.distances import frechet_distance
from sfumato.evaluate.features import FeatureNet, in_domain
from sfumato.evaluate.sets import measured


class Counting:
    """A net that counts the images it sees."""

    def __init__(self) -> None:
        self.seen = 0
        net = in_domain("digits")
        self.net = replace(net, run=lambda images: (setattr(self, "seen", self.seen + len(images)), net.run(images))[1])


@pytest.fixture
def counting() -> Counting:
    return Counting()


def test_the_second_time_comes_from_the_cache(counting: Counting, tmp_path: Path) -> None:
    images = open_source("digits:test")
    cache = tmp_path / "deep" / "cache"
    first, second = measured(images, counting.net, cache), measured(images, counting.net, cache)
    assert counting.seen == len(images)
    assert second.count == 299
    assert second.spec == "digits:test"
    assert abs(frechet_distance(first.pooled, second.pooled)) < 1e-9
    assert first.spatial is not None
    assert second.spatial is not None
    torch.testing.assert_close(first.spatial.covariance, second.spatial.covariance)
    assert first.features is not None
    assert second.features is not None
    torch.testing.assert_close(first.features.pooled, second.features.pooled)
    assert [path.name for path in cache.iterdir()] == [f"digits-c5b001fa-{images.card.fingerprint[:16]}.npz"]


def test_other_images_and_other_nets_are_measured_anew(counting: Counting, tmp_path: Path) -> None:
    measured(open_source("digits:test"), counting.net, tmp_path)
    measured(open_source("digits:test?limit=100"), counting.net, tmp_path)
    assert counting.seen == 399
    measured(open_source("digits:test"), replace(counting.net, sha256="f" * 64), tmp_path)
    measured(open_source("digits:test"), replace(counting.net, sha256=""), tmp_path)
    assert counting.seen == 3 * 299 + 100
    assert len(list(tmp_path.iterdir())) == 3  # a net without a hash is not cached


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b"", lambda b: b"no zip file at all"])
def test_a_damaged_file_is_measured_anew(counting: Counting, tmp_path: Path, damage: object) -> None:
    images = open_source("digits:test")
    measured(images, counting.net, tmp_path)
    (path,) = tmp_path.iterdir()
    path.write_bytes(damage(path.read_bytes()))  # type: ignore[operator]
    measured(images, counting.net, tmp_path)
    assert counting.seen == 2 * len(images)
    assert sets.read(path).count == len(images)


def test_an_adm_file(tmp_path: Path) -> None:
    path = tmp_path / "VIRTUAL.npz"
    np.savez(path, mu=np.zeros(4, np.float32), sigma=np.eye(4), mu_s=np.ones(3), sigma_s=np.eye(3))
    found = sets.read(path)
    assert (found.count, found.net_sha256, found.features) == (0, "", None)
    assert found.pooled.mean.dtype == torch.float64
    assert found.spatial is not None
    assert found.spatial.mean.tolist() == [1, 1, 1]


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_0": np.zeros(3)}, "holds no statistics"),
        ({"mu": np.zeros(3), "sigma": np.eye(4)}, r"a mean of \(3,\) and a covariance of \(4, 4\)"),
        ({"mu": np.array([None]), "sigma": np.eye(1)}, "holds Python objects"),
    ],
)
def test_bad_files(tmp_path: Path, arrays: dict[str, np.ndarray], message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(ValueError, match=message):
        sets.read(tmp_path / "x.npz")


def test_bad_cache(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="is a file, not a folder"):
        measured(open_source("digits:test"), in_domain("digits"), tmp_path / "file")
    net: FeatureNet = in_domain("fashion")
    with pytest.raises(ValueError, match="28x28"):
        measured(open_source("digits:test"), net)


@pytest.mark.parametrize(
    ("about", "arrays"),
    [
        ("[" * 100_000, {}),
        ("[]", {}),
        ('{"count": -1}', {}),
        ('{"count": "many"}', {}),
        ('{"sha256": 7}', {}),
        ("{}", {"mu": np.full(2, np.nan)}),
        ("{}", {"sigma": np.full((2, 2), np.inf)}),
        ("{}", {"mu": np.array(["a", "b"])}),
        ("{}", {"mu": np.zeros(0), "sigma": np.zeros((0, 0))}),
        ("{}", {"mu_s": np.zeros(2)}),
        ("{}", {"pooled": np.full((3, 2), np.nan)}),
    ],
)
def test_statistics_that_cannot_be(about: str, arrays: dict[str, np.ndarray], tmp_path: Path) -> None:
    whole = {"mu": np.zeros(2), "sigma": np.eye(2), "about": np.array(about)} | arrays
    np.savez(tmp_path / "x.npz", **whole)
    with pytest.raises(ValueError, match=r"x\.npz"):
        sets.read(tmp_path / "x.npz")
