"""The depth of arrays of pixels: 8 bits, 16 bits or real numbers, as they are stored or as a spec asks for.

Pixels are uint8, uint16, or float32 in [-1, 1]; black and white of floats, `values`, say what the last stand for.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from sfumato.data.spec import DataError

SLACK = 1e-3
"""How far floats may lie outside of black and white, beside their distance, by rounding."""

AT_ONCE = 1024
"""Images that are converted at a time."""

KINDS: dict[int, type[np.generic]] = {256: np.uint8, 65536: np.uint16, 0: np.float32}
"""What pixels of so many grey levels are held as; 0 levels are real numbers."""


def of_depth(array: np.ndarray, levels: int | None, values: tuple[float, float] | None, what: str) -> np.ndarray:
    """Bit depth conversion: an array of uint8, uint16 or floats as pixels of so many grey levels.

    Args:
        levels: 256, 65536, or 0 for real numbers; None keeps what is stored.
        values: black and white of floats, or of whole numbers that become real ones, such as 12 bits in 16; what is
            stored between them becomes -1 to 1, or the nearest level.
        what: the array, for messages.

    Returns: uint8, uint16, or float32 in [-1, 1]; arrays of other kinds as they are.

    Raises: DataError where floats lie outside of `values`, or their values are not said.
    """
    if array.dtype.kind == "f" or (values is not None and levels == 0 and array.dtype.kind == "u"):
        return _of_floats(array, levels, values, what)
    if values is not None:
        raise DataError(f"{what}: values= says what floats mean (or with bits=float); these images are {array.dtype}")
    if array.dtype.kind != "u" or array.dtype.itemsize > 2:
        return array
    array = array.astype(array.dtype.newbyteorder("="), copy=False)
    stored = 256 if array.dtype == np.uint8 else 65536
    if levels in (None, stored):
        return array
    if levels == 0:
        return _converted(array, 0, lambda part: part * np.float32(2 / (stored - 1)) - 1)
    if levels == 256:
        return _converted(array, 256, lambda part: np.rint(part / np.float32(257)))
    return _converted(array, 65536, lambda part: part * np.uint16(257))


def _of_floats(array: np.ndarray, levels: int | None, values: tuple[float, float] | None, what: str) -> np.ndarray:
    if not array.size:
        return array
    least, most = float(array.min()), float(array.max())
    if values is None:
        raise DataError(
            f"{what} are {array.dtype} from {least:.4g} to {most:.4g}: say what black and white are, ?values=0,1 for "
            "one, and the depth where it is not float: ?bits=8 or ?bits=16"
        )
    low, high = values
    slack = SLACK * (high - low)
    if not (low - slack <= least and most <= high + slack):  # also where there is a NaN
        raise DataError(f"{what} are from {least:.4g} to {most:.4g}, outside of values=({low:g}, {high:g})")

    def between(part: np.ndarray) -> np.ndarray:
        return ((part.astype(np.float64) - low) / (high - low)).clip(0, 1)

    if not levels:
        return _converted(array, 0, lambda part: 2 * between(part) - 1)
    return _converted(array, levels, lambda part: np.rint(between(part) * (levels - 1)))


def _converted(array: np.ndarray, levels: int, convert: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """Some images at a time, so that memory stays small."""
    out = np.empty(array.shape, KINDS[levels])
    for start in range(0, len(array), AT_ONCE):
        out[start : start + AT_ONCE] = convert(array[start : start + AT_ONCE])
    return out


def in_units(images: np.ndarray, values: tuple[float, ...]) -> np.ndarray:
    """Real numbers in [-1, 1] in the units of the data: black and white are `values`."""
    low, high = values
    return (low + (images.astype(np.float64) + 1) * ((high - low) / 2)).astype(np.float32)
