"""Foreign checkpoints: published files are recognised, tiny ones come back bit for bit, and unsafe ones stay shut."""

from __future__ import annotations

import gzip
import json
import pickle
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import sfumato
from sfumato.cli import main
from sfumato.conditioning import Labels, LowRes, Together
from sfumato.convert import foreign, foreign_unets
from sfumato.convert.facts import recognise
from sfumato.convert.files import ForeignError, read_state
from sfumato.networks.classifier import Encoder
from sfumato.networks.unet import ADMUNet, HoUNet, ImprovedUNet
from sfumato.papers.adm import ADM
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.iddpm import ImprovedDDPM
from sfumato.papers.presets import PUBLISHED
from sfumato.samplers.ancestral import AncestralStep
from tests.golden.cases import HERE
from tests.models.small import made

RELEASED = HERE.parents[2] / "shared" / "golden" / "openai_ddim" / "released_layouts"
SHAPE = (3, 16, 16)
SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "dropout": 0.0}
HO, IMPROVED = HoUNet(**SMALL), ImprovedUNet(**SMALL, heads=2)
TINY: dict[str, Any] = {
    "ddpm": DDPM(SHAPE, HO),
    "iddpm": ImprovedDDPM(SHAPE, IMPROVED, Labels(5), steps=100, rescale_times=False),
    "iddpm simple": ImprovedDDPM(SHAPE, IMPROVED, steps=100, objective="simple", variance="large"),
    "iddpm upsampler": ImprovedDDPM(SHAPE, IMPROVED, LowRes(8), steps=100),
    "adm": ADM(SHAPE, ADMUNet(**SMALL, head_channels=32), Labels(4), betas="cosine"),
    "classifier": NoisyClassifier(SHAPE, Encoder(**SMALL, head_channels=32), Labels(4)),
}
CHOICES: dict[str, dict[str, Any]] = {
    "ddpm": {"size": 16},
    "iddpm": {"size": 16, "heads": 2, "order": "legacy", "steps": 100, "betas": "cosine", "rescale_times": False},
    "adm": {"size": 16, "head_channels": 32, "order": "legacy", "steps": 1000, "betas": "cosine"},
    "classifier": {"size": 16, "head_channels": 32, "order": "legacy", "steps": 1000, "betas": "linear"},
}
CHOICES["iddpm simple"] = {**CHOICES["iddpm"], "rescale_times": True}
CHOICES["iddpm upsampler"] = {**CHOICES["iddpm simple"], "low_res": 8}


def official(recipe: Any, order: str = "legacy") -> dict[str, torch.Tensor]:
    """Its weights under their official names."""
    return foreign.official_state(recipe, made(recipe).network, order)


def saved(name: str, folder: Path) -> Path:
    """A tiny official file."""
    path = folder / f"{name.replace(' ', '_')}.pt"
    torch.save(official(TINY[name]), path)
    return path


def same_weights(a: nn.Module, b: nn.Module) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.parameters(), b.parameters(), strict=True))


@pytest.mark.skipif(not RELEASED.is_dir(), reason="the full recording is not at hand; the presets are tested instead")
def test_every_released_file_is_recognised_from_its_shapes() -> None:
    found = 0
    for path in sorted(RELEASED.glob("*.json.gz")):
        about = json.loads(gzip.decompress(path.read_bytes()))
        shapes = {name: tuple(shape) for name, shape in about["params"]}
        facts = recognise(shapes)
        recipe, order, source = foreign_unets.settle(facts, Path(about["name"]), {})
        with torch.device("meta"):
            network = recipe.model()
        parameters = dict(network.named_parameters())
        keys = list(foreign_unets.key_map(facts, network, order))
        assert {key.official: tuple(key.read(parameters[key.ours]).shape) for key in keys} == shapes
        assert "as published" in source
        found += 1
    assert found == 28


OTHERS = ("lsun", "-colour", "-x4")  # of another preset's shape, or given a picture: in no official file
UNETS = [
    name for name in PUBLISHED
    if name.split("/")[0] in foreign_unets.BUILDERS and not any(other in name for other in OTHERS)
]  # fmt: skip


