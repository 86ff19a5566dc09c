import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Few steps: distillation, consistency, mean flows")

with app.setup:
    from itertools import pairwise

    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims.toys import normal, ring, seeded, sliced_distance
    from sfumato.core.continuous import LinearFlow
    from sfumato.core.denoisers import Prediction
    from sfumato.core.distillation import two_step_target
    from sfumato.core.mean_flow import mean_target
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.learn import story
    from sfumato.learn.checks.few_steps import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Scrubber
    from sfumato.samplers import DDIM, run
    from sfumato.samplers.consistency import ConsistencyStep

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Few steps: distillation, consistency, mean flows

    *Progressive distillation*, Salimans and Ho, 2022; *Consistency models*, Song, Dhariwal, Chen and Sutskever, 2023, and *consistency tuning*
    (ECT), Geng and others, 2024; *Mean flows*, Geng, Deng, Bai, Kolter and He, 2025.

    The best solver needs five to ten evaluations, because a denoiser answers a question of the wrong kind: which data may have been here, *on
    average*. For one step one would have to ask **where does this path end?** These papers train networks for that question. Below, one path
    for each noise, what the denoiser says at each of its points, and what the wanted function says.
    """)
    return


@app.cell
def _():
    story.links("few_steps")
    return


@app.cell
def _():
    mixture, process = ring(), GaussianDiffusion(LinearFlow())
    denoise, noise = mixture.denoise(process), normal(0, 300, 2)
    real = mixture.sample(800, torch.Generator().manual_seed(1))

    def ended(x, t, steps):
        """Where the flow through x at time t ends, by so many steps of Heun's method."""
        times = torch.linspace(float(t), 0, steps + 1, dtype=torch.float64)
        return run("heun", process, denoise, x, times=times)

    _times = torch.linspace(1, 0, 41, dtype=torch.float64)
    _path = [noise]
    for _a, _b in pairwise(_times):
        _path.append(run("heun", process, denoise, _path[-1], times=torch.stack([_a, _b])))
    _said = [denoise(x, t).x0 for x, t in zip(_path[:-1], _times, strict=False)]
    _ends = [ended(x, t, 30) for x, t in zip(_path[:-1:8], _times[::8], strict=False)]
    hook = mo.ui.anywidget(Scrubber.of(
        {tr("the path"): torch.stack(_path), tr("the denoiser, along it"): torch.stack([*_said, _path[-1]]),
         tr("the consistency function"): torch.stack([end for end in _ends for _ in range(8)] + [_path[-1]])}, real, start=0.3))
    _moved = max(float((end - _path[-1]).square().sum(1).mean().sqrt()) for end in _ends)
    _far = float((_said[0] - _path[-1]).square().sum(1).mean().sqrt())
    mo.vstack([hook, story.md(
        "At the start the denoiser is **{far:.2f}** from the path's end (root mean square); the consistency function, evaluated at five points of each "
        "path, never more than **{moved:.3f}**. {said}",
        far=_far, moved=_moved,
        said=story.measured(_moved < 0.1 * _far, "It gives the same answer all along a path: that is its definition.", "Here it is not constant."),
    )])
    return denoise, ended, hook, mixture, noise, process, real


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "a garment, a little rough": "That would need to know which. From noise alone nothing is known:",
        "nearly the same blur for every noise": "Yes, the mean of all garments:",
        "still noise": "No: a denoiser returns clean data, or their mean:",
    }
    guess = story.predict("few_steps", "The shipped edm/fashion is asked once, at the largest noise, and what it predicts is the picture. What comes out?", guesses)
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        model = sfumato.load("edm/fashion")
        diffusion, ask = model.diffusion.gaussian, model.denoiser()
        z = 80 * normal(1, 6, 1, 28, 28).float()
        with torch.inference_mode():
            made = {n: run("dpmpp-2m", diffusion, ask, z, steps=n) for n in (1, 2, 5, 10)}
        names = {n: tr("1 evaluation") if n == 1 else tr("{n} evaluations", n=n) for n in made}
        apart = {n: float(x.flatten(1).std(0).mean()) for n, x in made.items()}
        films = {names[n]: torch.cat([*(x.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)], dim=2)[None] for n, x in made.items()}
        said = story.measured(
            apart[1] < 0.35 * apart[10],
            "One evaluation: hardly any difference between six noises.", "One evaluation tells the six noises apart.",
        )
        return mo.vstack([
            mo.ui.anywidget(Frames.of(films, start=1.0)),
            story.md("How much the six pictures differ (standard deviation of a pixel, mean over pixels): {differences}. {said} No solver helps: there is one "
                     "evaluation to be had, and what it returns is a conditional mean. Another function has to be learned.",
                     differences=", ".join(f"{names[n]}: **{v:.2f}**" for n, v in apart.items()), said=said),
        ])

    story.reveal(guess.value, guesses, _figure)
    return


