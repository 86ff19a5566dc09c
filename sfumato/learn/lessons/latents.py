import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Latents, cascades, ControlNet and DiT: larger pictures")

with app.setup:
    from functools import partial

    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims.toys import linear, normal
    from sfumato.core.sampling import finish
    from sfumato.data.loader import to_float, to_uint8
    from sfumato.data.sources import open_source
    from sfumato.inverse import Edges, MeanPool
    from sfumato.learn import story
    from sfumato.learn.checks.latents import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames
    from sfumato.networks.autoencoder import AutoencoderNet
    from sfumato.networks.backbone import Embedded
    from sfumato.networks.control import Control, Controlled
    from sfumato.networks.dit import DiT
    from sfumato.networks.tokens import Block, patchify
    from sfumato.networks.unet import HoUNet
    from sfumato.samplers import DDIM

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
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
    hook = mo.ui.anywidget(Frames.of({"all 3,072": row(_shown)} | {tr("{k} numbers", k=k): row(through(k, _shown)) for k in (160, 40, 10)}, start=1.0))
    hook
    return basis, hook, kept, mean, pictures, row, through


@app.cell
def _():
    story.md("""
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
        return story.md(
            "| principal components | variance kept |\n|---|---|\n{rows}\n\n80 % takes **{needed}**. {said} An encoder of several layers can do better at the "
            "same number, and is what latent diffusion trains; what it loses is lost for every sample.",
            rows=rows, needed=needed,
            said=story.measured(needed < 100, "The other numbers hold a fifth of it: details.", "That is not fewer than 100."),
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
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
def _():
    story.md("""
    Why divided? Noise of a schedule is made for data of about unit variance. Below, noise on the pixels, on linear latents that are divided by their deviation, and on the same
    latents as the encoder gives them; each is decoded again. The slider of the figure goes from the last level to clean data.
    """)
    return


@app.cell
def _():
    width = mo.ui.slider(8, 160, step=8, value=80, label=tr("latents of a picture"), show_value=True)
    width
    return (width,)


@app.cell
def _(basis, mean, pictures, row, width):
    _process, _x = linear(), pictures[40:1700:420]
    _basis = basis[:, : width.value]
    _all = (pictures.flatten(1) - mean) @ _basis
    _std, _z, _eps = float(_all.std()), (_x.flatten(1) - mean) @ _basis, normal(3, len(_x), 3072).float()

    def _film(z, decode):
        """Noise from level 1000 down to clean data on z, decoded: uint8 (11, 3, 32, n 32)."""
        eps = _eps[:, : z[0].numel()].reshape(z.shape)
        levels = [_process.level(torch.tensor(t), z).noise(z, eps) for t in range(1000, 0, -100)]
        return torch.cat([row(decode(noisy).clamp(-1, 1)) for noisy in (*levels, z)])

    def _decoded(scale):
        return lambda z: (mean + scale * z @ _basis.T).reshape(_x.shape)

    _log_snr = _process.schedule.log_snr(torch.arange(1, 1001))
    _shares = [float((_log_snr + 2 * torch.tensor(v).log() < torch.tensor(0.01).log()).double().mean()) for v in (float(pictures.std()), 1.0, _std)]
    mo.vstack([
        mo.ui.anywidget(Frames.of({"noise on pixels": _film(_x, lambda z: z), "on latents over their deviation": _film(_z / _std, _decoded(_std)),
                                   "on latents as they are": _film(_z, _decoded(1.0))}, start=0.4)),
        story.md(
            "| noise on | deviation of the data | levels of 1000 with an SNR below 1/100 |\n|---|---|---|\n| pixels | {pixels:.2f} | {first:.0%} |\n"
            "| latents over their deviation | 1.00 | {second:.0%} |\n| latents as they are | {std:.2f} | {third:.0%} |\n\n{said}",
            pixels=float(pictures.std()), std=_std, first=_shares[0], second=_shares[1], third=_shares[2],
            said=story.measured(
                _std > 1.5 and _shares[2] < _shares[1],
                "These latents are larger than the noise of this schedule is made for: fewer of its levels hide them. Another encoder's may be too small. One division settles both.",
                "With so many latents their deviation is near 1, and the division changes little.",
            ),
        ),
    ])
    return


@app.cell
def _(pictures):
    _noise = normal(0, 40, 3, 32, 32).float()
    _shrunk = {k: (float(MeanPool(k)(_noise).std()), float(MeanPool(k)(pictures[:400]).std() / pictures[:400].std())) for k in (2, 4)}
    story.md(
        "**Cascades.** A small picture first, then a model that enlarges it. Means over k x k pixels:\n\n| k | deviation of noise left | of emoji left |\n"
        "|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(f"| {k} | {a:.2f} | {b:.2f} |" for k, (a, b) in _shrunk.items()),
        said=story.measured(
            all(abs(a - 1 / k) < 0.03 and b > 1.5 * a for k, (a, b) in _shrunk.items()),
            "Noise falls to 1 / k, pictures far less: a large picture shows its coarse content through k times the noise.",
            "Here noise does not fall faster than pictures.",
        ),
    )
    return


@app.cell
def _():
    story.md("""
    **Conditioning augmentation.** The upsampler learns from real small pictures and is then given generated ones. Here the generated ones come from the crudest model, a Gaussian with the mean
    and covariance of 8x8 emoji. The slider puts more and more noise on both: when can they no longer be told apart, and what is left to enlarge?
    """)
    return


@app.cell
def _(pictures, row):
    def _small(n=700):
        """Real 8x8 emoji and draws of the Gaussian, (n, 3, 8, 8) each, and the eigenvalues of the covariance."""
        small = MeanPool(4)(pictures)
        flat = small.flatten(1).double()
        values, vectors = torch.linalg.eigh(torch.cov(flat.T))
        values = values.clamp(min=0)
        drawn = flat.mean(0) + normal(5, n, flat.shape[1]) * values.sqrt() @ vectors.T
        return flat[:: len(flat) // n][:n].reshape(-1, 3, 8, 8), drawn.reshape(-1, 3, 8, 8), values

    def _told_apart(real, drawn, s):
        """How often the nearest neighbour of a picture is of its own kind, with noise of deviation s on all of them."""
        points = torch.cat([real, drawn]).flatten(1)
        points = points + s * normal(6, *points.shape)
        kind = torch.arange(len(points)) < len(real)
        distances = torch.cdist(points, points).fill_diagonal_(torch.inf)
        return float((kind[distances.argmin(1)] == kind).double().mean())

    _real, _drawn, _values = _small()
    _levels = [0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0]
    _rows = [(s, _told_apart(_real, _drawn, s), float((_values**2 / (_values + s**2).clamp(min=1e-12)).sum() / _values.sum())) for s in _levels]

    _gone, _lost = (_rows[0][1] - _rows[-1][1]) / (_rows[0][1] - 0.5), 1 - _rows[-1][2]

    def _film(x):
        return torch.cat([row((x[::120] + s * normal(6, *x.shape)[::120]).clamp(-1, 1)) for s in _levels])

    mo.vstack([
        mo.ui.anywidget(Frames.of({"real, made small": _film(_real), "generated": _film(_drawn)}, start=0.0)),
        story.md(
            "| noise | nearest neighbour of its own kind | variance that a linear guess keeps |\n|---|---|---|\n{rows}\n\nAt 50 % the two cannot be told apart. {said}",
            rows="\n".join(f"| {s:g} | {told:.0%} | {left:.0%} |" for s, told, left in _rows),
            said=story.measured(
                _gone > 1.5 * _lost and _lost > 0,
                tr("Noise of 1 takes away {gone:.0%} of what tells them apart, and {lost:.0%} of the pictures' variance. The upsampler is told the level, in training any; when sampling, one is chosen.",
                   gone=_gone, lost=_lost),
                tr("Noise of 1 takes away {gone:.0%} of what tells them apart, and {lost:.0%} of the pictures' variance.", gone=_gone, lost=_lost),
            ),
        ),
    ])
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
        return [max(float(p.grad.abs().max()) for p in part.parameters() if p.grad is not None) for part in (_net.zero, _net.copy)]

    _zero, _copy = _gradients()
    with torch.no_grad():
        for _p in _net.zero.parameters():
            _p -= 0.1 * _p.grad
    _zero_after, _copy_after = _gradients()
    story.md(
        "A small one: its output differs from the frozen network's by **{first:g}** at first. Largest gradients:\n\n| | at first | after one step |\n|---|---|---|\n"
        "| zero convolutions | {zero:.1e} | {zero_after:.1e} |\n| the copy | {copy:.1e} | {copy_after:.1e} |\n\n{said}",
        first=_first, zero=_zero, zero_after=_zero_after, copy=_copy, copy_after=_copy_after,
        said=story.measured(
            _first == 0 and _copy == 0 < min(_zero, _copy_after),
            "The zero convolutions learn at once, the copy from the second step on.", "The gradients are not as derived below.",
        ),
    )
    return


@app.cell
def _():
    story.md("""
    What if those convolutions did not begin at zero? The model of clothes that ships is frozen, and a copy of its way down sees the edges of other clothes. Nothing has been trained: all three draw
    from the same noise in twenty steps of DDIM.
    """)
    return


@app.cell
def _():
    begun = mo.ui.slider(0.0, 0.2, step=0.02, value=0.1, label=tr("deviation of the weights of those convolutions"), show_value=True)
    begun
    return (begun,)


@app.cell
def _(begun, row):
    _model = sfumato.load("ddpm/fashion")
    _config = Control(_model.recipe.network)
    _control = _config.build((1, 28, 28), _model.network.conv_out.out_channels, Embedded(picture=1)).eval()
    _weights = _config.begun(_model.network.state_dict())
    _weights["copy.conv_in.weight"] = torch.nn.functional.pad(_weights["copy.conv_in.weight"], (0, 0, 0, 0, 0, 1))  # the edges count nothing yet
    _control.load_state_dict(_weights, strict=False)
    _edges = Edges()(to_float(open_source("fashion:test").images[:6]))
    _noise = normal(0, 6, 1, 28, 28).float()

    def _drawn(network):
        denoise = _model.denoiser(network=network)
        with torch.inference_mode():
            return finish(_noise, DDIM().plan(_model.diffusion.gaussian, denoise, 20))

    _alone, _zero = _drawn(None), _drawn(partial(_control, low_res=_edges))
    torch.manual_seed(0)
    with torch.no_grad():
        for _p in _control.zero.parameters():
            _p.normal_(std=begun.value)
    _random = _drawn(partial(_control, low_res=_edges))
    _same, _off = float((_zero - _alone).abs().max()), float((_random - _alone).square().mean().sqrt())
    mo.vstack([
        mo.ui.anywidget(Frames.of({"the edges": row(_edges.clamp(-1, 1)), "the frozen model": row(_alone), "with control, from zero": row(_zero),
                                   "with control, from random weights": row(_random)}, start=1.0)),
        story.md(
            "From zero the pictures differ from the frozen model's by **{same:g}**, from random weights of deviation {begun:g} by **{off:.2f}** (root mean square, in [-1, 1]). {said}",
            same=_same, begun=begun.value, off=_off,
            said=story.measured(
                _same == 0 and (_off > 0) == (begun.value > 0),
                "Training of the control begins with a model that draws as it did.",
                "That is not what zero weights are for.",
            ),
        ),
    ])
    return


@app.cell
def _():
    story.source(Block.forward, "**DiT.** No U-Net: patches become tokens, and transformer blocks are modulated by the embedding of the level and the class.")
    return


@app.cell
def _():
    story.md("""
    Its gates begin at zero, and so does its last layer. Who learns when? A small DiT predicts noise; below are the largest gradients before each of its first steps.
    """)
    return


@app.cell
def _():
    blocks = mo.ui.slider(1, 8, value=3, label=tr("blocks"), show_value=True)
    blocks
    return (blocks,)


@app.cell
def _(blocks, pictures):
    def _first_steps(depth, steps=4):
        """The largest gradient of each part of a DiT before each of its first steps."""
        torch.manual_seed(0)
        net = DiT(patch=8, width=32, depth=depth, heads=2).build((3, 32, 32), 3)
        x, eps, t = pictures[:8], torch.randn(8, 3, 32, 32), torch.linspace(50, 950, 8)
        noisy = linear().level(t.long(), x).noise(x, eps)
        parts = {tr("last layer"): ("final.out",), tr("first layer"): ("patch_in",), tr("gates, scales and shifts"): ("modulation",),
                 tr("attention and feed-forward"): ("attention", "mixer")}
        rows = []
        for _ in range(steps):
            net.zero_grad()
            (net(noisy, t) - eps).square().mean().backward()
            rows.append([max(float(p.grad.abs().max()) for n, p in net.named_parameters() if any(w in n for w in words)) for words in parts.values()])
            with torch.no_grad():
                for p in net.parameters():
                    p -= 0.5 * p.grad
        return list(parts), rows

    _parts, _rows = _first_steps(blocks.value)
    _table = "\n".join(f"| {name} | " + " | ".join(f"{r[i]:.1e}" for r in _rows) + " |" for i, name in enumerate(_parts))
    story.md(
        "| largest gradient of | step 1 | step 2 | step 3 | step 4 |\n|---|---|---|---|---|\n{table}\n\n{said}",
        table=_table,
        said=story.measured(
            _rows[0][0] > 0 and max(_rows[0][1:]) == 0 and min(_rows[1][:3]) > 0 and _rows[1][3] == 0 and min(_rows[2]) > 0,
            "Only the last layer learns in the first step; then what feeds it, and the gates; attention and feed-forward layers from the third step on, once their gates are open. "
            "It is the zero convolution twice over, and it holds for any number of blocks.",
            "The order is not that of the derivation below.",
        ),
    )
    return


@app.cell
def _():
    story.derivations("latents")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    So many linear latents, and a transformer with patches of that side: what it reads of each picture is one list of numbers for each tile.
    """)
    return


