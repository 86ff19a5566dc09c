import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Fast solvers and EDM: ten evaluations instead of fifty")

with app.setup:
    import math

    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims import CLAIMS, judge
    from sfumato.claims.toys import all_states, normal, ring, seeded
    from sfumato.core.continuous import VP
    from sfumato.core.denoisers import predict_f
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.learn import story
    from sfumato.learn.checks.edm import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Scrubber
    from sfumato.samplers import by_name, run
    from sfumato.samplers.dpm_solver import DPMSolverPPStep, midpoint
    from sfumato.samplers.grids import karras
    from sfumato.samplers.heun import HeunStep

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Fast solvers and EDM: ten evaluations instead of fifty

    *DPM-Solver++*, Lu, Zhou, Bao, Chen, Li and Zhu, 2022; *Elucidating the design space of diffusion-based generative models* (EDM), Karras,
    Aittala, Aila and Laine, 2022.

    Since Score-SDE, sampling is the solution of an ordinary differential equation, and since DDIM it takes fifty evaluations of the
    network. **How few can it be?** That is a question of numerical analysis, and both papers answer it without touching the trained network:
    solve exactly what can be solved, remember the evaluations before, and choose *where* to evaluate.

    Below, ten evaluations from the same noise: DDIM, even in time, and a second-order multistep solver on a better grid.
    """)
    return


@app.cell
def _():
    story.links("edm")
    return


@app.cell
def _():
    mixture, process = ring(), GaussianDiffusion(VP())
    denoise, noise = mixture.denoise(process), normal(0, 400, 2)
    real = mixture.sample(800, torch.Generator().manual_seed(1))
    exact = run("heun?grid=log-snr", process, denoise, noise, steps=400)

    def solved(sampler, evaluations, seed=0):
        """The states of a sampler with that many evaluations of the denoiser, and its error against the exact solution."""
        chosen = by_name(sampler)
        states = all_states(noise, chosen.plan(process, denoise, max(1, evaluations // chosen.evaluations)), seeded(seed))
        return states, float((states[-1] - exact).square().sum(1).mean().sqrt())

    return denoise, exact, mixture, noise, process, real, solved


@app.cell
def _(real, solved):
    _runs = {name: solved(sampler, 10) for name, sampler in (
        (tr("DDIM, even in time"), "ddim"), (tr("2M, even in log SNR"), "dpmpp-2m?grid=log-snr"))}
    hook = mo.ui.anywidget(Scrubber.of(
        {tr("{name}, 10 evaluations", name=name): states for name, (states, _) in _runs.items()}, real, start=1.0))
    (_, _slow), (_, _fast) = _runs.values()
    _said = story.measured(
        _fast < _slow / 2,
        "The second is nearer by more than a factor of two, with the same denoiser, asked as often.",
        "Here the second is not nearer by a factor of two.",
    )
    mo.vstack([hook, story.md(
        "Root mean square distance from the exact solution of the ODE: **{slow:.3f}** and **{fast:.3f}**. {said}",
        slow=_slow, fast=_fast, said=_said,
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
        "the solver": "Alone it does next to nothing here: on a grid even in time the last steps are far too long for it.",
        "the grid": "Alone it helps; but most comes when the solver can make use of it:",
        "neither alone: it takes both": "Yes:",
    }
    guess = story.predict(
        "edm",
        "The shipped ddpm/fashion, 10 evaluations. DDIM is replaced by a second-order solver; even time by a grid that is even in a root of "
        "the noise. Which of the two brings most of the gain?",
        guesses,
    )
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        model = sfumato.load("ddpm/fashion")
        diffusion, ask = model.diffusion.gaussian, model.denoiser()
        x = normal(3, 8, 1, 28, 28).float()
        with torch.inference_mode():
            best = run("dpmpp-2m?grid=karras", diffusion, ask, x, steps=40)
            made = {
                (solver, grid): run(f"{solver}{option}", diffusion, ask, x, steps=10)
                for solver in ("ddim", "dpmpp-2m") for grid, option in (("even in time", ""), ("Karras", "?grid=karras"))
            }
        error = {key: float((y - best).square().mean().sqrt()) for key, y in made.items()}
        cells = {y: " | ".join(f"{error[s, y]:.3f}" for s in ("ddim", "dpmpp-2m")) for y in ("even in time", "Karras")}
        plain, both = error["ddim", "even in time"], error["dpmpp-2m", "Karras"]
        gain = {"grid": plain - error["ddim", "Karras"], "solver": plain - error["dpmpp-2m", "even in time"]}
        said = story.measured(
            gain["solver"] < 0.2 * (plain - both) and gain["grid"] < 0.7 * (plain - both) and both < plain / 2,
            tr("Both together take away {both:.0%} of the error; the solver alone {solver:.0%}, the grid alone {grid:.0%}.",
               both=1 - both / plain, solver=gain["solver"] / plain, grid=gain["grid"] / plain),
            "Here it is otherwise: one of the two alone does most of it.",
        )
        rows = [torch.cat([*(made[key][:6].clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)], dim=2)[None]
                for key in (("ddim", "even in time"), ("dpmpp-2m", "Karras"))]
        named = (tr("DDIM, even in time, 10 evaluations"), tr("2M, Karras' grid, 10 evaluations"))
        shown = Frames.of(dict(zip(named, rows, strict=True)), start=1.0)
        return mo.vstack([story.md(
            "Root mean square distance of eight pictures in [-1, 1] from the solution in 40 evaluations:\n\n| 10 evaluations | DDIM | 2M |\n|---|---|---|\n"
            "| even in time | {even} |\n| Karras | {karras} |\n\n"
            "{said} A distance from the ODE's solution is not yet the quality of pictures: `docs/samplers.md` has the Fréchet distances.",
            even=cells["even in time"], karras=cells["Karras"], said=said,
        ), mo.ui.anywidget(shown)])

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
            ("half the log SNR", r"$\lambda_t$ (DPM-Solver)", "`log_snr(t) / 2`", "`lambda_t`; $\\lambda$ is $\\sigma/\\alpha$ in our formula sheet"),
            ("noise to signal", r"$\sigma$ (EDM: $\alpha = 1$)", "`sigma / alpha`", "`sigmas` (k-diffusion)"),
            ("data prediction", r"$x_\theta$, $D_\theta$", "`prediction.x0`", "`denoised`"),
            ("evaluations", "NFE", "`samplers.evaluations`", "`num_inference_steps` counts moves"),
            ("noise added before a step", r"$S_\text{churn}$", "`Heun(churn=...)`", "`s_churn`"),
            ("what a network sees and returns", r"$c_\text{in}, F_\theta$", "`unit_variance`, `predict_f`", "`c_in`, `model_output`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        midpoint,
        r"""The flow's linear part is solved exactly; what is left is an integral of $\hat x_0$ over $h = \lambda_s - \lambda_t$:

