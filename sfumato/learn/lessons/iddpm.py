import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Improved DDPM: how to spend the noise")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.toys import cosine, linear, normal, seeded
    from sfumato.core.betas import betas_from_alpha_bar, cosine_betas
    from sfumato.core.likelihood import variational_bound
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.schedules import from_betas
    from sfumato.core.variances import fixed_large, learned_range
    from sfumato.data import open_source, to_float, to_uint8
    from sfumato.learn import story
    from sfumato.learn.checks.iddpm import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, ScheduleCurve
    from sfumato.samplers.grids import respace

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Improved DDPM: how to spend the noise

    *Improved denoising diffusion probabilistic models*, Nichol and Dhariwal, 2021.

    DDPM made good pictures, but its likelihood lagged behind, and it needed a thousand steps. **Was anything wrong with
    it?** The authors looked at three things: how fast noise replaces the picture, how wide each reverse step is, and which
    levels sampling can do without.

    First the noise. The same six emoji under DDPM's linear schedule and under the paper's cosine schedule. Move the slider
    from noise to data, and ask at each moment: which side still has something to learn from?
    """)
    return


@app.cell
def _():
    story.links("iddpm")
    return


@app.cell
def _():
    images = open_source("emoji32:test").images[[0, 20, 44, 70, 100, 130]]
    eps = normal(0, *images.shape).float()

    def noised(process, levels):
        """The pictures at these levels, uint8 (levels, 3, 64, 96), two rows of three."""
        film = []
        for t in levels:
            x = to_uint8(process.level(t, eps).noise(to_float(images), eps))
            film.append(torch.cat([torch.cat([*row], dim=2) for row in x.split(3)], dim=1))
        return torch.stack(film)

    hook = mo.ui.anywidget(
        Frames.of({n: noised(p, torch.arange(1000, 0, -20)) for n, p in ((tr("linear"), linear()), (tr("cosine"), cosine()))},
                  start=0.35)
    )
    hook
    return noised, eps, hook, images


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "almost none": "More than that:",
        "about a third": "Yes:",
        "more than half": "Not quite so bad:",
    }
    guess = story.predict(
        "iddpm",
        "How many of the linear schedule's thousand levels have less than a hundredth as much signal as noise?", guesses
    )
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["iddpm/noise-too-early"], seeds=1)
        rows = [
            f"| {said} | {verdict.mean(f'{name}: share of levels with SNR below 1/100'):.0%} "
            f"| {verdict.mean(f'{name}: alpha-bar half way'):.0%} |"
            for name, said in (("linear", tr("linear")), ("cosine", tr("cosine")))
        ]
        return story.md(
            "| schedule | levels with SNR below 1/100 | signal left half way |\n|---|---|---|\n{rows}\n\n"
            "A network that is trained on all levels alike spends that share of its time on pictures in which nothing can be "
            "seen. This is figure 5 of the paper, as the claim `iddpm/noise-too-early`. {verdict}",
            rows="\n".join(rows), verdict=story.borne_out(verdict),
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
            ("signal that is left", r"$\bar\alpha_t$", "`level.alpha ** 2`", "`alphas_cumprod`"),
            ("the two fixed variances", r"$\tilde\beta_t, \beta_t$", "`fixed_small`, `fixed_large`", "`FIXED_SMALL`, `FIXED_LARGE`"),
            ("what the network predicts besides", "$v$, eq. 15", "`prediction.variance`", "the second half of the channels"),
            ("both losses", r"$L_\text{hybrid}$, eq. 16", "`objective='hybrid'`", "`rescaled_mse` with learned sigmas"),
            ("levels that are kept", "$S$, eq. 19", "`respace(T, text)`", "`timestep_respacing`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        cosine_betas,
        r"""The cosine schedule is stated by what is *left*, not by what is added (eq. 17), and falls evenly in the middle:

$$\bar\alpha_t = \frac{f(t)}{f(0)},\quad f(t) = \cos^2\Big(\frac{t/T + s}{1+s}\cdot\frac{\pi}{2}\Big)$$""",
    )
    return


@app.cell
def _():
    story.source(
        learned_range,
        r"""The variance of a reverse step lies between $\tilde\beta_t$ and $\beta_t$; the network says where, on a logarithmic scale
