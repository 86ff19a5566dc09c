import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Noise, denoiser, score")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims.toys import all_states, normal, ring
    from sfumato.core.betas import geometric_sigmas
    from sfumato.core.denoisers import Prediction
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.schedules import from_sigmas
    from sfumato.learn import story
    from sfumato.learn.checks.noise import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Field, Scrubber
    from sfumato.samplers import DDIM

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Noise, denoiser, score

    *Three words for one thing, and the ground that all eight papers stand on.*

    Take a clean point, add noise, and show only the result. **Where was the point?** Nobody can know; but there is a best
    guess, the average of all places where it may have been. A *denoiser* is a function that makes this guess.

    The data below are eight grey blobs. The orange point is noisy, the green one is the best guess. Drag the orange point
    (or use the arrow keys), then change the noise. The small arrows show which way the guess lies from everywhere else.
    """)
    return


@app.cell
def _():
    story.links("noise")
    return


@app.cell
def _():
    mixture = ring()
    process = GaussianDiffusion(from_sigmas(geometric_sigmas(100, 0.02, 2.0)))
    denoise = mixture.denoise(process)
    data = mixture.sample(800, torch.Generator().manual_seed(1))
    hook = mo.ui.anywidget(Field.of(denoise, torch.arange(30, 101, 5), data, point=(0.6, -1.5), start=8))
    hook
    return data, denoise, hook, mixture, process


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "at the nearest blob": "Only while the noise is small:",
        "near the middle, where no data are": "Yes: when anything is possible, the average is the best guess.",
        "where the point is": "Only without noise. A point under much noise says little about where it came from:",
    }
    guess = story.predict("noise", "A point at (2, 0), and very much noise. Where is the best guess?", guesses)
    guess
    return guess, guesses


@app.cell
def _(denoise, guess, guesses, mixture):
    def _figure():
        rows, seen, near = [], [], float(mixture.means[:, 0].max())
        for t in (100, 85, 70, 50):
            prediction = denoise(torch.tensor([[2.0, 0.0]], dtype=torch.float64), torch.tensor(t))
            seen.append(float(prediction.x0[0, 0]))
            rows.append(f"| {float(prediction.level.sigma):.2f} | {seen[-1]:.2f} |")
        return story.md(
            "| noise (sigma) | how far to the right the guess lies |\n|---|---|\n{rows}\n\nThe nearest blob lies at {near:.2f}. {said} "
            "A guess in the void between the blobs is no bad denoiser: it is the best one. That is why one step from noise gives a blur, "
            "and why diffusion takes many.",
            rows="\n".join(rows),
            near=near,
            said=story.measured(
                abs(seen[0]) < near / 2 and seen[-1] > near,
                "With much noise the guess is near the middle; with little it lies at that blob, on the side towards the point.",
                "Here the guess does not go from the middle to that blob as the noise falls.",
            ),
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## Three words for one thing
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("clean data", r"$x_0$", "`x0`", r"$y$ in EDM"),
            ("noisy data", r"$x = \alpha x_0 + \sigma\epsilon$", "`level.noise(x0, eps)`", "`q_sample`, `perturb`"),
            ("denoiser", r"$E[x_0 \mid x]$", "`prediction.x0`", "`pred_xstart`, $D(x; \\sigma)$"),
            ("noise that was added", r"$E[\epsilon \mid x]$", "`prediction.eps`", r"$\epsilon_\theta(x_t, t)$"),
            ("score", r"$\nabla_x \log p(x)$", "`prediction.score`", r"$s_\theta(x, \sigma)$"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        Prediction.score.fget,
        r"""Whoever knows the best guess knows the noise, since $x = \alpha\hat x_0 + \sigma\hat\epsilon$, and knows which way the
density rises as well. This is Tweedie's formula:

$$\nabla_x \log p(x) = \frac{\alpha\,E[x_0 \mid x] - x}{\sigma^2} = -\frac{E[\epsilon \mid x]}{\sigma}$$