$$x_s = \frac{\sigma_s}{\sigma_t}\,x_t + \alpha_s\int_{\lambda_t}^{\lambda_s} e^{-(\lambda_s-\lambda)}\,\hat x_0\,d\lambda$$

Held constant it is DDIM. 2M extrapolates to the middle of the step from the prediction before, which costs nothing:""",
    )
    return


@app.cell
def _():
    story.source(DPMSolverPPStep.to, "and the step that uses it, on any schedule, for the ODE (`eta` 0) and the SDE (1):")
    return


@app.cell
def _():
    story.source(
        HeunStep.__call__,
        r"""EDM's own solver is Heun's: an Euler step, a second evaluation at its end, and the mean of both slopes (algorithm 1). It remembers
nothing, and pays two evaluations a step.""",
    )
    return


@app.cell
def _():
    story.source(karras, r"""The grid of EDM is even in $\sigma^{1/\rho}$ (eq. 5), here on any schedule:""")
    return


@app.cell
def _():
    story.source(
        predict_f,
        r"""And the training: $D(x;\sigma) = c_\text{skip}\,x + c_\text{out}\,F(c_\text{in}\,x)$ (eq. 7), with levels from
$\ln\sigma \sim N(-1.2, 1.2^2)$. Input and target of $F$ have variance 1 at every level, so nothing is left for the network to scale.""",
    )
    return


@app.cell
def _():
    _sigmas = (0.01, 0.1, 0.5, 2.0, 20.0)
    _data = 0.5
    _rows = [(s, _data**2 / (s**2 + _data**2), s * _data / math.hypot(s, _data)) for s in _sigmas]
    _target = [((1 - skip) ** 2 * _data**2 + skip**2 * s**2) / out**2 for s, skip, out in _rows]
    story.md(
        "For data of standard deviation 0.5:\n\n| noise | c_skip | c_out | variance of the target of F |\n|---|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(f"| {s:g} | {skip:.4f} | {out:.4f} | {v:.4f} |" for (s, skip, out), v in zip(_rows, _target, strict=True)),
        said=story.measured(
            max(abs(v - 1) for v in _target) < 1e-6 and _rows[0][1] > 0.99 and _rows[-1][1] < 0.01,
            "At little noise the input passes through and the network adds a small correction; at much noise it makes everything itself.",
            "These coefficients do not do what they are for.",
        ),
    )
    return


@app.cell
def _():
    story.derivations("edm")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    Any solver, any number of evaluations. Order is a promise about *many* steps: look for the number from which a higher order pays. Churn
    adds noise on the way (Heun only); try it with few evaluations and with many.
    """)
    return


