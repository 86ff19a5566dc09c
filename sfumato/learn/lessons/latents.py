import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Latents, cascades, ControlNet and DiT: larger pictures")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims.toys import normal
    from sfumato.data.loader import to_float, to_uint8
    from sfumato.data.sources import open_source
    from sfumato.inverse import MeanPool
    from sfumato.learn import story
    from sfumato.learn.checks.latents import EXERCISES
    from sfumato.learn.widgets import Frames
    from sfumato.networks.autoencoder import AutoencoderNet
    from sfumato.networks.backbone import Embedded
    from sfumato.networks.control import Control, Controlled
    from sfumato.networks.dit import DiT
    from sfumato.networks.tokens import Block, patchify
    from sfumato.networks.unet import HoUNet

    torch.set_num_threads(1)


@app.cell
def _():
    mo.md(r"""
    # Latents, cascades, ControlNet and DiT: larger pictures

    *Latent diffusion*, Rombach, Blattmann, Lorenz, Esser and Ommer, 2022; *Cascaded diffusion models*, Ho and others, 2022; *ControlNet*, Zhang,
    Rao and Agrawala, 2023; *DiT*, Peebles and Xie, 2023.

    From 32 to 512 pixels a side is 256 times the pixels. None of these four papers changes the mathematics of diffusion: they change **what it runs
    on** (few numbers that an autoencoder makes of a picture, or a small picture first), **what it is told** (edges, a pose), and **which
    network** it is. Most of a picture's numbers are hardly needed, to begin with. Below, emoji from so many numbers of their 3,072.
    """)
    return


@app.cell
def _():
    story.links("latents")
    return


@app.cell
def _():
    pictures = to_float(open_source("emoji32:train").images)
    _flat = pictures.flatten(1)
    mean = _flat.mean(0)
    total = float((_flat - mean).square().sum(1).mean())
    torch.manual_seed(0)
    _, _, basis = torch.pca_lowrank(_flat - mean, q=160, center=False)
    kept = ((_flat - mean) @ basis).square().mean(0).cumsum(0) / total

    def through(k, x):
        """Pictures through k linear latents and back."""
        z = (x.flatten(1) - mean) @ basis[:, :k]
        return (mean + z @ basis[:, :k].T).reshape(x.shape).clamp(-1, 1)

    def row(x):
        return torch.cat([*to_uint8(x)], dim=2)[None]

    _shown = pictures[40:1700:280]
    hook = mo.ui.anywidget(Frames.of({"all 3,072": row(_shown)} | {f"{k} numbers": row(through(k, _shown)) for k in (160, 40, 10)}, start=1.0))
    hook
    return hook, kept, pictures, row, through


