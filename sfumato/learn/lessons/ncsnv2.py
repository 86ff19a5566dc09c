import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="NCSNv2: how much noise, and how many levels")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.ncsnv2 import annealed, digits, reached
    from sfumato.claims.toys import normal
    from sfumato.core import techniques
    from sfumato.core.exact import GaussianMixture
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.schedules import from_sigmas
    from sfumato.data import pictures
    from sfumato.learn import story
    from sfumato.learn.checks.ncsnv2 import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames
    from sfumato.papers import ncsnv2

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # NCSNv2: how much noise, and how many levels

    *Improved techniques for training score-based generative models*, Song and Ermon, 2020.

    NCSN follows the score of the data, from a lot of noise to a little. It worked on small pictures, and fell apart on larger
    ones. **How much noise is a lot? How many levels lie between?** Until this paper one guessed. The paper answers with five
    techniques; three of them are numbers that are computed from the data set.

    Below, thirty points start at *one and the same digit*, with noise on top, and go down the noise levels with the exact score
    of 300 digits. On the left they begin with little noise, on the right with as much as the rule says. Move the slider to
    the end.
    """)
    return


@app.cell
def _():
    story.links("ncsnv2")
    return


@app.cell
def _():
    def film(states):
        """(states, n, 64) in [0, 1] -> uint8 (states, 1, H, W), ten digits a row; the page enlarges them."""
        grey = (states * 255).round().clamp(0, 255).to(torch.uint8).reshape(*states.shape[:2], 1, 8, 8)
        return torch.stack([pictures.grid(state, columns=10, pad=1, scale=1) for state in grey])

    rule = techniques.largest_distance(digits()[0])
    _little, _enough = (annealed(first, 30) for first in (0.3, rule))
    hook = mo.ui.anywidget(
        Frames.of(
            {"sigma_1 = 0.3": film(_little), tr("sigma_1 = {rule:.2f}, the rule", rule=rule): film(_enough)}, start=1.0
        )
    )
    _from = int(digits()[1][0])
    _left, _right = reached(_little[-1]), reached(_enough[-1])
    _said = story.measured(
        int(_left[_from]) >= 20 and int(_right[_from]) <= 6 and int((_right > 0).sum()) >= 8,
        "On the left most come home to where they began. On the right few do, and nearly all digits are found.",
        "With these points the two sides do not differ as the rule says.",
    )
    mo.vstack([hook, story.md(
        "All begin at a {digit}. In the end a {digit} again: on the left **{left}** of 30, on the right **{right}**; digits "
        "that are found: **{found_left}** and **{found_right}** of 10. {said} Nothing else differs: the same score, the same "
        "rule for levels and steps.",
        digit=_from, left=int(_left[_from]), right=int(_right[_from]),
        found_left=int((_left > 0).sum()), found_right=int((_right > 0).sum()), said=_said,
    )])
    return film, hook, rule


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "as large as a typical pixel, about 0.3": "That is the left side above. Look:",
        "as large as the distance between two neighbours": "Neighbours are of the same class mostly. The rule asks for more:",
        "as large as the distance between the two that are furthest apart": "Yes. Then every mode is in reach of any other:",
    }
    guess = story.predict("ncsnv2", "How large must the first noise be, so that one can get from any image to any other?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["ncsnv2/first-sigma"], seeds=1, fast=True)
        little, one, rule = (verdict.mean(f"classes reached, sigma_1 = {name}") for name in ("0.3", "1", "the rule"))
        return story.md(
            "| $\\sigma_1$ | classes that 40 points reach from one digit |\n|---|---|\n"
            "| 0.3 | {little:.0f} of 10 |\n| 1 | {one:.0f} of 10 |\n| the rule | {rule:.0f} of 10 |\n\n"
            "The rule gives {first:.2f} here. {said} On CIFAR-10 it gives 50, where NCSN had 1. "
            "This is figure 2 of the paper, as the claim `ncsnv2/first-sigma`. {verdict}",
            little=little, one=one, rule=rule, first=verdict.mean("sigma_1 by the rule"), verdict=story.borne_out(verdict),
            said=story.measured(
                one > 9, "It is safe, not sharp: on these tiny images 1 would do.", "A noise of 1 is not enough for all."
            ),
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
            ("the largest noise", r"$\sigma_1$", "`first_sigma`", "`sigma_begin`, `sigma_max`"),
            ("ratio of neighbours", r"$\gamma = \sigma_{i-1}/\sigma_i$", "`ratio_of_levels`", "implied by `num_classes`"),
            ("steps at a level", "$T$", "`moves_per_level`", "`n_steps_each`"),
            ("step size", r"$\epsilon$", "`step_size`", "`step_lr`"),
            ("a score without the level as input", r"$F(x)/\sigma$", "technique 3", "`scorenet(x) / used_sigmas`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        techniques.overlap,
        r"""Noise in $D$ dimensions lies on a thin shell of radius $\sigma\sqrt{D}$. For one level to hand over to the next, the
shells must overlap. From the law of the radius (proposition 2) follows by how much they do, and technique 2 asks for about half:

$$C = \Phi\big(\sqrt{2D}(\gamma-1) + 3\gamma\big) - \Phi\big(\sqrt{2D}(\gamma-1) - 3\gamma\big) \approx 0.5$$""",
    )
    return


@app.cell
def _():
    story.source(
        techniques.variance_ratio,
        r"""When a level begins, the noise is $\gamma$ times too large; $T$ Langevin steps should bring it down to the level's own.
How far they do follows from $\gamma$, $T$ and the step size (proposition 3); technique 4 chooses the size for which the ratio of
variances ends nearest to 1:""",
    )
    return


@app.cell
def _():
    story.derivations("ncsnv2")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    All of it from one data set. A larger picture has more pixels, so a larger distance and thinner shells.
    """)
    return


@app.cell
def _():
    first = mo.ui.slider(0.2, 5.0, step=0.1, value=0.5, label=tr("sigma_1"), show_value=True)
    moves = mo.ui.slider(1, 20, value=5, label=tr("steps a level"), show_value=True)
    mo.hstack([first, moves], justify="start", wrap=True)
    return first, moves


@app.cell
def _(film, first, moves):
    _states = annealed(first.value, 30)
    _counts = reached(_states[-1])
    _recipe = ncsnv2.fitted(ncsnv2.NCSNv2(moves_per_level=moves.value), digits()[0].reshape(-1, 1, 8, 8).float())
    mo.vstack(
        [
            mo.ui.anywidget(Frames.of({tr("sigma_1 = {first:g}", first=first.value): film(_states)}, start=1.0)),
            story.md(
                "**{reached}** of ten classes reached. The rules for these digits, down to a noise of 0.01, as "
                "`sfumato inspect --ncsnv2 digits` prints them:\n\n```\n{rules}\n```",
                reached=int((_counts > 0).sum()), rules=ncsnv2.explained(_recipe),
            ),
        ]
    )
    return


@app.cell
def _():
    def _lengths():
        """Of the exact score of 300 digits under noise: its mean length, and that times sigma over the root of 64."""
        centres, _ = digits()
        data = GaussianMixture(torch.full((len(centres),), 1 / len(centres)).double(), centres, torch.full_like(centres, 1e-3))
        rows = []
        for sigma in (0.05, 0.1, 0.3, 1.0, 3.0):
            process = GaussianDiffusion(from_sigmas(torch.tensor([sigma]).double()))
            x = centres + sigma * normal(0, *centres.shape)
            length = float(data.denoise(process)(x, torch.tensor(1)).score.norm(dim=1).mean())
            rows.append((sigma, length, length * sigma / centres.shape[1] ** 0.5))
        return rows

    _rows = _lengths()
    story.md(
        "**Technique 3, on the digits.** The length of the exact score under noise:\n\n| $\\sigma$ | mean length | times $\\sigma/\\sqrt D$ |\n|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(f"| {s:g} | {length:.1f} | {scaled:.2f} |" for s, length, scaled in _rows),
        said=story.measured(
            all(abs(scaled - 1) < 0.05 for _, _, scaled in _rows),
            tr("From one end to the other the score becomes {ratio:.0f} times shorter; times the level it is of one size, so that one network without the level as input serves all of them.", ratio=_rows[0][1] / _rows[-1][1]),
            "Here the score does not shrink as the noise grows.",
        ),
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **Why larger pictures failed** (section 3): NCSN's levels, chosen by hand for 32x32, leave gaps when $D$ grows, since shells become thinner; what begins at one level is never seen in training at the next.
      With the techniques the same method draws 256x256 faces, with about two thousand levels.
    - **The last step only denoises** (the end of algorithm 1 above): without it samples keep noise of $\sigma_L$, which no eye sees and the FID does.
    - **Technique 5, the average of the weights**, steadies colours: single checkpoints of one training are tinted, now green, now purple, while their losses agree. With noise of that size the loss cannot tell them apart.
      `sfumato train ncsnv2/digits` keeps such an average and samples from it.
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
    story.program("ncsnv2")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why do more dimensions need more levels?",
                "The shell on which noise lies becomes thinner compared with its radius, so shells of different noise soon do "
                "not touch. A network trained on one then meets states that it has never seen.",
            ),
            (
                "Why does the network no longer need the level as an input?",
                "The score of noise sigma is about as long as 1/sigma. Divide by sigma outside, and what is left to learn looks "
                "alike at all levels.",
            ),
            (
                "What did the average of the weights cure?",
                "Samples whose colours shifted from one checkpoint to the next, though the loss stood still.",
            ),
        ],
        "ncsnv2",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 2006.09011; its code: ermongroup/ncsnv2.
    - Yang Song, *Generative modeling by estimating gradients of the data distribution*, on choosing noise scales.
    - `sfumato inspect --ncsnv2 fashion` computes the rules for another data set; `sfumato train ncsnv2/digits` trains.
    - Next: a few days after this one, another paper took the other road again (DDPM).
    """)
    return


@app.cell
def _():
    story.links("ncsnv2")
    return


if __name__ == "__main__":
    app.run()