(eq. 15):

$$\sigma_t^2 = \exp\big(v \log\beta_t + (1 - v) \log\tilde\beta_t\big)$$

Only the bound trains $v$, and its gradient is kept from the mean, so that the pictures stay DDPM's.""",
    )
    return


@app.cell
def _():
    story.derivations("iddpm")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    Respacing keeps some levels and samples on only those. Three sections of the chain get as many levels each as you say:
    the first is near clean data. What is left of the pictures at the levels that are kept?
    """)
    return


@app.cell
def _():
    near = mo.ui.slider(1, 30, value=4, label=tr("levels near data"), show_value=True)
    middle = mo.ui.slider(1, 30, value=4, label=tr("in the middle"), show_value=True)
    far = mo.ui.slider(1, 30, value=4, label=tr("near noise"), show_value=True)
    mo.hstack([near, middle, far], justify="start", wrap=True)
    return far, middle, near


@app.cell
def _(far, middle, near, noised):
    _text = f"{near.value},{middle.value},{far.value}"
    _levels = respace(1000, _text)[:-1]
    _film = {f"--steps {_text}": noised(cosine(), _levels)}
    _shown = ", ".join(str(int(t)) for t in _levels[:16]) + ", ..." * (len(_levels) > 16)
    mo.vstack(
        [
            mo.ui.anywidget(Frames.of(_film, start=0.5)),
            story.md("{n} levels: {shown}", n=len(_levels), shown=_shown),
        ]
    )
    return


@app.cell
def _():
    story.md(r"""
    **Draw your own.** Drag the handles (or focus one and press the arrow keys). The line says how much of the variance is still
    signal, $\bar\alpha$, from data to noise; below it the picture disappears as you drew it.
    """)
    return


@app.cell
def _(eps, images):
    def left(process):
        return process.schedule.alpha_sigma(torch.arange(0, 1001, 10))[0] ** 2

    drawn = mo.ui.anywidget(
        ScheduleCurve.of([0.999, 0.98, 0.93, 0.84, 0.71, 0.55, 0.38, 0.22, 0.1, 0.03, 0.0005], images[3], eps[3],
                         {tr("linear"): left(linear()), tr("cosine"): left(cosine())})
    )
    drawn
    return (drawn,)


@app.cell
def _(drawn):
    _process = GaussianDiffusion(from_betas(betas_from_alpha_bar(ScheduleCurve.alpha_bar(drawn.value["heights"], 1000))))

    def _share(process):
        return float((process.schedule.log_snr(torch.arange(1, 1001)) < torch.tensor(0.01).log()).double().mean())

    story.md(
        "| schedule | levels with SNR below 1/100 | signal left at the last level, alpha-bar |\n|---|---|---|\n{rows}\n\n"
        "Sampling starts from pure noise. Where signal is left at the last level, training never saw such a start.",
        rows="\n".join(
            f"| {name} | {_share(p):.0%} | {float(p.schedule.alpha_sigma(torch.tensor(1000))[0] ** 2):.1e} |"
            for name, p in ((tr("yours"), _process), (tr("linear"), linear()), (tr("cosine"), cosine()))
        ),
    )
    return


@app.cell
def _():
    story.md("""
    ## Does it hold here?

    The paper also found that up to a fifth of the linear schedule's reverse process can be skipped at little cost, and not of
    the cosine schedule's (figure 4). On the ring of eight blobs it does *not* come out: neither loses anything.
    """)
    return


@app.cell
def _():
    mo.callout(
        story.md(
            "`iddpm/skipping`: Neither loses anything here: a ring in the plane, of unit variance, looks like noise as soon as it is "
            "blurred, so noise is a good start at any level. Pictures have far larger features."
        ),
        kind="warn",
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Gradient noise

    Why is the bound by itself hard to train with? Its terms differ by orders of magnitude from level to level, so a batch's loss depends on which levels it drew (figure 3). Below, the terms of the model that ships, on eight
    held-out emoji and forty levels, and the deviation of an estimate from one level drawn: evenly, and in proportion to $\sqrt{\mathbb{E}[L_t^2]}$ (eq. 18).
    """)
    return


