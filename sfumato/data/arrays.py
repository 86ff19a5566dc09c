"""Arrays of pixels as images: with the size and channels that a spec asks for, and a data card; and npz files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sfumato.data import pictures
from sfumato.data.card import make_card
from sfumato.data.images import Images
from sfumato.data.reading import fit, from_pillow
from sfumato.data.spec import DataError, Spec


def _resized(images: Tensor, spec: Spec) -> tuple[Tensor, tuple[str, ...]]:
    """Named sets and arrays under `size` and `channels`."""
    notes = []
    size = spec.size
    if size is not None and images.shape[-2:] != (size, size):
        notes.append(f"resized from {images.shape[-1]}x{images.shape[-2]} to {size}x{size}")
        images = torch.stack([from_pillow(fit(pictures.to_pillow(image), size)) for image in images])
    if (wanted := spec.channels) is not None:
        if images.shape[1] == 1 and wanted == 3:
            images = images.repeat(1, 3, 1, 1)
            notes.append("grey repeated to three channels")
        elif images.shape[1] == 3 and wanted == 1:
            grey = (images.float() * torch.tensor([0.299, 0.587, 0.114])[:, None, None]).sum(1, keepdim=True)
            images = grey.round().to(torch.uint8)
            notes.append("colour turned into grey (ITU-R 601)")
        elif images.shape[1] != wanted:
            raise DataError(f"cannot make {wanted} channels of {images.shape[1]}")
    return images, tuple(notes)


def finished(
    spec: Spec, images: Tensor, labels: Tensor | None, classes: tuple[str, ...], keys: tuple[str, ...],
    texts: tuple[str, ...] | None = None, notes: tuple[str, ...] = (), bits: str = "8 bits a channel",
    licence: str = "",
) -> Images:  # fmt: skip
    images, more = _resized(images, spec)
    card = make_card(spec.text, images, labels, classes, bits=bits, notes=(*notes, *more), licence=licence)
    return Images(images, labels, texts, keys, classes, card)


def npz(spec: Spec) -> Images:
    """Arrays images, arr_0 or x as uint8 (N, H, W, C), (N, C, H, W) or (N, H, W); labels, arr_1 or y as int (N,)."""
    path = Path(spec.rest)
    if not path.is_file():
        raise DataError(f"no file {spec.rest!r} (a spec looks like npz:images.npz)")
    try:
        file = np.load(path, allow_pickle=False)
        arrays = {"images": file} if isinstance(file, np.ndarray) else {name: file[name] for name in file.files}
    except (ValueError, OSError, EOFError, KeyError) as error:
        raise DataError(f"{path} cannot be read as npz: {error}") from None
    except Exception as error:  # a damaged zip raises zipfile.BadZipFile, which is none of the above
        raise DataError(f"{path} is damaged: {error}") from None
    pixels = next((arrays[n] for n in ("images", "arr_0", "x") if n in arrays), None)
    marks = next((arrays[n] for n in ("labels", "arr_1", "y") if n in arrays), None)
    if pixels is None:
        raise DataError(f"{path} holds {', '.join(arrays) or 'nothing'}; the images are called images, arr_0 or x")
    if pixels.dtype != np.uint8 or pixels.ndim not in (3, 4) or len(pixels) == 0:
        raise DataError(f"{path}: images are uint8 (N, H, W, C), not {pixels.dtype} {pixels.shape}")
    if pixels.ndim == 3:
        pixels = pixels[:, None]
    elif pixels.shape[-1] in (1, 3):
        pixels = pixels.transpose(0, 3, 1, 2)
    if pixels.shape[1] not in (1, 3):
        raise DataError(f"{path}: images have 1 or 3 channels, not {pixels.shape[1]}")
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    if marks is not None:
        if marks.shape != (len(pixels),) or marks.dtype.kind not in "iu" or marks.min() < 0:
            raise DataError(f"{path}: labels are integers from 0, one an image, not {marks.dtype} {marks.shape}")
        labels = torch.from_numpy(marks.astype(np.int64))
        classes = tuple(str(i) for i in range(int(marks.max()) + 1))
    keys = tuple(f"{path.name}/{i}" for i in range(len(pixels)))
    return finished(spec, torch.from_numpy(np.ascontiguousarray(pixels)), labels, classes, keys)
