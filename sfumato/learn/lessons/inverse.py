import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Inverse problems: pictures from what was seen of them")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato import inverse
    from sfumato.claims.toys import cosine, normal, ring, seeded
    from sfumato.core.denoisers import Prediction
    from sfumato.data.loader import to_float, to_uint8
    from sfumato.inverse.derivatives import DPS, MMPS
    from sfumato.inverse.posterior import Consistent
    from sfumato.learn import story
    from sfumato.learn.checks.inverse import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Scrubber
    from sfumato.models.restoration import restore

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Inverse problems: pictures from what was seen of them

    *Score-SDE*, Song and others, 2021 (appendix I); *RePaint*, Lugmayr and others, 2022; *Diffusion posterior sampling* (DPS), Chung and others,
    2023; *Pseudo-inverse guidance* (PiGDM), Song and others, 2023; *Moment matching* (MMPS), Rozet and others, 2024.

    A part of a picture is missing, or it is blurred, or too small: $y = A x_0 + n$. Many pictures fit. A diffusion model knows which are likely,
    and was never told of $A$: **can it draw from the posterior $p(x_0 \mid y)$ without further training?** Almost: one term has to be
    approximated, and the methods differ in how.

    Below, eight blobs on a ring, of which the horizontal coordinate is known to be 0.85, with an error of 0.05. Which points remain?
    """)
    return


@app.cell
def _():
    story.links("inverse")
    return


@app.cell
def _():
    mixture, process = ring(), cosine()
    denoise, noise = mixture.denoise(process), normal(0, 300, 2)
    real = mixture.sample(800, torch.Generator().manual_seed(1))
    across = inverse.Mask(torch.tensor([True, False]))

    def drawn(method, where, error, steps):
        """Points of the ring whose first coordinate was seen at `where`: the end of sampling, (300, 2)."""
        y = torch.tensor([[where, 0.0]], dtype=torch.float64).expand_as(noise)
        seen = inverse.Measurement(across, y, error)
        return inverse.run(method, process, denoise, seen, noise, sampler="ancestral", steps=steps, noise=seeded(3))

    _made = {name: drawn(name, 0.85, 0.05, 100) for name in ("replacement", "mmps")}
    _named = {"replacement": tr("replacement"), "mmps": "MMPS"}
    hook = mo.ui.anywidget(Scrubber.of({_named[name]: torch.stack([noise, points]) for name, points in _made.items()}, real, start=1.0))
    _off = {name: float((torch.cdist(points, mixture.means).min(1).values > 0.3).double().mean()) for name, points in _made.items()}
    _fits = torch.softmax(-((0.85 - mixture.means[:, 0]) ** 2) / (2 * (0.1**2 + 0.05**2)), 0)
    _third = float(_fits[0])
    _there = {name: float((torch.cdist(points, mixture.means).argmin(1) == 0).double().mean()) for name, points in _made.items()}
    mo.vstack([hook, story.md(
        "| | further than three widths from every blob | at the blob (1.2, 0) |\n|---|---|---|\n{rows}\n| by Bayes' rule | below 1 % | {third:.1%} |\n\n"
        "{blobs} {shares}",
        rows="\n".join(f"| {_named[name]} | {_off[name]:.0%} | {_there[name]:.0%} |" for name in _made), third=_third,
        blobs=story.measured(_off["mmps"] < _off["replacement"], "MMPS's points lie on blobs, many of replacement's between them.",
                             "MMPS's points are no nearer to the blobs than replacement's."),
        shares=story.measured(min(_there.values()) > 3 * _third, "But both put far too many at a third blob: on data that are no Gaussian neither is exact.",
                              "The third blob is hardly chosen by one of them, as Bayes' rule has it."),
    )])
    return denoise, drawn, hook, mixture, noise, process, real


@app.cell
def _():
    story.md("""
    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "yes, in the limit": "One would think so, since every step uses what is known.",
        "no: it stays wrong": "Yes, and by how much can be computed:",
        "it is exact already with few steps": "Far from it:",
    }
    guess = story.predict(
        "inverse",
        "Replacement puts the known part back after each step, as noisy as the level. With ever more steps, does the unknown part come from the posterior?",
        guesses,
    )
    guess
    return guess, guesses


