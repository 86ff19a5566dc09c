import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="NCSN: follow the slope, from much noise to little")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.ncsn import HEAVY, by_annealing, heavy, plainly, two_modes
    from sfumato.core import matching
    from sfumato.learn import story
    from sfumato.learn.checks.ncsn import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Scrubber
    from sfumato.samplers.langevin import LangevinStep

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # NCSN: follow the slope, from much noise to little

    *Generative modeling by estimating gradients of the data distribution*, Song and Ermon, 2019.

    Another road to the same place. Instead of undoing steps, learn the **gradient** of the data's log density, its *score*:
    from any point, which way do data become more likely? Then step uphill, with a little noise in each step, and you end where
    data are. These steps are called Langevin dynamics.

    It has a flaw. Below are two clouds; the upper one holds 80 % of the data. Both sides take a thousand steps with the *exact*
    score. On the left plainly; on the right with a lot of noise at first, then less and less. Move the slider, and count.
    """)
    return


@app.cell
def _():
    story.links("ncsn")
    return


@app.cell
def _():
    real = two_modes().sample(500, torch.Generator().manual_seed(1))
    _plain, _annealed = (sampler(250, 0)[::20] for sampler in (plainly, by_annealing))
    hook = mo.ui.anywidget(Scrubber.of({"plain": _plain, "annealed": _annealed}, real, reach=12.0, start=1.0))
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
        "about 80 %, with the exact score": "It would be right only if points could cross the gap. They cannot:",
        "about half": "Yes: each goes to the nearer cloud, and the start was even.",
        "all of them: uphill is where most data are": "Uphill is wherever the nearer cloud is:",
    }
    guess = story.predict("ncsn", "On the left, which share of the points ends at the upper cloud?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["ncsn/annealing"], seeds=1, fast=True)
        return story.md(
            "| | share at the upper cloud |\n|---|---|\n"
            "| plain | {plain:.2f} |\n| annealed | {annealed:.2f} |\n| the truth | {truth:.2f} |\n\n"
            "A score says nothing of weights: near a cloud it is the same, whether that cloud holds four fifths of the data "
            "or one. With much noise the two clouds merge into one, and there the weights do show. This is figure 3 of the paper, "
            "as the claim `ncsn/annealing`. {verdict}",
            plain=verdict.mean("plain: share at the heavy mode"), annealed=verdict.mean("annealed: share at the heavy mode"),
            truth=HEAVY, verdict=story.borne_out(verdict),
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
            ("the score", r"$s_\theta(x, \sigma) \approx \nabla_x \log q_\sigma(x)$", "`prediction.score`", "`scorenet(x, labels)`"),
            ("levels of noise", r"$\sigma_1 > \dots > \sigma_L$", "`geometric_sigmas`", "`sigmas`"),
            ("step size at a level", r"$\alpha_i = \epsilon\,\sigma_i^2/\sigma_L^2$", "`annealed(eps, last)`", "`step_size`"),
            ("steps at a level", "$T$", "`moves_per_level`", "`n_steps_each`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        matching.denoising,
        r"""Nobody knows the score of data. But add noise, and the gradient of $\log q(\tilde x \mid x)$, which *is* known, has the right
average (section 2.1, after Vincent 2011): learn to point from the noisy picture back to the clean one,

$$\tfrac12\,\mathbb{E}\,\Big\| s_\theta(\tilde x, \sigma) + \frac{\tilde x - x}{\sigma^2} \Big\|^2$$

and what you have learned is the score. The claim `ncsn/denoising-suffices` checks it on the two clouds.""",
    )
    return


@app.cell
def _():
    story.source(
        LangevinStep.__call__,
        r"""One step of Langevin dynamics stays at its noise level: a little uphill, and a little noise, so that points spread out as
data do instead of all climbing to the top (eq. 4, where $d$ is $\epsilon/2$):

$$x \leftarrow x + d\, s_\theta(x, \sigma) + \sqrt{2d}\, z$$

Annealed, $d$ is $\alpha_i$ here: as in the authors' code, twice the $\alpha_i/2$ of algorithm 1.""",
    )
    return


@app.cell
def _():
    story.derivations("ncsn")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    How much noise must there be at first? The clouds are 14 apart.
    """)
    return


@app.cell
def _():
    first = mo.ui.slider(0.5, 30.0, step=0.5, value=4.0, label=tr("the largest sigma"), show_value=True)
    levels = mo.ui.slider(2, 20, value=10, label=tr("levels"), show_value=True)
    mo.hstack([first, levels], justify="start", wrap=True)
    return first, levels


@app.cell
def _(first, levels, real):
    _states = by_annealing(400, 0, first.value, levels.value, 50)
    _name = tr("from {first:g}, {levels} levels", first=first.value, levels=levels.value)
    mo.vstack(
        [
            mo.ui.anywidget(Scrubber.of({_name: _states[:: levels.value]}, real, reach=12.0, start=1.0)),
            story.md("Share at the upper cloud: **{share:.2f}** (the truth: {truth:.2f}).", share=heavy(_states[-1]), truth=HEAVY),
        ]
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **The manifold hypothesis** (section 3.1). Pictures lie near a surface of far fewer dimensions than they have pixels. Away from it the score of the data is not defined, and the objective of
      score matching, which needs a density everywhere, jumps about in training. With Gaussian noise of variance 0.0001, which nobody sees, the same training converges (figure 1).
    - **Inpainting** (algorithm 2). At every step the known pixels are replaced by their own noisy version, known + $\sigma_i$ noise; the score moves the others. It was the first inpainting of this kind with a
      score; the lesson on inverse problems says what it gets wrong.
    - **The network** is a RefineNet that is told of the level by its normalisation (derived above).
    - **Results.** With ten levels from 1 to 0.01 and a hundred steps at each, an Inception score of 8.87 on CIFAR-10, the best of any unconditional model then, and a FID of 25.32.
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
    story.program("ncsn")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why learn the gradient of the log density, and not the density?",
                "A density must sum to 1 over all pictures, and nobody can compute that sum. In the gradient of its logarithm "
                "the sum is gone.",
            ),
            (
                "Why does the score fail between the clouds?",
                "There are no data there, so nothing teaches it; and even exact, it does not tell how much each cloud weighs.",
            ),
            (
                "What is the score of noisy data to DDPM's network?",
                "The same up to a factor: the score is minus the predicted noise over sigma.",
            ),
        ],
        "ncsn",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 1907.05600; its code: ermongroup/ncsn.
    - Yang Song's own post, *Generative modeling by estimating gradients of the data distribution*: the best companion.
    - Train one: `sfumato train ncsn/digits`, then `sfumato sample RUN --animation`.
    - Next: how much noise is a lot, and how many levels lie between (NCSNv2).
    """)
    return


@app.cell
def _():
    story.links("ncsn")
    return


if __name__ == "__main__":
    app.run()
