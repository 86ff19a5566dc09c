import marimo

app = marimo.App(width="medium", css_file="lesson.css", html_head_file="lesson.html", app_title="Flow matching: straight lines from noise to data")

with app.setup:
    import marimo as mo
    import torch

    import sfumato
    from sfumato.claims.toys import all_states, normal, ring, seeded
    from sfumato.core.continuous import Cosine, LinearFlow
    from sfumato.core.denoisers import predict_u
    from sfumato.core.pairing import paired
    from sfumato.core.processes import GaussianDiffusion
    from sfumato.core.reflow import straightness
    from sfumato.learn import story
    from sfumato.learn.checks.flow import EXERCISES
    from sfumato.learn.languages import tr
    from sfumato.learn.widgets import Frames, Scrubber
    from sfumato.samplers import DDIM, SiT, by_name, run
    from sfumato.samplers.sit import SiTStep

    torch.set_num_threads(1)


@app.cell
def _():
    story.md(r"""
    # Flow matching: straight lines from noise to data

    *Flow matching for generative modeling*, Lipman, Chen, Ben-Hamu, Nickel and Le, 2023; *Flow straight and fast* (rectified flow), Liu, Gong
    and Liu, 2023.

    Forget the chain, the SDE and the score for a moment. Take a picture and a noise, draw the **straight line** between them,
    $x_t = (1-t)\,x_0 + t\,\epsilon$, and train a network to say which way the line goes, $\epsilon - x_0$, from a point on it. Then follow
    what it says, from noise to data. That is all, and it is how Stable Diffusion 3 and many large models after it
    are trained.

    It is also a diffusion model like all before: with the noise schedule $\alpha = 1-t$, $\sigma = t$.
    """)
    return


@app.cell
def _():
    story.links("flow")
    return


@app.cell
def _():
    mixture, process, cosine = ring(), GaussianDiffusion(LinearFlow()), GaussianDiffusion(Cosine())
    denoise, noise = mixture.denoise(process), normal(0, 400, 2)
    real = mixture.sample(800, torch.Generator().manual_seed(1))
    ends = run("heun", process, denoise, noise, steps=200)
    _lines = torch.stack([(1 - t) * mixture.sample(400, torch.Generator().manual_seed(2)) + t * noise for t in torch.linspace(1, 0, 41)])
    hook = mo.ui.anywidget(Scrubber.of(
        {"the lines of training": _lines, "the flow that is learned from them": all_states(noise, DDIM().plan(process, denoise, 40))},
        real, start=0.5,
    ))
    hook
    return cosine, denoise, ends, hook, mixture, noise, process, real


@app.cell
def _():
    story.md("""
    On the left every noise goes straight to a point of the data that was drawn for it without looking. On the right the same noise follows
    the velocity that the best possible network learns from such lines.

    ## Predict, then look
    """)
    return


@app.cell
def _():
    guesses = {
        "straight, so one step is enough": "That would be so if the lines did not cross.",
        "bent: lines cross, and the network learns their mean": "Yes: at a crossing it can only say where they go on average.",
        "as bent as those of the cosine schedule": "Bent, but less:",
    }
    guess = story.predict("flow", "Training knows nothing but straight lines. How straight are the paths of sampling?", guesses)
    guess
    return guess, guesses


@app.cell
def _(cosine, denoise, ends, guess, guesses, mixture, noise, process):
    def _figure():
        bend = float(straightness(noise, DDIM().plan(process, denoise, 200)).mean())
        other = mixture.denoise(cosine)
        its_ends = run("heun?grid=log-snr", cosine, other, noise, steps=200)

        def missed(diffusion, ask, truth, n):
            return float((run("ddim", diffusion, ask, noise, steps=n) - truth).square().sum(1).mean().sqrt())

        of_flow, of_cosine = ({n: missed(*given, n) for n in (2, 4, 8, 16)} for given in ((process, denoise, ends), (cosine, other, its_ends)))
        one = run("ddim", process, denoise, noise, steps=1)
        spread, wanted = (float(points.square().sum(1).mean().sqrt()) for points in (one, mixture.sample(4000, torch.Generator().manual_seed(3))))
        rows = "\n".join(f"| {n} | {of_flow[n]:.3f} | {of_cosine[n]:.3f} |" for n in of_flow)
        said = story.measured(
            bend > 0.1 and all(of_flow[n] < of_cosine[n] for n in of_flow),
            "The paths bend, but less than those of the cosine schedule: the same number of steps misses less.",
            "Here the straight lines do not help.",
        )
        ended = story.measured(
            spread < 0.05 * wanted,
            "In *one* step all points land in the middle of the ring, the mean of the data: from noise alone nothing else can be said.",
            "One step does not land in the mean of the data.",
        )
        return story.md(
            "Straightness S (the mean of |chord - velocity|^2, 0 for straight paths; Liu et al., section 3): **{bend:.2f}**. How far Euler's steps end "
            "from the exact end of the path:\n\n| steps | straight lines | cosine schedule |\n|---|---|---|\n{rows}\n\n{said} {ended}",
            bend=bend, rows=rows, said=said, ended=ended,
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
            ("time", "$t$: data at 1 (Lipman), at 0 (SD3)", "`t`: data at 0", "SiT, torchcfm: data at 1; diffusers: `sigmas`"),
            ("velocity", r"$u_t(x \mid x_1)$, $v$", "`predict_u`: $\\epsilon - x_0$", "`vt`, `model_output`"),
            ("the path", "OT path, rectified flow", "`continuous.LinearFlow`", "`CondOTProbPath`, `FlowMatchEuler`"),
            ("pairs", "coupling $(Z_0, Z_1)$", "`pairing.paired`, reflow", "`OTPlanSampler`"),
            ("noise on the way", r"$w_t$ (SiT)", "`SiT(w=...)`", "`diffusion_form`"),
        ]
    )
    return


