"""Text conditioning: captions as hashed subword features, whose embedding is trained along with the network.

A caption is a bag of words, a word the sum of its hashed self and its hashed runs of three to five letters (subword
information, Bojanowski et al. 2017; feature hashing, Weinberger et al. 2009). The table of features is frozen: it is
the hash itself. The network adds their linear embedding to that of the noise level; zeros are what guidance hides
(Ho & Salimans 2022). The order of words is not seen.
"""

from __future__ import annotations

import difflib
import re
import zlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import torch
from torch import Tensor

from sfumato.conditioning.base import Conditioning
from sfumato.core.diffusion import Inputs
from sfumato.core.distributions import Noise
from sfumato.fields import Length, Range
from sfumato.networks.backbone import Embedded, Share

WORD = re.compile(r"[^\W_]+")
"""A word: letters and digits; whatever is between them is not read."""
RUNS = (3, 4, 5)
"""Letters of the runs of a word, its two ends marked."""
WHOLE = 3
"""How many features a word has besides those of its runs."""
MOST_WORDS, LETTERS = 64, 64
"""Of a caption and of a word; a longer caption of training is cut, a request is refused."""
KEPT = 4096
"""Words of training that are remembered, to say which are new."""
NORM = 4.0
"""Length of the vector of a caption."""


@dataclass(frozen=True)
class Text(Conditioning):
    """Text-to-image conditioning on short captions, such as "a red heart", by hashed subword features.

    The captions come with the data: .txt files beside the pictures or a table of them, and the names of emoji. An
    image without one is trained as if its caption were hidden.
    """

    dropout: Share = 0.1
    """Share of captions hidden in training, for classifier-free guidance."""
    features: Annotated[int, Range(16, 4096)] = 512
    """Length of the vector into which words and their parts are hashed."""
    words: Annotated[tuple[str, ...], Length(0, KEPT)] = ()
    """Those of the captions of training, the most frequent first; taken from the data set."""
    reads = True

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "numbers", self.features)
        object.__setattr__(self, "names", tuple(f"text {i}" for i in range(self.features)))

    def embedded(self, shape: tuple[int, ...], given: Embedded) -> Embedded:
        return replace(given, numbers=given.numbers + self.features)

    def training(self, images: Tensor, given: Mapping[str, Tensor], noise: Noise) -> Inputs:
        numbers = self.told(given["attributes"])["numbers"]
        if self.dropout:
            chance = torch.special.ndtr(noise(torch.empty(len(numbers), 1, device=numbers.device)))
            numbers = numbers.where(chance >= self.dropout, 0.0)
        return {"numbers": numbers}

    def told(self, attributes: Tensor | None) -> Inputs:
        if attributes is None:
            if not self.dropout:
                raise ValueError("this model was trained with captions, so each picture needs its own text")
            return {}
        counts = attributes.float()
        return {"numbers": NORM * counts / counts.norm(dim=1, keepdim=True).clamp(min=1.0)}

    def hidden(self, inputs: Inputs) -> Inputs:
        if not self.dropout:
            return super().hidden(inputs)
        if "numbers" not in inputs:
            raise ValueError("guidance exaggerates a text, and none is asked for: --text")
        return {**inputs, "numbers": torch.zeros_like(inputs["numbers"])}

    def row(self, words: str) -> tuple[int, ...]:
        """The counts (features,) of a caption. ValueError for one without a word, or with too many or too long ones."""
        found = parted(words)
        if not found:
            raise ValueError(f"a text has a word at least, and {words[:40]!r} has none")
        if len(found) > MOST_WORDS or max(map(len, found)) > LETTERS:
            raise ValueError(
                f"a text has at most {MOST_WORDS} words of at most {LETTERS} letters; one has {len(found)}"
            )
        return counted(found, self.features)

    def strange(self, words: str) -> dict[str, str]:
        """The words of a caption that no caption of training had, each with the nearest that one had, or nothing."""
        new = [word for word in dict.fromkeys(parted(words)) if word not in set(self.words)]
        return {word: next(iter(difflib.get_close_matches(word, self.words, 1)), "") for word in new}

    def captioned(self, texts: Sequence[str] | None) -> Conditioning:
        if texts is None or not any(map(parted, texts)):
            raise ValueError(
                "the data have no captions, which this conditioning needs: .txt files beside the pictures, or "
                "metadata.jsonl with file_name and text"
            )
        if self.words:
            return self
        counts = Counter(word for text in texts for word in parted(text) if len(word) <= LETTERS)
        kept = sorted(counts, key=lambda word: (-counts[word], word))[:KEPT]
        return replace(self, words=tuple(kept))

    def written(self, texts: Sequence[str]) -> Tensor:
        return torch.tensor([counted(parted(text)[:MOST_WORDS], self.features) for text in texts], dtype=torch.int8)

    def _hideable(self) -> str:
        return "captions and text"


def parted(text: str) -> list[str]:
    """The words of a caption, in small letters."""
    return WORD.findall(text.casefold())


def counted(words: Sequence[str], features: int) -> tuple[int, ...]:
    """Hashed subword features of words: counts with signs (features,), each from -127 to 127."""
    counts = [0] * features
    for word in words:
        for part in _parts(word[:LETTERS]):
            number = zlib.crc32(part.encode())
            counts[number // 2 % features] += 1 if number % 2 else -1
    return tuple(max(-127, min(127, count)) for count in counts)


def _parts(word: str) -> list[str]:
    """What of a word is hashed: itself, several times, and its runs of letters."""
    marked = f"<{word}>"
    runs = [marked[i : i + n] for n in RUNS for i in range(len(marked) - n + 1)]
    return [*(f"{i}{marked}" for i in range(WHOLE)), *dict.fromkeys(runs)]
