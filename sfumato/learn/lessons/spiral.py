import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Numbers instead of bits, and filling in what is missing")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.toys import all_states, normal, seeded, spiral
    from sfumato.core.dpm2015.nonequilibrium import even_betas, predict_perturbation
    from sfumato.core.dpm2015.products import Multiplied, Observed
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.sampling import descend
    from sfumato.core.schedules import from_betas
    from sfumato.data import open_source
    from sfumato.learn import story
    from sfumato.learn.checks.spiral import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Brush, Frames, Scrubber
    from sfumato.models.restoration import inpaint
    from sfumato.samplers.ancestral import AncestralStep

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Numbers instead of bits, and filling in what is missing

    *Deep unsupervised learning using nonequilibrium thermodynamics*, Sohl-Dickstein et al., 2015, second part.

    Pictures are numbers. The paper's second diffusion adds a little Gaussian noise in each step and shrinks what was
    there, so that a cloud of any shape ends as one round Gaussian. Undone step by step, the round cloud becomes a spiral.

    Then comes the part that was ahead of its time. **A trained model can be multiplied by anything you know.** Given one
    coordinate it fills in the other, though it was never trained for that. On the left nothing is known, on the right the
    horizontal coordinate. Move the slider.
    """)
    return


@app.cell
def _():
    story.links("spiral")
    return


@app.cell
def _():
    mixture = spiral(100)
    process = GaussianDiffusion(from_betas(even_betas(60, 1e-4)))
    step = AncestralStep(process, mixture.denoise(process))
    real = mixture.sample(600, torch.Generator().manual_seed(1))

    def widths(points):
        """The mean distance of points to the spiral, in its widths."""
        return float((torch.cdist(points, mixture.means).amin(1) / mixture.stds[0, 0]).mean())

    return mixture, process, real, step, widths


@app.cell
def _(process, real, step):
    def along(kernel, n=250, seed=0):
        """The trajectory of n points from noise to data."""
        return all_states(normal(seed, n, 2), descend(kernel, process.schedule.times()), seeded(seed))

    def where(x, std):
        """A kernel conditioned on the horizontal coordinate, observed with noise of this standard deviation."""
        at = torch.tensor([[x, 0.0]], dtype=torch.float64)
        return Multiplied(step, Observed(at, torch.tensor([std, float("inf")], dtype=torch.float64)))

    hook = mo.ui.anywidget(
        Scrubber.of({"nothing known": along(step), "one coordinate known": along(where(0.35, 0.05))}, real, start=0.6)
    )
    hook
    return along, hook, where


@app.cell
def _():
    story.md("""
    Grey is the spiral. The reverse step is the exact one for these data, so what you see is the method, not a network.

    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "all on one turn of the spiral": "No: the vertical line cuts several turns, and the model does not know which.",
        "on every turn that the line cuts": "Yes, on each, though not exactly as often as it should:",
        "spread evenly along the line": "No: between the turns there are no data, and the model knows that.",
    }
    guess = story.predict("spiral", "One coordinate is known exactly. Where do the points end?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses, mixture, widths):
    def _figure():
        verdict = judge(CLAIMS["dpm/multiplied"], seeds=1, fast=True)
        return story.md(
            "| | share of the upper half | distance to the spiral, in its widths |\n|---|---|---|\n"
            "| known exactly | {known_share:.2f} | {known_distance:.1f} |\n"
            "| known roughly | {rough_share:.2f} | {rough_distance:.1f} |\n"
            "| the truth | {true_share:.2f} | {true_distance:.1f} |\n\n"
            "Near the truth, not equal to it: the product is taken step by step, and early steps know little. This is the "
            "claim `dpm/multiplied`. {verdict}",
            known_share=verdict.mean("known: share of the upper half"),
            known_distance=verdict.mean("known: distance to the spiral, widths"),
            rough_share=verdict.mean("observed: share of the upper half"),
            rough_distance=verdict.mean("observed: distance to the spiral, widths"),
            true_share=verdict.mean("true share of the upper half"),
            true_distance=widths(mixture.sample(4000, torch.Generator().manual_seed(3))),
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
            ("noise added in a step", r"$\beta_t$", "`betas`", r"$\beta_t$ in DDPM, the same"),
            ("mean, covariance of a step back", r"$f_\mu, f_\Sigma$", "`step.mean, step.std`", r"$\mu_\theta, \Sigma_\theta$"),
            ("what else is known", r"$r(x)$", "a factor", "a likelihood; later: a classifier"),
            ("data and knowledge together", r"$\tilde p(x) \propto p(x)\,r(x)$", "`Multiplied`", "guidance"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        predict_perturbation,
        r"""The network of 2015 does not predict the noise. It says how the step back *differs* from the step forward, both
mean and variance. DDPM's discovery, five years on, was to ask for the noise instead:""",
    )
    return


@app.cell
def _():
    story.source(
        Observed.__call__,
        r"""To multiply a model by $r(x)$, multiply every reverse step by it (section 2.5). Between Gaussians that is a line: the
precisions add up, and the mean moves towards what was observed:

$$\tilde\sigma^2 = \frac{\sigma^2}{1 + \sigma^2/s^2},\qquad \tilde\mu = \mu + \frac{\tilde\sigma^2}{s^2}\,(y - \mu)$$

Classifier guidance (the lesson on ADM) is the same product with a classifier as $r$.""",
    )
    return


@app.cell
def _():
    story.derivations("spiral")
    return


@app.cell
def _():
    story.md(r"""
    ## How small is a small step?

    Where the slider begins there is one noisy point. Then: where it may have been, one level lower, two, and so on down to clean data. On the left exactly, by
    Bayes' rule with the spiral as data; on the right a Gaussian with the same mean and covariance.
    """)
    return


@app.cell
def _():
    at = mo.ui.slider(10, 59, value=45, label=tr("level of the noisy point, of 60"), show_value=True)
    at
    return (at,)


@app.cell
def _(at, mixture, process, real):
    def _back(t, n=20_000, shown=600):
        """Draws of x_s given one x_t, exact and Gaussian, for s = t, t - 1, ..., 0, and the kurtosis of each exact set."""
        level, noise = process.level(t, real[:1]), seeded(4)
        x = level.noise(real[7:8], noise(real[:1]))
        share = mixture.responsibilities(x, level)[0]
        k = torch.multinomial(share, n, replacement=True, generator=torch.Generator().manual_seed(5))
        width = 1 / (1 / mixture.stds[k] ** 2 + (level.alpha / level.sigma) ** 2)  # of x_0 given x_t and the component
        centre = width * (mixture.means[k] / mixture.stds[k] ** 2 + level.alpha * x / level.sigma**2)
        x0, z, fresh = centre + width.sqrt() * noise(centre), noise(centre), noise(centre)
        exact, fitted, kurtosis = [x.expand(shown, 2)], [x.expand(shown, 2)], []
        for s in range(int(t) - 1, -1, -1):
            step = process.posterior(x.expand(n, 2), x0, t, torch.tensor(s))
            draws = step.mean + step.std * z
            centred = draws - draws.mean(0)
            root = torch.linalg.cholesky(torch.cov(draws.T))
            kurtosis.append(float(torch.linalg.solve_triangular(root, centred.T, upper=False).square().sum(0).square().mean()))
            exact.append(draws[:shown])
            fitted.append(draws.mean(0) + fresh[:shown] @ root.T)
        return torch.stack(exact), torch.stack(fitted), kurtosis

    _exact, _fitted, _kurtosis = _back(torch.tensor(at.value))
    _rows = "".join(f"\n| {d} | {_kurtosis[d - 1]:.1f} |" for d in sorted({1, 3, 10, at.value // 2, at.value}) if d <= at.value)
    mo.vstack([
        mo.ui.anywidget(Scrubber.of({"exact": _exact, "Gaussian": _fitted}, real, reach=2.5, start=0.1)),
        story.md(
            "The fourth moment of the exact draws, after scaling to unit covariance (Mardia's kurtosis), is 8 for a Gaussian in the plane:\n\n| levels back | kurtosis |\n|---|---|"
            "{rows}\n\n{one} {all} So the model takes many steps, and each only needs a mean and a variance (section 2.2, after Feller; derived above).",
            rows=_rows,
            one=story.measured(
                abs(_kurtosis[0] - 8) < 0.3,
                "One level back the exact step is a Gaussian, as near as so many draws can tell.",
                "Here even one level back is no Gaussian: beside this little noise one level is a long step.",
            ),
            all=story.measured(
                abs(_kurtosis[-1] - 8) > 0.5 + abs(_kurtosis[0] - 8),
                "All the way back it is none: what the data look like shows.",
                "All the way back it is as near to one, since little noise leaves little choice.",
            ),
        ),
    ])
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    Choose what was observed, and with how much noise.
    """)
    return


@app.cell
def _():
    x = mo.ui.slider(-1.5, 1.5, step=0.05, value=0.35, label=tr("horizontal coordinate"), show_value=True)
    std = mo.ui.slider(0.02, 1.0, step=0.02, value=0.1, label=tr("noise of the observation"), show_value=True)
    mo.hstack([x, std], justify="start", wrap=True)
    return std, x


@app.cell
def _(along, real, std, where, widths, x):
    _states = along(where(x.value, std.value), n=200)
    _off = widths(_states[-1])
    mo.vstack(
        [
            mo.ui.anywidget(Scrubber.of({tr("at {x:g}, noise {std:g}", x=x.value, std=std.value): _states}, real, start=1.0)),
            story.md(
                "Mean distance to the spiral: **{off:.1f}** of its widths (data themselves: {real:.1f}). Far outside the spiral the two disagree.",
                off=_off, real=widths(real),
            ),
        ]
    )
    return


@app.cell
def _():
    story.md(r"""
    **Pictures.** The paper fills in a hole in a bark texture (figure 5). Here is an emoji that the network has never seen. Paint
    over what is to be filled in (drag; or arrow keys and space), and the hole is filled three times, each time with other noise. The
    network is a DDPM of 2020; what is known is put back at each step, as noisy as the step is (replacement-method inpainting). Only
    the network makes the hole agree with the rest, step by step: with twenty steps they hardly do, with a hundred they mostly do.
    """)
    return


@app.cell
def _():
    which = mo.ui.slider(0, 172, value=4, label=tr("picture"), show_value=True)
    steps = mo.ui.slider(10, 100, step=10, value=100, label=tr("steps"), show_value=True)
    mo.hstack([which, steps], justify="start", wrap=True)
    return steps, which


@app.cell
def _(which):
    held_out = open_source("emoji32:test")
    picture, label = held_out.images[which.value], held_out.labels[which.value]
    _known = torch.ones(32, 32, dtype=torch.bool)
    _known[17:27, 6:26] = False
    brush = mo.ui.anywidget(Brush.of(picture, _known))
    brush
    return brush, label, picture


@app.cell
def _(brush, label, picture, steps):
    _model = sfumato.load("ddpm/emoji32")
    _filled = inpaint(_model, picture.expand(3, -1, -1, -1), Brush.known(brush.value["hole"], 32), steps=steps.value,
                      labels=label.expand(3))
    mo.ui.anywidget(Frames.of({"three ways to fill it in": torch.cat([*_filled], dim=2)[None]}, start=1.0))
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **The noise is learned, too.** $K$ depends on the $\beta_t$ through draws $x_t(\epsilon)$ with the noise held fixed, so it has a gradient with respect
      to them (section 2.4.1, what is now called reparameterisation). Only $\beta_1$ is a constant. For bits $\beta_t = 1/(T - t + 1)$,
      which takes an equal share of what is left in every step. `sfumato train dpm/swiss_roll --recipe.learn-betas` does it here.
    - **The network for pictures** (appendix D) has convolutions at several scales: means over blocks, a convolution of each, blown up again and added; then
      dense layers at every pixel. Each output is a sum of bumps in time with weights from the network, so that one pass serves all $t$.
    - **Denoising** is the product with a Gaussian around a noisy picture (figure 3), **inpainting** one with the known pixels (figure 5); deblurring, it says,
      would be another. The figures above are two of these.
    - **Likelihood.** On *dead leaves*, pictures of overlapping discs, 1.489 bits a pixel, where the best model before had 1.244. `docs/dpm.md` has the
      paper's table beside what this code reaches.
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
    story.program("spiral")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why may every step be multiplied by r, and not only the last?",
                "The intermediate distributions are ours to choose, as long as the last one is p times r. With r in every "
                "step, early steps already head for where the product is large.",
            ),
            (
                "Which of today's tools is this?",
                "Inpainting, denoising and classifier guidance are all products of a model with something known.",
            ),
            (
                "What did the paper's pictures lack?",
                "A loss and a network that scale: the bound, read from means and variances, is dominated by details that "
                "nobody sees. DDPM's simple loss changed that.",
            ),
        ],
        "spiral",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 1503.03585, sections 2.5 and 3.2, figures 1, 4 and 5.
    - Lilian Weng, *What are diffusion models?*, sections on the reverse process and on guidance.
    - Train the paper's own: `sfumato train dpm/swiss_roll`, `sfumato train dpm/dead_leaves`.
    - Next: another road to the same place, by slopes instead of steps (NCSN, 2019).
    """)
    return


@app.cell
def _():
    story.links("spiral")
    return


if __name__ == "__main__":
    app.run()