@app.cell
def _():
    mo.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "about 1,500": "Far fewer: neighbouring pixels say nearly the same.",
        "about 500": "Fewer still:",
        "fewer than 100": "Yes, by a linear map alone:",
    }
    guess = story.predict("latents", "How many numbers, chosen once for all emoji, keep 80 % of the variance of their 3,072?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses, kept):
    def _figure():
        needed = int((kept < 0.8).sum()) + 1
        rows = "\n".join(f"| {k} | {float(kept[k - 1]):.0%} |" for k in (10, 40, 100, 160))
        return mo.md(
            f"| principal components | variance kept |\n|---|---|\n{rows}\n\n80 % takes **{needed}**. "
            + story.measured(needed < 100, "The other numbers hold a fifth of it: details.", "That is not fewer than 100.")
            + " An encoder of several layers can do better at the same number, and is what latent diffusion trains; what it loses is lost for every sample."
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    mo.md("""
    ## What stands in the papers, and where it stands here
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("encoder, decoder, latents", r"$\mathcal{E}, \mathcal{D}, z$", "`AutoencoderNet`, the space `latents`", "`AutoencoderKL`, `vae`"),
            ("side of a picture over that of latents", "$f$", "`ConvAutoencoder.factor`", "`vae_scale_factor`"),
            ("noise on an upsampler's input", "$s$ (conditioning augmentation)", "`--level`", "`aug_level`, `noise_level`"),
            ("zero convolution", r"$\mathcal{Z}$", "`Controlled.zero`", "`controlnet_down_blocks`"),
            ("shift, scale, gate", r"$\beta, \gamma, \alpha$ (adaLN-Zero)", "`Block.modulation`", "`adaLN_modulation`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        AutoencoderNet.latents,
        r"""**Latents.** A first network is trained to reconstruct; its latents are drawn from a Gaussian a picture (a little KL keeps them bounded). The diffusion
model then runs on latents, divided by their standard deviation:""",
    )
    return


@app.cell
def _(pictures):
    _noise = normal(0, 40, 3, 32, 32).float()
    _shrunk = {k: (float(MeanPool(k)(_noise).std()), float(MeanPool(k)(pictures[:400]).std() / pictures[:400].std())) for k in (2, 4)}
    mo.md(
        "**Cascades.** A small picture first, then a model that enlarges it. Means over k x k pixels:\n\n| k | deviation of noise left | of emoji left |\n|---|---|---|\n"
        + "\n".join(f"| {k} | {a:.2f} | {b:.2f} |" for k, (a, b) in _shrunk.items()) + "\n\n"
        + story.measured(
            all(abs(a - 1 / k) < 0.03 and b > 1.5 * a for k, (a, b) in _shrunk.items()),
            "Noise falls to 1 / k, pictures far less: a large picture shows its coarse content through k times the noise.",
            "Here noise does not fall faster than pictures.",
        )
    )
    return


@app.cell
def _():
    story.source(Controlled.forward, "**ControlNet.** A frozen U-Net, a copy of its way down that is told of a picture, and 1x1 convolutions that begin at zero between them:")
    return


@app.cell
def _():
    torch.manual_seed(0)
    _net = Control(HoUNet(channels=32, multipliers=(1, 2), blocks=1, attention=())).build((1, 16, 16), 1, Embedded(picture=1))
    torch.nn.init.normal_(_net.frozen.conv_out.weight, std=0.1)  # as of a network that has learned
    _x, _t, _edges = torch.randn(2, 1, 16, 16), torch.tensor([10.0, 500.0]), torch.randn(2, 1, 16, 16)
    _alone = _net.frozen(_x, _t)
    _first = float((_net(_x, _t, low_res=_edges) - _alone).detach().abs().max())

    def _gradients():
        _net.zero_grad()
        (_net(_x, _t, low_res=_edges) - 1).square().mean().backward()
        found = {"zero convolutions": _net.zero, "the copy": _net.copy}
        return {name: max(float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None) for name, part in found.items()}

    _before = _gradients()
    with torch.no_grad():
        for _p in _net.zero.parameters():
            _p -= 0.1 * _p.grad
    _after = _gradients()
    mo.md(
        f"A small one: its output differs from the frozen network's by **{_first:g}** at first. Largest gradients:\n\n| | at first | after one step |\n|---|---|---|\n"
        + "\n".join(f"| {name} | {_before[name]:.1e} | {_after[name]:.1e} |" for name in _before) + "\n\n"
        + story.measured(
            _first == 0 and _before["the copy"] == 0 < min(_before["zero convolutions"], _after["the copy"]),
            "The zero convolutions learn at once, the copy from the second step on.", "The gradients are not as derived below.",
        )
    )
    return


@app.cell
def _():
    story.source(Block.forward, "**DiT.** No U-Net: patches become tokens, and transformer blocks are modulated by the embedding of the level and the class.")
    return


@app.cell
def _():
    story.derivations("latents")
    return


@app.cell
def _():
    mo.md("""
    ## Try it

    So many linear latents, and a transformer with patches of that side.
    """)
    return


@app.cell
def _():
    count = mo.ui.slider(1, 160, value=24, label="latents", show_value=True)
    power = mo.ui.slider(1, 4, value=2, label="side of a patch, 2 to the power", show_value=True)
    mo.hstack([count, power], justify="start", wrap=True)
    return count, power


@app.cell
def _(count, pictures, power, row, through):
    _x, _p = pictures[60:1700:280], 2**power.value
    _tokens = patchify(_x, _p)
    _net = DiT(patch=_p, width=64, depth=2, heads=4).build((3, 32, 32), 3)
    _at_first = float(_net(_x, torch.full((len(_x),), 10.0)).detach().abs().max())
    mo.vstack([
        mo.ui.anywidget(Frames.of({"pictures": row(_x), f"through {count.value} numbers": row(through(count.value, _x))}, start=1.0)),
        mo.md(f"Root mean square error of these in [-1, 1]: **{float((through(count.value, _x) - _x).square().mean().sqrt()):.3f}**. Patches of {_p}: "
              f"**{_tokens.shape[1]}** tokens of {_tokens.shape[2]} numbers, {_tokens.shape[1] ** 2:,} pairs for attention. Output of the untrained DiT: {_at_first:g}."),
    ])
    return


@app.cell
def _():
    mo.md("""
    ## Exercises
    """)
    return


@app.cell
def _():
    story.exercise(EXERCISES[0])
    return


@app.cell
def _():
    story.exercise(EXERCISES[1])
    return


@app.cell
def _():
    story.exercise(EXERCISES[2])
    return


@app.cell
def _():
    story.program("latents")
    return


@app.cell
def _():
    story.quiz(
        [
            ("What of the diffusion mathematics changes on latents?", "Nothing but the data: the same process, loss and samplers, on latents of unit variance."),
            ("Why is noise put on an upsampler's input in training?", "In sampling it is given generated pictures; noise of a level it is told makes them and real ones alike."),
            ("Why is a transformer on pixels dear?", "Attention compares all pairs of tokens: half the patch's side is 16 times the pairs."),
        ]
    )
    return


@app.cell
def _():
    mo.md("""
    ## Read on

    - The papers: arXiv 2112.10752, 2106.15282, 2302.05543, 2212.09748.
    - Here: `sfumato train autoencoder/emoji128`, then a model with `--recipe.space "latents?of=RUN"`; `docs/cascade.md`; `docs/control.md`; `docs/backbones.md`.
    """)
    return


@app.cell
def _():
    story.links("latents")
    return


if __name__ == "__main__":
    app.run()
