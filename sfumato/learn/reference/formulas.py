"""Every formula of the path in the notation of docs/notation.md, with each paper's own beside it and the code that has it.

`python scripts/write_reference.py` prints it as docs/formulas.md.
"""

from __future__ import annotations

from typing import NamedTuple

from sfumato.learn.languages import tr


class Formula(NamedTuple):
    """A row.

    Attributes:
        what: in words.
        ours: TeX, in one notation.
        papers: the same in the papers' symbols, with their equation numbers.
        code: dotted names below `sfumato`.
        derived: the key of its derivation in the lessons, or none.
    """

    what: str
    ours: str
    papers: str
    code: str
    derived: str = ""


SYMBOLS = r"""
$x_0$ data, $x_t$ noisy data, $\epsilon, z \sim N(0, I)$ noise; $\alpha_t, \sigma_t$ signal and noise of level $t$;
$\lambda = \sigma/\alpha$; $\mathrm{SNR} = \alpha^2/\sigma^2$; $s < t$ is the next level down; $\hat x_0, \hat\epsilon$ what a network
predicts; $\Sigma$ the variance of a reverse step; $f, g$ drift and diffusion. A prime is a derivative by time.

**One letter, many things.** $\alpha_t$: here the signal, $\sqrt{\bar\alpha_t}$ of DDPM, $\sqrt{\alpha_t}$ of DDIM; in NCSN a step size.
$\sigma_t$: here the noise in $x_t$; in DDPM and DDIM the deviation of a reverse step ($\sqrt\Sigma$, $\varsigma$). $\epsilon$: noise; in NCSN the
unit of the step size. $\lambda$: here $\sigma/\alpha$, what EDM calls $\sigma$; a weight in NCSN and Score-SDE; $\log\mathrm{SNR} = -2\log(\sigma/\alpha)$
in simple diffusion, and half of it, $\log(\alpha/\sigma)$, in DPM-Solver and in the lesson on fast solvers; $\gamma$ of VDM is $-\log\mathrm{SNR}$. The
formulas of fast solvers below have $\ell = \tfrac12\log\mathrm{SNR}$ in its place. $s$: a level, a score, a scale of guidance. $v$: a prediction, a
random probe, the variance of data, the velocity of a single line. $u$: the velocity of a flow; of a mean flow, its average.
"""

