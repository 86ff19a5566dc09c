"""The presets: every published network has its published size, every training is finite, every name is explained."""

from __future__ import annotations

import math
import re
from pathlib import Path

import pytest
import torch

from sfumato import papers
from sfumato.cost.network import forward_flops
from sfumato.data import open_source
from sfumato.data.sources import parse_spec
from sfumato.models import shipped
from sfumato.papers import presets
from sfumato.papers.presets import PRESETS, PUBLISHED, SMALL, preset

BACKBONES = {"dit": "dit", "uvit": "uvit", "jit": "jit", "mp": "mp-unet", "control": "control"}
"""Tables that are named after a network."""
SIZES = {
    "ddpm/cifar10": 35_746_307,
    "ddpm/celebahq": 113_673_219,
    "ddpm/lsun-bedroom": 113_673_219,
    "ddpm/lsun-church": 113_673_219,
    "ddpm/lsun-cat": 113_673_219,
    "ddpm/celeba64": 78_700_803,
    "ddpm/imagenet256-colour": 552_809_475,
    "ddpm/imagenet256-x4": 575_058_947,
    "iddpm/cifar10": 52_546_438,
    "iddpm/cifar10-vlb": 52_546_438,
    "iddpm/imagenet64": 121_063_942,
    "iddpm/imagenet64-vlb": 121_063_942,
    "iddpm/imagenet64-classes": 273_049_350,
    "iddpm/imagenet256-upsampler": 279_792_390,
    "iddpm/lsun-bedroom": 113_676_678,
    "adm/imagenet64": 295_904_454,
    "adm/imagenet128": 421_529_606,
    "adm/imagenet256": 553_838_086,
    "adm/imagenet256-unconditional": 552_814_086,
    "adm/imagenet512": 558_997_638,
    "adm/imagenet256-upsampler": 311_795_910,
    "adm/imagenet512-upsampler": 308_835_270,
    "adm/lsun-bedroom": 552_814_086,
    "adm/lsun-horse": 552_814_086,
    "adm/lsun-cat": 552_814_086,
    "adm_classifier/imagenet64": 65_438_568,
    "adm_classifier/imagenet128": 42_568_040,
    "adm_classifier/imagenet256": 54_096_360,
    "adm_classifier/imagenet512": 54_448_360,
    "autoencoder/openimages-kl-f4": 55_312_063,
    "autoencoder/openimages-kl-f8": 83_653_863,
    "autoencoder/openimages-vq-f4": 55_322_782,
    "ncsn/cifar10": 30_117_635,
    "ncsn/celeba32": 30_117_635,
    "ncsn/mnist": 7_638_657,
    "ncsnv2/cifar10": 29_694_083,
    "ncsnv2/celeba64": 29_694_083,
    "ncsnv2/lsun-church": 83_445_379,
    "ncsnv2/lsun-bedroom": 83_445_379,
    "ncsnv2/lsun-tower": 83_445_379,
    "ncsnv2/ffhq256": 94_132_611,
    "score_sde/cifar10-ve-levels": 62_693_251,
    "score_sde/cifar10-ve": 62_758_915,
    "score_sde/cifar10-ve-deep": 107_587_075,
    "score_sde/cifar10-ve-ddpm": 35_218_947,
    "score_sde/cifar10-vp-ddpm-levels": 35_218_947,
    "score_sde/cifar10-vp-ddpm": 35_218_947,
    "score_sde/cifar10-vp-levels": 61_804_419,
    "score_sde/cifar10-vp": 61_804_419,
    "score_sde/cifar10-vp-deep": 106_632_579,
    "score_sde/cifar10-vp-ncsnpp-levels": 62_693_251,
    "score_sde/cifar10-vp-ncsnpp": 62_693_251,
    "score_sde/cifar10-vp-ncsnpp-deep": 107_521_411,
    "score_sde/cifar10-subvp-ddpm": 35_218_947,
    "score_sde/cifar10-subvp": 61_804_419,
    "score_sde/cifar10-subvp-deep": 106_632_579,
    "score_sde/cifar10-subvp-ncsnpp": 62_693_251,
    "score_sde/cifar10-subvp-ncsnpp-deep": 107_521_411,
    "score_sde/celeba64-ve": 62_693_251,
    "score_sde/lsun-bedroom-ve": 65_574_549,
    "score_sde/lsun-church-ve": 65_574_549,
    "score_sde/celebahq256-ve": 65_574_549,
    "score_sde/ffhq256-ve": 65_574_549,
    "score_sde/celebahq1024-ve": 105_785_896,
    "score_sde/ffhq1024-ve": 105_785_896,
    "score_sde/lsun-bedroom-vp": 111_569_923,
    "score_sde/lsun-church-vp": 111_569_923,
    "score_sde/celebahq256-vp": 111_569_923,
    "consistency/cifar10": 55_732_739,
    "mean_flow/cifar10": 55_739_907,
    "edm/cifar10": 55_737_347,
    "edm/cifar10-classes": 55_742_467,
    "edm/ffhq64": 61_809_027,
    "edm/afhqv2": 61_809_027,
    "edm/imagenet64": 295_899_267,
    "flow/cifar10": 61_804_419,
    "flow/cifar10-lipman": 171_268_099,
    "flow/imagenet64": 295_131_267,
    "dit/imagenet256-s2": 32_865_056,
    "dit/imagenet256-b4": 130_426_496,
    "dit/imagenet256-b2": 130_315_808,
    "dit/imagenet256-l2": 457_840_672,
    "dit/imagenet256": 674_834_720,
    "dit/imagenet256-sit": 674_816_272,
    "uvit/imagenet256": 2_096_970_124,
    "jit/imagenet256": 131_123_712,
    "jit/imagenet256-l16": 458_877_664,
    "jit/imagenet256-h16": 952_514_368,
    "jit/imagenet512-b32": 133_190_400,
    "mp/imagenet512-xs": 124_713_125,
    "mp/imagenet512-s": 280_212_709,
}


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_ends_and_can_be_kept(name: str) -> None:
    chosen = preset(name)
    with torch.device("meta"):
        network = chosen.recipe.model()
    count = sum(p.numel() for p in network.parameters())
    assert count == SIZES.get(name, count)
    assert (name in SIZES) == (name in PUBLISHED) != (name in SMALL)
    assert name in SIZES or count < 6_000_000  # what is not published trains on a CPU
    assert chosen.train.images or chosen.train.minutes
    assert papers.from_json(papers.to_json(chosen.recipe)) == chosen.recipe
    parse_spec(chosen.data)  # names a known source
    table, plain = name.split("/")[0], papers.to_json(chosen.recipe)
    assert BACKBONES.get(table, table) == (plain["network"]["kind"] if table in BACKBONES else plain["paper"])


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_published_row_tells_its_size(name: str) -> None:
    said = re.search(r"([\d.]+)M\b", PUBLISHED[name].about)
    assert said
    digits = len(said[1].partition(".")[2])
    assert f"{SIZES[name] / 1e6:.{digits}f}" == said[1]


