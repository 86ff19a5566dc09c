import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Score-SDE: one equation for all of it")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.score_sde import SDES, sampled
    from sfumato.claims.toys import all_states, normal, ring, seeded
    from sfumato.core.denoisers import predict_score
    from sfumato.core.likelihood import flow_log_prob
    from sfumato.core.ode import probability_flow
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.learn import story
    from sfumato.learn.checks.score_sde import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Scrubber
    from sfumato.samplers import ReverseDiffusion

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Score-SDE: one equation for all of it

    *Score-based generative modeling through stochastic differential equations*, Song, Sohl-Dickstein, Kingma, Kumar, Ermon and
    Poole, 2021.

    NCSN and DDPM looked like rivals. Take ever more and ever smaller steps, and both become the same thing: a **stochastic
    differential equation** that turns data into noise, and another that turns noise into data and needs nothing but the score.
    And beside it stands a gift: an ordinary differential equation, without any noise, whose points have the same distribution as
    those of the stochastic one at every time.

    On the left the reverse SDE, on the right the probability-flow ODE, from the same noise. Move the slider: the points take other
    paths, the distribution does not.
    """)
    return


@app.cell
def _():
    story.links("score_sde")
    return


@app.cell
def _():
    real = ring().sample(600, torch.Generator().manual_seed(1))
    hook = mo.ui.anywidget(
        Scrubber.of({"reverse SDE": sampled("VP", False, 100, 300), "probability flow": sampled("VP", True, 100, 300)}, real, start=0.8)
    )
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
        "yes, exactly": "Yes, up to the solver's error. Follow a picture to its noise, and add up how much space was squeezed on the way:",
        "only a bound, as for DDPM": "With the ODE it is more than a bound:",
        "no: there is no formula for the density": "There is none, but there is a way to compute it:",
    }
    guess = story.predict("score_sde", "The ODE is a deterministic map from noise to data. Can one say how likely a given picture is?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        verdict = judge(CLAIMS["score_sde/likelihood"], seeds=1, fast=True)
        return story.md(
            "150 points of the ring, whose density is known: bits/dim by the ODE against the truth, {truth:.2f}:\n\n"
            "| SDE | error, bits/dim |\n|---|---|\n{rows}\n\n"
            "Section 4.3 of the paper, as the claim `score_sde/likelihood`. It is the likelihood of the *model*, whose score this is (here "
            "the exact one). On pictures, bytes are first spread evenly over their cells, which makes it a bound again, and the divergence is "
            "estimated with random probes: `sfumato likelihood RUN --method ode`. {verdict}",
            truth=verdict.mean("truth, bits/dim"), verdict=story.borne_out(verdict),
            rows="\n".join(f"| {name} | {verdict.mean(f'{name}: error of the mean'):.1e} |" for name in SDES),
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
            ("drift and diffusion", "$f(x, t), g(t)$", "`drift_diffusion(t)`", "`sde(x, t)`"),
            ("the score", r"$s_\theta(x, t)$", "`prediction.score`", "`score_fn`"),
            ("NCSN's noise, added", "VE", "`continuous.VE`", "`VESDE`"),
            ("DDPM's noise, replacing", "VP, sub-VP", "`continuous.VP`, `SubVP`", "`VPSDE`, `subVPSDE`"),
            ("down, and staying", "predictor, corrector", "kernels with $s<t$, $s=t$", "`get_predictor`, `get_corrector`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        probability_flow,
        r"""The equation without noise, whose distributions are those of the stochastic one (eq. 13):

$$\frac{dx}{dt} = f(x, t) - \tfrac12\, g(t)^2\, \nabla_x \log p_t(x) = \hat x_0\, \alpha'(t) + \hat\epsilon\, \sigma'(t)$$

On the right $x = \alpha\hat x_0 + \sigma\hat\epsilon$ was put in, and that is how it is computed.

DDIM with $\eta = 0$ is one way to take its steps; that is why DDIM can encode.""",
    )
    return


@app.cell
def _():
    story.source(
        flow_log_prob,
        r"""And the likelihood: follow the ODE to pure noise, whose density is known, and add the divergence along the way (eq. 39):

$$\log p_0(x_0) = \log p_T(x_T) + \int_0^T \nabla\cdot \tilde f(x_t, t)\,dt$$""",
    )
    return


@app.cell
def _():
    story.derivations("score_sde")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it

    Three SDEs, any number of steps. Which of the two comes apart first when steps are few?
    """)
    return


@app.cell
def _():
    kind = mo.ui.radio([*SDES], value="VE", label=tr("SDE"), inline=True)
    kind
    return (kind,)


@app.cell
def _():
    steps = mo.ui.slider(3, 100, value=12, label=tr("steps"), show_value=True)
    seed = mo.ui.slider(0, 20, value=0, label=tr("seed"), show_value=True)
    mo.hstack([steps, seed], justify="start", wrap=True)
    return seed, steps