@app.cell
def _():
    def _terms(levels=40):
        """Bits/dim of each level's term, (8, levels)."""
        held_out, chosen = open_source("emoji32:test"), torch.arange(8) * 21
        model = sfumato.load("ddpm/emoji32")
        process = model.diffusion.gaussian
        with torch.inference_mode():
            return variational_bound(process, model.denoiser(held_out.labels[chosen]), fixed_large, to_float(held_out.images[chosen]),
                                     process.schedule.times(levels), seeded(0)).terms

    _all = _terms()
    _n, _total = _all.shape[1], float(_all.mean(0).sum())
    _moment = _all.square().mean(0)
    _even, _best = float(_n * _moment.sum()), float(_moment.sqrt().sum() ** 2)  # second moments of an estimate of the sum
    _deviation = [(m - _total**2) ** 0.5 for m in (_even, _best)]
    _mean = _all.mean(0).flip(0)
    story.md(
        "| term of the level | bits/dim |\n|---|---|\n{rows}\n\n| levels drawn | deviation of the estimate of their sum, {total:.2f} |\n|---|---|\n| evenly | {even:.2f} |\n| by eq. 18 | {best:.2f} |\n\n{said}",
        rows="\n".join(f"| {name} | {float(_mean[i]):.4f} |"
                       for name, i in ((tr("nearest to data"), 0), (tr("second"), 1), (tr("tenth"), 9), (tr("thirtieth"), 29))),
        total=_total, even=_deviation[0], best=_deviation[1],
        said=story.measured(
            _deviation[1] < 0.5 * _deviation[0],
            "A choice of levels alone takes most of the noise away. It is what the paper needs to train with the bound; the simple loss, whose terms are alike, does not need it.",
            "Here the choice of levels matters little.",
        ),
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **Likelihood.** With the bound as loss, importance sampling and the cosine schedule 2.94 bits/dim on CIFAR-10, where DDPM had 3.70; with the hybrid loss 3.17, and better pictures. The two goals are not one.
    - **Scaling** (section 6): FID and bits both fall as more operations are spent on wider networks, the FID nearly along a power law, the bits less cleanly.
    - **Precision and recall** (section 5): on ImageNet 64x64 the diffusion model covers more of the data than BigGAN-deep, with recall 0.71 at precision 0.82 (as ADM measures them 0.62 and 0.74). The lesson on measuring says
      what the two numbers mean.
    - **Fewer steps** (section 4): with the learned variance a hundred steps give nearly the FID of four thousand; with a fixed one they do not.
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
    story.exercise(EXERCISES[3])
    return


@app.cell
def _():
    story.program("iddpm")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why does a better likelihood not mean better pictures?",
                "Most bits of a picture describe what nobody sees. The bound cares about all of them alike; the simple loss "
                "cares about the visible ones.",
            ),
            (
                "Why does learning the variance allow fewer steps?",
                "The longer a step, the further apart the two fixed variances are, and the more a wrong choice costs.",
            ),
            (
                "What goes wrong with a deterministic sampler that starts at the last cosine level?",
                "Next to nothing of the signal is left there. A predicted noise, divided by almost 0, gives a prediction of the "
                "picture that is off by a factor of hundreds, and nothing later takes it back. Clip it, predict v, or start "
                "a little lower.",
            ),
        ],
        "iddpm",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: *Improved denoising diffusion probabilistic models*, arXiv 2102.09672; its code: openai/improved-diffusion.
    - Lilian Weng, *What are diffusion models?*, sections on the schedule and on learned variances.
    - On pictures, measured: `docs/likelihood_line.md`; `sfumato train iddpm/digits`, `sfumato likelihood RUN`.
    """)
    return


@app.cell
def _():
    story.links("iddpm")
    return


if __name__ == "__main__":
    app.run()
