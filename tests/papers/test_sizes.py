"""The dial of sizes: what the table names exists, more is more, small is the small presets', paper is the paper's."""

from __future__ import annotations

from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch

from sfumato.cli import main
from sfumato.networks import NETWORKS
from sfumato.networks.dit import DiT
from sfumato.networks.ncsnpp import DDPMpp
from sfumato.networks.unet import ADMUNet, HoUNet
from sfumato.networks.uvit import UViT
from sfumato.papers.presets import PRESETS, SMALL, with_size
from sfumato.papers.presets.sizes import DIAL, NAMES, TABLE, adapted

SHAPE = (1, 28, 28)


def count(recipe: object) -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in recipe.model().parameters())  # type: ignore[attr-defined]


def test_the_table_names_every_backbone_and_its_options() -> None:
    own = {"control", "conv-autoencoder", "lucidrains-karras"}  # they have the size of what they are made for
    assert set(TABLE) == set(NETWORKS) - own
    for kind, sizes in TABLE.items():
        known = {field.name for field in fields(NETWORKS[kind])}
        assert list(sizes) == list(NAMES[:3])
        for numbers in sizes.values():
            assert set(numbers) - {"most"} <= known & set(DIAL)


FEW = ("ddpm/fashion", "adm/digits", "score_sde/emoji32-ve", "edm/fashion", "dit/digits", "uvit/fashion", "jit/fashion",
       "mp/fashion", "ncsnv2/digits", "dpm/fashion", "dpm/swiss_roll", "adm_classifier/fashion")  # fmt: skip


@pytest.mark.parametrize("name", FEW)
def test_more_is_more_and_every_size_is_made(name: str) -> None:
    recipe = PRESETS[name].recipe
    tiny, small, base, paper = (count(with_size(name, recipe, size, recipe.shape)) for size in NAMES)
    assert tiny < small < base
    assert paper > tiny
    assert base < 40e6


PAPERS = ("ddpm/", "iddpm", "adm", "edm", "score", "flow")


@pytest.mark.parametrize("name", [n for n in SMALL if n.startswith(PAPERS) and n != "ddpm/moving-digits"])  # of clips
def test_small_is_the_small_preset(name: str) -> None:
    recipe = SMALL[name].recipe
    assert with_size(name, recipe, "small", recipe.shape) == recipe


def test_paper_is_the_network_of_the_published_preset() -> None:
    for name in ("ddpm/cifar10", "adm/imagenet256-unconditional", "dit/imagenet256-l2", "score_sde/cifar10-ve-deep"):
        recipe = PRESETS[name].recipe
        assert with_size(name, recipe, "paper", recipe.shape) == recipe
    small = {name: PRESETS[name].recipe for name in ("ddpm/emoji32", "ddpm/fashion", "edm/fashion", "ncsn/fashion")}
    made = {name: with_size(name, recipe, "paper", recipe.shape).network for name, recipe in small.items()}
    assert made["ddpm/emoji32"] == PRESETS["ddpm/cifar10"].recipe.network
    assert made["ddpm/fashion"] == replace(PRESETS["ddpm/cifar10"].recipe.network, multipliers=(1, 2, 2))
    assert made["edm/fashion"] == DDPMpp(multipliers=(2, 2, 2), dropout=0.13)
    assert made["ncsn/fashion"] == PRESETS["ncsn/mnist"].recipe.network
    ve = with_size("score_sde/emoji32-ve", PRESETS["score_sde/emoji32-ve"].recipe, "paper", (3, 32, 32)).network
    assert ve.fourier, "what is no size stays the recipe's"
    assert ve == PRESETS["score_sde/cifar10-ve"].recipe.network


@pytest.mark.parametrize(
    ("network", "before", "after", "wanted"),
    [
        (HoUNet(), (3, 32, 32), (3, 32, 32), HoUNet()),
        (HoUNet(), (3, 32, 32), (3, 64, 64), HoUNet(attention=(4,))),
        (HoUNet(), (3, 32, 32), (1, 28, 28), HoUNet(multipliers=(1, 2, 2))),
        (HoUNet(), (3, 32, 32), (3, 16, 24), HoUNet(multipliers=(1, 2, 2))),
        (HoUNet(), (3, 32, 32), (3, 33, 33), HoUNet(multipliers=(1,), attention=())),
        (ADMUNet(), (3, 256, 256), (3, 64, 64), ADMUNet(multipliers=(1, 1, 2, 2, 4), attention=(2, 4, 8))),
        (DiT(), (4, 32, 32), (3, 256, 256), DiT(16)),
        (DiT(), (4, 32, 32), (1, 7, 7), DiT(1)),
        (UViT(patch=2), (3, 256, 256), (1, 28, 28), UViT(patch=1, multipliers=(1, 2))),
    ],
)
def test_resolutions_of_attention_and_patches_stay(
    network: object, before: object, after: object, wanted: object
) -> None:
    assert adapted(network, before, after) == wanted  # type: ignore[arg-type]


def test_the_command_line(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["inspect", "ddpm/fashion", "--size", "base", "--no-measure"]) == 0
    heard = capsys.readouterr().out
    assert "size base: ddpm-unet?channels=64&multipliers=1,2,2&attention=4&dropout=0" in heard
    assert "network: 6.47M parameters" in heard
    out = ["--out", str(tmp_path / "run"), "--train.images", "16", "--train.batch", "8", "--train.threads", "1",
           "--train.preview-images", "0", "--train.validation-images", "0"]  # fmt: skip
    words = ["train", "--size", "tiny", "ddpm/digits", "--data", "digits?size=12", "--recipe.network.dropout", "0.2"]
    assert main([*words, *out]) == 0
    assert "size     tiny: ddpm-unet?channels=32&multipliers=1,1&blocks=1&dropout=0.2, 0.29M parameters" in (
        capsys.readouterr().out
    )


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["train", "ddpm/fashion", "--size", "bas"], "unknown size 'bas'; did you mean base?"),
        (["inspect", "ddpm/fashion", "--size", "papers"], "did you mean paper?"),
        (["inspect", "digits", "--size", "tiny"], "digits is none"),
        (["train", "--size", "tiny"], "train needs a preset"),
        (["train", "ddpm/fashion", "--size"], "--size needs a value"),
        (["train", "ddpm/fashion", "--size=tiny", "--recipe.network", "dit"], "leave one out"),
    ],
)
def test_what_is_wrong_is_one_line(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(words) == 2
    heard = capsys.readouterr().err
    assert said in heard
    assert heard.count("\n") == 1