@app.cell
def _(guess, guesses):
    def _figure():
        table, n = cosine(), 4000
        C, one = torch.tensor([[1.0, 0.9], [0.9, 1.0]], dtype=torch.float64), torch.eye(2, dtype=torch.float64)

        def exact(x, t):
            """The denoiser of two unit Gaussians with correlation 0.9."""
            level = table.level(t, x)
            x0 = x @ (level.alpha * C @ torch.linalg.inv(level.alpha**2 * C + level.sigma**2 * one)).T
            return Prediction(x, level, level.eps(x, x0), x0)

        seen = inverse.Measurement(inverse.Mask(torch.tensor([True, False])), torch.tensor([[1.0, 0.0]], dtype=torch.float64).expand(n, 2))
        found = {}
        for method, steps in (("replacement", 50), ("replacement", 200), ("repaint?rounds=5&jump=5", 100), ("dps", 100), ("pigdm", 100), ("mmps", 100)):
            points = inverse.run(method, table, exact, seen, normal(0, n, 2), sampler="ancestral", steps=steps, noise=seeded(3))[:, 1]
            found[method, steps] = float(points.mean()), float(points.var())
        rows = "\n".join(f"| {method} | {steps} | {mean:.2f} | {variance:.2f} |" for (method, steps), (mean, variance) in found.items())
        said = story.measured(
            all(found["replacement", steps][0] < 0.7 for steps in (50, 200)) and abs(found["mmps", 100][0] - 0.9) < 0.03,
            "Replacement stays at two thirds of the mean, with four times the steps as well; the unknown part sees the known one only through the denoiser. "
            "MMPS has the posterior's mean: for Gaussian data it is exact.",
            "Here the figures say something else.",
        )
        return story.md(
            "Two unit Gaussians with correlation 0.9; the first is known to be 1. Then the second is N(0.90, 0.19). What 4,000 draws make of it:\n\n"
            "| method | steps | mean | variance |\n|---|---|---|---|\n{rows}\n\n{said}", rows=rows, said=said,
        )

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
            ("what was seen", r"$y = \mathcal{A}(x_0) + n$", "`Measurement(operator, y, noise)`", "`measurement`, `physics`"),
            ("the operator and its transpose", r"$A, A^\top$", "`operator(x)`, `operator.transpose(y)`", "`A`, `A_adjoint` (deepinv)"),
            ("covariance of data given a level", r"$\mathbb{V}[x \mid x_t]$", "`tweedie` times a backward pass", "`cov_y`"),
            ("step towards the measurement", r"$\zeta$", "`DPS(scale=...)`", "`scale`"),
            ("going up and down again", "jump length, $r$", "`RePaint(jump, rounds)`", "`jump_length`, `jump_n_sample`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        Consistent.__call__,
        r"""**Replacement** (Score-SDE, appendix I): $x + A^+(\alpha y + \sigma A z - A x)$ after each step. No derivative; biased.""",
    )
    return


@app.cell
def _():
    story.source(
        MMPS.denoiser,
        r"""**MMPS** wraps the denoiser: the posterior mean given $x_t$ *and* $y$, with Tweedie's covariance $V = \frac{\sigma^2}{\alpha}\nabla\hat x_0$,

$$\hat x_0 + V A^\top\big(\sigma_y^2 I + A V A^\top\big)^{-1}(y - A\hat x_0),$$

a product with $V$ being one backward pass.""",
    )
    return


@app.cell
def _():
    story.source(
        DPS.denoiser,
        r"""**DPS** takes $\hat x_0$ for certain and goes down the gradient of $\|y - A(\hat x_0)\|$. Its step is tuned; but $A$ may be any differentiable
function.""",
    )
    return


