"""Arrays of pictures written as they come, so that their number is not bounded by memory, and sheets that stay small.

The npz is what ADM's evaluator reads; the same pictures are the same bytes.
"""

from __future__ import annotations

import contextlib
import math
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING
from zipfile import ZIP_DEFLATED, ZipFile, ZipInfo

from sfumato import shapes
from sfumato.cli.numbers import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from sfumato.data.pictures import View
    from sfumato.models.model import Model

GENERATOR = 5000
"""Bytes of the random numbers of a picture's own."""


def fits(count: int, shape: tuple[int, ...], what: str, copies: int = 8) -> None:
    """UsageError where so many pictures (C, H, W), as numbers of four bytes in so many copies, fit no memory here."""
    from sfumato.runtime.opening import free_memory

    size, free = count * (GENERATOR + 4 * copies * math.prod(shape)), free_memory()
    if size > free:
        raise UsageError(
            f"{count:,} {what} take {size / 1e9:.1f} GB of memory at least, and {free / 1e9:.1f} GB are free here"
        )


MOST_PICTURES, MOST_PIXELS, MOST_FRAMES = 1024, 2**25, 240
MOST_SIGNALS, MOST_CLIPS = 128, 64
"""Of a sheet; of an animation, whose frames have MOST_PIXELS together four times."""


@contextlib.contextmanager
def streamed(
    path: Path, count: int, shape: tuple[int, ...], labels: Tensor | None = None, levels: int = 256,
    values: tuple[float, ...] = (-1.0, 1.0),
) -> Iterator[Callable[[Tensor], None]]:  # fmt: skip
    """An npz of images (count, H, W, C), written as they come: what is yielded takes (B, C, H, W) at a time.

    Of signals and clips it holds `signals`, float32 (count, C, L), or `clips`, uint8 (count, C, T, H, W).

    Args:
        shape: (C, H, W), (C, L) or (C, T, H, W).
        labels: (count,), written as arr_1 where there are any; as ADM's evaluator reads them.
        levels, values: 256 grey levels are uint8, 65536 uint16; 0, real numbers, are float32, black and white `values`.

    Raises: UsageError, before anything is made, where the disk has less room than the images take.
    """
    from numpy.lib import format as npy

    from sfumato.data.depth import in_units
    from sfumato.data.maps import kind_of
    from sfumato.runtime.files import whole_file

    images, kind = len(shape) == 3, kind_of(levels)
    name, order = ("arr_0", (*shape[1:], shape[0])) if images else (shapes.kind(shape), shape)
    size, free = count * math.prod(shape) * kind.itemsize, shutil.disk_usage(path.parent).free
    if size > free:
        here = f"{path.parent} has room for {free / 1e9:.1f} GB"
        raise UsageError(f"{count:,} pictures take up to {size / 1e9:.1f} GB, and {here}")

    def entry(name: str) -> ZipInfo:
        made = ZipInfo(f"{name}.npy")  # dated 1980, so that the same pictures are the same bytes
        made.compress_type = ZIP_DEFLATED
        made.external_attr = 0o644 << 16
        return made

    with whole_file(path) as file, ZipFile(file, "w", ZIP_DEFLATED) as archive:
        with archive.open(entry(name), "w", force_zip64=True) as array:
            npy.write_array_header_1_0(array, {"descr": kind.str, "fortran_order": False, "shape": (count, *order)})

            def keep(made: Tensor) -> None:
                pixels = (made.movedim(1, -1) if images else made).contiguous().numpy()
                array.write((pixels if levels else in_units(pixels, values)).astype(kind, copy=False).tobytes())

            yield keep
        if labels is not None:
            with archive.open(entry("arr_1"), "w", force_zip64=True) as array:
                npy.write_array(array, labels.numpy(), allow_pickle=False)


def on_sheet(count: int, shape: tuple[int, ...], pixels: int = MOST_PIXELS) -> int:
    """How many of so many pictures (C, H, W), signals or clips a sheet shows."""
    if shape[1:] == (1, 2):  # points, which become one picture
        return min(count, MOST_PIXELS)
    if len(shape) == 2:
        return max(1, min(count, MOST_SIGNALS))
    *frames, height, width = shape[1:]
    scale = max(1, math.ceil((32 if frames else 64) / width))
    area = math.prod(frames) * (height + 2) * (width + 2) * scale**2
    return max(1, min(count, MOST_CLIPS if frames else MOST_PICTURES, pixels // area))


def first(name: str, shown: int, count: int) -> str:
    """The name of a sheet, and what it shows where that is not everything."""
    return name if shown == count else f"{name} (the first {shown:,})"


def sheets(out: Path, images: Tensor, n: int, show: View | None) -> list[str]:
    """Write grid.png, and of clips clips.gif, of the shown pictures of n; their names for a list, with the arrays'."""
    from sfumato.data import pictures

    pictures.save_png(out / "grid.png", pictures.grid(images, show=show))
    names = [first("grid.png", len(images), n), "images.npz"]
    if images.ndim == 5:
        pictures.save_animation(out / "clips.gif", pictures.films(images, show), pictures.FRAME, pictures.FRAME)
        names.append(first("clips.gif", len(images), n))
    return names


def seen_depth(model: Model) -> str:
    """What the sheets show of a model of more than 8 bits; nothing of others, and of points in the plane."""
    from sfumato.cli.parsing import view_of
    from sfumato.data.pictures import seen_as

    space = model.recipe.space
    drawn = tuple(model.recipe.shape[1:]) == (1, 2) or len(model.recipe.shape) == 2
    return "" if drawn else seen_as(space.levels, space.values, view_of(None, model))


def deep_files(out: Path, images: Tensor, n: int, model: Model) -> list[str]:
    """Write the shown pictures, of n, of a model of more than 8 bits as files of that depth; their name for a list."""
    from sfumato.data.deep_files import write_all

    if len(model.recipe.shape) != 3 or not seen_depth(model):
        return []
    write_all(out / "pictures", images, model.recipe.space.values)
    return [first("pictures/", len(images), n)]
