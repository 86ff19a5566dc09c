import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="DDPM: ask for the noise")

with app.setup:
    import math
    import tempfile
    from pathlib import Path

    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.toys import seeded
    from sfumato.core import losses
    from sfumato.core.denoisers import predict_eps
    from sfumato.core.likelihood import variational_bound
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.sampling import finish
    from sfumato.core.variances import fixed_small
    from sfumato.data import open_source, to_float, to_uint8
    from sfumato.learn import story
    from sfumato.learn.checks.ddpm import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Live
    from sfumato.networks.blocks import cos_sin
    from sfumato.networks.unet import HoUNet
    from sfumato.samplers import Ancestral

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # DDPM: ask for the noise

    *Denoising diffusion probabilistic models*, Ho, Jain and Abbeel, 2020.

    The road of 2015 led to small colour pictures; NCSN had taken another one in 2019, and section 3.2 of this paper shows that the two
    meet. What was changed is little, and won much. Same chain, same bound; but the network is asked **which noise is in this picture?**, and the loss is simply how wrong it is, every level alike. On
    CIFAR-10 no unconditional model had a better FID (3.17); on larger pictures (LSUN, 256x256) it was about that of ProgressiveGAN.

    What does the chain decide when? Noise is added to one emoji, up to three levels, and from each level four pictures are sampled,
    with fresh noise on the way. In each block the first is the emoji, the second what was left of it. What the four share was still
    there; what differs was not. (The model is a later descendant: it has a cosine schedule, and predicts $v$, from which the noise follows. It takes
    a twentieth of the thousand steps, with the smaller of the two variances, which suits few steps.)
    """)
    return


@app.cell
def _():
    story.links("ddpm")
    return


@app.cell
def _():
    model = sfumato.load("ddpm/emoji32")
    held_out = open_source("emoji32:test")

    def brought_back(index, depth, n=4, seed=0):
        """A picture, the same at a noise level, and four sampled from there: (1 + 1 + 4, 3, 32, 32) in [-1, 1]."""
        process, noise = model.diffusion.gaussian, seeded(seed)
        x0 = to_float(held_out.images[index : index + 1])
        t = torch.tensor(depth)
        noisy = process.level(t, x0).noise(x0, noise(x0))
        denoise = model.denoiser(held_out.labels[index : index + 1].expand(n))
        grid = process.schedule.times(50)
        moves = Ancestral(fixed_small).moves(process, denoise, torch.cat([t[None], grid[grid < t]]))
        with torch.inference_mode():
            back = finish(noisy.expand(n, -1, -1, -1), moves, noise)
        return torch.cat([x0, noisy, back])

    def block(pictures):
        """Two rows of three: uint8 (1, 3, 64, 96)."""
        return torch.cat([torch.cat([*row], dim=2) for row in to_uint8(pictures).split(3)], dim=1)[None]

    def apart(pictures):
        """How far the four lie from the picture, and from each other: root mean squares over pixels."""
        back = pictures[2:].flatten(1)
        size = back.shape[1] ** 0.5
        return float((back - pictures[0].flatten()).norm(dim=1).mean()) / size, float(torch.pdist(back).mean()) / size

    return apart, block, brought_back, held_out, model


@app.cell
def _(apart, block, brought_back):
    _sets = {t: brought_back(31, t) for t in (250, 500, 750)}
    _rows = {t: apart(pictures) for t, pictures in _sets.items()}
    hook = mo.ui.anywidget(
        Frames.of({tr("level {t} of 1000, four samples from there", t=t): block(pictures) for t, pictures in _sets.items()},
                  start=1.0)
    )
    _table = "".join(f"\n| {t} | {original:.2f} | {other:.2f} |" for t, (original, other) in _rows.items())
    _said = story.measured(
        all(_rows[a][1] < 0.75 * _rows[b][1] for a, b in ((250, 500), (500, 750))),
        "The lower the level, the more the four have in common: from 250 only details are invented, from 750 nearly everything.",
        "Here the four do not differ more, the higher the level is.",
    )
    mo.vstack([hook, story.md(
        "Differences on the scale from -1 to 1 (root mean square over pixels):\n\n| level | of the four from the emoji | among the four |\n|---|---|---|"
        "{table}\n\n{said} Figure 7 of the paper shows this with faces.", table=_table, said=_said
    )])
    return (hook,)


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "coarse things first: which family a point belongs to": "Yes, and long before:",
        "details first: where exactly in its family": "The other way round, and by far:",
        "both at once": "No: there are hundreds of levels between the two:",
    }
    guess = story.predict("ddpm", "On the way from noise to data, what is decided first?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["ddpm/large-features-first"], seeds=1, fast=True)
        return story.md(
            "Sixteen small clouds in four families, sampled with the exact denoiser:\n\n| | decided at level (median) |\n|---|---|\n"
            "| which family | {family:.0f} of 1000 |\n"
            "| which member of it | {member:.0f} of 1000 |\n\n"
            "Section 4.3 and figure 6 of the paper, as the claim `ddpm/large-features-first`. {verdict}",
            family=verdict.mean("level where the family is decided"), member=verdict.mean("level where the member is decided"),
            verdict=story.borne_out(verdict),
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## What stands in the paper, and where it stands here
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("noise added in a step", r"$\beta_t$", "`betas`", "`betas`"),
            ("signal that is left", r"$\bar\alpha_t$", "`level.alpha ** 2`", "`alphas_cumprod`"),
            ("what the network says", r"$\epsilon_\theta(x_t, t)$", "`prediction.eps`", "`model_output`, `pred_noise`"),
            ("the step back, if the picture were known", r"$\tilde\mu_t, \tilde\beta_t$", "`process.posterior`", "`q_posterior`"),
            ("the simple loss", r"$L_\text{simple}$, eq. 14", "`losses.weighted`", "`p_losses`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        GaussianDiffusion.posterior,
        r"""If the picture were known, the step back would be a Gaussian with a mean that mixes the two (eq. 6 and 7):

