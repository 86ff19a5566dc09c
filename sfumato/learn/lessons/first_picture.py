import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Your first picture")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato.core.sampling import trajectory
    from sfumato.data import open_source
    from sfumato.learn import story
    from sfumato.learn.checks.first_picture import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Your first picture

    *The whole path in one minute.*

    Below, six pictures come out of noise. On the left is what the machine holds: at first pure noise, in the end a
    picture. On the right is its *prediction* of the finished picture, at each moment. Move the slider, and watch the
    prediction run ahead: blurred at first, then sharper and sharper.
    """)
    return


@app.cell
def _():
    story.links("first_picture")
    return


@app.cell
def _():
    model = sfumato.load("ddpm/emoji32")

    def films(steps, seed, kind, n=6):
        """Trajectories of n pictures and of their predictions: uint8 (states, n, 3, 32, 32) each."""
        frames, predictions = [], []
        model.sample(n, steps=steps, sampler="ddim", seed=seed, classes=[kind], frames=frames, predictions=predictions)
        return torch.stack(frames), torch.stack(predictions)

    def rows(film):
        """The six pictures of each state as two rows of three: uint8 (states, 3, 64, 96)."""
        return torch.stack([torch.cat([torch.cat([*row], dim=2) for row in state.split(3)], dim=1) for state in film])

    return films, model, rows


@app.cell
def _(films, model, rows):
    _held, _predicted = films(25, 3, "Smileys & Emotion")
    hook = mo.ui.anywidget(Frames.of({"what it holds": rows(_held), "what it predicts": rows(_predicted)}, start=0.5))
    mo.vstack([hook, story.md(
        "The model is a small one that ships with this library. Its training set has {emoji:,} emoji, of which it saw "
        "{images:,} pictures in all, each many times. What you see is computed while you wait.",
        emoji=len(open_source("emoji32")), images=model.about.get("images", 0),
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
        "the same six pictures, roughly": "Mostly: with this sampler (DDIM) no noise is drawn on the way, so a picture follows from where it starts and from the steps it takes.",
        "six other pictures": "They would be with a sampler that draws fresh noise. With this one (DDIM) they follow from where they start:",
        "noise: two steps are not enough": "Two steps are few, yet look:",
    }
    guess = story.predict("first_picture", "The same noise, but only two steps instead of 25, or 50. What comes out?", guesses)
    guess
    return guess, guesses


@app.cell
def _(films, guess, guesses, rows):
    def _figure():
        found = {steps: films(steps, 3, "Smileys & Emotion")[0][-1:] for steps in (2, 5, 25, 50)}
        ends = {tr("{steps} steps", steps=steps): rows(end) for steps, end in found.items()}
        flat = {steps: end[0].flatten(1) / 127.5 for steps, end in found.items()}
        nearest = {k: torch.cdist(flat[k], flat[50]).argmin(1) for k in flat}
        same = {k: int((nearest[k] == torch.arange(6)).sum()) for k in flat}
        off = {k: float((flat[k] - flat[50]).square().mean(1).sqrt().median()) for k in flat}
        table = "".join(f"\n| {k} | {tr('{n} of 6', n=same[k])} | {off[k]:.2f} |" for k in (2, 5, 25))
        return mo.vstack(
            [
                mo.ui.anywidget(Frames.of(ends, start=1.0)),
                story.md(
                    "Beside what comes out in 50 steps:\n\n| steps | like the same one of the six more than like any other | half of them differ "
                    "by less than |\n|---|---|---|{table}\n\n(Differences on the scale from -1 to 1, root mean square over pixels.) "
                    "{few} {more} What that is good for is the lesson on DDIM.",
                    table=table,
                    few=story.measured(
                        min(same.values()) >= 3 and off[2] > 2 * off[25],
                        "Few steps give rougher versions, mostly of the *same* pictures; some turn out otherwise, because two or five "
                        "steps follow the exact path badly.",
                        "Here the pictures do not keep to where they began.",
                    ),
                    more=story.measured(
                        off[25] < 0.05, "From 25 steps to 50 most change in details alone.", "Even from 25 steps to 50 they change."
                    ),
                ),
            ]
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## Words that all lessons use
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("a picture", r"$x_0$", "`x0`", "`x_start`, `img`"),
            ("the same with noise", r"$x_t = \alpha_t x_0 + \sigma_t \epsilon$", "`x`, at level `t`", "`x_noisy`, `xt`"),
            ("how noisy", r"$t$, from $T$ (noise) to 0", "`t`, and `s` below it", "`timestep`, `step`"),
            ("what undoes a step", r"$p(x_s \mid x_t)$", "a kernel `(x, t, s)`", "`p_sample`, a scheduler's `step`"),
            ("the predicted clean picture", r"$\hat x_0$", "`prediction.x0`", "`pred_xstart`, `pred_original_sample`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        trajectory,
        r"""All eight papers sample with one loop. It starts from noise and asks, again and again, *where was this a moment ago?*
