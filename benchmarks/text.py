"""Whether a text is followed: a classifier of emoji tells the category of pictures that held-out names asked for.

    python benchmarks/text.py RUN [--scale 3] [--count 96]

Names are of the test split, which training did not see; the classifier is the feature net of emoji that ships, trained
on the training split alone. Printed: how often it says the category of the name for the pictures made, for pictures
that other names asked for (the names shifted, which is chance with the same frequencies), and for the real emoji.
"""

from __future__ import annotations

import argparse
import json

import torch

from sfumato.data import open_source
from sfumato.evaluate.features import usual
from sfumato.models.loading import load_model


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run")
    parser.add_argument("--scale", type=float, default=3.0)
    parser.add_argument("--count", type=int, default=96)
    asked = parser.parse_args()
    held, model = open_source("emoji32:test"), load_model(asked.run)
    order = torch.randperm(len(held), generator=torch.Generator().manual_seed(0))[: asked.count]
    some = held.take(order)
    assert some.texts is not None
    assert some.labels is not None
    made = model.sample(len(some), text=some.texts, scale=asked.scale, steps=10)
    net = usual(some.spec, some.shape, "cpu")

    def said(images: torch.Tensor) -> torch.Tensor:
        logits = net(images).logits
        assert logits is not None
        return logits.argmax(1)

    n, found = len(some), said(made)
    others = [float((found == some.labels.roll(i)).float().mean()) for i in range(1, n)]
    rates = {
        "made": float((found == some.labels).float().mean()),
        "other names": sum(others) / len(others),
        "real": float((said(some.images) == some.labels).float().mean()),
    }
    print(json.dumps({"count": n, "scale": asked.scale, **{name: round(rate, 3) for name, rate in rates.items()}}))


if __name__ == "__main__":
    main()