$$q(x_{t-1} \mid x_t, x_0) = N\big(\tilde\mu_t(x_t, x_0),\ \tilde\beta_t\big)$$

Sampling puts the network's prediction in the place of the picture. That is all of algorithm 2.""",
    )
    return


@app.cell
def _():
    story.source(
        predict_eps,
        r"""And that prediction of the picture follows from the predicted noise (eq. 15):

$$\hat x_0 = \frac{x_t - \sqrt{1-\bar\alpha_t}\,\epsilon_\theta}{\sqrt{\bar\alpha_t}}$$""",
    )
    return


@app.cell
def _():
    story.source(
        losses.weighted,
        r"""Noise, picture, or anything between: whatever the network is asked for, the error is the same up to a weight on each level.
Asking for the noise and counting every level alike (eq. 14) counts the noisy levels more than the bound would. That is where
pictures are decided.

$$L_\text{simple} = \mathbb{E}\,\big\|\epsilon - \epsilon_\theta(\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon,\ t)\big\|^2$$""",
    )
    return


@app.cell
def _():
    story.derivations("ddpm")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    Add more noise or less to another picture, and sample from there.
    """)
    return


@app.cell
def _():
    depth = mo.ui.slider(50, 1000, step=50, value=600, label=tr("level"), show_value=True)
    index = mo.ui.slider(0, 172, value=12, label=tr("picture"), show_value=True)
    mo.hstack([depth, index], justify="start", wrap=True)
    return depth, index


@app.cell
def _(apart, block, brought_back, depth, index):
    _pictures = brought_back(index.value, depth.value)
    _original, _among = apart(_pictures)
    mo.vstack([
        mo.ui.anywidget(
            Frames.of({tr("at level {t}, and four samples from there", t=depth.value): block(_pictures)}, start=1.0)
        ),
        story.md("The four differ from the picture by **{original:.2f}**, from each other by **{among:.2f}**.",
                 original=_original, among=_among),
    ])
    return


@app.cell
def _():
    story.md(r"""
    **Train one.** The button runs `sfumato train ddpm/digits --train.images 40k` as you would type it: 1,500 real digits of 8x8
    pixels, about a minute. The curve is the loss (this preset predicts $v$; the error in $x_0$ is weighed by $\min(\mathrm{SNR}, 5)$, which is min-SNR,
    Hang et al. 2023); beside it are sixteen pictures of the averaged weights, sampled anew as they get better.
    """)
    return


@app.cell
def _():
    start = mo.ui.run_button(label=tr("Train"))
    live = Live(words=tr("Nothing has been trained yet."))
    mo.vstack([start, mo.ui.anywidget(live)])
    return live, start


@app.cell
def _(live, start):
    if start.value:
        live.losses = []
        with tempfile.TemporaryDirectory() as _folder:
            live.follow(["ddpm/digits", "--train.images", "40k", "--train.threads", "1", "--train.preview-every", "0.05"],
                        Path(_folder) / "run")
    return


@app.cell
def _():
    story.md(r"""
    ## Where the bits go

    The bound is a code (section 4.3). Six emoji are sent as $x_T$, then $x_{T-1}$ given $x_T$, and so on; each costs its term of the bound, and at any moment the
    receiver shows the predicted $\hat x_0$. Move the slider: what does one see when half of the bits have arrived?
    """)
    return


@app.cell
def _():
    coded = mo.ui.slider(20, 100, step=20, value=40, label=tr("levels of the code"), show_value=True)
    coded
    return (coded,)


@app.cell
def _(block, coded, held_out, model):
    def _sent(levels):
        """Rate in bits/dim and distortion of 255 at each level, bits/dim in all, and the receiver's pictures."""
        chosen = torch.tensor([1, 31, 62, 88, 117, 146])
        process, denoise, seen = model.diffusion.gaussian, model.denoiser(held_out.labels[chosen]), []

        def watched(x, t):
            prediction = denoise(x, t)
            seen.append(block(prediction.x0.clamp(-1, 1)))
            return prediction

        log_snr = process.schedule.log_snr(torch.arange(1, 1001))  # falling; levels of the code are even in it
        at = torch.searchsorted(-log_snr, torch.linspace(8, -float(log_snr[0]), levels, dtype=torch.float64)).clamp(max=999)
        times = torch.cat([torch.unique(at + 1).flip(0), torch.tensor([0])])
        with torch.inference_mode():
            bound = variational_bound(process, watched, fixed_small, to_float(held_out.images[chosen]), times, seeded(0))
        return bound.rate.mean(0), bound.distortion.mean(0), float(bound.total.mean()), torch.cat(seen[:: levels // 20] + seen[-1:])

    _rate, _distortion, _total, _film = _sent(coded.value)
    _at = [int((_rate <= share * _total).nonzero().max()) for share in (0.01, 0.05, 0.2, 0.5)] + [len(_rate) - 1]
    _table = "".join(f"\n| {_rate[i]:.3f} | {_rate[i] / _total:.0%} | {_distortion[i]:.1f} |" for i in _at)
    _half = float(_distortion[_at[3]])
    _spent = {"share": float(_rate[_at[3]]) / _total, "error": _half}
    mo.vstack([
        mo.ui.anywidget(Frames.of({"what the receiver shows": _film}, start=0.5)),
        story.md(
            "| bits/dim so far | of all | root mean square error, of 255 |\n|---|---|---|{table}\n\nIn all **{total:.2f}** bits/dim in {levels} levels, even in "
            "log SNR. {said} With more levels the whole costs fewer bits, since a step pays for the error at its noisy end (derived above).",
            table=_table, total=_total, levels=coded.value,
            said=story.measured(
                _half < 12,
                tr("After {share:.0%} of the bits the error is **{error:.1f}** of 255: all further ones describe what is hardly seen.", **_spent),
                tr("After {share:.0%} of the bits the error is still **{error:.1f}** of 255.", **_spent),
            ),
        ),
    ])
    return


@app.cell
def _():
    story.md(r"""
    ## The network

    DDPM's network is a U-Net (derived above: what its skips, sums and attention are for). The level enters as sinusoids: below, the similarity of level 900 to
    others.
    """)
    return


@app.cell
def _():
    def _similar():
        """Rows of the table: how alike level 900 and one so far below are, from 1 for equal, and what is derived above."""
        gaps = torch.tensor([5, 10, 50, 100, 250, 500])
        e, base = cos_sin(900 - gaps, 256), cos_sin(torch.tensor([900]), 256)
        return [(int(g), float(a @ base[0]) / 128, 1 - (math.log(g) + 0.577) / math.log(1e4)) for g, a in zip(gaps, e, strict=True)]

    torch.manual_seed(0)
    _net = HoUNet(channels=32, blocks=1, dropout=0.0).build((3, 32, 32), 3)
    _rows, _out = _similar(), _net(torch.randn(4, 3, 32, 32), torch.tensor([1.0, 10.0, 100.0, 1000.0]))
    story.md(
        "| levels apart | cosine of their embeddings | as derived above |\n|---|---|---|\n{rows}\n\n{said} The untrained network ({weights:,} weights, a small one) returns "
        "numbers of at most {largest:g}, so its simple loss begins at that of predicting no noise, 1 a pixel.",
        rows="\n".join(f"| {g} | {c:.2f} | {d:.2f} |" for g, c, d in _rows),
        said=story.measured(
            max(abs(c - d) for _, c, d in _rows) < 0.05,
            "Each doubling of the distance lowers it by about the same: near and far levels are told apart alike.",
            "The two columns differ.",
        ),
        weights=sum(p.numel() for p in _net.parameters()), largest=float(_out.detach().abs().max()),
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **What to predict** (table 2). With the mean $\tilde\mu$ as target and the bound as loss the FID on CIFAR-10 is 13.22, with the noise and the bound 13.51; with the noise and
      $L_\text{simple}$ 3.17. Neither alone does it. With a learned variance the noise was unstable; Improved DDPM found out how to.
    - **Interpolation** (figure 8). Two pictures are brought to the same level with the same noise, mixed, and sampled from: at low levels a cross-fade shows through, at high levels
      a new picture. The lesson on DDIM does it without fresh noise.
    - **Autoregressive models** (section 4.3) have the same bound, with masking in place of noise: step $t$ hides the pixel number $t$. Seen so, diffusion's order is by scale instead
      of by place, and its length need not be the number of pixels.
    """)
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
    story.program("ddpm")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why ask for the noise and not for the picture?",
                "Either gives the other. But an error in the noise, counted alike at every level, weighs the levels so that "
                "pictures come out well.",
            ),
            (
                "Is the simple loss a bound on the likelihood?",
                "Up to weights. The bound counts nearly clean levels far more; most of its bits describe what nobody sees "
                "(the claim `ddpm/imperceptible-bits`).",
            ),
            (
                "Why does sampling draw noise at every step?",
                "The step back is a distribution. DDPM draws from it; the next lesson asks whether one must.",
            ),
        ],
        "ddpm",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 2006.11239; the code that these lessons are checked against: ermongroup/ddim, openai/improved-diffusion.
    - lucidrains' denoising-diffusion-pytorch.
    - Lilian Weng, *What are diffusion models?*, from the forward process to the simplified loss.
    - Train one: `sfumato train ddpm/digits` takes a minute; `sfumato likelihood RUN` shows where its bits go.
    """)
    return


@app.cell
def _():
    story.links("ddpm")
    return


if __name__ == "__main__":
    app.run()
