"""One side of a comparison: a set of images as a feature net sees it, cached by the hashes of net and images.

A cache file has the arrays of ADM's reference files (Dhariwal & Nichol 2021): mu, sigma, mu_s, sigma_s; theirs are
read too.
"""

from __future__ import annotations

import errno
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from sfumato.data import Images, eight_bits, npz
from sfumato.evaluate.distances import Statistics, statistics
from sfumato.evaluate.features import FeatureNet, file_sha256
from sfumato.evaluate.nets import Features
from sfumato.runtime.files import whole_file


@dataclass(frozen=True)
class FeatureSet:
    """What a feature net says of a set of images.

    Attributes:
        spec, count, sha256: which images, how many (0 where unknown), and their hash.
        net_sha256: of the net; empty where unknown.
        pooled, spatial: statistics for Frechet distances; `spatial` is None where the net has none.
        features: of each image, without the spatial ones; None where only statistics are known.
    """

    spec: str
    count: int
    sha256: str
    net_sha256: str
    pooled: Statistics
    spatial: Statistics | None
    features: Features | None


def from_features(features: Features, *, spec: str, sha256: str, net: FeatureNet) -> FeatureSet:
    """The set that these features of a net make."""
    spatial = None if features.spatial is None else statistics(features.spatial)
    pooled = statistics(features.pooled)
    return FeatureSet(spec, pooled.count, sha256, net.sha256, pooled, spatial, features._replace(spatial=None))


def pooled(side: FeatureSet) -> Tensor:
    """The features (N, D) of a set whose images were at hand."""
    assert side.features is not None
    return side.features.pooled


def measured(
    images: Images, net: FeatureNet, cache: Path | None = None, progress: Callable[[int], object] | None = None
) -> FeatureSet:
    """What the net says of a set of images, from the cache where it is there.

    Args:
        cache: a folder for files NET-HASH-IMAGES.npz; a net without a hash is never cached.

    Raises:
        ValueError: the net is for other images, or `cache` is a file.
    """
    net.check(images.shape)
    if len(images) < 2:
        raise ValueError(f"{images.spec} holds {len(images)} image; statistics need 2 or more")
    if cache is not None and cache.exists() and not cache.is_dir():
        raise ValueError(f"the cache {cache} is a file, not a folder")
    sha256, path = images.card.fingerprint, None
    if cache is not None and net.sha256:
        path = cache / f"{net.name}-{net.sha256[:8]}-{sha256[:16]}.npz"
        if (found := _read_cache(path, net, sha256)) is not None:
            return found
        cache.mkdir(parents=True, exist_ok=True)
    found = from_features(net(eight_bits(images.images), progress=progress), spec=images.spec, sha256=sha256, net=net)
    if path is not None:
        write(path, found, net)
    return found


def write(path: Path, found: FeatureSet, net: FeatureNet) -> None:
    """Write a set as npz, complete or not at all."""
    about = {
        "spec": found.spec, "sha256": found.sha256, "count": found.count, "net": net.name,
        "net_sha256": net.sha256, "resize": net.resize,
    }  # fmt: skip
    arrays: dict[str, Any] = {"mu": found.pooled.mean, "sigma": found.pooled.covariance}
    if found.spatial is not None:
        arrays |= {"mu_s": found.spatial.mean, "sigma_s": found.spatial.covariance}
    if found.features is not None:
        kept = {"pooled": found.features.pooled, "logits": found.features.logits}
        arrays |= {name: value for name, value in kept.items() if value is not None}
    with whole_file(path) as file:
        np.savez(file, about=np.array(json.dumps(about)), **{name: value.numpy() for name, value in arrays.items()})


def _read_cache(path: Path, net: FeatureNet, sha256: str) -> FeatureSet | None:
    """The cached set; None where there is none, it is damaged, or made of something else."""
    try:
        found = read(path)
    except (OSError, ValueError):
        return None
    same = found.net_sha256 == net.sha256 and found.sha256 == sha256 and found.features is not None
    return found if same else None


def read(path: Path) -> FeatureSet:
    """A set from a cache file, or the statistics in one of ADM's, which belong to the Inception of 2015.

    Raises:
        OSError: no such file.
        ValueError: it is damaged, or holds something else.
    """
    if not path.exists():
        raise FileNotFoundError(errno.ENOENT, "No such file or directory", str(path))
    with npz.arrays(path) as file:
        names = ("mu", "sigma", "mu_s", "sigma_s", "pooled", "logits")
        arrays = {name: _numbers(path, name, file[name]) for name in names if name in file.names}
        about = _about(path, str(file["about"])) if "about" in file.names else {}
    if not {"mu", "sigma"} <= set(arrays):
        raise ValueError(f"{path} holds no statistics: they are called mu and sigma (and mu_s, sigma_s)")
    if ("mu_s" in arrays) != ("sigma_s" in arrays):
        raise ValueError(f"{path} holds one of mu_s and sigma_s without the other")
    count = about.get("count", 0)
    pooled = _statistics(path, arrays["mu"], arrays["sigma"], count)
    spatial = _statistics(path, arrays["mu_s"], arrays["sigma_s"], count) if "mu_s" in arrays else None
    features = Features(arrays["pooled"], None, arrays.get("logits")) if "pooled" in arrays else None
    sha256 = about.get("sha256") or file_sha256(path)
    return FeatureSet(
        about.get("spec", str(path)), count, sha256, about.get("net_sha256", ""), pooled, spatial, features
    )


def _numbers(path: Path, name: str, array: np.ndarray) -> Tensor:
    """An array of finite numbers."""
    if array.dtype.kind != "f" or not np.isfinite(array).all():
        raise ValueError(f"{path}: {name} holds something else than finite numbers")
    return torch.from_numpy(np.ascontiguousarray(array, array.dtype.newbyteorder("=")))


KINDS = {"spec": str, "sha256": str, "count": int, "net": str, "net_sha256": str, "resize": str}
"""What a file says of itself."""


def _about(path: Path, text: str) -> dict[str, Any]:
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        found = None
    known = isinstance(found, dict) and all(type(found.get(name, kind())) is kind for name, kind in KINDS.items())
    if not known or found.get("count", 0) < 0:
        raise ValueError(f"{path} is damaged: what it says of itself cannot be read")
    return found


def _statistics(path: Path, mean: Tensor, covariance: Tensor, count: int) -> Statistics:
    if mean.ndim != 1 or covariance.shape != (len(mean), len(mean)):
        raise ValueError(f"{path}: a mean of {tuple(mean.shape)} and a covariance of {tuple(covariance.shape)}")
    if not len(mean):
        raise ValueError(f"{path} holds statistics of no features")
    return Statistics(mean.double(), covariance.double(), count)
