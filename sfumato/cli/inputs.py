"""Pictures as inputs of `sfumato sample`: read, or made of whole ones; the sheet beside outputs; and colour drift."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from sfumato.cli.parsing import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.data import Images
    from sfumato.data.pictures import View
    from sfumato.models.model import Model

USUAL = 64
"""Pictures, where no inputs say how many."""


@dataclass(frozen=True)
class Inputs:
    """What a model is given.

    Attributes:
        n: how many pictures are asked for.
        pictures: (n, C', h, w); None where the model is given none.
        targets: (n, C, H, W), where they are known.
        labels: (n,), where those of the pictures are the model's.
    """

    n: int
    pictures: Tensor | None = None
    targets: Tensor | None = None
    labels: Tensor | None = None


def chosen(n: int | None, low_res: str | None, inputs: str | None, originals: str | None, model: Model) -> Inputs:
    """The inputs that the options --low-res, --inputs and --originals say; UsageError, DataError for what does not fit.

    Args:
        n: so many; one of each input where None.
    """
    words = {"--low-res": low_res, "--inputs": inputs, "--originals": originals}
    given = {option: word for option, word in words.items() if word is not None}
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} each say the inputs; give one of them")
    asked, side = model.recipe.conditioning.asks(model.recipe.shape), model.recipe.conditioning.picture
    if not given:
        if asked is not None and not side:
            raise UsageError("this model makes pictures of pictures: give --inputs FOLDER, or --originals SPEC")
        return Inputs(n or USUAL)
    option, word = next(iter(given.items()))
    if asked is None or (option == "--low-res" and not side):
        why = "is no upsampler" if option == "--low-res" else "was not trained with pictures as inputs"
        raise UsageError(f"this model {why}, so it takes no {option} images")
    if option == "--low-res":
        return _enlarged(n or USUAL, word, model.recipe.shape, side)
    return _inputs(n, word, asked, model) if option == "--inputs" else _of_originals(n, word, model)


def _enlarged(n: int, word: str, shape: tuple[int, ...], side: int) -> Inputs:
    """The images to enlarge, shrunk to what an upsampler takes that makes images of this shape."""
    from sfumato.data import open_source
    from sfumato.models.real import shrunk

    path = Path(word)
    spec = f"folder:{path}" if path.is_dir() else f"npz:{path}" if path.suffix == ".npz" else word
    images = open_source(spec).images
    if len(images) < n:
        raise UsageError(f"{word} has {len(images)} images to enlarge; {n} are asked for (-n)")
    larger = images.ndim == 4 and min(images.shape[2:]) >= side < max(images.shape[2:])
    return Inputs(n, shrunk(images[:n], side, (shape[-2], shape[-1])) if larger else images[:n])


def _inputs(n: int | None, word: str, asked: tuple[int, ...], model: Model) -> Inputs:
    """The inputs themselves; those of a plain folder are brought to the size and the channels of training."""
    from sfumato.data import open_source

    channels, height, width = asked
    plain = Path(word).is_dir()
    images = open_source(f"folder:{word}?size={width}x{height}&channels={channels}" if plain else word)
    pictures = images.images if images.inputs is None else images.inputs
    if tuple(pictures.shape[1:]) != asked:
        found, wanted = ("x".join(map(str, shape)) for shape in (pictures.shape[1:], asked))
        raise UsageError(
            f"{word} has pictures of {found} (channels, height, width), this model takes inputs of {wanted}; bring "
            f"them to it with ?size={width}x{height}&channels={channels}, or make them of whole pictures: --originals"
        )
    count = _count(n, word, len(images))
    targets = None if images.inputs is None else images.images[:count]
    return Inputs(count, pictures[:count], targets, _labels(images, count, model))


def _of_originals(n: int | None, word: str, model: Model) -> Inputs:
    """Inputs made of whole pictures as in training; the whole pictures are the targets."""
    from sfumato.data import open_source
    from sfumato.models.real import inputs_of

    images = open_source(f"folder:{word}" if Path(word).is_dir() else word)
    if images.shape != model.recipe.shape:
        raise UsageError(f"the model makes {model.recipe.shape} images, {word} has {images.shape}")
    count = _count(n, word, len(images))
    pictures = inputs_of(model.recipe, images, count)
    return Inputs(count, pictures, images.images[:count], _labels(images, count, model))


def _count(n: int | None, word: str, there: int) -> int:
    if n is not None and n > there:
        raise UsageError(f"{word} has {there} pictures as inputs; {n} are asked for (-n)")
    return n or there


def _labels(images: Images, n: int, model: Model) -> Tensor | None:
    """The labels of the first n pictures, where their classes are the model's."""
    if not model.recipe.conditioning.classes or images.labels is None or images.classes != model.classes:
        return None
    return images.labels[:n]


def sheet(given: Inputs, outputs: Tensor, show: View | None = None) -> Tensor:
    """One picture (C, H', W'): input, output and, where it is known, target side by side, for some of them."""
    import torch

    from sfumato.data import eight_bits, pictures

    shape, n = outputs.shape[1:], len(outputs)
    assert given.pictures is not None
    parts = [_like(given.pictures[:n], tuple(shape)), eight_bits(outputs, show and show.window)]
    parts += [] if given.targets is None else [eight_bits(given.targets[:n], show and show.window)]
    together = torch.stack(parts, dim=1).flatten(0, 1)
    return pictures.grid(together, columns=8 if len(parts) == 2 else 9, show=show)


def _like(inputs: Tensor, shape: tuple[int, ...]) -> Tensor:
    """Inputs (n, C', h, w) as 8-bit pictures (n, C, H, W), by nearest neighbours; what is not known is grey."""
    from torch.nn.functional import interpolate

    from sfumato.data import eight_bits

    x = interpolate(eight_bits(inputs).float(), tuple(shape[1:]), mode="nearest")
    if x.shape[1] in (shape[0] + 1, 2, 4) and x.shape[1] != shape[0]:  # the last channel is 0 in holes
        x = x[:, :-1].where(x[:, -1:] > 127, 128.0)
    if x.shape[1] != shape[0]:
        x = x.mean(1, keepdim=True).expand(-1, shape[0], -1, -1)
    return x.round().byte()


def colour_error(outputs: Tensor, targets: Tensor) -> dict[str, list[float]]:
    """Colour drift of outputs (n, C, H, W) from their targets, a channel, in 0..255.

    `mean` is the mean difference over all pixels, `absolute` the mean over pictures of how far their own means are off.
    """
    from sfumato.data import to_float

    both = (to_float(part).double() for part in (outputs, targets[: len(outputs)]))
    off = 127.5 * (next(both) - next(both)).mean((2, 3))
    return {
        "mean": [round(v, 2) for v in off.mean(0).tolist()],
        "absolute": [round(v, 2) for v in off.abs().mean(0).tolist()],
    }


def agreement(model: Model, outputs: Tensor, inputs: Tensor) -> dict[str, float] | None:
    """How well outputs (n, C, H, W) keep to their inputs, from which the same inputs can be made again: edges, say.

    `correlation` of all numbers of both, and the mean of the `absolute` difference, in 0..255. None where inputs are
    pairs, or made at random.
    """
    import torch

    from sfumato.core.randomness import ImageNoise
    from sfumato.data.loader import eight_bits, to_float

    keys = range(len(outputs))
    again, another = (model.recipe.conditioning.made(to_float(outputs), ImageNoise(seed, keys)) for seed in (0, 1))
    if again is None or another is None or not torch.equal(again, another):
        return None
    pair = torch.stack([eight_bits(part).double().flatten() for part in (again, inputs[: len(outputs)])])
    correlation = float(torch.corrcoef(pair)[0, 1].nan_to_num())
    return {"correlation": round(correlation, 4), "absolute": round(float((pair[0] - pair[1]).abs().mean()), 2)}


def unread(model: Model, texts: tuple[str, ...]) -> str:
    """A line for each word of these texts that no caption of training had, with the nearest that one had."""
    strange = {word: near for text in texts for word, near in model.recipe.conditioning.strange(text).items()}
    said = "is in no caption of training; it is read by its letters"
    return "".join(f"text     {word!r} {said}{f' (nearest: {near})' * bool(near)}\n" for word, near in strange.items())
