"""Which numbers another library's code takes for black and white: a model that works on others is not written for it.

Files of weights do not tell the space of a model, so whoever reads them assumes that of their own code.
"""

from __future__ import annotations

from typing import Any

from sfumato.convert.state import ForeignError
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2
from sfumato.papers.recipe import Trainable
from sfumato.papers.score_sde import ScoreSDE
from sfumato.spaces import Pixels, UnitPixels

PLAIN = Pixels().range


def official_range(recipe: Trainable) -> tuple[float, float]:
    """Where images lie in a paper's own code: 1 wide for NCSN, NCSNv2 and the VE SDE, whose sigmas count so."""
    of = getattr(recipe, "of", recipe)  # the teacher's recipe of a distilled model
    narrow = isinstance(of, NCSN | NCSNv2) or (isinstance(of, ScoreSDE) and of.sde == "ve")
    return UnitPixels().range if narrow else PLAIN


def check_space(recipe: Trainable, whose: str, wanted: tuple[float, float] = PLAIN) -> None:
    """Raise ForeignError unless a model works on pixels, with the black and white that the code assumes.

    Args:
        whose: the code, which begins the sentence.
        wanted: its black and white.
    """
    space: Any = recipe.space
    if not space.keeps_pixels:
        raise ForeignError(f"{whose} has no place for an autoencoder, so it cannot hold this model of latents")
    if space.range != wanted:
        (low, high), (black, white) = wanted, space.range
        raise ForeignError(
            f"{whose} works on images from {low:g} to {high:g}, and this model on numbers from {black:g} to {white:g} "
            f"({type(space).__name__}), so it would not sample there"
        )