@app.cell
def _():
    story.derivations("inverse")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    Where the horizontal coordinate was seen, and with which error. The exact posterior is known here: weights of the blobs by Bayes' rule.
    """)
    return


@app.cell
def _():
    method = mo.ui.radio(["replacement", "repaint?rounds=4&jump=4", "dps", "pigdm", "mmps"], value="pigdm", label=tr("method"), inline=True)
    method
    return (method,)


@app.cell
def _():
    where = mo.ui.slider(-1.2, 1.2, step=0.05, value=0.0, label=tr("seen at"), show_value=True)
    error = mo.ui.slider(0.02, 0.5, step=0.02, value=0.1, label=tr("error of the measurement"), show_value=True)
    mo.hstack([where, error], justify="start", wrap=True)
    return error, where


@app.cell
def _(drawn, error, method, mixture, noise, real, where):
    _points = drawn(method.value, where.value, error.value, 60)
    _v = 0.1**2 + error.value**2
    _exact = torch.softmax(-((where.value - mixture.means[:, 0]) ** 2) / (2 * _v), 0)
    _nearest = torch.cdist(_points, mixture.means).argmin(1)
    _found = torch.bincount(_nearest, minlength=8).double() / len(_points)
    _rows = "\n".join(f"| ({float(m[0]):.2f}, {float(m[1]):.2f}) | {float(e):.0%} | {float(f):.0%} |"
                      for m, e, f in zip(mixture.means, _exact, _found, strict=True) if max(e, f) > 0.005)
    mo.vstack([
        mo.ui.anywidget(Scrubber.of({method.value: torch.stack([noise, _points])}, real, start=1.0)),
        story.md(
            "| blob at | share by Bayes' rule | share of the draws that are nearest to it |\n|---|---|---|\n{rows}\n\n"
            "Total variation between the two: **{apart:.2f}**.", rows=_rows, apart=float((_exact - _found).abs().sum() / 2),
        ),
    ])
    return


@app.cell
def _():
    story.md("""
    ## On pictures

    Six garments (drawn by `flow/fashion`, so that nobody has trained on them) are shrunk to 7x7 pixels and restored by `ddpm/fashion`.
    """)
    return


@app.cell
def _():
    _truth = sfumato.load("flow/fashion").sample(6, seed=4, steps=10)
    _operator = inverse.MeanPool(4)
    _seen = _operator(to_float(_truth))
    _model = sfumato.load("ddpm/fashion")
    _named = {"truth": tr("truth"), "seen": tr("what was seen"), "replacement": tr("replacement"), "mmps": "mmps"}
    _made = {"truth": _truth, "seen": to_uint8(_operator.pinv(_seen))}
    for _name in ("replacement", "mmps"):
        _made[_name] = restore(_model, _seen, _operator, method=_name, steps=20, seed=1).draws[:, 0]
    _wrong = {name: float(((made.float() - _truth.float()) / 127.5).square().mean().sqrt()) for name, made in _made.items() if name != "truth"}
    _misfit = {name: float((_operator(to_float(_made[name])) - _seen).square().mean().sqrt()) for name in ("replacement", "mmps")}
    mo.vstack([
        mo.ui.anywidget(Frames.of({_named[name]: torch.cat([*made], dim=2)[None] for name, made in _made.items()}, start=1.0)),
        story.md(
            "| | root mean square distance from the truth | A x against what was seen |\n|---|---|---|\n{rows}\n\n"
            "{said} A draw is not meant to be the nearest picture: that is the posterior's mean, which is blurred. Many draws say what is not known "
            "(`Restored.deviation`).",
            rows="\n".join(f"| {_named[name]} | {v:.3f} | {format(_misfit[name], '.3f') if name in _misfit else ''} |" for name, v in _wrong.items()),
            said=story.measured(
                max(_misfit.values()) < 0.02 and _wrong["mmps"] < _wrong["replacement"],
                "Both agree with the 49 pixels; MMPS's draws are nearer to these six garments.",
                "Here MMPS's draws are not nearer, or one does not agree with what was seen.",
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
    story.exercise(EXERCISES[2])
    return


@app.cell
def _():
    story.program("inverse")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Which term does the trained model not know?",
                "The gradient of log p(y | x_t): it takes the whole distribution of clean data given x_t, of which the model gives the mean, and its "
                "derivative the covariance.",
            ),
            (
                "Why does replacement not become exact with more steps?",
                "The known part is noised afresh at every level, so on average the unknown part follows another drift than the posterior's.",
            ),
            (
                "When would you take DPS all the same?",
                "When A is not linear. Its scale has to be tuned, and nothing guarantees the posterior.",
            ),
            (
                "What does guidance by a classifier have to do with it?",
                "It is the same sum of scores: there log p(y | x_t) is a network that was trained on noisy pictures, here it is approximated from the denoiser.",
            ),
        ],
        "inverse",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The papers: arXiv 2011.13456 (appendix I), 2201.09865 (RePaint), 2209.14687 (DPS), PiGDM (ICLR 2023), 2405.13712 (MMPS), 2305.08995 (DiffPIR).
    - Every method and operator, and what each costs: `docs/editing.md`.
    - `sfumato edit inpaint ddpm/emoji32`, or `restore` in Python, with any model and any sampler.
    """)
    return


@app.cell
def _():
    story.links("inverse")
    return


if __name__ == "__main__":
    app.run()