The answer is a distribution, not one state, so the loop draws from it:

$$x_s \sim p(x_s \mid x_t),\qquad t \ge s$$

(Langevin steps stay at their noise level, $s = t$; the others go down.)

What differs between the papers is what stands behind this step, and how the network was taught.""",
    )
    return


@app.cell
def _():
    story.derivations("first_picture")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    Another seed is another noise, so another picture. Few steps are quick and rough.
    """)
    return


@app.cell
def _(model):
    kind = mo.ui.dropdown([*model.classes], value="Food & Drink", label=tr("kind"))
    kind
    return (kind,)


@app.cell
def _():
    seed = mo.ui.slider(0, 50, value=0, label=tr("seed"), show_value=True)
    steps = mo.ui.slider(2, 40, value=15, label=tr("steps"), show_value=True)
    mo.hstack([seed, steps], justify="start", wrap=True)
    return seed, steps


@app.cell
def _(films, kind, rows, seed, steps):
    _held, _predicted = films(steps.value, seed.value, kind.value)
    mo.ui.anywidget(Frames.of({"what it holds": rows(_held), "what it predicts": rows(_predicted)}, start=1.0))
    return


@app.cell
def _():
    story.md(r"""
    **Eight papers.** The path ahead goes through all of them. Each has a small model of clothes here. The button samples two pictures with
    each paper's own sampler (DDPM's model with DDIM); that takes a minute or more. Some take a thousand small steps, some fifty; some end the
    noise soon and refine for long, some the other way round. They were not trained for equally long, so this is no comparison: that
    is `docs/comparison.md`.
    """)
    return


@app.cell
def _():
    go = mo.ui.run_button(label=tr("Sample with all of them"))
    go
    return (go,)


@app.cell
def _(go):
    mo.stop(not go.value, story.md("*Press the button; the films follow.*"))

    def _film(model, sampler):
        frames = []
        model.sample(2, sampler=sampler, frames=frames)
        kept = torch.linspace(0, len(frames) - 1, min(len(frames), 41)).round().long()
        return len(frames) - 1, torch.stack([torch.cat([*frames[i]], dim=2) for i in kept])

    _papers = {
        tr("DPM, 2015"): "dpm/fashion", tr("NCSN, 2019"): "ncsn/fashion", tr("NCSNv2, 2020"): "ncsnv2/fashion",
        tr("DDPM, sampled by DDIM"): "ddpm/fashion", tr("Improved DDPM, 2021"): "iddpm/fashion",
        tr("Score-SDE, VE"): "score_sde/fashion-ve", tr("Score-SDE, VP"): "score_sde/fashion",
        tr("Score-SDE, sub-VP"): "score_sde/fashion-subvp", tr("ADM, 2021"): "adm/fashion",
    }  # fmt: skip
    _models = {title: sfumato.load(name) for title, name in _papers.items()}
    _films = {title: _film(model, "ddim" if "DDIM" in title else "own") for title, model in _models.items()}
    _lines = (f"| {title} | {moves} | {_models[title].about.get('images', 0):,} |" for title, (moves, _) in _films.items())
    papers = mo.ui.anywidget(Frames.of({title: film for title, (_, film) in _films.items()}, start=0.6))
    mo.vstack([
        papers,
        story.md("| | moves from noise to data | images seen in training |\n|---|---|---|\n{lines}", lines="\n".join(_lines)),
    ])
    return (papers,)


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
    story.program("first_picture")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Does the network make pictures?",
                "Not by itself. It only says what a noisy picture might have been. The loop around it makes pictures.",
            ),
            (
                "Why is the first prediction so blurred?",
                "From pure noise nothing can be known, and the best guess about something unknown is the average of all that "
                "it could be.",
            ),
            (
                "What decides which picture comes out?",
                "The noise at the start, and any noise that is drawn on the way. The same noise gives the same picture, where model, class, sampler and steps are the same.",
            ),
        ],
        "first_picture",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - Lilian Weng, *What are diffusion models?*, for the map of the country that this path crosses.
    - On the command line: `sfumato sample ddpm/emoji32 --animation`.
    - Next: what noise does to a picture, and what it means to take it out.
    """)
    return


@app.cell
def _():
    story.links("first_picture")
    return


if __name__ == "__main__":
    app.run()