@app.cell
def _():
    solver = mo.ui.radio(["ddim", "dpmpp-2m", "dpmpp-3m", "unipc", "heun"], value="dpmpp-2m", label=tr("solver"), inline=True)
    solver
    return (solver,)


@app.cell
def _():
    evaluations = mo.ui.slider(4, 64, value=10, label=tr("evaluations"), show_value=True)
    churn = mo.ui.slider(0, 40, value=0, label=tr("churn of Heun"), show_value=True)
    mo.hstack([evaluations, churn], justify="start", wrap=True)
    return churn, evaluations


@app.cell
def _(churn, evaluations, mixture, real, solved, solver):
    _options = f"&churn={churn.value}" if solver.value == "heun" and churn.value else ""
    _runs, _words = {}, []
    for _grid in ("even", "log-snr", "karras"):
        _states, _error = solved(f"{solver.value}?grid={_grid}{_options}", evaluations.value)
        _runs[tr("grid {name}", name=_grid)] = _states
        _nll = float(-mixture.log_prob(_states[-1]).mean())
        _words.append(f"| {_grid} | {_error:.4f} | {_nll:.2f} |")
    mo.vstack([
        mo.ui.anywidget(Scrubber.of(_runs, real, start=1.0)),
        story.md(
            "| grid | distance from the exact solution | negative log likelihood, nats |\n|---|---|---|\n{rows}\n\n"
            "(With churn there is no one solution to be near to: read the likelihood then.)", rows="\n".join(_words),
        ),
    ])
    return


@app.cell
def _():
    story.md("""
    ## Which order is it?

    Twice the steps divide the error by $2^p$ for a solver of order $p$. Measured on the ring, on the grid that is even in log SNR:
    """)
    return


@app.cell
def _(denoise, exact, noise, process):
    _names = {"ddim": 1, "dpmpp-2m": 2, "heun": 2}
    _orders, _rows = {}, []
    for _name in _names:
        _e = [float((run(f"{_name}?grid=log-snr", process, denoise, noise[:200], steps=n) - exact[:200]).square().sum(1).mean().sqrt())
              for n in (40, 80)]
        _orders[_name] = math.log2(_e[0] / _e[1])
        _rows.append(f"| {_name} | {_e[0]:.5f} | {_e[1]:.5f} | {_orders[_name]:.2f} |")
    story.md(
        "| solver | error, 40 steps | 80 steps | order |\n|---|---|---|---|\n{rows}\n\n{said}",
        rows="\n".join(_rows),
        said=story.measured(
            all(abs(_orders[name] - order) < 0.5 for name, order in _names.items()),
            "First order for DDIM, second for 2M and Heun, as derived above.",
            "Not every one has the order that is derived above at these numbers of steps.",
        ),
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
    _verdict = judge(CLAIMS["solvers/third-order"], seeds=1, fast=True)
    mo.callout(story.md(
        "`solvers/third-order`, *The multistep solver that is published as of third order converges with order 3.* Its curvature lacks a factor 2, so the "
        "order is 2; with it (`dpmpp-3m`) the order is 3. Measured just now: order **{published:.2f}** as published, **{mended:.2f}** with the factor.",
        published=_verdict.mean("published: order"), mended=_verdict.mean("mended: order"),
    ), kind="warn")
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
    story.program("edm")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Does a fast solver need another training?",
                "No. It solves the same ODE with the same network; only where and how often the network is evaluated changes.",
            ),
            (
                "Why is DDIM a first-order method although it is exact for a constant prediction of the data?",
                r"It holds $\hat x_0$ over the whole step. How $\hat x_0$ changes on the way is neglected, and that is of the order of the step.",
            ),
            (
                "When is the reverse SDE, or churn, worth its noise?",
                "With many steps: fresh noise forgets the errors of earlier steps and of the network. With few, its own error is larger.",
            ),
            (
                "What does EDM's preconditioning change about the best denoiser?",
                "Nothing: it is the same posterior mean. The network that has to represent it sees and returns numbers of unit variance.",
            ),
        ],
        "edm",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The papers: arXiv 2211.01095 (DPM-Solver++) and 2206.00364 (EDM); codes: LuChengTHU/dpm-solver, NVlabs/edm.
    - UniPC (arXiv 2302.04867) corrects each step by the evaluation that the next one needs anyway; DEIS (2204.13902) integrates eps.
    - Which solver, which grid, measured on trained models: `docs/samplers.md`. EDM's training beside flow matching: `docs/edm_flow.md`.
    - `sfumato sample edm/fashion --sampler "heun?churn=20" --steps 40`; `sfumato train edm/digits`.
    """)
    return


@app.cell
def _():
    story.links("edm")
    return


if __name__ == "__main__":
    app.run()
