"""Files of denoising-diffusion-pytorch: the network and the sampler say what the package itself said, and back."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sfumato
from sfumato.cli import main
from sfumato.conditioning import Labels, SelfConditioned, Together
from sfumato.convert.files import ForeignError
from sfumato.convert.foreign_lucidrains import objective, schedule
from sfumato.convert.lucidrains_written import HELD, training_state
from sfumato.core.betas import sigmoid_signal_betas
from sfumato.networks.lucidrains_karras import LucidrainsKarras
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.papers.continuous import ContinuousDDPM
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.mixed import MixedDDPM
from sfumato.samplers import DDIM, Ancestral, Heun, run
from sfumato.samplers.ancestral import AncestralStep
from tests.golden.lucidrains import CASES, CONTINUOUS, ROW, SIDE, STEPS, inputs, recorded, schedule_weights, weights
from tests.models.small import made

GOLDEN = recorded()
SAID: dict[str, dict[str, Any]] = {
    "rows": {"size": ROW}, "karras rows": {"size": ROW}, "version 1.7": {"size": SIDE, "attention_norm": "rms"},
    "continuous linear": {"size": SIDE, "prediction": "eps", "betas": "linear"},
    "continuous cosine": {"size": SIDE, "prediction": "eps", "betas": "cosine"},
    "continuous learned": {"size": SIDE, "prediction": "eps"},
    "continuous v": {"size": SIDE, "prediction": "v"},
}  # fmt: skip
EXPECTED: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "noise linear": (DDPM, {"betas": "scaled-linear", "prediction": "eps", "weight": "eps", "variance": "small"}),
    "x0 cosine": (DDPM, {"betas": "cosine", "prediction": "x0", "weight": "eps"}),
    "v sigmoid": (DDPM, {"betas": "sigmoid-signal", "prediction": "v", "weight": "min-snr"}),
    "v sharper sigmoid": (DDPM, {"betas": "sigmoid-signal", "prediction": "v", "sigmoid": (0.0, 3.0, 0.5)}),
    "learned variance": (ImprovedDDPM, {"betas": "cosine", "variance": "learned_range", "prediction": "eps"}),
    "elucidated": (EDM, {"sigma_data": None, "steps": 32, "churn": 80.0}),
    "rows": (DDPM, {"shape": (3, 1, ROW), "prediction": "v", "betas": "cosine"}),
    "labels": (DDPM, {"prediction": "eps", "betas": "cosine"}),
    "fed back": (DDPM, {"shape": (3, SIDE, SIDE), "prediction": "v", "conditioning": SelfConditioned(0.5)}),
    "fed back by DDIM": (DDPM, {"shape": (1, SIDE, SIDE), "prediction": "eps", "conditioning": SelfConditioned()}),
    "continuous linear": (ContinuousDDPM, {"schedule": "linear", "prediction": "eps", "condition": "log-snr"}),
    "continuous cosine": (ContinuousDDPM, {"schedule": "cosine", "prediction": "eps", "weight": "eps"}),
    "continuous learned": (ContinuousDDPM, {"schedule": "table", "prediction": "eps"}),
    "continuous v": (ContinuousDDPM, {"schedule": "cosine", "prediction": "v", "weight": "v"}),
    "weighted objective": (MixedDDPM, {"betas": "cosine", "noise_weight": 0.1, "data_weight": 0.1}),
    "karras": (DDPM, {"prediction": "x0", "network": LucidrainsKarras(8, 32, 3, 1, (1, 2), 8, dropout=0.0)}),
    "karras fed back": (DDPM, {"prediction": "x0", "conditioning": SelfConditioned(0.5)}),
    "karras elucidated": (EDM, {"network": LucidrainsKarras(8, 12, 2, 1, (2,), 16, dropout=0.0)}),
    "karras rows": (DDPM, {"shape": (3, 1, ROW), "prediction": "x0"}),
    "version 1.9": (DDPM, {"prediction": "v", "betas": "sigmoid-signal"}),
    "version 1.7": (DDPM, {"prediction": "eps", "betas": "sigmoid-signal"}),
}


def state_of(name: str) -> dict[str, Tensor]:
    """The state dict of the package's diffusion: its tables, and the weights of the formula."""
    case = GOLDEN[name]
    held = {n: torch.tensor(value) for n, value in case["tables"].items()}
    inner: dict[str, dict[str, Any]] = {}
    for n, shape in case["shapes"].items():
        if "." in n:
            inner.setdefault(n.partition(".")[0], {})[n.partition(".")[2]] = shape
    for prefix, shapes in inner.items():
        made = schedule_weights(shapes) if prefix == "log_snr" else weights(shapes)
        held |= {f"{prefix}.{n}": value for n, value in made.items()}
    return held