@pytest.mark.parametrize("name", UNETS)
def test_every_published_network_is_recognised_from_its_shapes(name: str) -> None:
    recipe = PUBLISHED[name].recipe
    found, order, source = foreign_unets.settle(recognise(shapes_of(recipe)), Path("model.pt"), {})
    assert order == ("new" if name == "adm/imagenet64" else "legacy")
    without_dropout = replace(recipe, network=replace(recipe.network, dropout=0.0))  # type: ignore[type-var]
    differing = {key for key, value in vars(without_dropout).items() if value != vars(found)[key]}
    assert differing <= {"objective", "importance"}  # what only matters in training
    assert "as published" in source


def shapes_of(recipe: Any) -> dict[str, tuple[int, ...]]:
    """The shapes in an official file."""
    with torch.device("meta"):
        network = recipe.model()
    tensors = dict(network.named_parameters())
    keys = foreign.LAYOUTS[type(recipe.network)].keys(network, "legacy")
    return {key.official: tuple(key.read(tensors[key.ours]).shape) for key in keys}


@pytest.mark.parametrize("name", TINY)
def test_a_file_of_ones_own_comes_back_with_the_choices_it_cannot_say(name: str, tmp_path: Path) -> None:
    path = saved(name, tmp_path)
    model = sfumato.load(path, **CHOICES[name])
    assert model.recipe == TINY[name]
    assert same_weights(model.network, made(TINY[name]).network)
    assert any("U-Net" in line or "classifier" in line for line in model.about["found"])
    with pytest.raises(ForeignError, match="do not say: size"):
        sfumato.load(path)


def test_what_is_missing_is_named(tmp_path: Path) -> None:
    path = saved("iddpm upsampler", tmp_path)
    with pytest.raises(ForeignError) as error:
        sfumato.load(path, size=16)
    for choice in ("heads", "order", "steps", "betas", "rescale_times", "low_res"):
        assert f"{choice} (" in str(error.value)
    with pytest.raises(ForeignError, match="unknown choice 'headz'"):
        sfumato.load(path, headz=2)
    with pytest.raises(ValueError, match="cannot be chosen"):
        sfumato.load("ddpm/emoji32", heads=2)


def test_the_attention_order_changes_what_a_network_says(tmp_path: Path) -> None:
    path = saved("iddpm", tmp_path)
    x, y = torch.randn(2, 3, 16, 16), torch.tensor([0, 3])
    said = {}
    for order in ("legacy", "new"):
        model = sfumato.load(path, **{**CHOICES["iddpm"], "order": order})
        back = foreign.official_state(model.recipe, model.network, model.about["order"])
        assert all(torch.equal(back[key], value) for key, value in read_state(path)[0].items())
        said[order] = model.network(x, torch.tensor([3.0, 7.0]), y=y)
    assert torch.equal(said["legacy"], made(TINY["iddpm"]).network(x, torch.tensor([3.0, 7.0]), y=y))
    assert not torch.allclose(said["new"], said["legacy"], atol=1e-3)


@pytest.mark.parametrize(
    ("name", "choices", "words"),
    [
        ("adm", {"order": "old"}, "order is one of legacy, new, not 'old'"),
        ("adm", {"betas": "quad"}, "betas is one of linear, cosine"),
        ("adm", {"prediction": "x0"}, "prediction is one of eps, v"),
        ("adm", {"heads": 2}, "give one of the two"),
        ("adm", {"steps": 0}, "steps .* is a whole number from 1, not 0"),
        ("adm", {"size": "16"}, "whole number from 1, not '16'"),
        ("adm", {"size": 15}, "a multiple of 2"),
        ("adm", {"head_channels": 24}, "cannot be split"),
        ("adm", {"rescale_times": True}, "rescale_times cannot be chosen"),
        ("adm", {"low_res": 8}, "low_res cannot be chosen"),
        ("iddpm", {"heads": 0}, "heads .* is a whole number"),
        ("iddpm", {"head_channels": 16}, "head_channels cannot be chosen"),
        ("iddpm", {"variance": "small"}, "variance cannot be chosen"),
        ("classifier", {"heads": 2}, "heads cannot be chosen"),
        ("ddpm", {"order": "new"}, "order cannot be chosen"),
    ],
)
def test_a_choice_that_does_not_exist_is_no_choice(
    name: str, choices: dict[str, Any], words: str, tmp_path: Path
) -> None:
    with pytest.raises(ValueError, match=words):
        sfumato.load(saved(name, tmp_path), **{**CHOICES[name], **choices})


