import marimo

app = marimo.App(width="medium", css_file="lesson.css", app_title="One core, eight papers, and yours")

with app.setup:
    import marimo as mo
    import torch

    from sfumato.claims.adm import classify
    from sfumato.claims.toys import linear, normal, ring, seeded, sliced_distance
    from sfumato.core import langevin, sde
    from sfumato.core.exact import GaussianMixture
    from sfumato.core.guidance import score_shifted, towards
    from sfumato.core.kernels import DDIM, Ancestral, Clean, large, small
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.sampling import descend, walk
    from sfumato.core.schedules import VP, from_sigmas, geometric_sigmas
    from sfumato.core.times import sections, strided
    from sfumato.learn import story
    from sfumato.learn.checks.capstone import EXERCISES
    from sfumato.learn.widgets import Scrubber
    from sfumato.papers.ncsn import staying

    torch.set_num_threads(1)


@app.cell
def _():
    mo.md(r"""
    # One core, eight papers, and yours

    *The end of the path.*

    Eight papers in six years, each with notation, code and followers of its own. Here they are side by side: eight blobs on a
    ring, the same noise, and each paper's own way back. Move the slider.

    All of them are **one loop** over moves `(kernel, t, s)`. What you have learned is what stands behind the word *kernel*.
    """)
    return


@app.cell
def _():
    mixture, n = ring(), 200
    real = mixture.sample(500, torch.Generator().manual_seed(1))

    def eight(steps):
        """name -> where 200 points go, (moves + 1, 200, 2), and how many times each is asked for."""
        discrete, continuous = linear(), GaussianDiffusion(VP())
        table = GaussianDiffusion(from_sigmas(geometric_sigmas(steps, 0.05, 5.0)))
        believed, flowing, scored = (mixture.denoise(p) for p in (discrete, continuous, table))
        follow = langevin.Langevin(scored, langevin.annealed(0.3 * 0.05**2, 0.05))
        stays = staying(follow, torch.arange(steps, 0, -1), 2 * steps)
        last = (Clean(scored), torch.tensor(1), torch.tensor(0))
        down, times = strided(1000, steps), sde.grid(continuous.schedule, steps)
        respaced = sections(1000, [steps - 2 * (steps // 3), steps // 3, steps // 3])
        guide = towards(lambda x, t: classify(discrete, x, t), torch.zeros(n, dtype=torch.long), 1.0)
        unit, wide = normal(0, n, 2), 5.0 * normal(0, n, 2)
        plans = {
            "DPM 2015: beta tilde": (unit, descend(Ancestral(discrete, believed, small), down)),
            "NCSN 2019: Langevin, annealed": (wide, stays),
            "NCSNv2 2020: and denoised": (wide, [*stays, last]),
            "DDPM 2020: beta": (unit, descend(Ancestral(discrete, believed, large), down)),
            "DDIM 2020: no noise": (unit, descend(DDIM(discrete, believed), down)),
            "Improved DDPM 2021: respaced": (unit, descend(Ancestral(discrete, believed, small), respaced)),
            "Score-SDE 2021: the flow": (unit, descend(sde.Heun(continuous, flowing), times)),
            "ADM 2021: guided": (unit, descend(DDIM(discrete, score_shifted(believed, guide)), down)),
        }
        return {name: torch.stack([x, *walk(x, plan, seeded(0))]) for name, (x, plan) in plans.items()}

    hook = mo.ui.anywidget(Scrubber.of(eight(40), real, start=0.75))
    hook
    return eight, hook, mixture, real


@app.cell
def _():
    mo.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "the newest": "Age does not decide:",
        "those that draw no noise": "Not on a ring in the plane, with the exact score:",
        "all that walk down; those that stay at each level do not": "Yes. Langevin dynamics needs its steps:",
    }
    guess = story.predict("Only eight steps each, the exact score for all. Which of them still find the ring?", guesses)
    guess
    return guess, guesses


@app.cell
def _(eight, guess, guesses, mixture, real):
    def _figure():
        few, many = eight(8), eight(60)
        rows = [
            f"| {name} | {sliced_distance(few[name][-1], real[:200]):.2f} | {sliced_distance(many[name][-1], real[:200]):.2f} |"
            for name in few
            if "guided" not in name
        ]
        floor = sliced_distance(mixture.sample(200, torch.Generator().manual_seed(2)), real[:200])
        return mo.md(
            f"Sliced distance of 200 points to 200 of the ring; real to real it is {floor:.2f}:\n\n"
            "| | 8 steps | 60 steps |\n|---|---|---|\n" + "\n".join(rows) + "\n\n(The guided one aims at one blob.)"
        )

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    mo.md("""
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
    mo.md(r"""
    ## Try it
    """)
    return


@app.cell
def _():
    steps = mo.ui.slider(3, 60, value=12, label="steps", show_value=True)
    steps
    return (steps,)


@app.cell
def _(eight, real, steps):
    mo.ui.anywidget(Scrubber.of(eight(steps.value), real, start=1.0))
    return


@app.cell
def _():
    mo.md("""
    ## Exercises
    """)
    return


@app.cell
def _():
    code_1, check_1 = story.editor(EXERCISES[0])
    story.task(EXERCISES[0], code_1, check_1)
    return check_1, code_1


@app.cell
def _(check_1, code_1):
    story.answer(EXERCISES[0], code_1.value, check_1.value)
    return


@app.cell
def _():
    code_2, check_2 = story.editor(EXERCISES[1])
    story.task(EXERCISES[1], code_2, check_2)
    return check_2, code_2


@app.cell
def _(check_2, code_2):
    story.answer(EXERCISES[1], code_2.value, check_2.value)
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "What do all eight need from a network?",
                "One number a pixel at one noise level: the noise, the picture or the score. Each gives the others.",
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
        ]
    )
    return


@app.cell
def _():
    mo.md("""
    ## Read on

    - CONTRIBUTING.md says how to add your sampler to the library: a frozen dataclass, and a row in the test of orders.
    - lucidrains' denoising-diffusion-pytorch and the authors' own repositories: you can read them fluently now.
    - Karras et al., arXiv 2206.00364, who took the pieces apart as you did; Lilian Weng's and Yang Song's posts, once more.
    - `sfumato train ddpm/fashion --data folder:my/pictures?size=32`: your own pictures.
    """)
    return


if __name__ == "__main__":
    app.run()
