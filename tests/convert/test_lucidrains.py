"""Files of denoising-diffusion-pytorch: the network and the sampler say what the package itself said, and back."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import sfumato
from sfumato.cli import main
from sfumato.conditioning import Labels, SelfConditioned, Together
from sfumato.convert.files import ForeignError
from sfumato.convert.foreign_lucidrains import objective, schedule, training_state
from sfumato.core.betas import sigmoid_signal_betas
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.papers.ddpm import DDPM
from sfumato.papers.edm import EDM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.samplers import DDIM, Ancestral, Heun, run
from tests.golden.lucidrains import CASES, ROW, SIDE, STEPS, inputs, recorded, weights
from tests.models.small import made

GOLDEN = recorded()
SAID: dict[str, dict[str, Any]] = {
    "rows": {"size": ROW}, "version 1.7": {"size": SIDE, "attention_norm": "rms"},
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
    "version 1.9": (DDPM, {"prediction": "v", "betas": "sigmoid-signal"}),
    "version 1.7": (DDPM, {"prediction": "eps", "betas": "sigmoid-signal"}),
}


def state_of(name: str) -> dict[str, Tensor]:
    """The state dict of the package's diffusion: its tables, and the weights of the formula."""
    case = GOLDEN[name]
    held = {n: torch.tensor(value) for n, value in case["tables"].items()}
    inner = {n.partition(".")[2]: shape for n, shape in case["shapes"].items() if "." in n}
    prefix = next(n.partition(".")[0] for n in case["shapes"] if "." in n)
    return held | {f"{prefix}.{n}": value for n, value in weights(inner).items()}


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
    x, t = inputs((shape[0], ROW) if name == "rows" else shape)
    y = {"y": torch.tensor([1, 4])} if name == "labels" else {}
    with torch.no_grad():
        output = model.network(seen(model, x.view(2, *shape)), t, **y)
    assert close(output, GOLDEN[name]["output"])


def seen(model: Any, x: Tensor) -> Tensor:
    """What the network sees of x where nothing was predicted before."""
    return torch.cat([x, torch.zeros_like(x)], dim=1) if model.recipe.conditioning.feeds_back else x


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
    x = torch.randn(2, shape[0], ROW).view(2, *shape) if name == "rows" else torch.randn(2, *shape)
    process, times = diffusion.gaussian, None
    if name == "elucidated":
        sampler: Any = Heun()
        x, times = 80 * x, torch.cat([process.schedule.times(STEPS)])
    elif "sampling_timesteps" in CASES[name]["diffusion"]:
        sampler, times = DDIM(), theirs_ddim(STEPS, 5)
    else:
        sampler = Ancestral().of(diffusion)

    def noise(like: Tensor) -> Tensor:  # theirs is drawn without the height of 1
        return torch.randn_like(like)

    with torch.no_grad():
        found = run(sampler, process, denoise, x, times=times, noise=noise)
    assert close((found.clamp(-1, 1) if name == "elucidated" else found) / 2 + 0.5, GOLDEN[name]["sample"])


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
    both = {**state, "model.final_conv.weight": torch.randn(8, 8, 1, 1), "model.final_conv.bias": torch.randn(8)}
    assert "weights of both" in refused(both, tmp_path, size=SIDE)
    learned = state_of("elucidated")
    continuous = {n.replace("net.", "model.", 1): value for n, value in learned.items()}
    assert "log SNR in continuous time" in refused(continuous, tmp_path, size=SIDE)
    trained = {**continuous, "log_snr.net.1.net.weight": torch.ones(1, 1)}
    assert "noise schedule is a network" in refused(trained, tmp_path, size=SIDE)
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


@pytest.mark.parametrize("name", [name for name in CASES if "version" not in name and name != "rows"])
def test_back_to_the_package_bit_for_bit(name: str, tmp_path: Path) -> None:
    model = loaded(name, tmp_path)
    state = training_state(model.recipe, model.network)["model"]
    theirs = state_of(name)
    assert set(state) == set(theirs)
    for key, value in theirs.items():
        if key == "loss_weight" and name == "learned variance":
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
PLAIN = LucidrainsUNet(8, (1, 2), (), memory=0)


@pytest.mark.parametrize(
    ("recipe", "message"),
    [
        (DDPM((3, 8, 8)), "holds its own U-Net"),
        (FlowMatching((3, 8, 8), SMALL), "cannot express this FlowMatching"),
        (DDPM((3, 8, 8), PLAIN, Together((Labels(3, 0.1), SelfConditioned()))), "without labels"),
        (DDPM((3, 8, 8), SMALL, zero_terminal_snr=True, prediction="v"), "cannot express this DDPM"),
    ],
)
def test_what_the_package_cannot_hold_is_not_written(recipe: Any, message: str) -> None:
    network: nn.Module = made(recipe).network if isinstance(recipe.network, LucidrainsUNet) else nn.Identity()
    with pytest.raises(ForeignError, match=message):
        training_state(recipe, network)


@pytest.mark.parametrize("name", ["v sigmoid", "learned variance", "elucidated", "labels", "fed back"])
def test_the_package_itself_loads_what_is_written(name: str, tmp_path: Path) -> None:
    pytest.importorskip("denoising_diffusion_pytorch")
    from tests.golden.distill_lucidrains import built

    model = loaded(name, tmp_path)
    diffusion, net, shape = built(CASES[name])
    nn.init.zeros_(net.init_conv.weight)
    diffusion.load_state_dict(training_state(model.recipe, model.network)["model"])
    x, t = inputs(shape)
    y = torch.tensor([1, 4])
    with torch.no_grad():
        theirs = net(x, t, y, cond_drop_prob=0.0) if name == "labels" else net(x, t)
        ours = model.network(x, t, y) if name == "labels" else model.network(seen(model, x), t)
    assert torch.allclose(ours, theirs, atol=1e-4)