@app.cell
def _():
    story.md("""
    ## What stands in the papers, and where it stands here
    """)
    return


@app.cell
def _():
    story.notation(
        [
            ("the target of a student", r"$\tilde x$", "`two_step_target`", "`x_tilde`"),
            ("consistency function", r"$f_\theta(x, t)$", "EDM's `D`, trained otherwise", "`consistency_model`, `denoise`"),
            ("noises of a pair", r"$t > r$ (ECT), $t_{n+1}, t_n$", "`q`, `stage`", "`t`, `r`; `num_scales`"),
            ("average velocity", r"$u(z_t, r, t)$", "`mean_velocity`", "`u`"),
            ("its derivative", r"JVP with $(v, 0, 1)$", "`mean_target`", "`torch.func.jvp`, `jax.jvp`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        two_step_target,
        r"""**Progressive distillation.** The student's one step is to end where the teacher's two end. The $\tilde x$ that it has to predict is a mean of
the teacher's two predictions:""",
    )
    return


@app.cell
def _():
    story.md("""
    With the exact target the student makes no error of its own. So distil, and distil again, from sixteen steps to one:
    """)
    return


@app.cell
def _(denoise, noise, process):
    def distilled(teacher, grid):
        """The exact student of a teacher whose times are the grid: (x, t) -> Prediction at every other time."""
        def student(x, t):
            i = int((grid == t).nonzero())
            t, m, s = (time.expand(len(x)) for time in grid[i : i + 3])
            target, level = two_step_target(lambda x, t: teacher(x, t[0]), x, t, m, s, process), process.level(t[0], x)
            return Prediction(x, level, level.eps(x, target), target)
        return student

    _grid, _ask = process.schedule.times(16), denoise
    _teacher = run("ddim", process, denoise, noise, times=_grid)
    _rows, _worst, _plain = [], 0.0, 0.0
    for _steps in (8, 4, 2, 1):
        _ask, _grid = distilled(_ask, _grid), _grid[::2]
        _own, _ddim = (run("ddim", process, ask, noise, times=_grid) for ask in (_ask, denoise))
        _miss = [float((x - _teacher).square().sum(1).mean().sqrt()) for x in (_own, _ddim)]
        _worst, _plain = max(_worst, _miss[0]), max(_plain, _miss[1])
        _rows.append(f"| {_steps} | {_miss[0]:.1e} | {_miss[1]:.3f} |")
    story.md(
        "Distance from where sixteen steps of DDIM end:\n\n| steps | distilled | the teacher itself, in so few |\n|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(_rows),
        said=story.measured(
            _worst < 1e-6 < _plain,
            "To rounding, one step does what sixteen did: the identity loses nothing. What is lost in practice is what a network of the same size fails "
            "to learn, once more at each halving.",
            "The identity does not hold here.",
        ),
    )
    return


@app.cell
def _():
    story.source(
        ConsistencyStep.__call__,
        r"""**Consistency.** $f(x_t, t)$ is the same along a path, and $f(x, 0) = x$. It learns from itself: at noise $t$ it is to say what it says at a little less
noise $r$ on the same line $x_0 + t\,\epsilon$. Sampling puts noise on its answer and asks again (algorithm 1):""",
    )
    return


@app.cell
def _():
    story.source(
        mean_target,
        r"""**Mean flows.** $u(z, r, t)$ is the average velocity from $r$ to $t$, so $z_r = z_t - (t-r)\,u$ in one evaluation. It obeys

$$u = v - (t - r)\,\frac{du}{dt},$$

whose derivative is one forward-mode product. No teacher:""",
    )
    return


@app.cell
def _():
    _v0 = 0.3

    def _s(t):
        return ((1 - t) ** 2 * _v0 + t**2).sqrt()

    def _average(z, t, length):
        """u of data N(0, 0.3), in closed form; the velocity itself for length 0."""
        t, r = t[:, None], (t - length)[:, None]
        return z * (1 - _s(r) / _s(t)) / (t - r)

    _z, _rows, _off = torch.tensor([[1.0]]), [], 0.0
    for _t, _r in ((1.0, 0.0), (0.9, 0.4), (0.5, 0.1)):
        _now, _length = torch.tensor([_t]), torch.tensor([_t - _r])
        _v = _z * ((_t - (1 - _t) * _v0) / _s(_now) ** 2)
        _u, _target = float(_average(_z, _now, _length)), float(mean_target(_average, _z, _v, _now, _length))
        _off = max(_off, abs(_u - _target))
        _rows.append(f"| {_r:g} | {_t:g} | {float(_v):.4f} | {_u:.4f} | {_target:.4f} |")
    story.md(
        "For data N(0, 0.3), where everything is known, at z = 1:\n\n| r | t | velocity v | average u | v - (t - r) du/dt |\n|---|---|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(_rows),
        said=story.measured(_off < 1e-4, "The true average velocity is its own target.", "The identity does not hold here."),
    )
    return


@app.cell
def _():
    story.derivations("few_steps")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    A consistency function that is not exact: it follows the flow in so many steps of Euler's method inside. (One is the denoiser.) Sample with it
    in one step or several. When does another step help, and when not?
    """)
    return


@app.cell
def _():
    inside = mo.ui.slider(1, 30, value=4, label=tr("quality: steps inside f"), show_value=True)
    outside = mo.ui.slider(1, 8, value=2, label=tr("steps of sampling"), show_value=True)
    mo.hstack([inside, outside], justify="start", wrap=True)
    return inside, outside


@app.cell
def _(denoise, inside, mixture, noise, outside, process, real):
    def _f(x, t):
        times = torch.linspace(float(t), 0, inside.value + 1, dtype=torch.float64)
        x0, level = run(DDIM(), process, denoise, x, times=times), process.level(t, x)
        return Prediction(x, level, level.eps(x, x0), x0)

    _many = mixture.sample(300, torch.Generator().manual_seed(2))
    _made = {n: run("consistency", process, _f, noise, steps=n, noise=seeded(5)) for n in sorted({1, 2, 4, outside.value})}
    _floor = sliced_distance(real[:300], _many)
    mo.vstack([
        mo.ui.anywidget(Scrubber.of({tr("{n} steps of sampling", n=outside.value): torch.stack([noise, _made[outside.value]])}, real, start=1.0)),
        story.md("Sliced Wasserstein distance to the data, by steps of sampling: {distances} (two sets of data: {floor:.3f}).",
                 distances=", ".join(f"{n}: **{sliced_distance(x, _many):.3f}**" for n, x in _made.items()), floor=_floor),
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
    story.program("few_steps")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Why can no solver make good pictures in one evaluation of a denoiser?",
                "At the largest noise the denoiser returns the mean of all data, whatever the noise is. A solver can only combine what it is given.",
            ),
            (
                "What keeps a consistency model from answering the same constant to everything?",
                "At no noise it is the identity by construction, and each level is tied to the one below it.",
            ),
            (
                "Why does a mean flow need no teacher?",
                "Its target holds the velocity of single lines, whose mean is the flow's velocity, as in flow matching, and a derivative of the network itself.",
            ),
            (
                "What does one give up?",
                "The likelihood, other samplers and the score: the function that is learned is no posterior mean any more. And a further training.",
            ),
        ],
        "few_steps",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The papers: arXiv 2202.00512, 2303.01469, 2406.14548 (ECT), 2505.13447.
    - What each of them gives on clothes here, with its cost: `docs/few_steps.md`.
    - `sfumato distill ddpm/fashion --to 4 --out runs/few`; `sfumato train consistency/fashion --from edm/fashion`; `sfumato train mean_flow/fashion`.
    """)
    return


@app.cell
def _():
    story.links("few_steps")
    return


if __name__ == "__main__":
    app.run()
