import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="ADM: asking for what you want")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.adm import accuracy, blobs, guided, spread
    from sfumato.claims.toys import linear
    from sfumato.core.guidance import classifier_free, classifier_gradient, score_shifted
    from sfumato.learn import story
    from sfumato.learn.checks.adm import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Scrubber
    from sfumato.networks.blocks import ResBlock

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # ADM: asking for what you want

    *Diffusion models beat GANs on image synthesis*, Dhariwal and Nichol, 2021.

    A model that has learned all pictures can be *guided*. Train a classifier on noisy pictures; at each sampling step ask it
    **which way would this look more like a cat?**, and go a little that way. Guide harder, and pictures become clearer and
    more alike. With this, and a larger network, diffusion passed the rivals of its day.

    Eight blobs, each a class of its own, so wide that neighbours overlap. We ask for the one on the right. From left to right:
    without guidance, guided as Bayes' rule says, and four times as hard. Move the slider.
    """)
    return


@app.cell
def _():
    story.links("adm")
    return


@app.cell
def _():
    real = blobs().sample(600, torch.Generator().manual_seed(1))
    hook = mo.ui.anywidget(Scrubber.of({tr("scale {s:g}", s=s): guided(s, 0, 250)[::2] for s in (0.0, 1.0, 4.0)}, real, start=1.0))
    hook
    return hook, real


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "nothing: it is only more certain of its class": "It is, and it pays for it:",
        "the variety within the class": "Yes:",
        "the right place of the class": "It does move, away from the neighbours; but above all:",
    }
    guess = story.predict("adm", "Guidance four times as hard makes the class unmistakable. What is lost?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["adm/fidelity-diversity"], seeds=1, fast=True)
        rows = [
            f"| {s} | {verdict.mean(f'scale {s}: accuracy'):.0%} | {verdict.mean(f'scale {s}: spread'):.2f} |" for s in (0, 1, 4)
        ]
        return story.md(
            "| scale | the asked class | spread of the samples |\n|---|---|---|\n{rows}\n\n"
            "Fidelity against diversity: figure 4 of the paper, as the claim `adm/fidelity-diversity`. On clothes, with "
            "trained networks: `docs/likelihood_line.md`. {verdict}",
            rows="\n".join(rows),
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
            ("what is asked for", "$y$", "`labels`, `--classes`", "`y`, `classes`"),
            ("the classifier of noisy pictures", r"$p_\phi(y \mid x_t)$", "`classify(x, t)`", "`classifier`, `cond_fn`"),
            ("the guidance scale", "$s$", "`scale`", "`classifier_scale`, `cond_scale`"),
            ("mean moves (algorithm 1)", r"$\mu + s\Sigma\nabla\log p_\phi$", "`Ancestral(gradient=...)`", "`condition_mean`"),
            ("score moves (algorithm 2)", r"$\hat\epsilon$", "`score_shifted`", "`condition_score`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        classifier_gradient,
        r"""By Bayes' rule the score of a class is the score of all pictures plus the gradient of the classifier's log probability, taken
with respect to the *picture*:

$$\nabla_x \log p(x \mid y) = \nabla_x \log p(x) + \nabla_x \log p(y \mid x)$$""",
    )
    return


@app.cell
def _():
    story.source(
        score_shifted,
        r"""and add it, `scale` times, to the score, which is to say to the predicted noise (algorithm 2):

$$\hat\epsilon = \epsilon_\theta(x_t) - s\,\sigma_t\,\nabla_{x_t} \log p_\phi(y \mid x_t)$$""",
    )
    return


@app.cell
def _():
    story.source(
        classifier_free,
        r"""A year later Ho and Salimans left the classifier out: a network that sometimes trains without its label has both scores, and
their difference *is* the gradient of a classifier. With exact scores the two agree to the last digit (the claim
`adm/without-a-classifier`). Their paper writes the scale as $1 + w$.

$$\hat\epsilon = \epsilon(x_t) + s\,\big(\epsilon(x_t, y) - \epsilon(x_t)\big)$$""",
    )
    return


@app.cell
def _():
    story.derivations("adm")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    Find a scale that gets the class right nine times in ten and keeps a spread of at least 0.3. The classes themselves have
    {own_spread:.2f}.
    """, own_spread=float(blobs().stds[0, 0]))
    return


@app.cell
def _():
    scale = mo.ui.slider(0.0, 8.0, step=0.25, value=1.0, label=tr("scale"), show_value=True)
    label = mo.ui.slider(0, 7, value=2, label=tr("class"), show_value=True)
    mo.hstack([scale, label], justify="start", wrap=True)
    return label, scale


