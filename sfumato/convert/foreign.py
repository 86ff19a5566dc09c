"""Other people's checkpoints: official PyTorch files and diffusers' folders, opened as recipe and network, and written.

What a file's names and shapes cannot tell (heads, the order of q, k and v, the noise levels) is taken from the
published configuration of the same network where there is one, and asked for otherwise; `about` says which.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import torch
from torch import Tensor, nn

from sfumato import shapes
from sfumato.convert import (
    ddim,
    diffusers,
    foreign_lucidrains,
    foreign_scores,
    foreign_unets,
    lucidrains,
    openai,
    scores,
)
from sfumato.convert.averages import PLAIN
from sfumato.convert.facts import Facts, recognise
from sfumato.convert.files import read_state
from sfumato.convert.keys import Key, check_fits
from sfumato.convert.keys import load as fill
from sfumato.convert.pixels import check_space, official_range
from sfumato.convert.state import ForeignError, State
from sfumato.networks.backbone import Backbone
from sfumato.networks.classifier import Encoder
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp, SongUNet
from sfumato.networks.refinenet import RefineNet, RefineNetV2
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers.recipe import Trainable
from sfumato.runtime.files import whole_file

CHOICES = {**foreign_lucidrains.CHOICES, **foreign_scores.CHOICES, **foreign_unets.CHOICES}
"""What a caller may have to say of a file, since the weights do not."""


@dataclass(frozen=True)
class Foreign:
    """A foreign checkpoint, opened.

    Attributes:
        recipe: how the network is used.
        network: with the weights, in evaluation mode.
        about: path, what was found, which weights, and the order of q, k and v.
    """

    recipe: Any
    network: nn.Module
    about: dict[str, Any]


def open_file(path: str | Path, choices: Mapping[str, Any] | None = None) -> Foreign:
    """Open an official file, of torch.save or of safetensors.

    Args:
        path: a .pt, .pth or .ckpt of ermongroup/ddim, improved-diffusion or guided-diffusion, or of ncsn, ncsnv2 or
            score_sde_pytorch.
        choices: see `CHOICES`; they override what a published configuration says.

    Raises:
        OSError: no such file.
        ForeignError: a damaged, unsafe or unknown file; a choice that is missing or does not exist; and, with the first
            five differences, weights that do not fit the network.
    """
    path, choices = Path(path), dict(choices or {})
    if unknown := sorted(set(choices) - set(CHOICES)):
        raise ForeignError(f"unknown choice {unknown[0]!r}; known: {', '.join(CHOICES)}")
    state, notes, weights = read_state(path)
    facts: AnyFacts
    order = "legacy"
    try:
        if scores.knows(state):
            facts = scores.recognise(state)
            recipe, source = foreign_scores.settle(facts, path, choices)
            state = foreign_scores.weights(state)
        elif lucidrains.knows(plain := foreign_lucidrains.split(state)[0]):
            tables = foreign_lucidrains.split(state)[1]
            state, facts = plain, lucidrains.recognise({name: tuple(value.shape) for name, value in plain.items()})
            recipe, source = foreign_lucidrains.settle(facts, tables, notes, choices)
        else:
            facts = recognise({name: tuple(value.shape) for name, value in state.items()})
            recipe, order, source = foreign_unets.settle(facts, path, choices)
    except ForeignError as error:
        raise ForeignError(f"{path}: {error}") from None
    network = _filled(path, recipe, _keys_of(facts, order), state)
    about = {"path": str(path), "found": [str(facts), *notes, source], "weights": weights, "order": order, "data": {}}
    return Foreign(recipe, network, about)


def open_folder(folder: str | Path, choices: Mapping[str, Any] | None = None) -> Foreign:
    """Open a folder of diffusers, of `UNet2DModel.save_pretrained` or `DDPMPipeline.save_pretrained`.

    Args:
        choices: steps, betas, prediction, variance, where there is no scheduler's configuration, or to override it.

    Raises:
        OSError: files missing.
        ForeignError: damaged, of an architecture that is not DDPM's, or weights that do not fit it.
    """
    recipe, state, source = diffusers.read(Path(folder), dict(choices or {}))
    network = _filled(folder, recipe, diffusers.keys, state)
    about = {"path": str(folder), "found": ["UNet2DModel of diffusers", source], "weights": PLAIN, "data": {}}
    return Foreign(recipe, network, about)


AnyFacts = Facts | scores.ScoreFacts | lucidrains.LucidFacts
Keys = Callable[[Any], Iterable[Key]]
"""Our network -> its key map."""


def _keys_of(facts: AnyFacts, order: str) -> Keys:
    """network -> which official tensor is which of ours."""
    if isinstance(facts, Facts):
        return lambda network: foreign_unets.key_map(facts, network, order)
    if isinstance(facts, lucidrains.LucidFacts):
        return lambda network: facts.keys(network, facts.images)
    return lambda network: foreign_scores.key_map(facts, network)


def _filled(path: str | Path, recipe: Trainable, keys: Keys, state: State) -> nn.Module:
    """The recipe's network with these weights, which takes memory once they fit. ForeignError where they do not."""
    try:
        with torch.device("meta"):
            network = recipe.model()
        found = list(keys(network))
        check_fits(network, found, state)
        network.to_empty(device="cpu")
        fill(network, found, state)
    except ValueError as error:
        raise ForeignError(f"{path}: {error}") from None
    return network.eval().requires_grad_(False)