@app.cell
def _(kind, real, seed, steps):
    _sde, _ode = (sampled(kind.value, ode, steps.value, 300, seed.value) for ode in (False, True))
    _runs = {tr("{kind}, reverse SDE", kind=kind.value): _sde, tr("{kind}, ODE", kind=kind.value): _ode}
    _own = float(-ring().log_prob(ring().sample(20_000, torch.Generator().manual_seed(0))).mean())
    mo.vstack(
        [
            mo.ui.anywidget(Scrubber.of(_runs, real, start=1.0)),
            story.md(
                "Negative log likelihood under the data's density, nats (data themselves: {own:.2f}): {kind}, reverse SDE: **{sde:.2f}**; "
                "{kind}, ODE: **{ode:.2f}**.",
                own=_own, kind=kind.value, sde=-float(ring().log_prob(_sde[-1]).mean()), ode=-float(ring().log_prob(_ode[-1]).mean()),
            ),
        ]
    )
    return


@app.cell
def _():
    story.md("""
    ## Does it hold here?
    """)
    return


@app.cell
def _():
    mo.callout(story.md(
        "`score_sde/corrector`, *At equal cost, a predictor with a corrector makes better samples than the predictor alone.* Not in the plane with the "
        "exact score: there is no network's error to correct, and 40 steps come as near to data as data to each other. On small fashion nets it did "
        "not pay either (docs/score_line.md)."
    ), kind="warn")
    return


@app.cell
def _():
    story.md(r"""
    ## Conditional, without training

    The same unconditional score, of the eight blobs, with the gradient of $\log p_t(y \mid x)$ added (eq. 14, derived above). What is known: that the point is of one of the blobs that you choose.
    """)
    return


@app.cell
def _():
    asked = mo.ui.range_slider(0, 7, value=[1, 3], label=tr("from blob, to blob"), show_value=True)
    asked
    return (asked,)


@app.cell
def _(asked, real):
    def _conditional(n=300, steps=200):
        """Reverse-diffusion samples with and without the gradient, and the share of the first that is where it should be."""
        mixture, process = ring(), GaussianDiffusion(SDES["VP"])
        wanted = torch.zeros(8, dtype=torch.bool)
        wanted[asked.value[0] : asked.value[1] + 1] = True

        def log_known(x, t):
            return mixture.responsibilities(x, process.level(t, x))[:, wanted].sum(1).clamp(min=1e-30).log()

        def told(x, t):
            prediction = mixture.denoise(process)(x, t)
            with torch.enable_grad():
                seen = x.detach().requires_grad_()
                (gradient,) = torch.autograd.grad(log_known(seen, t).sum(), seen)
            return predict_score(prediction.score + gradient, x, t, process)

        runs = {}
        for name, denoise in ((tr("not told"), mixture.denoise(process)), (tr("told"), told)):
            runs[name] = all_states(normal(0, n, 2), ReverseDiffusion().plan(process, denoise, steps), seeded(1))[::8]
        ends = runs[name][-1]
        distances = torch.cdist(ends, mixture.means)
        return runs, float(wanted[distances.argmin(1)].double().mean())

    _runs, _share = _conditional()
    mo.vstack([
        mo.ui.anywidget(Scrubber.of(_runs, real, start=1.0)),
        story.md(
            "Of those that were told, **{share:.0%}** end at a blob that was asked for. {said}", share=_share,
            said=story.measured(_share > 0.95, "Nothing was trained for it: whatever gives the gradient, the score stays as it was.", "Here the gradient does not lead there."),
        ),
    ])
    return


@app.cell
def _():
    story.md(r"""
    ## Also in the paper

    - **Conditional generation** (section 5): classes by a classifier of noisy pictures, inpainting and colouring without any (derived above). On pictures: `sfumato edit inpaint`, `sfumato edit colorize`; `docs/score_line.md`.
    - **NCSN++ and DDPM++** (section 4.4, appendix H) are DDPM's U-Net with BigGAN's residual blocks, sums over $\sqrt2$, and for NCSN++ anti-aliased resampling and the noisy picture handed down to every resolution; for continuous
      time the level enters by random Fourier features of $\log\sigma$. The lesson on DDPM derives what the sums and skips are for.
    - **Results.** NCSN++ with the VE SDE and a predictor-corrector sampler: FID 2.20 and Inception score 9.89 on CIFAR-10, the best of that year; DDPM++ with the sub-VP SDE: 2.99 bits/dim. Pictures and likelihood
      are not best with the same SDE.
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
    story.program("score_sde")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "What must be trained anew to sample another way?",
                "Nothing. The score is all that any of the samplers needs, and it was learned once.",
            ),
            (
                "Why do the ODE and the SDE end in the same distribution, if their points do not?",
                "At every moment their densities obey the same equation. A density does not say which point came from where.",
            ),
            (
                "In which sense is NCSN 'exploding' and DDPM 'preserving'?",
                "NCSN adds noise to the picture, so the variance grows and grows. DDPM shrinks the picture as it adds noise, so the "
                "variance stays 1.",
            ),
        ],
        "score_sde",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The paper: arXiv 2011.13456; its code: yang-song/score_sde and score_sde_pytorch.
    - Yang Song's post, *Generative modeling by estimating gradients of the data distribution*, from the SDEs on.
    - Train one: `sfumato train score_sde/digits`; any model by any sampler: `sfumato sample RUN --sampler heun`.
    - What predictor, corrector and ODE do on pictures, measured: `docs/score_line.md`.
    """)
    return


@app.cell
def _():
    story.links("score_sde")
    return


if __name__ == "__main__":
    app.run()