@app.cell
def _():
    story.source(
        predict_u,
        r"""The velocity is one more reading of a denoiser; on the straight path $\hat x_0 = x - t\,u$ and $\hat\epsilon = x + (1-t)\,u$. So every sampler,
guidance, likelihood and posterior method of the path works with it as it is:""",
    )
    return


@app.cell
def _():
    story.source(
        SiTStep.__call__,
        r"""And since it has a score, $-\hat\epsilon/t$, noise may be added on the way, any amount $w(t)$ of it, with the same marginals (Ma et al. 2024):""",
    )
    return


@app.cell
def _():
    story.derivations("flow")
    return


@app.cell
def _():
    story.md("""
    ## Try it

    The flow (Euler, which is DDIM on this path) beside SiT's SDE with as many steps.
    """)
    return


@app.cell
def _():
    steps = mo.ui.slider(1, 60, value=6, label=tr("steps"), show_value=True)
    amount = mo.ui.slider(0.0, 4.0, step=0.5, value=1.0, label=tr("noise w, in units of sigma"), show_value=True)
    mo.hstack([steps, amount], justify="start", wrap=True)
    return amount, steps


@app.cell
def _(amount, denoise, mixture, noise, process, real, steps):
    _runs = {
        tr("the flow"): all_states(noise, DDIM().plan(process, denoise, steps.value)),
        tr("SiT, w = {w:g} sigma", w=amount.value): all_states(noise, SiT(scale=amount.value).plan(process, denoise, steps.value), seeded(1)),
    }
    _flow, _sit = (float(-mixture.log_prob(states[-1]).mean()) for states in _runs.values())
    _own = float(-mixture.log_prob(mixture.sample(20_000, torch.Generator().manual_seed(0))).mean())
    mo.vstack([
        mo.ui.anywidget(Scrubber.of(_runs, real, start=1.0)),
        story.md(
            "Negative log likelihood under the data's density, nats (data themselves: {own:.2f}): the flow: **{flow:.2f}**; "
            "SiT, w = {w:g} sigma: **{sit:.2f}**.", own=_own, flow=_flow, w=amount.value, sit=_sit,
        ),
    ])
    return


@app.cell
def _():
    story.md(r"""
    ## Pairs that belong together

    Lines bend because noise and data are paired blindly. Two remedies: pair them within a batch so that the sum of squared distances is least
    (**OT-CFM**); or let the trained flow make the pairs, each noise with its own end, and train again (**reflow**). Then one step from noise is
    to predict that end, which is a function of the noise. Here the second flow is as simple as can be: the mean end of the five nearest of so
    many noises whose ends are known.
    """)
    return


@app.cell
def _():
    pairs = mo.ui.slider(20, 2000, step=20, value=1000, label=tr("pairs of reflow"), show_value=True)
    pairs
    return (pairs,)