@app.cell
def _(label, real, scale):
    _runs = {
        tr("algorithm {n}, scale {s:g}", n=n, s=scale.value): guided(scale.value, label.value, 250, ddim=n == 2)[::2]
        for n in (1, 2)
    }
    _rows = [f"| {n} | {accuracy(s[-1], label.value):.0%} | {spread(s[-1]):.2f} |" for n, s in _runs.items()]
    mo.vstack(
        [
            mo.ui.anywidget(Scrubber.of(_runs, real, start=1.0)),
            story.md("| | the asked class | spread |\n|---|---|---|\n{rows}", rows="\n".join(_rows)),
        ]
    )
    return


@app.cell
def _():
    story.source(
        ResBlock.forward,
        r"""**The network** was what the paper looked at first (section 3, tables 1 to 3). More heads, attention at three resolutions instead of one, and BigGAN's blocks for resampling helped; so did depth, but width for less time; and
the level and the class enter by scale and shift (AdaGN, derived above). That is `scale_shift` here:""",
    )
    return


@app.cell
def _():
    level = mo.ui.slider(1, 1000, value=200, label=tr("level"), show_value=True)
    level
    return (level,)


@app.cell
def _(level):
    def _best(v, process):
        """(levels, 1) gains of the best denoiser of Gaussians of these variances, and the best gain for all levels at once."""
        alpha, sigma = process.schedule.alpha_sigma(torch.arange(1, 1001))
        power = alpha[:, None] ** 2 * v + sigma[:, None] ** 2
        gain = sigma[:, None] / power
        one = (gain * power).mean(0) / power.mean(0)
        return gain, one, ((gain - one) ** 2 * power).mean(0), (1 - gain * sigma[:, None]).mean(0)

    _v = torch.tensor([0.05, 0.25, 1.0, 4.0], dtype=torch.float64)
    _gain, _one, _more, _least = _best(_v, linear())
    _range = {"low": float((_more / _least).min()), "high": float((_more / _least).max())}
    story.md(
        "The best guess of the noise in a Gaussian of variance $v$ is a gain times $x_t$. One gain for all levels, which is what a shift alone leaves, against a gain for each:\n\n| $v$ | gain at level {level} | one for all | least error, a gain a level | error more with one |\n"
        "|---|---|---|---|---|\n{rows}\n\n{said}",
        level=level.value,
        rows="\n".join(f"| {v:g} | {g:.2f} | {o:.2f} | {e:.3f} | {m:.3f} |" for v, g, o, e, m in
                       zip(_v.tolist(), _gain[level.value - 1].tolist(), _one.tolist(), _least.tolist(), _more.tolist(), strict=True)),
        said=story.measured(
            bool((_more > 0.02 * _least).all()),
            tr("One gain costs {low:.0%} to {high:.0%} more error here: the level has to act on the gain, and a scale lets it.", **_range),
            tr("One gain costs {low:.0%} to {high:.0%} more error here, for some of these data next to nothing.", **_range),
        ),
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **The classifier** is the way down of the same U-Net with attention pooling at the end, trained on noisy pictures of all levels with random crops against overfitting. `sfumato train adm_classifier/fashion` trains one;
      to an unconditional model of ImageNet a gradient of scale 1 was too little, and with ten times as much nearly all samples were of the class (section 4.3).
    - **Upsampling stack** (section 4.4): a model of 64x64 (or 128x128) pictures, then one that is given these and draws 256x256 (512x512). Guidance helps the small model, upsampling the details: together FID 3.85 at 512x512.
      The lesson on latents and cascades has the same in general.
    - **Results** on ImageNet with guidance: FID 2.97 at 128x128, 4.59 at 256x256 and 7.72 at 512x512, better than BigGAN-deep, with more of the data covered; and 25 steps suffice to match it.
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
    story.program("adm")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why must the classifier have seen noisy pictures?",
                "It is asked about the state half way, which is mostly noise. A classifier of clean pictures answers nonsense there, "
                "and its gradient points nowhere.",
            ),
            (
                "Is a scale above 1 still sampling from a distribution?",
                "Of a sharper one, roughly p(x) p(y | x)^s, and not exactly of that either: step by step it is no longer the "
                "reverse of any forward process.",
            ),
            (
                "What does guidance not cost?",
                "A new model. The one that knows all pictures is left as it is.",
            ),
        ],
        "adm",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 2105.05233; its code: openai/guided-diffusion. Ho and Salimans, arXiv 2207.12598, without the classifier.
    - Lilian Weng, *What are diffusion models?*, section on conditioned generation.
    - The same idea in 2015: the lesson on multiplying a model by what is known.
    - On pictures: `sfumato sample RUN --classes 3 --scale 2`, or `--classifier RUN --classifier-scale 1`.
    """)
    return


@app.cell
def _():
    story.links("adm")
    return


if __name__ == "__main__":
    app.run()