def test_an_unknown_preset_is_near_a_known_one() -> None:
    with pytest.raises(ValueError, match="did you mean ddpm/fashion"):
        preset("ddpm/fashoin")


def test_tables_are_aligned() -> None:
    """Every row of a table has its last column, the result, at the same place."""
    for path in Path(presets.__file__).parent.glob("*.py"):
        for table in re.findall(r"^\w+ = \{\n(    # name.*?)^\}", path.read_text(), re.MULTILINE | re.DOTALL):
            rows = [row for row in table.splitlines() if not row.strip().startswith("#")]
            assert len({re.search(r'"[^"]*"\),$', row).start() for row in rows}) == 1, path  # type: ignore[union-attr]


@pytest.mark.parametrize("name", [name for name in PRESETS if name.split("/")[1] in ("digits", "emoji32")])
def test_a_preset_states_what_its_data_are(name: str) -> None:
    images, recipe = open_source(PRESETS[name].data), PRESETS[name].recipe
    assert recipe.shape == images.shape
    assert recipe.conditioning.classes in (0, len(images.classes))


@pytest.mark.parametrize("name", SMALL)
def test_the_operations_of_every_small_preset_are_counted(name: str) -> None:
    recipe = PRESETS[name].recipe
    assert forward_flops(recipe) > 100 * math.prod(recipe.shape[1:])


def test_everything_that_ships_is_described() -> None:
    assert set(shipped()) - set(PRESETS) == set(presets.MADE)
    assert [name for name in (*PRESETS, *shipped()) if not presets.about(name).strip()] == []
    assert presets.about("ddpm/nothing") == ""


def test_the_command_of_a_classifier_that_ships_guides_a_model_that_ships() -> None:
    found = [presets.use(name) for name in shipped() if name.startswith("adm_classifier/")]
    assert found == ["sfumato sample adm/fashion --classifier adm_classifier/fashion"]
    assert presets.use("ddpm/fashion") == "sfumato sample ddpm/fashion"
    assert all(presets.use(name).split()[2] in shipped() for name in shipped())
