"""The Frechet distance (FID, FD) by the length of the EMA: which post-hoc average of a run samples best (EDM2, fig. 5).

Each length is rebuilt from the snapshots of the run (`runtime.weights`) and samples from the same noise.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from sfumato.data import Images
from sfumato.evaluate.features import FeatureNet
from sfumato.evaluate.measures import FrechetDistance
from sfumato.evaluate.run import planned
from sfumato.evaluate.samples import sampled
from sfumato.evaluate.sets import from_features, measured
from sfumato.models.generate import Request, plan
from sfumato.models.loading import load_model
from sfumato.runtime import weights
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.folder import RunFolder
from sfumato.train.report import write_report


@dataclass(frozen=True)
class Curve:
    """The distance by the length of the average.

    Attributes:
        lengths: sigma_rel, ascending.
        fd: the Frechet distance of each.
        distance: what it is called, with its net.
    """

    lengths: tuple[float, ...]
    fd: tuple[float, ...]
    distance: str

    @property
    def best(self) -> float:
        """The length of the least distance."""
        return min(zip(self.fd, self.lengths, strict=True))[1]


def curve(
    run: Path,
    lengths: Sequence[float],
    reference: Images,
    net: FeatureNet,
    request: Request,
    *,
    device: str = "cpu",
    cache: Path | None = None,
    progress: Callable[[float, float], object] | None = None,
) -> Curve:
    """Measure the Frechet distance (FID, FD) of post-hoc EMA lengths, record it in the run, and draw it in its report.

    `--weights best` takes the length of the least distance from then on.

    Args:
        run: a run folder with snapshots.
        lengths: sigma_rel of each average, for example 0.05, 0.1 and 0.15.
        reference: the real images.
        net: whose features are compared.
        request: how many pictures, in how many steps, from which seed.
        device: where the network samples.
        cache: a folder where statistics of real images are kept.
        progress: called with each length and its distance.

    Raises:
        ValueError: no run or checkpoint, a length that the snapshots do not give, a request that cannot be met, or
            images that do not fit; before any work.
        OSError: the files of the run cannot be read or written.
    """
    folder, wanted = RunFolder.open(run), sorted(set(lengths))
    saved = folder.latest()
    if saved is None:
        raise CheckpointError(f"{run} holds no checkpoint yet")
    if not wanted:
        raise ValueError("no lengths are given; name some, such as 0.05 0.1 0.15")
    for length in wanted:
        if not weights.choose(saved, length).name.startswith("sigma_rel"):
            raise ValueError(f"{length:g} is the rate of an average that {saved.path} stores, and no length sigma_rel")
    first = load_model(saved.path, weights=wanted[0], device=device)
    plan(first, request)
    planned(request.n, tuple(first.recipe.shape), reference, net, measures=(FrechetDistance(),))
    real, found = measured(reference, net, cache), dict[float, float]()
    for length in wanted:
        made = sampled(load_model(saved.path, weights=length, device=device), request)
        features = from_features(net(made.images), spec=made.name, sha256=made.sha256, net=net)
        found[length] = FrechetDistance()(net, features, real)["frechet"].value
        if progress:
            progress(length, found[length])
    at = {name: saved.progress[name] for name in ("images", "step", "seconds")}
    how = {key: value for key, value in made.how.items() if key != "weights"}
    folder.append({
        "kind": "lengths", **at, "lengths": list(found), "fd": list(found.values()), "distance": net.distance,
        "n": request.n, "reference": reference.spec, "how": how,
    })  # fmt: skip
    write_report(run)
    return Curve(tuple(found), tuple(found.values()), net.distance)