def test_what_was_asked_published_and_assumed_is_told_apart(tmp_path: Path) -> None:
    found = sfumato.load(saved("ddpm", tmp_path), size=16, steps=50).about["found"]
    assert found[-1] == "as asked: size 16, steps 50; assumed: betas linear, variance large, prediction eps"
    facts = recognise(shapes_of(PUBLISHED["adm/imagenet64"].recipe))
    _, _, source = foreign_unets.settle(facts, Path("64x64_diffusion.pt"), {"steps": 100})
    assert source.startswith(
        "as asked: steps 100; as published for adm/imagenet64: size 64, head_channels 64, order new"
    )


def test_wrappers(tmp_path: Path) -> None:
    online, average = (official(TINY["ddpm"]) for _ in range(2))
    average = {name: value + 1 for name, value in average.items()}
    parallel = {f"module.{name}": value for name, value in online.items()}
    torch.save([parallel, {"state": {}, "param_groups": []}, 3, 100, average], tmp_path / "ckpt.pth")
    model = sfumato.load(tmp_path / "ckpt.pth", size=16)
    assert model.about["weights"] == "EMA"
    assert torch.equal(next(model.network.parameters()), next(made(TINY["ddpm"]).network.parameters()) + 1)
    torch.save(parallel, tmp_path / "ema_0.9999_000100.pt")
    model = sfumato.load(tmp_path / "ema_0.9999_000100.pt", size=16)
    assert model.about["weights"] == "as in the file", "a name proves nothing"
    assert same_weights(model.network, made(TINY["ddpm"]).network)
    torch.save({"state_dict": online}, tmp_path / "wrapped.ckpt")
    assert same_weights(sfumato.load(tmp_path / "wrapped.ckpt", size=16).network, made(TINY["ddpm"]).network)