SECTIONS: dict[str, tuple[Formula, ...]] = {
    "Forward: from data to noise": (
        Formula("noisy data", r"$x_t = \alpha_t x_0 + \sigma_t\epsilon$",
                r"$\sqrt{\bar\alpha_t}\,x_0 + \sqrt{1-\bar\alpha_t}\,\epsilon$ (DDPM 4); $\sqrt{\alpha_t}\,x_0 + \sqrt{1-\alpha_t}\,\epsilon$ (DDIM 4); $\tilde x = x + \sigma z$ (NCSN)",
                "core.schedules.Level.noise", "ddpm.marginal"),
        Formula("one step", r"$x_t = \alpha_{t\mid s}\,x_s + \sigma_{t\mid s}\,z$, $\ \alpha_{t\mid s} = \alpha_t/\alpha_s$, $\ \sigma_{t\mid s}^2 = \sigma_t^2 - \alpha_{t\mid s}^2\sigma_s^2$",
                r"$\sqrt{1-\beta_t}\,x_{t-1} + \sqrt{\beta_t}\,z$ (DDPM 2, Score-SDE 10); $x_{i-1} + \sqrt{\sigma_i^2-\sigma_{i-1}^2}\,z$ (Score-SDE 8)",
                "core.processes.GaussianDiffusion.between", "ddpm.marginal"),
        Formula("table of betas", r"$\alpha_t^2 = \prod_{i\le t}(1-\beta_i)$, $\ \beta_t = \sigma_{t\mid t-1}^2$", r"$\bar\alpha_t$ (DDPM 4); $\alpha_t$ (DDIM)",
                "core.schedules.from_betas", "ddpm.marginal"),
        Formula("cosine schedule", r"$\alpha_t^2 = \cos^2\big(\frac{t/T+s}{1+s}\frac\pi2\big)/\cos^2\big(\frac{s}{1+s}\frac\pi2\big)$", r"$\bar\alpha_t = f(t)/f(0)$ (Improved DDPM 17)",
                "core.betas.cosine_betas", "iddpm.schedule"),
        Formula("a bit after t steps", r"$q(x_t = 1 \mid x_0) = \tfrac12 + (x_0 - \tfrac12)\prod_{i\le t}(1-\beta_i)$", "DPM, appendix B.2",
                "core.dpm2015.binomial.BinomialDiffusion.marginal", "bits.marginal"),
        Formula("posterior", r"$\tilde\mu = \frac{\alpha_{t\mid s}\sigma_s^2}{\sigma_t^2}x_t + \frac{\alpha_s\sigma_{t\mid s}^2}{\sigma_t^2}x_0$, $\ \tilde\beta = \frac{\sigma_{t\mid s}^2\sigma_s^2}{\sigma_t^2}$",
                r"$\frac{\sqrt{\bar\alpha_{t-1}}\beta_t}{1-\bar\alpha_t}x_0 + \frac{\sqrt{\alpha_t}(1-\bar\alpha_{t-1})}{1-\bar\alpha_t}x_t$, $\frac{1-\bar\alpha_{t-1}}{1-\bar\alpha_t}\beta_t$ (DDPM 7)",
                "core.processes.GaussianDiffusion.posterior", "ddpm.posterior"),
    ),
    "What a network predicts": (
        Formula("Tweedie's formula", r"$\nabla\log p(x_t) = \frac{\alpha_t\,\mathbb{E}[x_0 \mid x_t] - x_t}{\sigma_t^2} = -\frac{\mathbb{E}[\epsilon \mid x_t]}{\sigma_t}$",
                r"$s_\theta = -\epsilon_\theta/\sqrt{1-\bar\alpha_t}$ (ADM 11)", "core.denoisers.Prediction.score", "noise.tweedie"),
        Formula("clean data from noise", r"$\hat x_0 = (x_t - \sigma_t\hat\epsilon)/\alpha_t$", r"DDPM 15; $f_\theta^{(t)}(x_t)$ (DDIM 9)", "core.denoisers.predict_eps", "noise.conversions"),
        Formula("v", r"$v = \alpha\epsilon - \sigma x_0$, $\ \hat x_0 = \frac{\alpha x - \sigma v}{\alpha^2+\sigma^2}$, $\ \hat\epsilon = \frac{\sigma x + \alpha v}{\alpha^2+\sigma^2}$",
                "Salimans and Ho 2022, appendix D", "core.denoisers.predict_v", "noise.conversions"),
        Formula("the noisy mean of DDPM", r"$\tilde\mu = \frac{1}{\alpha_{t\mid s}}\big(x_t - \frac{\sigma_{t\mid s}^2}{\sigma_t}\hat\epsilon\big)$",
                r"$\frac{1}{\sqrt{\alpha_t}}\big(x_t - \frac{\beta_t}{\sqrt{1-\bar\alpha_t}}\epsilon_\theta\big)$ (DDPM 11)", "core.variances.reverse", "ddpm.simple"),
    ),
    "Losses and bounds": (
        Formula("simple loss", r"$\mathbb{E}\,\|\epsilon - \hat\epsilon\|^2$", r"$L_\text{simple}$ (DDPM 14); $L_\gamma$, $\gamma = 1$ (DDIM 5)", "core.losses.simple", "ddpm.simple"),
        Formula("score matching", r"$\mathbb{E}\big[\operatorname{tr}\nabla s + \tfrac12\|s\|^2\big]$", "NCSN 1", "core.matching", "ncsn.score_matching"),
        Formula("sliced score matching", r"$\mathbb{E}\big[v^\top(\nabla s)\,v + \tfrac12\|s\|^2\big]$", "NCSN 3; Song et al. 2019, eq. 8", "core.matching.sliced", "ncsn.sliced"),
        Formula("denoising score matching", r"$\lambda\,\mathbb{E}\,\|s + \epsilon/\sigma\|^2$", r"$\tfrac12\mathbb{E}\|s_\theta + (\tilde x - x)/\sigma^2\|^2$ (NCSN 5, 6); Score-SDE 7",
                "core.matching.denoising", "ncsn.denoising"),
        Formula("variational bound", r"$\mathbb{E}\big[D_\text{KL}(q(x_T \mid x_0)\|p) + \sum_{t>1} D_\text{KL}(q(x_s \mid x_t,x_0)\|p(x_s \mid x_t)) - \log p(x_0 \mid x_1)\big]$",
                r"$L_T + \sum L_{t-1} + L_0$ (DDPM 5); $-K$ (DPM 14)", "core.likelihood.variational_bound", "ddpm.bound"),
        Formula("a level's share of it", r"$\tfrac12\big(\frac{\mathrm{SNR}(s)}{\mathrm{SNR}(t)} - 1\big)\,\|\epsilon - \hat\epsilon\|^2$, for $\Sigma = \tilde\beta$",
                r"$\frac{\beta_t^2}{2\sigma_t^2\alpha_t(1-\bar\alpha_t)}\|\epsilon - \epsilon_\theta\|^2$ (DDPM 12)", "core.losses", "ddpm.simple"),
        Formula("rate and distortion", r"$R = \tfrac12\int_0^{\mathrm{SNR}} D\,d\rho$, $\ D = \mathbb{E}\,\|x_0 - \hat x_0\|^2$", "DDPM, section 4.3", "core.likelihood.Bound.rate", "ddpm.rate"),
        Formula("entropy of a reverse step", r"$H(x_t \mid x_s) + H(x_s \mid x_0) - H(x_t \mid x_0) \le H(x_s \mid x_t) \le H(x_t \mid x_s)$", "DPM, section 2.6", "core.dpm2015.binomial.Bernoulli.entropy", "bits.entropies"),
        Formula("hybrid loss", r"$L_\text{simple} + \lambda L_\text{vlb}(\operatorname{sg}[\mu], \Sigma)$, $\lambda = 0.001$", "Improved DDPM 16", "core.likelihood", "iddpm.hybrid"),
        Formula("sampling of levels", r"$p_t \propto \sqrt{\mathbb{E}[L_t^2]}$", "Improved DDPM 18", "core.times", "iddpm.importance"),
    ),
    "Steps towards data": (
        Formula("ancestral step", r"$N(\tilde\mu(x_t, \hat x_0),\ \Sigma)$", r"algorithm 2 (DDPM); $\Sigma = \sigma_t^2$ there", "samplers.ancestral", "ddpm.algorithms"),
        Formula("learned variance", r"$\log\Sigma = v\log\sigma_{t\mid s}^2 + (1-v)\log\tilde\beta$", r"$\exp(v\log\beta_t + (1-v)\log\tilde\beta_t)$ (Improved DDPM 15)", "core.variances.learned_range", "iddpm.range"),
        Formula("DDIM", r"$x_s = \alpha_s\hat x_0 + \sqrt{\sigma_s^2 - \varsigma^2}\,\hat\epsilon + \varsigma z$, $\ \varsigma = \eta\tilde\beta^{1/2}$",
                r"$\sqrt{\alpha_{t-1}}f_\theta + \sqrt{1-\alpha_{t-1}-\sigma_t^2}\,\epsilon_\theta + \sigma_t z$ (DDIM 12, 16)", "samplers.ddim.DDIMStep", "ddim.step"),
        Formula("DDIM's ODE", r"$d(x/\alpha) = \hat\epsilon\,d\lambda$", r"$d\bar x = \epsilon_\theta(\bar x/\sqrt{\sigma^2+1})\,d\sigma$ (DDIM 14)", "samplers.ddim", "ddim.ode"),
        Formula("Langevin step", r"$x + d\,s(x) + \sqrt{2d}\,z$", r"$x + \frac{\alpha_i}2 s_\theta + \sqrt{\alpha_i}\,z$ (NCSN, algorithm 1); $x + \alpha_i s_\theta + \sqrt{2\alpha_i}\,z$ (NCSNv2)",
                "samplers.langevin.LangevinStep", "ncsn.langevin"),
        Formula("first noise", r"$\sigma_1 = \max_{i,j}\|x^{(i)} - x^{(j)}\|$", "NCSNv2, technique 1", "core.techniques.largest_distance", "ncsnv2.first"),
        Formula("ratio of levels", r"$\Phi(\sqrt{2D}(\gamma-1)+3\gamma) - \Phi(\sqrt{2D}(\gamma-1)-3\gamma) = 0.5$", "NCSNv2, technique 2", "core.techniques.ratio_of_levels", "ncsnv2.ratio"),
        Formula("variance after T moves", r"$(1-r)^{2T}(\gamma^2 - V^*) + V^*$, $\ V^* = \frac{2}{2-r}$, $\ r = \epsilon/\sigma_L^2$",
                r"$s_T^2/\sigma_i^2$ (NCSNv2, proposition 3)", "core.techniques.variance_ratio", "ncsnv2.step"),
        Formula("a factor r(x)", r"$\mu + \Sigma\,\nabla\log r(\mu)$", "DPM 61; ADM, algorithm 1", "core.dpm2015.products", "spiral.gaussian"),
    ),
    "Continuous time": (
        Formula("SDE", r"$dx = f\,x\,dt + g\,dw$, $\ f = \alpha'/\alpha$, $\ g^2 = (\sigma^2)' - 2(\alpha'/\alpha)\sigma^2$", "Score-SDE 5", "core.schedules.Continuous.drift_diffusion", "score_sde.kernels"),
        Formula("VE", r"$\alpha = 1$, $\ f = 0$, $\ g^2 = (\sigma^2)'$", "Score-SDE 9, 30, 31", "core.continuous.VE", "score_sde.forward"),
        Formula("VP", r"$\alpha = e^{-B/2}$, $\ \sigma^2 = 1 - e^{-B}$, $\ f = -\tfrac12\beta$, $\ g^2 = \beta$", "Score-SDE 11, 32, 33", "core.continuous.VP", "score_sde.kernels"),
        Formula("sub-VP", r"$\alpha = e^{-B/2}$, $\ \sigma = 1 - e^{-B}$, $\ g^2 = \beta(1 - e^{-2B})$", "Score-SDE 12, 34, 35", "core.continuous.SubVP", "score_sde.kernels"),
        Formula("reverse SDE", r"$dx = [f x - g^2\nabla\log p_t]\,dt + g\,d\bar w$", "Score-SDE 6", "samplers.reverse_sde", "score_sde.reverse"),
        Formula("reverse SDE given y", r"$dx = [f x - g^2\nabla\log p_t(x) - g^2\nabla\log p_t(y \mid x)]\,dt + g\,d\bar w$", "Score-SDE 14", "core.guidance", "score_sde.conditional"),
        Formula("probability flow", r"$dx/dt = f x - \tfrac12 g^2\nabla\log p_t = \alpha'\hat x_0 + \sigma'\hat\epsilon$", "Score-SDE 13", "core.ode.probability_flow", "score_sde.flow"),
        Formula("its likelihood", r"$\log p_0(x_0) = \log p_T(x_T) + \int_0^T\nabla\cdot\tilde f\,dt$", "Score-SDE 39", "core.likelihood.flow_log_prob", "score_sde.likelihood"),
        Formula("divergence", r"$\mathbb{E}_v[v^\top(\nabla\tilde f)\,v]$", "Score-SDE 40", "core.likelihood", "score_sde.likelihood"),
    ),
    "Guidance and measuring": (
        Formula("guided mean", r"$\mu + s\,\Sigma\,\nabla\log p(y \mid x_t)$", "ADM, algorithm 1", "core.guidance.classifier_gradient", "adm.taylor"),
        Formula("guided noise", r"$\hat\epsilon - s\,\sigma_t\nabla\log p(y \mid x_t)$", r"$\epsilon_\theta - s\sqrt{1-\bar\alpha_t}\,\nabla\log p_\phi$ (ADM 14)", "core.guidance.score_shifted", "adm.score"),
        Formula("without a classifier", r"$\hat\epsilon(x_t) + s\,(\hat\epsilon(x_t, y) - \hat\epsilon(x_t))$", r"$(1+w)\,\epsilon_\theta(z, c) - w\,\epsilon_\theta(z)$ (Ho and Salimans 6), $s = 1 + w$",
                "core.guidance.classifier_free", "adm.classifier_free"),
        Formula("Fréchet distance", r"$\|\mu_1-\mu_2\|^2 + \operatorname{tr}(C_1 + C_2 - 2(C_1C_2)^{1/2})$", "Heusel et al. 2017", "evaluate.distances.frechet_distance", "measuring.frechet"),
        Formula("kernel distance", r"$\mathbb{E}k(x,x') + \mathbb{E}k(y,y') - 2\,\mathbb{E}k(x,y)$", r"$\mathrm{MMD}^2$, KID (Bińkowski et al. 2018)", "evaluate.distances.kernel_distance", "measuring.floor"),
    ),
    "Fast solvers and EDM": (
        Formula("half the log SNR", r"$\ell = \tfrac12\log\mathrm{SNR} = \log\frac\alpha\sigma = -\log\lambda$",
                r"$\lambda_t$ (DPM-Solver++, section 2); $\log\mathrm{SNR} = 2\ell$ is $\lambda$ in simple diffusion, $-\gamma$ in VDM", "core.schedules.Schedule.log_snr", "edm.exponential"),
        Formula("the flow, its linear part solved", r"$x_s = \frac{\sigma_s}{\sigma_t}x_t + \alpha_s\int_{\ell_t}^{\ell_s} e^{-(\ell_s-\ell)}\,\hat x_0\,d\ell$", "DPM-Solver++ 8",
                "samplers.dpm_solver", "edm.exponential"),
        Formula("2M", r"$x_s = \frac{\sigma_s}{\sigma_t}x_t + \alpha_s(1-e^{-h})\big[D + \frac{D-D'}{2r}\big]$, $\ h = \ell_s-\ell_t$, $\ r = h'/h$",
                "DPM-Solver++, algorithm 2", "samplers.dpm_solver.DPMSolverPP2M", "edm.multistep"),
        Formula("preconditioning", r"$\hat x_0 = \frac{\sigma_d^2}{\sigma^2+\sigma_d^2}x + \frac{\sigma\sigma_d}{\sqrt{\sigma^2+\sigma_d^2}}F$, for $\alpha = 1$",
                r"$c_\text{skip}\,x + c_\text{out}F_\theta(c_\text{in}\,x;\ c_\text{noise})$ (EDM 7)", "core.denoisers.predict_f", "edm.preconditioning"),
        Formula("Karras grid", r"$\sigma_i = \big(\sigma_\text{max}^{1/\rho} + \frac{i}{n-1}(\sigma_\text{min}^{1/\rho} - \sigma_\text{max}^{1/\rho})\big)^\rho$", "EDM 5",
                "samplers.grids.karras", "edm.grid"),
        Formula("churn", r"$\hat\sigma = (1+\gamma)\sigma$, $\ \hat x = x + \sqrt{\hat\sigma^2-\sigma^2}\,z$, $\ \gamma = \min(S_\text{churn}/n, \sqrt2-1)$", "EDM, algorithm 2",
                "samplers.heun.ChurnStep", "edm.churn"),
    ),
    "Flow matching": (
        Formula("straight path", r"$x_t = (1-t)x_0 + t\epsilon$: $\alpha = 1-t$, $\sigma = t$", r"$tX_1 + (1-t)X_0$, with $X_1$ the data (Liu et al. 1)", "core.continuous.LinearFlow", "flow.velocity"),
        Formula("velocity", r"$u = \mathbb{E}[\epsilon - x_0 \mid x_t]$, $\ \hat x_0 = x - t\,u$, $\ \hat\epsilon = x + (1-t)\,u$", "Lipman et al., theorem 1", "core.denoisers.predict_u", "flow.marginal"),
        Formula("conditional flow matching", r"$\mathbb{E}\|\hat u - (\epsilon - x_0)\|^2 = \mathbb{E}\|\hat u - u\|^2 + \text{const}$", "Lipman et al., theorem 2", "papers.flow_matching", "flow.conditional"),
        Formula("Euler's step", r"$x_s = x_t - (t-s)\,u$, which is DDIM's", "Liu et al., section 2.2", "samplers.ddim", "flow.euler"),
        Formula("logit-normal times", r"$\operatorname{logit} t = \log\lambda \sim N(m, s^2)$", r"Esser et al. 19; $\ln\sigma \sim N(P_\text{mean}, P_\text{std}^2)$ (EDM)", "core.times.LogNormal", "flow.times"),
        Formula("shift", r"$t' = \frac{c\,t}{1+(c-1)t}$, $\ \lambda' = c\lambda$", r"Esser et al. 23; $\log\mathrm{SNR} - 2\log c$", "core.continuous.LinearFlow", "flow.times"),
        Formula("straightness", r"$\int_0^1\mathbb{E}\|(z_1 - z_0) - u(z_t, t)\|^2dt$", r"$S(Z)$ (Liu et al.)", "core.reflow.straightness", "flow.reflow"),
        Formula("SDE of a path", r"$dx = \big[u - \tfrac12 w\nabla\log p_t\big]dt + \sqrt w\,d\bar w$, any $w(t) \ge 0$", "SiT 4", "samplers.sit.SiTStep", "flow.sde"),
    ),
    "Few steps": (
        Formula("one step for two", r"$\tilde x = \frac{x_s - (\sigma_s/\sigma_t)x_t}{\alpha_s - (\sigma_s/\sigma_t)\alpha_t}$", "Salimans and Ho, algorithm 2", "core.distillation.two_step_target", "few_steps.distillation"),
        Formula("consistency", r"$\|f(x_0 + t\epsilon, t) - \operatorname{sg} f(x_0 + r\epsilon, r)\|^2$, $\ f(x, 0) = x$", r"Song et al. 2023; $r/t = 1 - n(t)/q^{k+1}$ (ECT)", "papers.consistency", "few_steps.consistency"),
        Formula("consistency sampling", r"$x \leftarrow f(x + \sigma z, \sigma)$", "Song et al. 2023, algorithm 1", "samplers.consistency.ConsistencyStep", "few_steps.multistep"),
        Formula("mean flow", r"$u = v - (t-r)\,(v\cdot\nabla_z u + \partial_t u)$, $\ z_r = z_t - (t-r)\,u$", "Geng et al. 6, 8", "core.mean_flow.mean_target", "few_steps.mean_flow"),
    ),
    "Posterior sampling": (
        Formula("posterior mean", r"$\mathbb{E}[x_0 \mid x_t, y] = \hat x_0 + \frac{\sigma_t^2}{\alpha_t}\nabla\log p(y \mid x_t)$", "Score-SDE 14; DPS 6, 7", "inverse.posterior", "inverse.bayes"),
        Formula("with Tweedie's covariance", r"$\hat x_0 + VA^\top(\sigma_y^2I + AVA^\top)^{-1}(y - A\hat x_0)$, $\ V = \frac{\sigma_t^2}{\alpha_t}\nabla\hat x_0$", "MMPS 13 to 15", "inverse.derivatives.MMPS", "inverse.gaussian"),
        Formula("with one variance", r"$r_t^2 = \frac{\sigma_t^2}{\alpha_t^2+\sigma_t^2}$ for $V$ inside the inverse", "PiGDM 7", "inverse.derivatives.PiGDM", "inverse.gaussian"),
        Formula("with a point", r"$x_s \leftarrow x_s - \zeta\nabla_{x_t}\|y - A(\hat x_0)\|$", "DPS, algorithm 1", "inverse.derivatives.DPSStep", "inverse.dps"),
        Formula("replacement", r"$a_s = \alpha_s y + \sigma_s z$ for the known part", "Score-SDE, appendix I.2", "inverse.replacing.Replacement", "inverse.replacement"),
    ),
    "Latents, cascades, control": (
        Formula("a linear first stage", r"$\mathbb{E}\|x-\hat x\|^2 \ge \sum_{i>k}\lambda_i$, eigenvalues of the covariance", "principal components", "networks.autoencoder", "latents.linear"),
        Formula("a smaller noisy picture", r"$\sigma \to \sigma/k$ by means over $k \times k$ pixels: $\log\mathrm{SNR} + 2\log k$", "Hoogeboom et al. 2023, section 3.1", "core.continuous.Shifted", "latents.shrinking"),
        Formula("zero convolution", r"$F(x) + w\,G(x,c) + b$, $\ w = b = 0$ at first", "Zhang et al. 2023, section 3.1", "networks.control.Controlled", "latents.zero"),
        Formula("adaLN-Zero", r"$h + g\odot\mathrm{Attn}\big((1+\gamma)\odot\mathrm{LN}(h)+\beta\big)$, $\ g = 0$ at first", "Peebles and Xie, section 3.2", "networks.tokens.Block", "latents.adaln"),
    ),
}  # fmt: skip


