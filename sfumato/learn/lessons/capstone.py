import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="One core, eight papers, and yours")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims.adm import classify
    from sfumato.claims.toys import all_states, linear, normal, ring, seeded
    from sfumato.core.betas import geometric_sigmas
    from sfumato.core.continuous import VP
    from sfumato.core.exact import GaussianMixture
    from sfumato.core.guidance import classifier_gradient, score_shifted
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.schedules import from_sigmas
    from sfumato.core.variances import fixed_large, fixed_small
    from sfumato.learn import story
    from sfumato.learn.checks.capstone import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Scrubber
    from sfumato.samplers import DDIM, Ancestral, AnnealedLangevin, Heun
    from sfumato.samplers.grids import sections

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # One core, eight papers, and yours

    *The end of the path.*

    Eight papers in six years, each with notation, code and followers of its own. Here they are side by side: eight blobs on a
    ring, the same noise, and each paper's own sampler. Move the slider.

    All of them are **one loop** over moves `(kernel, t, s)`. What you have learned is what stands behind the word *kernel*.
    """)
    return


@app.cell
def _():
    story.links("capstone")
    return


@app.cell
def _():
    mixture = ring()
    real = mixture.sample(500, torch.Generator().manual_seed(1))

    def eight(steps, n=200, seed=0):
        """name -> the trajectory of n points, (moves + 1, n, 2)."""
        table, vp = linear(), GaussianDiffusion(VP())
        ve = GaussianDiffusion(from_sigmas(geometric_sigmas(steps, 0.05, 5.0)))
        gradient = classifier_gradient(lambda x, t: classify(table, x, t), torch.zeros(n, dtype=torch.long))
        on_table, on_vp, on_ve = (mixture.denoise(process) for process in (table, vp, ve))
        small, large = Ancestral(fixed_small), Ancestral(fixed_large)
        respaced = sections(1000, [steps - 2 * (steps // 3), steps // 3, steps // 3])
        unit, wide = normal(seed, n, 2), 5.0 * normal(seed, n, 2)
        plans = {
            tr("DPM 2015: ancestral"): (unit, small.plan(table, on_table, steps)),
            tr("NCSN 2019: annealed Langevin"): (wide, AnnealedLangevin(0.3 * 0.05**2, 0.05, 2, denoise=False).plan(ve, on_ve)),
            tr("NCSNv2 2020: and denoised"): (wide, AnnealedLangevin(0.3 * 0.05**2, 0.05, 2).plan(ve, on_ve)),
            tr("DDPM 2020: larger variance"): (unit, large.plan(table, on_table, steps)),
            tr("DDIM 2020: no noise"): (unit, DDIM().plan(table, on_table, steps)),
            tr("Improved DDPM 2021: respaced"): (unit, small.moves(table, on_table, respaced)),
            tr("Score-SDE 2021: ODE"): (unit, Heun().plan(vp, on_vp, steps)),
            tr("ADM 2021: guided"): (unit, DDIM().plan(table, score_shifted(on_table, gradient), steps)),
        }
        return {name: all_states(x, plan, seeded(seed)) for name, (x, plan) in plans.items()}

    hook = mo.ui.anywidget(Scrubber.of(eight(40), real, start=0.75))
    hook
    return eight, hook, mixture, real


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "the newest": "Age does not decide:",
        "those that draw no noise": "Not on a ring in the plane, with the exact score:",
        "none of them": "Yes, as the table shows:",
    }
    guess = story.predict("capstone", "Only eight steps each, the exact score for all. Which of them still find the ring?", guesses)
    guess
    return guess, guesses


@app.cell
def _(eight, guess, guesses, mixture, real):
    def _figure():
        def off(points):
            return float((torch.cdist(points, mixture.means).amin(1) > 3 * mixture.stds[0, 0]).double().mean())

        counts = (8, 16, 60)
        ends = [{name: states[-1] for name, states in eight(steps, 3000).items()} for steps in counts]
        worst = [off(end) for end in ends[0].values()]
        rows = [f"| {name} | " + " | ".join(f"{off(end[name]):.0%}" for end in ends) + " |" for name in ends[0]]
        said = story.measured(
            min(worst) > 0.2,
            tr("In eight steps each leaves between {low:.0%} and {high:.0%} of the points off the ring.", low=min(worst), high=max(worst)),
            tr("In eight steps some find it: {low:.0%} to {high:.0%} of the points are off the ring.", low=min(worst), high=max(worst)),
        )
        return story.md(
            "Of 3,000 points, the share further than three widths from every blob; of real ones it is {real_share:.0%}:\n\n"
            "| | 8 steps | 16 steps | 60 steps |\n|---|---|---|---|\n{rows}\n\n"
            "{said} A table of equal steps is not one of equal costs: Langevin dynamics moves twice at each level here, and "
            "Heun's method for the ODE evaluates the network twice a step.",
            real_share=off(real),
            rows="\n".join(rows),
            said=said,
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## The same thing under eight names
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("noisy data", r"$\alpha_t x_0 + \sigma_t\epsilon$", "`level.noise(x0, eps)`", "`q_sample`, `add_noise`, `marginal_prob`"),
            ("noise, picture, score", r"$\epsilon,\ \hat x_0,\ -\epsilon/\sigma_t$", "`Prediction`", "`model_output`, `pred_xstart`, `score`"),
            ("a step back", r"$p(x_s \mid x_t)$", "a kernel", "`p_sample`, `step`, `update_fn`"),
            ("a sampler", "algorithm 1, 2, ...", "a list of moves", "`p_sample_loop`, `get_pc_sampler`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        GaussianMixture.denoise,
        r"""And behind every kernel stands one question, whose best answer is the mean of what may have been. For blobs it can be written down;
for pictures a network learns it:

$$\hat x_0(x_t) = \mathbb{E}[x_0 \mid x_t]$$""",
    )
    return


@app.cell
def _():
    story.derivations("capstone")
    return


@app.cell
def _():
    story.md(r"""
    ## Try it
    """)
    return


@app.cell
def _():
    steps = mo.ui.slider(3, 60, value=12, label=tr("steps"), show_value=True)
    steps
    return (steps,)


@app.cell
def _(eight, real, steps):
    mo.ui.anywidget(Scrubber.of(eight(steps.value), real, start=1.0))
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
    story.program("capstone")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "What do all eight need from a network?",
                "One number for each pixel at one noise level: the noise, the picture or the score. Each gives the others. "
                "(DPM and Improved DDPM ask for a second one, the variance of the step.)",
            ),
            (
                "What would you change to try a tenth idea?",
                "One axis: a schedule, a kernel, a weight, a guidance. Everything else stays, and so the comparison is fair.",
            ),
            (
                "Where do you go from here?",
                "To other people's code. You will find the same five ideas under other names: read for the forward process, the target, "
                "the weight, the step and the grid.",
            ),
        ],
        "capstone",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - CONTRIBUTING.md says how to add your sampler to the library: a frozen dataclass, and a row in the table of samplers.
    - lucidrains' denoising-diffusion-pytorch and the authors' own repositories: you can read them fluently now.
    - Karras et al., arXiv 2206.00364, who took the pieces apart as you did; Lilian Weng's and Yang Song's posts, once more.
    - `sfumato train ddpm/fashion --data folder:my/pictures?size=32`: your own pictures.
    """)
    return


@app.cell
def _():
    story.links("capstone")
    return


if __name__ == "__main__":
    app.run()