@app.cell
def _():
    count = mo.ui.slider(1, 160, value=24, label=tr("latents"), show_value=True)
    power = mo.ui.slider(1, 4, value=2, label=tr("side of a patch, 2 to the power"), show_value=True)
    mo.hstack([count, power], justify="start", wrap=True)
    return count, power


@app.cell
def _(count, pictures, power, row, through):
    _x, _p = pictures[60:1700:280], 2**power.value
    _tokens = patchify(_x, _p)
    _net = DiT(patch=_p, width=64, depth=2, heads=4).build((3, 32, 32), 3)
    _at_first = float(_net(_x, torch.full((len(_x),), 10.0)).detach().abs().max())
    _cut = _tokens.reshape(len(_x), 32 // _p, 32 // _p, _p, _p, 3).permute(0, 5, 1, 3, 2, 4)  # n, C, row, y, column, x
    _tiles = torch.nn.functional.pad(_cut, (0, 1, 0, 0, 0, 1), value=1.0).reshape(len(_x), 3, 32 // _p * (_p + 1), 32 // _p * (_p + 1))
    mo.vstack([
        mo.ui.anywidget(Frames.of({"pictures": row(_x), "as tokens": row(_tiles), "through so many numbers": row(through(count.value, _x))}, start=1.0)),
        story.md(
            "Root mean square error of these in [-1, 1]: **{error:.3f}**. Patches of {side}: **{tokens}** tokens of {numbers} numbers, {pairs:,} pairs for attention. Output of the "
            "untrained DiT: {first:g}.",
            error=float((through(count.value, _x) - _x).square().mean().sqrt()), side=_p, tokens=_tokens.shape[1], numbers=_tokens.shape[2],
            pairs=_tokens.shape[1] ** 2, first=_at_first,
        ),
    ])
    return


@app.cell
def _():
    story.md("""
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
        ],
        "latents",
    )
    return


@app.cell
def _():
    story.md("""
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
