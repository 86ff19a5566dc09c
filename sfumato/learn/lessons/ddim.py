import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="DDIM: the same pictures in fewer steps")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.toys import all_states, linear, normal, ring
    from sfumato.core.sampling import finish
    from sfumato.data import open_source
    from sfumato.learn import story
    from sfumato.learn.checks.ddim import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Scrubber
    from sfumato.models.editing import Editor
    from sfumato.samplers import DDIM, by_name
    from sfumato.samplers.ddim import DDIMStep, coefficients, encoding

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # DDIM: the same pictures in fewer steps

    *Denoising diffusion implicit models*, Song, Meng and Ermon, 2020.

    A DDPM is trained on a thousand noise levels, and its sampler goes through every one of them. **Must it?** The paper's
    answer is a family of samplers that all fit the *same* trained network. At one end stands DDPM's own, which draws new
    noise at every step. At the other end nothing is drawn at all: the noise that the network predicts is carried along.

    Below are the two ends, started from the same noise, in 50 steps. Move the slider.
    """)
    return


@app.cell
def _():
    story.links("ddim")
    return


@app.cell
def _():
    mixture, process = ring(), linear()
    denoise = mixture.denoise(process)
    noise = normal(0, 400, 2)
    torch.manual_seed(0)
    _runs = {
        f"eta {eta:g}": all_states(noise, DDIM(eta).plan(process, denoise, 50)) for eta in (0.0, 1.0)
    }
    hook = mo.ui.anywidget(Scrubber.of(_runs, mixture.sample(800, torch.Generator().manual_seed(1)), start=0.8))
    hook
    return denoise, hook, mixture, noise, process


@app.cell
def _():
    story.md("""
    The data are eight blobs on a ring, so the best possible denoiser is known exactly, and no network can be to blame for
    anything you see. Both ends arrive at the data. The paths differ: on the left each point flows, on the right it jitters.

    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "nearly the same picture": "Yes: the path is nearly the same curve, cut into longer pieces.",
        "another picture from the same data": "That is what happens with fresh noise. Without it, look:",
        "a blurred picture": "Few steps do cost accuracy, but look at how little:",
    }
    guess = story.predict("ddim", "Same noise, eta = 0, but 10 steps instead of 100. What comes out?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["ddim/consistency"], seeds=1, fast=True)
        rows = [
            f"| {k} | {verdict.mean(f'eta 0: distance of {k} steps to 100'):.3f} "
            f"| {verdict.mean(f'eta 1: distance of {k} steps to 100'):.3f} |"
            for k in (5, 10, 20, 50)
        ]
        return story.md(
            "Mean distance between the end points in so many steps and in 100 (the ring has radius 1.2):\n\n"
            "| steps | eta 0 | eta 1 |\n|---|---|---|\n{rows}\n\n"
            "This is section 5.2 and figure 5 of the paper, as the claim `ddim/consistency`. {verdict}",
            rows="\n".join(rows), verdict=story.borne_out(verdict),
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md(r"""
    ## What stands in the paper, and where it stands here
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("signal that is left", r"$\alpha_t$", "`level.alpha ** 2`", r"$\bar\alpha_t$ in DDPM and Lil'Log"),
            ("predicted clean data", r"$f_\theta^{(t)}(x_t)$", "`prediction.x0`", "`pred_xstart`, `x0_t`"),
            ("noise of a step", r"$\sigma_t(\eta)$", "`std`", "`ddim_sigma`, `c1`"),
            ("steps taken", r"$\tau_1, \dots, \tau_S$", "`times`", "`timesteps`, `seq`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        DDIMStep.__call__,
        r"""One step from $t$ to an earlier $s$ is eq. 12 of the paper, with the noise of eq. 16:

$$x_s = \sqrt{\alpha_s}\,\hat x_0 + \sqrt{1-\alpha_s-\sigma^2}\,\hat\epsilon + \sigma z,\qquad
\sigma = \eta\sqrt{\tfrac{1-\alpha_s}{1-\alpha_t}}\sqrt{1-\tfrac{\alpha_t}{\alpha_s}}$$

Why is this allowed with a network that was trained as a DDPM? Any $\sigma \ge 0$ belongs to a forward process of its own
(eq. 7), in which $x_t$ depends on $x_0$ as well, so that it is no Markov chain; but all of them have the same $q(x_t \mid x_0)$,
and their bounds differ from the simple loss only in the weights of the levels (theorem 1). The network, trained level by level,
cannot tell them apart.

Here are the lines that compute it. Nothing says that $s$ must be the neighbour of $t$, nor even that $s < t$.""",
    )
    return


@app.cell
def _():
    story.source(coefficients, "with these factors of $\\hat x_0$, of $\\hat\\epsilon$ and of the noise:")
    return


@app.cell
def _():
    story.derivations("ddim")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    Fewer steps, more noise, another seed. Watch what eta does when steps are few.
    """)
    return


@app.cell
def _():
    steps = mo.ui.slider(2, 100, value=10, label=tr("steps"), show_value=True)
    eta = mo.ui.slider(0.0, 1.0, step=0.1, value=0.0, label=tr("eta"), show_value=True)
    seed = mo.ui.slider(0, 20, value=0, label=tr("seed of the fresh noise"), show_value=True)
    mo.hstack([steps, eta, seed], justify="start", wrap=True)
    return eta, seed, steps


@app.cell
def _(denoise, eta, mixture, noise, process, seed, steps):
    torch.manual_seed(seed.value)
    _states = all_states(noise, DDIM(eta.value).plan(process, denoise, steps.value))
    _nll = float(-mixture.log_prob(_states[-1]).mean())
    mo.vstack(
        [
            mo.ui.anywidget(
                Scrubber.of(
                    {tr("{steps} steps, eta {eta:g}", steps=steps.value, eta=eta.value): _states},
                    mixture.sample(800, torch.Generator().manual_seed(1)),
                    start=1.0,
                )
            ),
            story.md(
                "Negative log likelihood of these samples under the data's density: **{nll:.2f}** nats (data themselves: 0.25).",
                nll=_nll,
            ),
        ]
    )
    return


@app.cell
def _():
    story.md(r"""
    ## Backwards

    With $\eta = 0$ a step is a plain function, and it may go towards noise as well: that *encodes* a picture as the noise
    it would have come from (DDIM inversion). `encoding` uses the same kernel with $s > t$. How well do 400 points come back?
    """)
    return


@app.cell
def _():
    back = mo.ui.slider(2, 100, value=10, label=tr("steps each way"), show_value=True)
    back
    return (back,)


@app.cell
def _(back, denoise, mixture, process):
    _x0 = mixture.sample(400, torch.Generator().manual_seed(2))
    _latent = finish(_x0, encoding(process, denoise, back.value))
    _again = finish(_latent, DDIM().plan(process, denoise, back.value))
    _error = float((_again - _x0).square().sum(1).mean())
    story.md("Mean squared error after going there and back in **{n}** steps: **{error:.4f}**.", n=back.value, error=_error)
    return


@app.cell
def _():
    story.md(r"""
    ## Which levels?

    The paper takes $\tau_i = \lfloor c\,i \rfloor$ (*linear*) or $\tau_i = \lfloor c\,i^2 \rfloor$ (*quadratic*, denser near clean data; for CIFAR-10). How far are the points from where a thousand steps lead, with
    the same number of steps?
    """)
    return


@app.cell
def _(denoise, noise, process):
    def _errors():
        """Mean distance to the end points in 1000 steps, (grid, steps)."""
        fine = finish(noise, DDIM().plan(process, denoise, 1000))
        kinds = {tr("linear"): "ddim", tr("quadratic"): "ddim?grid=quadratic", tr("even in log SNR"): "ddim?grid=log-snr"}
        return {name: [float((finish(noise, by_name(spec).plan(process, denoise, k)) - fine).norm(dim=1).mean()) for k in (5, 10, 20)]
                for name, spec in kinds.items()}

    _found = _errors()
    _best = min(_found, key=lambda name: _found[name][1])
    story.md(
        "| levels | 5 steps | 10 steps | 20 steps |\n|---|---|---|---|\n{rows}\n\nWith ten steps **{best}** is nearest on this ring. What is best depends on data and schedule: the lesson on fast solvers comes "
        "back to it.",
        rows="\n".join(f"| {name} | " + " | ".join(f"{e:.3f}" for e in errors) + " |" for name, errors in _found.items()), best=_best,
    )
    return


@app.cell
def _():
    story.md(r"""
    ## From picture to picture

    Two emoji that the model has not seen are encoded, their noises mixed on the sphere (section 5.3; a straight mean of two noises would be too short), and each mixture is decoded.
    """)
    return


@app.cell
def _():
    first = mo.ui.slider(0, 172, value=31, label=tr("from picture"), show_value=True)
    second = mo.ui.slider(0, 172, value=4, label=tr("to picture"), show_value=True)
    mo.hstack([first, second], justify="start", wrap=True)
    return first, second


@app.cell
def _(first, second):
    def _on_the_way(steps=20, points=7):
        """Pictures on the way (1, points, 3, 32, 32), and lengths of noises: at the ends, half way on the sphere, and of the plain mean."""
        held_out, chosen = open_source("emoji32:test"), torch.tensor([first.value, second.value])
        labels = held_out.labels[chosen]
        editor = Editor(sfumato.load("ddpm/emoji32"), steps, torch.stack([labels[:1], labels[1:]]))
        ends = [Editor(editor.model, steps, labels[i : i + 1]).encode(held_out.images[chosen[i : i + 1]]) for i in (0, 1)]
        size = 3072**0.5
        noises = (*ends, editor.slerp(*ends, 3)[:, 1], (ends[0] + ends[1]) / 2)
        return editor.between(*ends, points), [float(noise.norm()) / size for noise in noises]

    _film, (_one, _other, _sphere, _mean) = _on_the_way()
    mo.vstack([
        mo.ui.anywidget(Frames.of({"on the way": _film[0], "all seven": torch.cat([*_film[0]], dim=2)[None]}, start=0.5)),
        story.md(
            "Length of the noises, where fresh noise has 1: {one:.2f} and {other:.2f} at the ends, **{sphere:.2f}** half way on the sphere, **{mean:.2f}** for the plain mean. {said}",
            one=_one, other=_other, sphere=_sphere, mean=_mean,
            said=story.measured(
                min(_one, _other) - 0.02 < _sphere < max(_one, _other) + 0.02 and _mean < _sphere - 0.02,
                "The sphere keeps the length of its ends; a mean of independent noises loses a part of it, and the network has seen no such noise.",
                "Here the plain mean is no shorter: the two noises are much alike.",
            ),
        ),
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
    story.program("ddim")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Does DDIM need another training than DDPM?",
                "No. Its processes have the same marginals, so the same loss up to weights, and the same network.",
            ),
            (
                "Which eta is DDPM's sampler?",
                "eta = 1, with the small variance; the large one is the paper's sigma-hat, outside the family.",
            ),
            (
                "Why can eta = 0 encode and eta = 1 not?",
                "Without noise a step is a deterministic function, nearly invertible when steps are short. Fresh noise "
                "erases where it came from.",
            ),
        ],
        "ddim",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: *Denoising diffusion implicit models*, arXiv 2010.02502; its code: ermongroup/ddim.
    - Lilian Weng, *What are diffusion models?*, section on speeding up sampling.
    - Yang Song, *Generative modeling by estimating gradients of the data distribution*: the same path as an ODE.
    - On pictures: `sfumato edit interpolate ddpm/emoji32`, `sfumato sample ddpm/emoji32 --sampler "ddim?eta=1" --steps 10`.
    """)
    return


@app.cell
def _():
    story.links("ddim")
    return


if __name__ == "__main__":
    app.run()