class Trap:
    """Would write a file if it were unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> Any:
        return Path.write_text, (self.path, "sprung")


def test_nothing_that_can_run_code_is_unpickled(tmp_path: Path) -> None:
    sprung = tmp_path / "sprung"
    torch.save({"x": Trap(sprung)}, tmp_path / "a.pt")
    (tmp_path / "b.pt").write_bytes(pickle.dumps(Trap(sprung)))
    for name in ("a.pt", "b.pt"):
        with pytest.raises(ForeignError, match="could run code"):
            sfumato.load(tmp_path / name)
    assert not sprung.exists()


def test_files_that_cannot_be_used(tmp_path: Path) -> None:
    whole = saved("ddpm", tmp_path)
    (tmp_path / "half.pt").write_bytes(whole.read_bytes()[:5000])
    (tmp_path / "empty.pt").write_bytes(b"")
    torch.save({"weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save({"state": {}, "param_groups": []}, tmp_path / "opt.pt")
    state = official(TINY["ddpm"])
    torch.save({k: v for k, v in state.items() if k not in ("conv_out.bias", "norm_out.bias")}, tmp_path / "few.pt")
    for name, words in {
        "half.pt": "damaged|could run code",
        "empty.pt": "damaged|could run code",
        "other.pt": "no known network",
        "opt.pt": "an optimiser's state",
        "few.pt": "norm_out.bias is missing",
    }.items():
        with pytest.raises(ForeignError, match=words):
            sfumato.load(tmp_path / name, size=16)
    with pytest.raises(OSError, match="No such file"):
        sfumato.load(tmp_path / "absent.pt")
    with pytest.raises(ValueError, match="one set of weights"):
        sfumato.load(whole, weights="online", size=16)
    assert set(read_state(whole)[0]) == set(state)


def test_what_the_official_code_cannot_hold_is_refused() -> None:
    for conditioning, words in ((Labels(3), "no labels"), (LowRes(8), "no low-resolution images")):
        with pytest.raises(ForeignError, match=words):
            official(replace(TINY["ddpm"], conditioning=conditioning))
    both = official(replace(TINY["iddpm"], conditioning=Together((Labels(5), LowRes(8)))))
    assert both["label_emb.weight"].shape[0] == 5


# ---------------------------------------------------------------- diffusers


@pytest.mark.parametrize(
    "recipe",
    [
        TINY["ddpm"],
        DDPM((1, 16, 16), replace(HO, attention=(1, 2)), betas="cosine", prediction="v", variance="small"),
        DDPM(SHAPE, replace(HO, multipliers=(1, 1, 2), attention=(), blocks=2), clip=False, steps=50),
    ],
)
def test_diffusers_round_trip(recipe: DDPM, tmp_path: Path) -> None:
    model = made(recipe)
    foreign.save_folder(recipe, model.network, tmp_path / "pipeline")
    back = sfumato.load(tmp_path / "pipeline")
    assert back.recipe == recipe
    assert same_weights(back.network, model.network)
    alone = sfumato.load(tmp_path / "pipeline" / "unet", steps=recipe.steps)
    assert same_weights(alone.network, model.network)


def test_diffusers_samples_from_ours_and_says_the_same(tmp_path: Path) -> None:
    diffusers = pytest.importorskip("diffusers")
    model = made(DDPM(SHAPE, replace(HO, multipliers=(1, 2, 2), blocks=2)))
    foreign.save_folder(model.recipe, model.network, tmp_path)
    pipeline = diffusers.DDPMPipeline.from_pretrained(tmp_path)
    x, t = torch.randn(2, 3, 16, 16), torch.tensor([3, 700])
    with torch.no_grad():
        theirs = pipeline.unet(x, t).sample
        ours = model.network(x, t.float())
    assert torch.allclose(ours, theirs, atol=2e-5 * float(theirs.abs().max()))
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(batch_size=2, num_inference_steps=3, output_type="np").images
    assert images.shape == (2, 16, 16, 3)
    pipeline.save_pretrained(tmp_path / "theirs")
    again = sfumato.load(tmp_path / "theirs")
    assert same_weights(again.network, model.network)
    assert again.recipe == model.recipe


def test_diffusers_scheduler_takes_our_steps(tmp_path: Path) -> None:
    """Their DDPM step and our ancestral step, from the same prediction and the same noise."""
    diffusers = pytest.importorskip("diffusers")
    recipe = replace(TINY["ddpm"], variance="small")
    diffusion, network = recipe.build(), made(recipe).network
    foreign.save_folder(recipe, network, tmp_path)
    scheduler = diffusers.DDPMScheduler.from_pretrained(tmp_path / "scheduler")
    scheduler.set_timesteps(1000)
    x, t = torch.randn(2, *SHAPE), 400
    eps = network(x, torch.full((2,), float(t)))
    denoise = diffusion.clipped(diffusion.denoise(network, {}))
    kernel = AncestralStep(diffusion.gaussian, denoise, diffusion.variance)
    ours = kernel(x, torch.tensor(t + 1), torch.tensor(t)).to
    theirs = scheduler.step(eps, t, x, generator=torch.Generator().manual_seed(0)).prev_sample
    noise = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(ours.sample(lambda _: noise), theirs, atol=1e-4)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"_class_name": "UNet2DConditionModel"}, "only UNet2DModel"),
        ({"norm_eps": -1}, "epsilon is"),
        ({"freq_shift": 0.5}, "shift is one of 0, 1, not 0.5"),
        ({"flip_sin_to_cos": "yes"}, "options that no network here has"),
        ({"attention_head_dim": 7}, "cannot be split into heads of 7 channels"),
        ({"layers_per_block": 10**9}, "blocks is between 1 and 32"),
        ({"down_block_types": ["ResnetDownsampleBlock2D", "AttnDownBlock2D"]}, "blocks ResnetDownsampleBlock2D"),
        ({"layers_per_block": 2}, "is missing"),
    ],
)
def test_other_unets_are_refused_with_the_reason(change: dict[str, Any], words: str, tmp_path: Path) -> None:
    foreign.save_folder(TINY["ddpm"], made(TINY["ddpm"]).network, tmp_path)
    config = tmp_path / "unet" / "config.json"
    config.write_text(json.dumps({**json.loads(config.read_text()), **change}))
    with pytest.raises(ForeignError, match=words):
        sfumato.load(tmp_path)


def test_what_diffusers_cannot_express_is_refused(tmp_path: Path) -> None:
    for recipe, words in (
        (replace(TINY["ddpm"], betas="quad"), "quad"),
        (replace(TINY["ddpm"], conditioning=Labels(2)), "labels"),
        (TINY["iddpm"], "ImprovedUNet"),
        (replace(TINY["iddpm simple"], network=HO), "not ImprovedDDPM's"),
    ):
        with pytest.raises(ForeignError, match=words):
            foreign.save_folder(recipe, made(recipe).network, tmp_path / "no")
    assert not (tmp_path / "no").exists()


# ---------------------------------------------------------------- from the command line


def test_convert_goes_round(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = saved("iddpm", tmp_path)
    choices = ["--size", "16", "--heads", "2", "--order", "legacy", "--steps", "100", "--betas", "cosine",
               "--rescale-times", "False"]  # fmt: skip
    assert main(["convert", str(path), *choices]) == 0
    assert "Nothing written" in capsys.readouterr().out
    ours = tmp_path / "ours.safetensors"
    assert main(["convert", str(path), *choices, "--out", str(ours)]) == 0
    assert "5 classes, a learned variance" in capsys.readouterr().out
    assert sfumato.load(ours).recipe == TINY["iddpm"]
    assert same_weights(sfumato.load(ours).network, made(TINY["iddpm"]).network)
    back = tmp_path / "back.pt"
    assert main(["convert", str(ours), "--to", "official", "--out", str(back)]) == 0
    first, second = (read_state(p)[0] for p in (path, back))
    assert all(torch.equal(first[name], second[name]) for name in first)
    new = tmp_path / "new.pt"
    capsys.readouterr()
    assert main(["convert", str(ours), "--to", "official", "--write-order", "new", "--out", str(new)]) == 0
    assert "--use_new_attention_order True" in capsys.readouterr().out
    again = sfumato.load(new, **{**CHOICES["iddpm"], "order": "new"})
    assert same_weights(again.network, made(TINY["iddpm"]).network)
    assert main(["sample", str(ours), "-n", "1", "--steps", "2", "--out", str(tmp_path / "s")]) == 0


def test_convert_to_diffusers_and_back(tmp_path: Path) -> None:
    made(TINY["ddpm"]).save(tmp_path / "a.safetensors")
    for source, to, out in (("a.safetensors", "diffusers", "b"), ("b", "sfumato", "c.safetensors")):
        assert main(["convert", str(tmp_path / source), "--to", to, "--out", str(tmp_path / out)]) == 0
    assert same_weights(sfumato.load(tmp_path / "c.safetensors").network, made(TINY["ddpm"]).network)


def test_convert_refuses_in_one_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path, there = saved("iddpm", tmp_path), tmp_path / "there.safetensors"
    made(TINY["ddpm"]).save(there)
    for arguments, words in [
        ([str(path)], "its weights do not say: size"),
        ([str(there), "--heads", "2"], "cannot be chosen"),
        ([str(there), "--out", str(there)], "exists already"),
        ([str(there), "--out", str(tmp_path / "x.pt")], "writes a .safetensors file"),
        ([str(there), "--to", "tensorflow", "--out", str(tmp_path / "x")], "onnx"),
        ([str(tmp_path / "absent.pt")], "No such file"),
    ]:
        assert main(["convert", *arguments]) == 2
        error = capsys.readouterr().err
        assert words in error
        assert len(error.strip().splitlines()) == 1
