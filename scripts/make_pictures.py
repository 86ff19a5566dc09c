"""Draw the pictures of the README and the docs from the models that ship: `python scripts/make_pictures.py [NAME ...]`.

emergence: noise turns into emoji and a bag, 60 steps of DDIM, denser near the data; emoji32: unchosen emoji; nearest:
samples above their nearest training images; shipped: twelve unchosen pictures of each model of clothes, as `sfumato
sample` makes them; solvers: the same noise by three samplers in 5, 8, 12 and 20 evaluations; emoji128: held-out emoji,
what the autoencoder makes of them, and samples of the latent model (needs the font, see `sfumato.data.emoji`). All by
default.
"""

from __future__ import annotations

import sys
from pathlib import Path

import matplotlib
import torch
from torch import Tensor
from torch.nn.functional import pad

from sfumato.data import open_source, pictures, to_float, to_uint8
from sfumato.evaluate.neighbours import nearest as nearest_of
from sfumato.models import load_model
from sfumato.models.loading import shipped as checkpoints

IMAGES = Path(__file__).parent.parent / "docs" / "images"
SEED, COLUMNS, STEPS = 3, 9, 60
EMERGING = (("ddpm/emoji32", 3, (15, 2, 17)), ("adm/fashion", 0, (8,)))
"""The rows of the README's opening picture: a model, a seed, and which of its pictures."""
SOLVERS = {"DDIM": "ddim", "DPM-Solver++(2M)": "dpmpp-2m?grid=karras", "UniPC-2": "unipc?order=2&grid=karras"}
EVALUATIONS = (5, 8, 12, 20)


def emergence() -> None:
    """The README's opening picture: a row for each picture; those of 28x28 get a black border."""
    rows: list[Tensor] = []
    for name, seed, chosen in EMERGING:
        frames: list[Tensor] = []
        load_model(name).sample(max(chosen) + 1, sampler="ddim", steps=STEPS, seed=seed, frames=frames)
        shown = [frames[round(STEPS * (i / (COLUMNS - 1)) ** 0.6)] for i in range(COLUMNS)]
        edge = (32 - shown[0].shape[-1]) // 2
        rows += [pad(frame[i], [edge] * 4).expand(3, 32, 32) for i in chosen for frame in shown]
    pictures.save_png(IMAGES / "emergence.png", pictures.grid(torch.stack(rows), columns=COLUMNS, scale=3))


def emoji32() -> None:
    """The first 45 pictures of ddpm/emoji32, five of each category."""
    made = load_model("ddpm/emoji32").sample(45, seed=SEED)
    pictures.save_png(IMAGES / "emoji32.png", pictures.grid(made, columns=9, scale=3))


def nearest() -> None:
    """Of 173 emoji, the twelve that are nearest to a training image, above it."""
    samples, training = load_model("ddpm/emoji32").sample(173), open_source("emoji32").images
    found = nearest_of(samples.flatten(1), training.flatten(1))
    closest = found.distance[:, 0].argsort()[:12]
    pairs = torch.stack([samples[closest], training[found.places[closest, 0]]]).flatten(0, 1)
    pictures.save_png(IMAGES / "ddpm-emoji32-nearest.png", pictures.grid(pairs, columns=12, scale=2))


def shipped() -> None:
    """A row for each model of clothes, with its name."""
    names = [name for name in checkpoints() if "/fashion" in name and not name.startswith("adm_classifier")]
    labelled("fashion-shipped", [[load_model(name).sample(12, batch=12)] for name in names], names, [""])


def solvers() -> None:
    """Clothes with labels: a row for each sampler, a column for each number of evaluations, the same noise."""
    model = load_model("adm/fashion")
    sheets = [[model.sample(10, steps=n, sampler=spec, seed=SEED) for n in EVALUATIONS] for spec in SOLVERS.values()]
    labelled("solvers", sheets, list(SOLVERS), [f"{n} evaluations" for n in EVALUATIONS], columns=5)


def emoji128() -> None:
    """A row each: held-out emoji of 128x128, their reconstructions, and three of samples; a column a category."""
    model = load_model("ddpm/emoji128")
    held_out = open_source("emoji128:test")
    assert held_out.labels is not None
    assert held_out.classes == model.classes  # so that a column is one category from top to bottom
    places = [(held_out.labels == i).nonzero().flatten() for i in range(len(model.classes))]
    real = held_out.images[torch.stack([found[len(found) // 2] for found in places])]
    with torch.inference_mode():
        back = to_uint8(model.space.decode(model.space.encode(to_float(real))))
    shown = torch.cat([real, back, model.sample(27, seed=SEED)])
    pictures.save_png(IMAGES / "emoji128.png", pictures.grid(shown, columns=9))


def labelled(
    name: str, sheets: list[list[Tensor]], rows: list[str], columns_named: list[str], columns: int | None = None
) -> None:
    """A figure of grids of pictures, uint8 (N, C, H, W) each, with the names of its rows and columns."""
    matplotlib.use("Agg")
    from matplotlib import pyplot

    side = columns or len(sheets[0][0])
    grids = [[pictures.grid(s, side, pad=1, scale=2).permute(1, 2, 0).numpy() for s in row] for row in sheets]
    height, width = grids[0][0].shape[:2]
    inches = (1.5 + len(grids[0]) * width / 110, len(grids) * (height / 110 + 0.06) + 0.3)
    figure, axes = pyplot.subplots(len(grids), len(grids[0]), figsize=inches, squeeze=False)
    for row, line, title in zip(axes, grids, rows, strict=True):
        for ax, picture in zip(row, line, strict=True):
            ax.imshow(picture, cmap="gray", interpolation="nearest")
            ax.set(xticks=[], yticks=[])
            ax.spines[:].set_visible(False)
        row[0].set_ylabel(title, rotation=0, ha="right", va="center", fontsize=9)
    for ax, title in zip(axes[0], columns_named, strict=True):
        ax.set_title(title, fontsize=9)
    figure.tight_layout(pad=0.3)
    figure.savefig(IMAGES / f"{name}.png", dpi=110, bbox_inches="tight", pad_inches=0.03)
    pyplot.close(figure)


DRAWN = {"emergence": emergence, "emoji32": emoji32, "nearest": nearest, "shipped": shipped, "solvers": solvers,
         "emoji128": emoji128}  # fmt: skip

if __name__ == "__main__":
    for word in sys.argv[1:] or DRAWN:
        DRAWN[word]()
        print(word, flush=True)
