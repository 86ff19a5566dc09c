"""Arrays of signals (N, C, L) and of clips (N, C, T, H, W): how they are told from images, and what values they hold.

Five dimensions are clips and two are signals of one channel. Three or four may be images as well: there `?kind=signals`
or `?kind=clips` says so, or the name of the array, signals or clips.
"""

from __future__ import annotations

import numpy as np

from sfumato.data.depth import KINDS, of_depth
from sfumato.data.spec import MOST_CHANNELS, NO_IMAGES, DataError

SIGNALS, CLIPS = NO_IMAGES


def held_as(array: np.ndarray, asked: str, name: str = "") -> str:
    """`signals`, `clips` or, where neither shape nor words say so, `images`.

    Args:
        asked: the word of ?kind=, or nothing.
        name: of the array in its file.
    """
    if asked or name in NO_IMAGES:
        return asked or name
    return {2: SIGNALS, 5: CLIPS}.get(array.ndim, "images")


def signals_of(
    path: str, array: np.ndarray, channels: int | None, levels: int | None, values: tuple[float, float] | None
) -> np.ndarray:
    """Signals (N, C, L) at the depth that is asked for.

    Floats are from -1 to 1 unless `values` say other ends; 16-bit whole numbers with a sign, as of sound, are floats of
    1 / 32,768.

    Raises:
        DataError: another shape, other numbers, or floats outside the range.
    """
    if array.ndim == 2:
        array = array[:, None]
    if array.ndim != 3 or 0 in array.shape or array.shape[1] > MOST_CHANNELS:
        raise DataError(f"{path}: signals are (N, C, L) with 1 to {MOST_CHANNELS} channels, or (N, L), {_not(array)}")
    _check_channels(path, array, channels)
    if array.dtype == np.int16:
        array = array.astype(np.float32) / 32768
    if array.dtype.kind != "f" and array.dtype not in KINDS.values():
        raise DataError(f"{path}: signals are floats, bytes or 16-bit whole numbers, {_not(array)}")
    if array.dtype.kind == "f" and values is None:
        least, most = float(array.min()), float(array.max())
        if not -1 <= least <= most <= 1:  # also where there is a NaN
            raise DataError(f"{path}: signals go from {least:.4g} to {most:.4g}: say their ends, ?values=LOW,HIGH")
        values = -1.0, 1.0
    if array.dtype.kind == "f" and not levels and values == (-1, 1):
        return array.astype(np.float32)
    return of_depth(array, levels, values, f"{path}: signals")


def clips_of(path: str, array: np.ndarray, channels: int | None = None) -> np.ndarray:
    """Clips of any depth (N, C, T, H, W), of an array of that shape, of (N, T, H, W, C), or of (N, T, H, W), grey.

    Raises:
        DataError: another shape or other numbers.
    """
    if array.ndim == 4:
        array = array[:, None]
    if array.ndim != 5 or 0 in array.shape or array.dtype not in KINDS.values():
        raise DataError(f"{path}: clips are uint8, uint16 or floats, (N, C, T, H, W), {_not(array)}")
    counts = (channels,) if channels else (1, 3)
    first, last = (array.shape[axis] in counts for axis in (1, -1))
    if not first and not last:
        first = array.shape[1] <= MOST_CHANNELS
    if not first and not last:
        raise DataError(f"{path}: clips are (N, C, T, H, W) with 1 to {MOST_CHANNELS} channels, {_not(array)}")
    clips = array if first else array.transpose(0, 4, 1, 2, 3)
    _check_channels(path, clips, channels)
    return clips


def _check_channels(path: str, array: np.ndarray, channels: int | None) -> None:
    if channels is not None and array.shape[1] != channels:
        raise DataError(f"{path}: there are {array.shape[1]} channels, and ?channels={channels} makes none of them")


def _not(array: np.ndarray) -> str:
    return f"not {array.dtype} {array.shape}"
