import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Where it began: noise that can be undone")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.dpm import beating, film, valid
    from sfumato.claims.toys import seeded
    from sfumato.core.dpm2015.binomial import BinomialDiffusion
    from sfumato.core.dpm2015.nonequilibrium import Chain
    from sfumato.data.toys import HEARTBEATS, heartbeat_null
    from sfumato.learn import story
    from sfumato.learn.checks.bits import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Where it began: noise that can be undone

    *Deep unsupervised learning using nonequilibrium thermodynamics*, Sohl-Dickstein, Weiss, Maheswaranathan and Ganguli, 2015.

    To learn what data look like, destroy them: slowly, in many small steps, until nothing but noise is left. Each small
    step is easy to undo if you know the data a little. **Learn to undo every step, and you can start from noise and
    arrive at data that nobody has seen.** That is the whole idea, and all eight papers of this path share it.

    The smallest example of the paper: sequences of twenty bits, where every fifth bit is 1, a *heartbeat*. Below, each
    row is one sequence. It starts as twenty tosses of a coin. Move the slider.
    """)
    return


@app.cell
def _():
    story.links("bits")
    return


@app.cell
def _():
    _rows = film(50, 14, seed=3)
    hook = mo.ui.anywidget(Frames.of({"fourteen sequences": (255 * (1 - _rows[:, None])).to(torch.uint8)}, start=0.7))
    hook
    return (hook,)


@app.cell
def _():
    story.md(r"""
    At every step and for each bit the question is: *given what this sequence looks like now, how likely was this bit to be
    1 a moment ago?* Here the answer comes from Bayes' rule over the five possible heartbeats, so no network can be blamed
    for what you see. In the paper a small network learns to predict it.

    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "nothing: the bound is the likelihood": "Not with finite steps. Look how far it stays below when steps are few:",
        "less and less, as steps become smaller": "Yes. Small steps can be undone almost exactly, one bit at a time:",
        "most of it: a bound is only a bound": "It is a bound that becomes tight as steps become small:",
    }
    guess = story.predict(
        "bits",
        "With the exact prediction every step is undone as well as it can be. How much of the log likelihood, -2.32 bits, "
        "does the paper's lower bound K lose?",
        guesses,
    )
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["dpm/levels"], seeds=1, fast=True)
        rows = [f"| {T} | {verdict.mean(f'K, bits, {T} levels'):.2f} |" for T in (10, 50, 200)]
        return story.md(
            "| levels | K, bits a sequence |\n|---|---|\n{rows}\n| 2000 (run it: half a minute) | -2.39 |\n"
            "| the truth, $-\\log_2 5$ | -2.32 |\n\nThe paper's network reached -2.414 with 2,000 levels. This is the "
            "claim `dpm/levels`; `sfumato reproduce dpm/levels` runs it whole. {borne_out}",
            rows="\n".join(rows),
            borne_out=story.borne_out(verdict),
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
            ("data, and data after t steps", r"$x^{(0)}, x^{(t)}$", "`x0`, `x`", r"$x_0, x_t$ in DDPM and Lil'Log"),
            ("share of bits tossed anew in a step", r"$\beta_t$", "`betas`", "`betas`, for Gaussians a variance"),
            ("noise that all ends in", r"$\pi(y)$", "`process.prior`", r"$p(x_T)$"),
            ("what undoes a step", r"$p(x^{(t-1)} \mid x^{(t)})$", "a kernel `(x, t, s)`", "`p_sample`"),
            ("the bound", "$K$", "`Chain.lower_bound`", "minus the ELBO's loss, in bits"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        BinomialDiffusion.posterior,
        r"""The quantity that everything else is made of is $q(x_s \mid x_t, x_0)$: where a bit was at level $s$, given where it
is now and where it began. For bits it is Bayes' rule over two states (appendix B.2):

$$q(x_s = 1 \mid x_t, x_0) = \frac{q(x_s = 1 \mid x_0)\; q(x_t \mid x_s = 1)}{\sum_{b} q(x_s = b \mid x_0)\; q(x_t \mid x_s = b)}$$

It is tractable *because we know the noise*: we made it ourselves.""",
    )
    return


@app.cell
def _():
    story.source(
        Chain.divergence,
        r"""The bound $K$ adds up, over all levels, how badly each step is undone (section 2.4, eq. 14):

$$K = -\sum_{t=2}^{T} \mathbb{E}\, D_\text{KL}\big(q(x_{t-1} \mid x_t, x_0)\,\|\,p(x_{t-1} \mid x_t)\big) + \text{entropies}$$

and a sum may be trained one term at a time: draw a level, improve that step.""",
    )
    return


@app.cell
def _():
    story.derivations("bits")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    Few levels are large steps. Within one step the bits are drawn independently of each other: watch the broken rows when
    levels are very few.
    """)
    return


@app.cell
def _():
    levels = mo.ui.slider(2, 60, value=6, label=tr("levels"), show_value=True)
    seed = mo.ui.slider(0, 20, value=0, label=tr("seed"), show_value=True)
    mo.hstack([levels, seed], justify="start", wrap=True)
    return levels, seed


@app.cell
def _(levels, seed):
    _rows = film(levels.value, 14, seed.value)
    _valid = valid(film(levels.value, 300, seed.value)[-1])
    _process, _step = beating(levels.value)
    _x0 = HEARTBEATS.double().repeat(8, 1)
    _K = float(Chain(_process, _step, levels.value, edge=1).lower_bound(_x0, seeded(seed.value)).K.mean())
    mo.vstack(
        [
            mo.ui.anywidget(
                Frames.of({tr("{levels} levels", levels=levels.value): (255 * (1 - _rows[:, None])).to(torch.uint8)}, start=1.0)
            ),
            story.md(
                "Of 300 sequences **{valid:.0%}** are heartbeats. K = **{K:.2f}** bits; independent bits have "
                "L_null = {null:.2f}, the truth is -2.32.",
                valid=_valid, K=_K, null=heartbeat_null(),
            ),
        ]
    )
    return


@app.cell
def _():
    def entropies(keeps):
        """Entropy in bits of twenty bits that began as a heartbeat, at each share of bits kept: by the counts of ones a phase."""
        counts = torch.cartesian_prod(*[torch.arange(5.0, dtype=torch.float64)] * 5)
        ways = torch.tensor([1.0, 4.0, 6.0, 4.0, 1.0]).double()[counts.long()].prod(1)
        found = []
        for keep in keeps:
            one, other = 0.5 + 0.5 * keep, 0.5 - 0.5 * keep
            each = one**counts * other ** (4 - counts)  # of this phase as the beat, up to the others
            rest = other**counts * one ** (4 - counts)
            q = (each / rest).mean(1) * rest.prod(1) if keep < 1 else (counts.sum(1) == 4).double() * (counts.amax(1) == 4) / 5
            found.append(-float((ways * torch.special.xlogy(q, q)).sum()) / torch.tensor(2.0).log().item())
        return found

    def of_a_bit(p):
        """Entropy in bits of one bit."""
        return float((torch.special.entr(p) + torch.special.entr(1 - p)) / torch.tensor(2.0).log())

    return entropies, of_a_bit


@app.cell
def _(entropies, levels, of_a_bit):
    _keep = beating(levels.value)[0].keep.double()
    _all = entropies(_keep)
    _given = [20 * of_a_bit(0.5 + 0.5 * k) for k in _keep]
    _flips = [20 * of_a_bit(0.5 - 0.5 * _keep[t] / _keep[t - 1]) for t in range(1, len(_keep))]
    _rows = [(a + _given[t - 1] - _given[t], a + _all[t - 1] - _all[t], a) for t, a in enumerate(_flips, 1)]
    _shown = sorted({1, (levels.value + 1) // 2, levels.value})
    _sums = [sum(column) for column in zip(*_rows, strict=True)]
    story.md(
        "**How uncertain is a step back?** Entropy of $X_{{t-1}}$ given $X_t$, in bits a sequence, between the bounds that only the forward "
        "process is needed for (section 2.6; derived above):\n\n| $t$ | lower bound | true | upper bound |\n|---|---|---|---|\n{rows}\n"
        "| all | {low:.2f} | {true:.2f} | {high:.2f} |\n\n{said} Over all steps the truth is **{above:.2f}** bits above the lower bound (the entropy of "
        "the data is {data:.2f}), and the two bounds are **{apart:.2f}** bits apart: with more levels, less for each.",
        rows="\n".join(f"| {t} | {_rows[t - 1][0]:.3f} | {_rows[t - 1][1]:.3f} | {_rows[t - 1][2]:.3f} |" for t in _shown),
        low=_sums[0], true=_sums[1], high=_sums[2], above=_sums[1] - _sums[0], apart=_sums[2] - _sums[0], data=entropies([1.0])[0],
        said=story.measured(
            all(low <= true + 1e-6 <= high + 2e-6 for low, true, high in _rows),
            "Every true one lies between its bounds.",
            "Not every true one lies between its bounds.",
        ),
    )
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
    story.program("bits")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why many small steps, and not one large one?",
                "A small step can be undone by a simple distribution: here one coin a bit. To undo all at once, the bits "
                "would have to be drawn together, and that is the problem we began with.",
            ),
            (
                "What is trained, and what is given?",
                "The steps towards noise are given. Only what undoes them is learned.",
            ),
            (
                "Why can the same training be done one level at a time?",
                "The bound is a sum over levels, and any level's state can be drawn directly from the data.",
            ),
        ],
        "bits",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 1503.03585; its code: Sohl-Dickstein/Diffusion-Probabilistic-Models (2015, Theano).
    - Lilian Weng, *What are diffusion models?*
    - Train the paper's own network: `sfumato train dpm/heartbeat`, then `sfumato likelihood RUN`.
    - Next: the same idea for numbers instead of bits, and a way to fill in what is missing.
    """)
    return


@app.cell
def _():
    story.links("bits")
    return


if __name__ == "__main__":
    app.run()