def page(lessons: bool = True) -> str:
    """The page as Markdown; with links to the derivations where it is shown beside the lessons."""
    parts = [
        tr(
            "# All formulas\n\nIn one notation, with each paper's own beside it. Numbers are equations. Which codes call it what is in\n{notation}; the words are in {words}. `sfumato learn` derives each of them.\n",
            notation="docs/notation.md" if lessons else "[notation.md](notation.md)",
            words=f"[{tr('the glossary')}](/lesson/glossary/)" if lessons else "[glossary.md](glossary.md)",
        ),
        tr(SYMBOLS),
    ]
    for title, rows in SECTIONS.items():
        names = tr("| | in one notation | in the papers | in `sfumato` | derived |")
        parts.append(f"\n## {tr(title)}\n\n{names}\n|:--|:--|:--|:--|:--|")
        parts += [
            f"| {tr(row.what)} | {_cell(row.ours)} | {_cell(tr(row.papers))} | `{row.code}` | {_where(row.derived, lessons)} |"
            for row in rows
        ]
    return "\n".join(parts) + "\n"


def _cell(tex: str) -> str:
    """TeX whose norms have no bars, which would end a cell of the table."""
    return tex.replace(r"\|", r"\Vert{}")


def _where(key: str, lessons: bool) -> str:
    lesson = key.split(".")[0]
    return f"[{lesson}](/lesson/{lesson}/#{key.replace('.', '-')})" if lessons else lesson