So a network that is trained to remove noise has learned the score, the gradient of the log density of the noisy data, without
ever seeing a density:""",
    )
    return


@app.cell
def _():
    story.md("""
    Is it true? Here is the gradient of the log density, by automatic differentiation, beside what the denoiser says.
    """)
    return


@app.cell
def _():
    level = mo.ui.slider(10, 100, value=60, label=tr("noise level"), show_value=True)
    level
    return (level,)


@app.cell
def _(denoise, level, mixture, process):
    _x = torch.tensor([[0.2, 0.9], [1.5, -0.4], [-0.7, -0.7]], dtype=torch.float64, requires_grad=True)
    _t = torch.tensor(level.value)
    _at = process.level(_t, _x)
    (_slope,) = torch.autograd.grad(mixture.log_prob(_x, _at).sum(), _x)
    _score = denoise(_x, _t).score.detach()

    def _pair(v):
        return f"({v[0]:.4f}, {v[1]:.4f})"

    story.md(
        "sigma = **{sigma:.3f}**\n\n| point | gradient of the log density | -eps / sigma |\n|---|---|---|\n{rows}",
        sigma=float(_at.sigma),
        rows="\n".join(f"| ({p[0]:g}, {p[1]:g}) | {_pair(a)} | {_pair(b)} |"
                       for p, a, b in zip(_x.tolist(), _slope.tolist(), _score.tolist(), strict=True)),
    )
    return


@app.cell
def _():
    story.derivations("noise")
    return


@app.cell
def _():
    story.md("""
    ## Try it: follow the arrows

    Start from nothing but noise, and go a little towards the guess, again and again, while the noise level that the
    denoiser is given falls. With one step every point lands on its first guess, in the middle. With more, the guess may change on
    the way, and that makes all the difference.
    """)
    return


@app.cell
def _():
    steps = mo.ui.slider(1, 60, value=12, label=tr("steps"), show_value=True)
    seed = mo.ui.slider(0, 20, value=0, label=tr("seed"), show_value=True)
    mo.hstack([steps, seed], justify="start", wrap=True)
    return seed, steps


@app.cell
def _(data, denoise, process, seed, steps):
    _noise = 2.0 * normal(seed.value, 400, 2)
    _states = all_states(_noise, DDIM().plan(process, denoise, steps.value))
    _spread = float((data.var(0).mean() + 2.0**2).sqrt())
    mo.vstack([
        mo.ui.anywidget(Scrubber.of({tr("{steps} steps", steps=steps.value): _states}, data, reach=3.0, start=1.0)),
        story.md("The start is noise of standard deviation 2. Noisy data at that level have {spread:.2f}, since the data are still in them: "
                 "such a start is nearly right, and the more nearly, the larger the first noise is.", spread=_spread),
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
    story.program("noise")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why does a denoiser that is trained with squared error blur?",
                "The guess with the smallest squared error is the average of all that is possible, and an average of sharp "
                "pictures is blurred.",
            ),
            (
                "A network predicts the noise. Is another network needed for the score?",
                "No. The score is the predicted noise, divided by minus sigma.",
            ),
            (
                "Why not take one long step to the best guess?",
                "It leads to the average of the data, which is not one of them. After a short step less noise is left, and the "
                "next guess is sharper.",
            ),
        ],
        "noise",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - Pascal Vincent, *A connection between score matching and denoising autoencoders*, 2011: why denoising teaches the score.
    - Yang Song, *Generative modeling by estimating gradients of the data distribution*, the first half.
    - Tero Karras and others, *Elucidating the design space of diffusion-based generative models*, arXiv 2206.00364, appendix B.
    - Next: the paper of 2015, in which it began, on twenty bits.
    """)
    return


@app.cell
def _():
    story.links("noise")
    return


if __name__ == "__main__":
    app.run()