def saved(name: str, folder: Path) -> Path:
    """What `Trainer.save` writes: the online weights are others, and the average is ema_pytorch's."""
    state = state_of(name)
    online = {n: value + 1 if "." in n else value for n, value in state.items()}
    ema = {"initted": torch.tensor([True]), "step": torch.tensor([7])}
    ema |= {f"online_model.{n}": value for n, value in online.items()}
    ema |= {f"ema_model.{n}": value for n, value in state.items()}
    path = folder / "model-10.pt"
    held = {"step": 10, "model": online, "opt": {"state": {}, "param_groups": [{"lr": 1e-4, "params": [0]}]},
            "ema": ema, "scaler": None, "version": "2.3.4"}  # fmt: skip
    torch.save(held, path)
    return path


def loaded(name: str, folder: Path) -> Any:
    return sfumato.load(saved(name, folder), **SAID.get(name, {"size": SIDE}))


def close(ours: Tensor, theirs: list[float], bound: float = 1e-4) -> bool:
    return torch.allclose(ours.flatten(), torch.tensor(theirs), rtol=bound, atol=bound)


@pytest.mark.parametrize("name", CASES)
def test_a_trainers_file_is_the_packages_network(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    kind, values = EXPECTED[name]
    assert type(model.recipe) is kind
    assert {field: getattr(model.recipe, field) for field in values} == values
    assert model.about["weights"] == "EMA"
    shape = model.recipe.shape
    x, t = inputs((shape[0], ROW) if "rows" in name else shape)
    y = {"y": torch.tensor([1, 4])} if name == "labels" else {}
    with torch.no_grad():
        output = model.network(seen(model, x.view(2, *shape)), t, **y)
    assert close(output, GOLDEN[name]["output"])


def seen(model: Any, x: Tensor) -> Tensor:
    """What the network sees of x where nothing was predicted before."""
    return torch.cat([x, torch.zeros_like(x)], dim=1) if model.recipe.conditioning.feeds_back else x


def theirs_in_continuous_time(process: Any, denoise: Any, x: Tensor) -> Tensor:
    """The package's even steps down to time 0, where a little noise is left; the last one draws none."""
    step, times = AncestralStep(process, denoise), torch.linspace(1, 0, STEPS + 1, dtype=torch.float64)
    for t, s in pairwise(times):
        to = step(x, t, s).to
        x = to.sample(torch.randn_like) if s > 0 else to.mean
    return x.clamp(-1, 1)


def theirs_ddim(T: int, steps: int) -> Tensor:
    """The levels of the package's ddim_sample, counted from 1; 0 is clean data."""
    return torch.linspace(-1, T - 1, steps + 1).int().flip(0).long() + 1


@pytest.mark.parametrize("name", CASES)
def test_sampling_from_the_same_noise_gives_the_packages_pictures(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    diffusion = model.recipe.build()
    labels = torch.tensor([1, 4]) if name == "labels" else None
    conditioning = model.recipe.conditioning
    denoise = conditioning.fed(
        lambda inputs: diffusion.clipped(diffusion.denoise(model.network, inputs)), conditioning.inputs(labels), (-1, 1)
    )
    torch.manual_seed(0)
    shape = model.recipe.shape
    x = torch.randn(2, shape[0], ROW).view(2, *shape) if "rows" in name else torch.randn(2, *shape)
    process, times = diffusion.gaussian, None
    if CASES[name].get("kind") in CONTINUOUS:
        with torch.no_grad():
            found = theirs_in_continuous_time(process, denoise, x)
        assert close(found / 2 + 0.5, GOLDEN[name]["sample"])
        return
    if "elucidated" in name:
        sampler: Any = Heun()
        x, times = 80 * x, torch.cat([process.schedule.times(STEPS)])
    elif "sampling_timesteps" in CASES[name]["diffusion"]:
        sampler, times = DDIM(), theirs_ddim(STEPS, CASES[name]["diffusion"]["sampling_timesteps"])
    else:
        sampler = Ancestral().of(diffusion)

    def noise(like: Tensor) -> Tensor:  # theirs is drawn without the height of 1
        return torch.randn_like(like)

    with torch.no_grad():
        found = run(sampler, process, denoise, x, times=times, noise=noise)
    assert close((found.clamp(-1, 1) if "elucidated" in name else found) / 2 + 0.5, GOLDEN[name]["sample"])


def test_weights_alone_need_the_noise_levels(tmp_path: Path) -> None:
    path = tmp_path / "unet.pt"
    torch.save({n.removeprefix("model."): v for n, v in state_of("v sigmoid").items() if "." in n}, path)
    with pytest.raises(ForeignError, match=r"does not say: size .*; steps .*; betas .*; prediction") as error:
        sfumato.load(path)
    assert "\n" not in str(error.value)
    model: Any = sfumato.load(path, size=SIDE, steps=STEPS, betas="sigmoid", prediction="v")
    assert model.recipe.betas == "sigmoid-signal"
    with pytest.raises(ForeignError, match="betas is one of linear, cosine, sigmoid"):
        sfumato.load(path, size=SIDE, steps=STEPS, betas="quad", prediction="v")


def refused(state: dict[str, Tensor], folder: Path, **said: Any) -> str:
    path = folder / "model.pt"
    torch.save(state, path)
    with pytest.raises(ForeignError) as error:
        sfumato.load(path, **said)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_what_no_recipe_has_is_refused_in_one_line(tmp_path: Path) -> None:
    state = state_of("noise linear")
    wider = {**state, "model.init_conv.weight": torch.randn(8, 9, 7, 7)}
    assert "so many outputs" in refused(wider, tmp_path, size=SIDE)
    continuous = state_of("continuous linear")
    assert "does not say: betas (the noise" in refused(continuous, tmp_path, size=SIDE, prediction="eps")
    assert "prediction (what the network" in refused(continuous, tmp_path, size=SIDE)
    assert "prediction is eps or v, not 'x0'" in refused(
        continuous, tmp_path, size=SIDE, prediction="x0", betas="cosine"
    )
    assert "cosine for prediction v" in refused(continuous, tmp_path, size=SIDE, prediction="v", betas="linear")
    trained = {**continuous, "log_snr.net.1.net.weight": torch.ones(1, 1)}
    assert "schedule lacks log_snr.net.1.net.bias" in refused(trained, tmp_path, size=SIDE, prediction="eps")
    flat = {n: 0 * value if n.startswith("log_snr.") else value for n, value in state_of("continuous learned").items()}
    assert "schedule is none" in refused(flat, tmp_path, size=SIDE, prediction="eps")
    video = {**state_of("karras"), "model.input_block.weight": torch.randn(8, 4, 3, 3, 3)}
    assert "KarrasUnet3D is of videos" in refused(video, tmp_path, size=SIDE)
    odd = {**state, "betas": torch.linspace(0.01, 0.3, STEPS) ** 1.5}
    assert "of no schedule that is known" in refused(odd, tmp_path, size=SIDE)
    assert "size" in refused(state, tmp_path)
    assert "heads cannot be chosen" in refused(state, tmp_path, size=SIDE, heads=2)
    lacking = {n: value for n, value in state.items() if n != "model.mid_block1.mlp.1.weight"}
    assert "is missing" in refused_lines(lacking, tmp_path)


def refused_lines(state: dict[str, Tensor], folder: Path) -> str:
    path = folder / "model.pt"
    torch.save(state, path)
    with pytest.raises(ForeignError) as error:
        sfumato.load(path, size=SIDE)
    return str(error.value)


@pytest.mark.parametrize("gamma", [None, 1.0, 5.0, 20.0])
@pytest.mark.parametrize("prediction", ["eps", "x0", "v"])
def test_the_objective_is_read_from_the_loss_weights(prediction: str, gamma: float | None) -> None:
    betas = sigmoid_signal_betas(1000)
    alpha_bar = torch.cumprod(1 - betas, 0)
    snr = alpha_bar / (1 - alpha_bar)
    bounded = snr if gamma is None else snr.clamp(max=gamma)
    weight = bounded / {"eps": snr, "x0": torch.ones(1), "v": snr + 1}[prediction]
    single = betas.float().double(), weight.float().double()
    assert objective(*single) == (prediction, "eps" if gamma is None else "min-snr", gamma)


@pytest.mark.parametrize("numbers", [(-3.0, 3.0, 1.0), (0.0, 3.0, 0.3), (-3.0, 3.0, 0.9), (-2.0, 3.0, 1.0)])
def test_the_sigmoids_numbers_are_read_from_its_betas(numbers: tuple[float, ...]) -> None:
    betas = sigmoid_signal_betas(1000, *numbers)
    found = schedule(betas.float().double())["sigmoid"]
    assert torch.allclose(sigmoid_signal_betas(1000, *found), betas)  # ratios alone matter


NOT_BACK = ("version 1.9", "version 1.7", "rows", "continuous learned")


@pytest.mark.parametrize("name", [name for name in CASES if name not in NOT_BACK])
def test_back_to_the_package_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    state = training_state(model.recipe, model.network)["model"]
    theirs = state_of(name)
    assert set(state) == set(theirs)
    for key, value in theirs.items():
        if key == "loss_weight" and name in ("learned variance", "weighted objective"):
            continue  # its objective says nothing
        assert state[key].shape == value.shape
        assert torch.allclose(state[key], value, rtol=1e-4, atol=1e-6), key
        assert "." not in key or torch.equal(state[key], value)


def test_the_command_writes_a_file_that_comes_back(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, out = saved("v sigmoid", tmp_path), tmp_path / "out.pt"
    assert main(["convert", str(path), "--size", str(SIDE), "--to", "lucidrains", "--out", str(out)]) == 0
    assert "Unet of denoising-diffusion-pytorch" in capsys.readouterr().out
    first, again = loaded("v sigmoid", tmp_path), sfumato.load(out, size=SIDE)
    assert again.recipe == first.recipe
    assert all(torch.equal(a, b) for a, b in zip(first.network.parameters(), again.network.parameters(), strict=True))


SMALL = LucidrainsUNet(8, (1, 2), (2,))
REAL = LucidrainsUNet(8, (1, 2), (2,), times="learned")
PLAIN = LucidrainsUNet(8, (1, 2), (), memory=0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (DDPM((3, 8, 8)), "holds its own U-Net"),
        (FlowMatching((3, 8, 8), SMALL), "cannot express this FlowMatching"),
        (DDPM((3, 8, 8), PLAIN, Together((Labels(3, 0.1), SelfConditioned()))), "predictions only without labels"),
        (DDPM((3, 8, 8), SMALL, zero_terminal_snr=True, prediction="v"), "cannot express this DDPM"),
        (ContinuousDDPM((3, 8, 8), REAL, condition="time"), "given the log SNR"),
        (
            ContinuousDDPM((3, 8, 8), REAL, schedule="table", log_snr=(9.0, -9.0), condition="log-snr"),
            "given the log SNR",
        ),
        (MixedDDPM((3, 8, 8), SMALL, data_weight=0.5), "cannot express this MixedDDPM"),
        (ImprovedDDPM((3, 8, 8), SMALL), "cannot express this ImprovedDDPM"),
        *(
            (kind((3, 8, 8), network, SelfConditioned(), **choices), "see their own predictions")
            for kind, network, choices in (
                (ImprovedDDPM, SMALL, {"rescale_times": False}),
                (MixedDDPM, SMALL, {}),
                (ContinuousDDPM, REAL, {"condition": "log-snr"}),
            )
        ),
        (DDPM((3, 8, 8), LucidrainsKarras(8, 8, 1, 1, ()), Labels(3, 0.1)), "null label"),
    ],
)
def test_what_the_package_cannot_hold_is_not_written(recipe: Any, message: str) -> None:
    network: nn.Module = made(recipe).network if type(recipe.network) in HELD else nn.Identity()
    with pytest.raises(ForeignError, match=message):
        training_state(recipe, network)


NEW = ("continuous cosine", "continuous v", "weighted objective", "karras", "karras elucidated")


@pytest.mark.parametrize("name", ["v sigmoid", "learned variance", "elucidated", "labels", "fed back", *NEW])
def test_the_package_itself_loads_what_is_written(name: str, tmp_path: Path) -> None:
    pytest.importorskip("denoising_diffusion_pytorch")
    from tests.golden.distill_lucidrains import built

    model = loaded(name, tmp_path)
    diffusion, net, shape = built(CASES[name])
    nn.init.zeros_(next(net.parameters()))
    diffusion.load_state_dict(training_state(model.recipe, model.network)["model"])
    x, t = inputs(shape)
    y = torch.tensor([1, 4])
    with torch.no_grad():
        theirs = net(x, t, y, cond_drop_prob=0.0) if name == "labels" else net(x, t)
        ours = model.network(x, t, y) if name == "labels" else model.network(seen(model, x), t)
    assert torch.allclose(ours, theirs, atol=1e-4)
