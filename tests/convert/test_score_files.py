"""Official files of the score line: each wrapper, the average merged into the weights, and recipes that score alike."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import golden_song as golden
import numpy as np
import pytest
import torch
from torch import Tensor, nn

import sfumato
from sfumato import convert
from sfumato.convert import foreign, foreign_scores, scores
from sfumato.convert.files import ForeignError, read_state
from sfumato.papers.ncsn import NCSN
from sfumato.papers.ncsnv2 import NCSNv2

LAYOUTS = golden.load("distilled")["layouts"]
REFINE: dict[str, Any] = {
    "data": {"channels": 1, "image_size": 8, "logit_transform": False, "rescaled": False},
    "model": {"ngf": 4, "num_classes": 6, "sigma_begin": 3.0, "sigma_end": 0.02, "sigma_dist": "geometric",
              "normalization": "InstanceNorm++", "nonlinearity": "elu", "spec_norm": False, "batch_norm": False},
}  # fmt: skip
LAYERS: dict[str, Any] = {
    "data": {"num_channels": 1, "image_size": 8, "centered": False},
    "model": {"nf": 8, "ch_mult": [1, 2], "num_res_blocks": 1, "attn_resolutions": [4], "dropout": 0.1,
              "resamp_with_conv": True, "conditional": True, "nonlinearity": "swish", "normalization": "GroupNorm",
              "resblock_type": "biggan", "fir": True, "fir_kernel": [1, 3, 3, 1], "skip_rescale": True,
              "progressive": "none", "progressive_input": "residual", "progressive_combine": "sum",
              "embedding_type": "fourier", "fourier_scale": 16, "scale_by_sigma": True, "sigma_max": 12.0,
              "sigma_min": 0.01, "num_scales": 30},
}  # fmt: skip


def refine(**options: Any) -> dict[str, Any]:
    return {**REFINE, "model": {**REFINE["model"], **options}}


def layers(centered: bool = False, **options: Any) -> dict[str, Any]:
    data = {**LAYERS["data"], "centered": centered}
    return {"data": data, "model": {**LAYERS["model"], **options}}


VP = {"embedding_type": "positional", "scale_by_sigma": False, "centered": True}
FILES: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ncsn": ("ncsn/CondRefineNetDilated", REFINE, {"size": 8, "first_sigma": 3.0, "last_sigma": 0.02}),
    "ncsnv2": ("ncsnv2/NCSNv2", REFINE, {"size": 8}),
    "ncsnv2 without norm": ("ncsnv2/NCSNv2", refine(normalization="NoneNorm"), {"size": 8}),
    "ncsnv2 deeper": ("ncsnv2/NCSNv2Deeper", REFINE, {"size": 16}),
    "ncsnpp": ("score_sde/ncsnpp", LAYERS, {"size": 8}),
    "ncsnpp both ways": (
        "score_sde/ncsnpp", layers(progressive="output_skip", progressive_input="input_skip"), {"size": 8},
    ),
    "ncsnpp on levels": (
        "score_sde/ncsnpp", layers(embedding_type="positional"), {"size": 8, "sde": "ve", "continuous": False},
    ),
    "ddpmpp": (
        "score_sde/ncsnpp", layers(progressive_input="none", fir=False, **VP),
        {"size": 8, "sde": "vp", "continuous": True},
    ),
    "ddpm": ("score_sde/ddpm", layers(**VP), {"size": 8, "sde": "subvp", "continuous": True}),
}  # fmt: skip


def official(name: str) -> tuple[nn.Module, dict[str, Tensor]]:
    """An official network with random weights, and those under their official names, in the official order."""
    layout, args, _ = FILES[name]
    generator = torch.Generator().manual_seed(0)
    shapes = convert.official_shapes(layout, args)
    state = {key: 0.3 * torch.randn(shape, generator=generator) for key, shape in shapes.items()}
    if "sigmas" in state:
        model = args["model"]
        first, last = model.get("sigma_max", model.get("sigma_begin")), model.get("sigma_min", model.get("sigma_end"))
        state["sigmas"] = torch.logspace(np.log10(first), np.log10(last), *state["sigmas"].shape, dtype=torch.float64)
    return convert.from_official(layout, state, args), state


def file_of(name: str, state: dict[str, Tensor], path: Path) -> Path:
    """The state as the authors save it, with an average of 1.5 times the weights where they keep one."""
    parallel = {f"module.{key}": value for key, value in state.items()}
    trained = {key: 1.5 * value for key, value in state.items() if key not in ("sigmas", "all_modules.0.W")}
    optimiser = {"state": {0: {"step": torch.tensor(1.0), "exp_avg": torch.zeros(2)}},
                 "param_groups": [{"lr": np.float64(2e-4), "betas": (0.9, 0.999), "noise": np.zeros(2)}]}  # fmt: skip
    if name == "ncsn":
        saved: Any = [parallel, optimiser]
    elif name.startswith("ncsnv2"):
        saved = [parallel, optimiser, 3, 100, trained]
    else:
        average = {"decay": 0.999, "num_updates": 1, "shadow_params": list(trained.values())}
        saved = {"optimizer": optimiser, "model": parallel, "ema": average, "step": 1}
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(saved, path)
    return path


def averaged(name: str, state: dict[str, Tensor]) -> dict[str, Tensor]:
    """What `file_of` keeps as the average."""
    fixed = state if name == "ncsn" else [key for key in state if key in ("sigmas", "all_modules.0.W")]
    return {key: value if key in fixed else 1.5 * value for key, value in state.items()}


@pytest.mark.parametrize("name", FILES)
def test_an_official_file_scores_as_the_official_network(name: str, tmp_path: Path) -> None:
    layout, args, choices = FILES[name]
    _, state = official(name)
    model = sfumato.load(file_of(name, state, tmp_path / "checkpoint_1.pth"), **choices)
    theirs = convert.from_official(layout, averaged(name, state), args)
    assert model.about["weights"] == ("online" if name == "ncsn" else "EMA")
    side = choices["size"]
    x = torch.rand(3, 1, side, side, generator=torch.Generator().manual_seed(1))  # in [0, 1], the authors' range
    recipe = model.recipe
    denoise = recipe.build().denoise(model.network, {})
    for t, label in _moments(recipe):
        with torch.no_grad():
            prediction = denoise(x if _centred(args) else recipe.space.encode(2 * x - 1), t)
            output = theirs(x, label.expand(3))
        ours = prediction.eps if _centred(args) else prediction.score
        torch.testing.assert_close(ours, output, rtol=1e-4, atol=1e-4 * float(output.abs().max()))


def _centred(args: dict[str, Any]) -> bool:
    return bool(args["data"].get("centered", False))


def _moments(recipe: Any) -> list[tuple[Tensor, Tensor]]:
    """Times, and what the official network is told there."""
    if isinstance(recipe, NCSN | NCSNv2):
        return [(torch.tensor(recipe.steps - i), torch.tensor(i)) for i in (0, 2, recipe.steps - 1)]
    if not recipe.continuous:
        return [(torch.tensor(recipe.steps - i), torch.tensor(i)) for i in (0, 7)]
    times = [torch.tensor(t, dtype=torch.float64) for t in (0.1, 0.9)]
    sigmas = [recipe.build().process.schedule.alpha_sigma(t)[1].float() for t in times]
    return list(zip(times, sigmas if recipe.sde == "ve" else [(999 * t).float() for t in times], strict=True))


@pytest.mark.parametrize("name", LAYOUTS)
def test_every_released_layout_is_recognised(name: str) -> None:
    case = LAYOUTS[name]
    shapes = convert.official_shapes(case["layout"], case["args"])
    state = {key: torch.empty(shape, device="meta") for key, shape in shapes.items()}
    model = case["args"]["model"]
    if "sigmas" in state:
        ends = (("sigma_max", "sigma_begin"), ("sigma_min", "sigma_end"))
        first, last = (float(model.get(a) or model[b]) for a, b in ends)
        state["sigmas"] = torch.logspace(np.log10(first), np.log10(last), *shapes["sigmas"], dtype=torch.float64)
    facts = scores.recognise(state)
    path = Path("/".join(name.split("__")[1:])) / "checkpoint_1.pth"
    if isinstance(facts, scores.RefineNetFacts) and not facts.levels and not facts.sigmas:
        with pytest.raises(ForeignError, match="one noise level"):
            foreign_scores.settle(facts, path, {})
        return
    own = name == "ncsnv2__ncsn_original"  # NCSNv2's network on NCSN's ten levels
    settled = foreign_scores.settle(facts, path, {"size": 32} if own else {})
    with torch.device("meta"):
        network = settled.recipe.model()
    ours = dict(network.state_dict())
    found = {key.official: tuple(key.read(ours[key.ours]).shape) for key in foreign_scores.key_map(facts, network)}
    assert found == {key: shape for key, shape in shapes.items() if key != "sigmas"}
    assert own or "as published for" in settled.source
    if "sde" in vars(settled.recipe):
        assert settled.recipe.sde == name.split("__")[1]


def test_weights_return_under_their_official_names(tmp_path: Path) -> None:
    for name in ("ncsn", "ncsnv2", "ncsnpp", "ddpm"):
        _, state = official(name)
        model = sfumato.load(file_of(name, state, tmp_path / "c.pth"), **FILES[name][2])
        back, wanted = foreign.official_state(model.recipe, model.network), averaged(name, state)
        assert list(back) == [key for key in wanted if key != "sigmas"]
        assert all(torch.equal(value, wanted[key].float()) for key, value in back.items())


def test_the_folder_says_which_sde(tmp_path: Path) -> None:
    _, state = official("ddpmpp")
    with pytest.raises(ForeignError, match=r"sde \(how noise comes"):
        sfumato.load(file_of("ddpmpp", state, tmp_path / "c.pth"), size=8)
    path = file_of("ddpmpp", state, tmp_path / "subvp" / "cifar10_ddpmpp_continuous" / "checkpoint_8.pth")
    model = sfumato.load(path, size=8)
    assert (model.recipe.sde, model.recipe.continuous) == ("subvp", True)
    assert "by the folder's name: sde subvp, continuous True" in model.about["found"][-1]
    assert sfumato.load(path, size=8, sde="vp").recipe.sde == "vp"


def test_a_numpy_number_is_dropped_and_anything_else_stays_shut(tmp_path: Path) -> None:
    _, state = official("ncsn")
    torch.save([state, {"param_groups": [{"lr": np.float64(1.0), "f": np.savetxt}]}], tmp_path / "trap.pth")
    with pytest.raises(ForeignError, match=r"could run code.*numpy\S*savetxt"):
        read_state(tmp_path / "trap.pth")


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("ncsn", {"size": 8}, "first_sigma .*; last_sigma"),
        ("ncsn", {"size": 8, "sde": "ve"}, "sde cannot be chosen"),
        ("ncsnv2", {}, r"say: size"),
        ("ncsnv2", {"size": 8, "first_sigma": 2.0}, "first_sigma cannot be chosen"),
        ("ncsnv2", {"size": "8"}, "whole number from 1"),
        ("ncsnpp", {"size": 8, "sde": "vp"}, "Fourier features, so it is of the continuous VE"),
        ("ddpmpp", {"size": 8, "sde": "v", "continuous": True}, "one of ve, vp, subvp"),
        ("ddpmpp", {"size": 8, "sde": "subvp", "continuous": False}, "sub-VP SDE has no levels"),
        ("ddpmpp", {"size": 8, "heads": 4}, "heads cannot be chosen"),
    ],
)
def test_choices_that_are_missing_or_do_not_exist(
    name: str, choices: dict[str, Any], words: str, tmp_path: Path
) -> None:
    _, state = official(name)
    with pytest.raises(ForeignError, match=words):
        sfumato.load(file_of(name, state, tmp_path / "c.pth"), **choices)


def test_an_average_of_other_weights_is_refused(tmp_path: Path) -> None:
    _, state = official("ncsnpp")
    parallel = {f"module.{key}": value for key, value in state.items()}
    other = [torch.zeros(1) for key in state if key not in ("sigmas", "all_modules.0.W")]
    for shadow, words in (
        ([torch.zeros(2)], "has 1 tensors"),
        ("none", "something else"),
        (other, "the network does not"),
    ):
        torch.save({"model": parallel, "ema": {"shadow_params": shadow}, "step": 1}, tmp_path / "c.pth")
        with pytest.raises(ForeignError, match=words):
            sfumato.load(tmp_path / "c.pth", size=8)


def test_levels_that_no_recipe_has_are_refused(tmp_path: Path) -> None:
    _, state = official("ncsnv2")
    state["sigmas"] = torch.linspace(3, 0.02, 6, dtype=torch.float64)
    with pytest.raises(ForeignError, match="do not fall geometrically"):
        sfumato.load(file_of("ncsnv2", state, tmp_path / "c.pth"), size=8)


def test_an_unpublished_network_takes_its_step_by_technique_4(tmp_path: Path) -> None:
    _, state = official("ncsnv2")
    recipe = sfumato.load(file_of("ncsnv2", state, tmp_path / "c.pth"), size=8).recipe
    assert isinstance(recipe, NCSNv2)
    assert (recipe.first_sigma, recipe.last_sigma, recipe.steps) == (3.0, 0.02, 6)
    assert recipe.step_size != NCSNv2().step_size
