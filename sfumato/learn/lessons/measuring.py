import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Measuring honestly")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.measuring import blurred, lookalike, memorised, real
    from sfumato.evaluate.distances import frechet_distance, statistics
    from sfumato.evaluate.neighbours import nearest, precision_recall
    from sfumato.learn import story
    from sfumato.learn.checks.measuring import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Scrubber

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Measuring honestly

    *How good is a model?* A number is easily had, and easily means nothing.

    The usual number compares two clouds of features, real and made, by their means and covariances: the Fréchet distance. With
    the features of one certain network from 2015 it is called FID. Lower is better. But lower than what?

    Below, grey is the truth. One side has not one of its blobs; the other has all eight, a little blurred. **Which one has the
    better Fréchet distance?**
    """)
    return


@app.cell
def _():
    story.links("measuring")
    return


@app.cell
def _():
    truth = real(600, 1)
    hook = mo.ui.anywidget(
        Scrubber.of({"A": lookalike(400, 0)[None], "B": blurred(400, 0)[None]}, truth, start=1.0)
    )
    hook
    return hook, truth


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {"A, without any blob": "Yes, A:", "B, with all eight": "One should think so. But it is A:", "about alike": "No, A is better by far:"}
    guess = story.predict("measuring", "Which side is nearer to the truth by the Fréchet distance?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["measuring/wrong-ranking"], seeds=1, fast=True)
        rows = [
            f"| {side} | {verdict.mean(f'{name}: Frechet distance'):.4f} | {verdict.mean(f'{name}: precision'):.0%} |"
            for side, name in (("A", "lookalike"), ("B", "blurred"))
        ]
        return story.md(
            "| | Fréchet distance | precision |\n|---|---|---|\n{rows}\n\n"
            "A has the truth's mean and covariance, and that is all the distance looks at. Precision asks how many samples lie "
            "among real ones, and is not fooled. This is the claim `measuring/wrong-ranking`. Never judge by one number. {verdict}",
            rows="\n".join(rows),
            verdict=story.borne_out(verdict),
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## Words, and where they stand here
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("Fréchet distance", r"$\|\mu - \mu'\|^2 + \operatorname{tr}(\dots)$", "`frechet_distance`", "FID, with the Inception of 2015 only"),
            ("kernel distance", r"$\text{MMD}^2$", "`kernel_distance`", "KID: has no bias, and comes with its deviation"),
            ("are samples real, are reals made", "precision, recall", "`precision_recall`", "improved precision and recall"),
            ("the same measure, real against real", "-", "the floor", "rarely given"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        frechet_distance,
        r"""The squared Wasserstein-2 distance of two Gaussians, by eigenvalues of a symmetric matrix (Heusel et al. 2017):

$$d^2 = \|\mu_1 - \mu_2\|^2 + \operatorname{tr}\big(C_1 + C_2 - 2\,(C_1 C_2)^{1/2}\big)$$""",
    )
    return


@app.cell
def _():
    story.derivations("measuring")
    return


@app.cell
def _():
    story.md(r"""
    ## How many samples?

    Even real points have a distance to real points. It falls as one over their number, so distances at different numbers of samples
    must not be compared. `sfumato evaluate` prints this floor beside every number.
    """)
    return


@app.cell
def _():
    count = mo.ui.slider(20, 2000, step=20, value=100, label=tr("samples"), show_value=True)
    count
    return (count,)


@app.cell
def _():
    _kinds = {tr("lookalike"): "lookalike", tr("blurred"): "blurred", tr("copies"): "copies", tr("real"): "real"}
    kind = mo.ui.radio(_kinds, value=tr("real"), label=tr("made by"), inline=True)
    kind
    return (kind,)


@app.cell
def _(count, kind, truth):
    _training = real(300, 7)
    _makers = {"lookalike": lookalike, "blurred": blurred, "copies": lambda n, seed: memorised(n, seed, _training), "real": real}
    _trials = [_makers[kind.value](count.value, 50 + seed) for seed in range(8)]
    _reference = real(10_000, 99)
    _all = torch.tensor([frechet_distance(statistics(t), statistics(_reference)) for t in _trials])
    _pair = precision_recall(truth, _trials[0])
    _copies, _chance = (float(nearest(points, _training).copies.double().mean()) for points in (_trials[0], real(5000, 123)))
    mo.vstack(
        [
            mo.ui.anywidget(Scrubber.of({"one of eight trials": _trials[0][None]}, truth, start=1.0)),
            story.md(
                "| Fréchet distance, eight trials | precision | recall | copies of 300 training points |\n|---|---|---|---|\n"
                "| {mean:.4f} +- {deviation:.4f} | {precision:.0%} | {recall:.0%} | {copies:.0%} |\n\n"
                "A copy lies less than a third as far from its nearest training point as from the second nearest. In the plane that "
                "happens by chance: to {chance:.1%} of new real points. Only what is above that counts as copied.",
                mean=float(_all.mean()), deviation=float(_all.std()), precision=_pair.precision, recall=_pair.recall,
                copies=_copies, chance=_chance,
            ),
        ]
    )
    return


@app.cell
def _():
    story.md("""
    Copies score as well as new points (the claim `measuring/copies`). A model that has memorised its training set wins every
    comparison that does not look for it.
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
    story.program("measuring")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "May one call a distance with other features FID?",
                "No. The name means one network with one set of weights and one way to resize. Everything else needs its own name.",
            ),
            (
                "Two models, FID 3.1 and 3.3 with 10,000 samples each. Which is better?",
                "Nobody knows without their spread over seeds, and without the floor at 10,000.",
            ),
            (
                "A new model has twice the precision and half the recall. What has happened?",
                "It makes fewer kinds of pictures, and makes them better. Guidance does just that.",
            ),
        ],
        "measuring",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - Heusel et al., arXiv 1706.08500 (FID); Bińkowski et al., arXiv 1801.01401 (KID, and why FID is biased).
    - Kynkäänniemi et al., arXiv 1904.06991 (precision and recall); Carlini et al., arXiv 2301.13188 (copies).
    - On pictures: `sfumato evaluate ddpm/emoji32` prints the protocol, the numbers and the floors.
    """)
    return


@app.cell
def _():
    story.links("measuring")
    return


if __name__ == "__main__":
    app.run()
