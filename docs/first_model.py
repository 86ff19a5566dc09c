# %% [markdown]
# # A first diffusion model
#
# Pictures from a model that ships, then one of your own, trained here in two minutes on a CPU. Run the cells in
# order.

# %%
# Installs sfumato where it is missing, as on Colab or Kaggle, from its folder: it is not on PyPI yet.
import importlib.util
import subprocess
import sys

FOLDER = "./sfumato"  # the one that holds pyproject.toml, beside this notebook
if importlib.util.find_spec("sfumato") is None:
    subprocess.check_call([sys.executable, "-m", "pip", "install", "-q", FOLDER])

# %% [markdown]
# ## Pictures out of noise
#
# `ddpm/emoji32` comes with the package. Its network was trained to say what is noise in a noisy picture; a sampler
# begins with nothing but noise and takes some of it away, step by step.

# %%
import sfumato
from sfumato.data import open_source, pictures


def show(images, columns=None):
    """uint8 (N, C, H, W) as one picture."""
    return pictures.to_pillow(pictures.grid(images, columns))


emoji = sfumato.load("ddpm/emoji32")
show(emoji.sample(16, seed=0, classes=["Food & Drink"]), columns=8)

# %% [markdown]
# The same noise on its way to a picture, one row a picture:

# %%
import torch

frames: list = []
emoji.sample(3, seed=1, steps=9, frames=frames)  # ten states of three pictures
show(torch.stack(frames, dim=1).flatten(0, 1), columns=len(frames))

# %% [markdown]
# ## Data
#
# Handwritten digits of 8x8 pixels also come with the package. Yours would be `"folder:my/pictures?size=32"`, an
# array, a tensor or a list of Pillow's images. The card says what is really in a set.

# %%
digits = open_source("digits")
print(digits.card)
show(digits.images[:32], columns=16)

# %% [markdown]
# ## Training
#
# A preset is a recipe, a network and training numbers. `SFUMATO_MINUTES` in the environment changes the budget. The
# function is called with every line of metrics; if it returned True, the training would end there.

# %%
import os

minutes = float(os.environ.get("SFUMATO_MINUTES", "2"))
losses = []


def watch(row):
    if row["kind"] == "train":
        losses.append((row["images"], row["loss"]))


model = sfumato.fit("digits", "ddpm/digits", minutes=minutes, callbacks=watch)

# %%
import matplotlib.pyplot as plt

figure, axis = plt.subplots(figsize=(6, 3))
axis.plot(*zip(*losses, strict=True))
axis.set(xlabel="images seen", ylabel="training loss", yscale="log")
figure.tight_layout()

# %% [markdown]
# ## What it makes
#
# One column a class.

# %%
show(model.sample(40, seed=0), columns=10)

# %% [markdown]
# ## How good is that?
#
# A small network that knows digits looks at 200 samples and at real images that the model has not seen. `real v real`
# is the floor: the same measure between two sets of real images of this size. Copies of training pictures are looked
# for as well.

# %%
from sfumato.evaluate import evaluate, in_domain

result = evaluate(model.sample(200, seed=1), open_source("digits:test"), in_domain("digits"), training=digits)
print(result)

# %% [markdown]
# ## Next
#
# - Your own pictures, weights to begin at, and giving the model away: `docs/own_pictures.md`.
# - A larger network: `sfumato.fit(..., size="base")`. Other recipes: `edm/digits`, `flow/digits`, `dit/digits`.
# - The lessons, from this picture to the papers: `sfumato learn`.