# ---------------------------------------------------------------- and back


class Layout(NamedTuple):
    """How the official code holds a network: (network, order) -> key map; whether labels and pictures have a place."""

    keys: Callable[[Any, str], Iterable[Key]]
    conditioned: bool = False


HO = Layout(lambda network, order: ddim.keys(network, {"model": {"type": "simple"}}))
OPENAI = Layout(lambda network, order: openai.keys(network, legacy_order=order == "legacy"), conditioned=True)
REFINENET = Layout(lambda network, order: foreign_scores.refinenet_keys(network))
SONG = Layout(lambda network, order: foreign_scores.layers_keys(network))
LAYOUTS: dict[type[Backbone], Layout] = {
    HoUNet: HO, ImprovedUNet: OPENAI, ADMUNet: OPENAI, Encoder: OPENAI, RefineNet: REFINENET, RefineNetV2: REFINENET,
    NCSNpp: SONG, DDPMpp: SONG, SongUNet: SONG,
}  # fmt: skip


def official_state(recipe: Trainable, network: nn.Module, order: str = "legacy") -> dict[str, Tensor]:
    """A network's weights under the official names: ermongroup/ddim's, OpenAI's, or Song and Ermon's.

    Args:
        order: of q, k and v in OpenAI's attention, "legacy" or "new".

    Raises: ForeignError for a network that the official code cannot hold, or a space that it does not assume.
    """
    kind = type(recipe.network)
    if len(recipe.shape) != 3:
        raise ForeignError(f"the official codes are for images, not for {shapes.kind(recipe.shape)}")
    if kind not in LAYOUTS:
        raise ForeignError(f"the network {kind.__name__} has no official PyTorch layout here")
    conditioning = recipe.conditioning
    if conditioning.pictured and not conditioning.picture:
        raise ForeignError("official files hold no inputs but an upsampler's pictures, so they cannot hold this model")
    if not LAYOUTS[kind].conditioned and (conditioning.classes or conditioning.picture):
        what = "labels" if conditioning.classes else "low-resolution images"
        raise ForeignError(f"the official {kind.__name__} has no {what}, so it cannot hold a conditional model")
    if conditioning.numbers:
        raise ForeignError(
            "official files hold no embedding of attributes or of an augmentation, so they cannot hold this model"
        )
    if conditioning.feeds_back:
        raise ForeignError("the official codes feed no prediction back, so they cannot hold a self-conditioned model")
    check_space(recipe, "the official code", official_range(recipe))
    tensors = {name: p.detach() for name, p in network.state_dict().items()}
    keys = LAYOUTS[kind].keys(network, order)
    return {key.official: key.read(tensors[key.ours]).clone().contiguous().float().cpu() for key in keys}


class _Kept:
    """A file that keeps the error of the system, which torch turns into one of its own."""

    def __init__(self, file: IO[bytes]) -> None:
        self.file = file
        self.error: OSError | None = None

    def write(self, content: Any) -> int:
        try:
            return self.file.write(content)
        except OSError as error:
            self.error = self.error or error
            raise

    def flush(self) -> None:
        self.file.flush()


def save_official(path: str | Path, state: State) -> None:
    """Write a state dict as the official codes do, by torch.save; the file appears whole or not at all.

    Raises: OSError: disk full, no permission.
    """
    with whole_file(Path(path)) as file:
        kept: Any = _Kept(file)
        try:
            torch.save(state, kept)
        except RuntimeError:
            if kept.error is None:
                raise
            raise kept.error from None


def save_folder(recipe: Trainable, network: nn.Module, folder: str | Path) -> None:
    """Write a folder that `diffusers.DDPMPipeline.from_pretrained` samples from.

    Raises: ForeignError for another recipe or network than DDPM's, or one that their scheduler or pipeline lacks.
    """
    diffusers.write(Path(folder), recipe, network)
