"""Load a trained model, classifier or autoencoder: a run, a checkpoint, the name of a shipped one, a foreign file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sfumato import papers
from sfumato.core.diffusion import Autoencoding, Classification, Diffusion
from sfumato.models.autoencoder import Autoencoder
from sfumato.models.classifier import Classifier
from sfumato.models.model import Model
from sfumato.runtime import checkpoint
from sfumato.runtime.folder import RunFolder
from sfumato.runtime.weights import load_weights

FOREIGN = (".pt", ".pth", ".ckpt", ".bin")
"""Endings of the files that other codes write, in small or capital letters; .tar may follow."""

NOTHING: Mapping[str, Tensor] = {}
"""What is learned of training times by those that do not learn."""

GIVEN = "model.safetensors"
"""The weights in a folder that is given away (`sfumato.hub`)."""


Loaded = Model | Classifier | Autoencoder
KINDS: dict[type[Any], type[Any]] = {Diffusion: Model, Classification: Classifier, Autoencoding: Autoencoder}
"""What a trained network is, by what its recipe builds."""


def shipped() -> dict[str, Path]:
    """The checkpoints that come with the package, by preset name."""
    folder = Path(str(resources.files("sfumato"))) / "checkpoints"
    return {path.stem.replace("-", "/", 1): path for path in sorted(folder.glob("*.safetensors"))}


def load(
    target: str | Path, *, weights: str | float | None = None, device: torch.device | str = "cpu", **choices: Any
) -> Loaded:
    """Load a trained model: a run folder, one of our checkpoints, the name of a shipped model, or a foreign checkpoint.

    Args:
        target: for example "runs/mine", "model.safetensors", "ddpm/emoji32", "256x256_diffusion.pt" (the official files
            of ddim, improved-diffusion, guided-diffusion, ncsn, ncsnv2 and score_sde_pytorch, also as safetensors) or a
            folder of diffusers' `UNet2DModel` or `DDPMPipeline`, or what `sfumato convert --to hub` wrote. ~ is the
            home folder.
        weights: "online", or an EMA rate that is stored, such as "0.999"; of a run with snapshots also a length
            sigma_rel, such as 0.05 (a power-function average, rebuilt: `runtime.weights`), or "best", the length of the
            least distance or loss that was measured. The first EMA where None.
        device: where the network goes.
        choices: what a foreign file cannot say of itself, see `convert.foreign`; the error names what is missing.

    Raises:
        ValueError: nothing there, or a file that is damaged, unsafe, unknown or of another architecture, or whose
            weights are not finite.
        OSError: it cannot be read, or is a pipe or device.
        MemoryError: its weights are larger than the memory that is free.
    """
    path = home(target)
    path = path / GIVEN if (path / GIVEN).is_file() else path
    if is_foreign(path):
        import sfumato.convert.foreign as foreign

        if weights is not None:
            raise ValueError(f"{path} holds one set of weights; there is none to choose")
        opened = foreign.open_folder(path, choices) if path.is_dir() else foreign.open_file(path, choices)
        return _trained(opened.recipe, opened.network, (), opened.about).to(device)
    if choices:
        raise ValueError(f"{target} says itself what it is; {', '.join(choices)} cannot be chosen")
    if (path / "cascade.json").is_file():
        raise ValueError(f"{target} is a cascade of several models: sfumato sample, or sfumato.models.load_cascade")
    if (path / "distill.json").is_file():
        raise ValueError(f"{target} is a distillation, which has a run folder for each stage: {path / 'steps-N'}")
    if path.is_dir() and path.suffix != checkpoint.PARTS:
        found = RunFolder.open(path).latest_checkpoint()
        if found is None:
            raise ValueError(f"{path} holds no checkpoint yet")
        path = found
    elif not path.exists():
        known = shipped()
        if str(target) not in known:
            names = ", ".join(known) or "none"
            raise ValueError(f"{target}: no such run folder or checkpoint, nor a shipped model (shipped: {names})")
        path = known[str(target)]
    return from_checkpoint(checkpoint.read(path), weights=weights, device=device)


def home(target: str | Path) -> Path:
    """A path in which ~ stands for the home folder, where there is one."""
    return Path(os.path.expanduser(target))


def is_foreign(path: Path) -> bool:
    """Whether other codes wrote this: a folder of diffusers, or a file by its ending, else by how it begins.

    Raises:
        OSError: it is a pipe, a socket or a device, or there is no permission.
        ValueError: damaged safetensors.
    """
    if path.is_dir():
        return _is_diffusers(path)
    endings = [suffix.lower() for suffix in path.suffixes[-2:]]
    if endings[-1:] == [".tar"]:
        endings.pop()
    if endings and endings[-1] in FOREIGN:
        return True
    if not path.exists():
        return False
    from sfumato.convert.files import is_torch_file

    if endings[-1:] != [".safetensors"] and is_torch_file(path):
        return True
    return not checkpoint.is_ours(path)


def load_model(
    target: str | Path, *, weights: str | float | None = None, device: torch.device | str = "cpu", **choices: Any
) -> Model:
    """Load a trained model that makes pictures; see `load`. ValueError for what makes none by itself."""
    found = load(target, weights=weights, device=device, **choices)
    if isinstance(found, Classifier):
        raise ValueError(f"{target} is a classifier of noisy images; it guides another model, but makes no pictures")
    if isinstance(found, Autoencoder):
        raise ValueError(
            f"{target} is an autoencoder, which makes no pictures; train a model of its latents: "
            f'sfumato train PRESET --recipe.space "latents?of={target}"'
        )
    return found


def load_classifier(
    target: str | Path, *, weights: str | float | None = None, device: torch.device | str = "cpu", **choices: Any
) -> Classifier:
    """Load a trained classifier of noisy images; see `load`. ValueError for a model that makes pictures."""
    found = load(target, weights=weights, device=device, **choices)
    if not isinstance(found, Classifier):
        what = "makes pictures" if isinstance(found, Model) else "is an autoencoder"
        raise ValueError(f"{target} {what}; a guide is a classifier of noisy images")
    return found


def holds_model(path: Path) -> bool:
    """Whether a folder is one of models: a run, a checkpoint in parts, a cascade, a distillation, or diffusers' own."""
    ours = any((path / name).is_file() for name in ("config.json", "cascade.json", "distill.json"))
    return ours or path.suffix == checkpoint.PARTS or _is_diffusers(path)


