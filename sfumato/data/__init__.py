"""Images in and out: one spec string opens any source, and every source is a set of pictures with a data card."""

from sfumato.data.card import DataCard
from sfumato.data.loader import Order, eight_bits, flip, to_float, to_pixels, to_uint8
from sfumato.data.sources import DataError, Example, Images, open_source

__all__ = [
    "DataCard", "DataError", "Example", "Images", "Order", "eight_bits", "flip", "open_source", "to_float", "to_pixels",
    "to_uint8",
]  # fmt: skip