@app.cell
def _(denoise, ends, mixture, noise, pairs, process, real):
    _z = normal(7, pairs.value, 2)
    _ends = run("heun", process, denoise, _z, steps=60)
    _near = torch.cdist(noise, _z).topk(5, largest=False).indices
    _one = {tr("first flow, one step"): run("ddim", process, denoise, noise, steps=1), tr("after reflow, one step"): _ends[_near].mean(1)}
    _first, _second = (float((points - ends).square().sum(1).mean().sqrt()) for points in _one.values())
    _x0, _eps = mixture.sample(256, torch.Generator().manual_seed(4)), normal(5, 256, 2)
    _blind, _batch = (float((_x0 - eps).square().sum(1).mean()) for eps in (_eps, paired(_x0, _eps)))
    _own = float((ends - noise).square().sum(1).mean())
    mo.vstack([
        mo.ui.anywidget(Scrubber.of({name: torch.stack([noise, points]) for name, points in _one.items()}, real, start=1.0)),
        story.md(
            "Root mean square distance from the end of the exact flow: first flow, one step: **{first:.3f}**; after reflow, one step: **{second:.3f}**. {said}\n\n"
            "| pairs | mean squared distance of noise and data |\n|---|---|\n| independent | {blind:.2f} |\n| optimal in a batch of 256 | {batch:.2f} |\n"
            "| noise and its end | {own:.2f} |\n\n{near}",
            first=_first, second=_second, blind=_blind, batch=_batch, own=_own,
            said=story.measured(_second < _first / 3, "One step after reflow is at most a third as far off.", "So few pairs are not enough."),
            near=story.measured(
                _own < 1.2 * _batch,
                "The flow's own pairs are about as near to each other as the best pairs of a batch.", "The flow's own pairs are farther apart than a batch's.",
            ),
        ),
    ])
    return


@app.cell
def _():
    story.md("""
    ## On pictures

    The shipped `flow/fashion`, six noises, by Euler's steps:
    """)
    return


@app.cell
def _():
    model = sfumato.load("flow/fashion")
    _ask, _diffusion = model.denoiser(), model.diffusion.gaussian
    _z = normal(1, 6, 1, 28, 28).float()
    with torch.inference_mode():
        _made = {n: run("ddim", _diffusion, _ask, _z, steps=n) for n in (1, 2, 4, 8)}
        _made["2M, 10"] = run("dpmpp-2m?grid=karras", _diffusion, _ask, _z, steps=10)
        _bend = float(straightness(_z, by_name("ddim").plan(_diffusion, _ask, 10)).mean())
    _apart = {n: float(x.flatten(1).std(0).mean()) for n, x in _made.items()}
    mo.vstack([
        mo.ui.anywidget(Frames.of(
            {tr("{n} steps", n=n): torch.cat([*(x.clamp(-1, 1) * 127.5 + 127.5).round().to(torch.uint8)], dim=2)[None]
             for n, x in _made.items()}, start=1.0)),
        story.md(
            "Straightness **{bend:.3f}**. How much the six differ (standard deviation of a pixel): 1: **{one:.2f}**, 2: **{two:.2f}**, 4: **{four:.2f}**, "
            "8: **{eight:.2f}**, 2M, 10: **{multistep:.2f}**. {said}",
            bend=_bend, one=_apart[1], two=_apart[2], four=_apart[4], eight=_apart[8], multistep=_apart["2M, 10"],
            said=story.measured(
                _apart[1] < 0.3 * _apart["2M, 10"],
                "One step gives the same blurred mean to every noise, as on the ring.", "One step does not give one and the same mean here.",
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
    story.program("flow")
    return


@app.cell
def _():
    story.quiz(
        [
            (
                "Is flow matching another kind of model than diffusion?",
                "With Gaussian noise it is a diffusion model with the schedule (1 - t, t), a velocity as the network's output, and its own weight "
                "on the levels. It is more general where the noise is not Gaussian, or pairs are given.",
            ),
            (
                "Why is the conditional loss allowed to use single lines?",
                "Its minimum in the square is the conditional mean of their directions, which is the velocity of the marginal path.",
            ),
            (
                "What does reflow cost?",
                "Pairs by the first model, another training, and whatever the first model got wrong: the second learns the first's pictures, not the data.",
            ),
        ],
        "flow",
    )
    return


@app.cell
def _():
    story.md("""
    ## Read on

    - The papers: arXiv 2210.02747 (flow matching), 2209.03003 (rectified flow), 2401.08740 (SiT), 2403.03206 (Stable Diffusion 3: times and
      shift), 2302.00482 (OT-CFM).
    - Holderrieth and Erives, *Introduction to flow matching and diffusion models* (MIT 6.S184): the same from the ODE's side.
    - Flow, EDM and DDPM at the same cost, and reflow on digits, measured: `docs/edm_flow.md`.
    - `sfumato train flow/fashion --recipe.noising optimal`; `sfumato reflow RUN --pairs 10000 --out pairs`.
    """)
    return


@app.cell
def _():
    story.links("flow")
    return


if __name__ == "__main__":
    app.run()