def _is_diffusers(path: Path) -> bool:
    """Whether this is a folder that diffusers wrote: of a pipeline, or of its network."""
    if not path.is_dir() or (path / "metrics.jsonl").exists():
        return False
    from sfumato.convert.diffusers_weights import holds_weights

    network = path / "unet" if (path / "unet" / "config.json").is_file() else path
    return (path / "model_index.json").is_file() or network != path or holds_weights(path)


def load_autoencoder(
    target: str | Path, *, weights: str | float | None = None, device: torch.device | str = "cpu"
) -> Autoencoder:
    """Load a trained autoencoder; see `load`. ValueError for anything else."""
    found = load(target, weights=weights, device=device)
    if not isinstance(found, Autoencoder):
        raise ValueError(f"{target} is no autoencoder; train one, for example: sfumato train autoencoder/emoji128")
    return found


def from_checkpoint(
    saved: checkpoint.Checkpoint, *, weights: str | float | None = None, device: torch.device | str = "cpu"
) -> Loaded:
    """A model or classifier from an opened checkpoint.

    The network takes memory once the file's shapes are known to be its own.

    Raises:
        CheckpointError: a recipe that is none, or of another network; damaged weights.
    """
    try:
        recipe = papers.from_json(saved.recipe)
        with torch.device("meta"):
            network = recipe.model()
        built = recipe.build()
    except (ValueError, TypeError, LookupError, ArithmeticError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:500]
        raise checkpoint.CheckpointError(f"{saved.path} holds a recipe that makes no network: {reason}") from None
    classes = tuple(saved.data.get("classes", ()))
    count = recipe.conditioning.classes
    own = recipe.conditioning.fitted(len(classes), True).classes == count  # its classes are not those of the data
    if count and classes and len(classes) != count and not own:
        raise checkpoint.CheckpointError(f"{saved.path} names {len(classes)} classes; its recipe has {count}")
    times = saved.tensors("times/")
    try:
        if times:
            built.times.load_state_dict(times)
    except (ValueError, LookupError) as error:
        raise checkpoint.CheckpointError(f"{saved.path} is damaged: {error}") from None
    kind = load_weights(saved, network, weights)
    network.to(device).eval().requires_grad_(False)
    about = {**saved.progress, "data": saved.data, "weights": kind, "path": str(saved.path)}
    return _trained(recipe, network, classes, about, times)


def _trained(
    recipe: Any, network: Any, classes: tuple[str, ...], about: dict[str, Any], times: Mapping[str, Tensor] = NOTHING
) -> Loaded:
    """A model, a classifier or an autoencoder, by what the recipe builds: decided here, once."""
    trained: Loaded = KINDS[type(recipe.build())](recipe, network, classes, about, times)
    return trained
