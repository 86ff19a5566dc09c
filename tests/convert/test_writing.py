"""What convert writes appears whole or not at all; what a killed run left goes at the next, and blocks none."""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

import pytest
import torch

from sfumato.cli import main
from sfumato.conditioning import SelfConditioned
from sfumato.convert import foreign
from sfumato.convert.lucidrains_written import training_state
from sfumato.convert.onnx import Export, export
from sfumato.convert.state import ForeignError
from sfumato.models import Model
from sfumato.networks import NETWORKS
from sfumato.networks.lucidrains_unet import LucidrainsUNet
from sfumato.networks.ncsnpp import DDPMpp, NCSNpp
from sfumato.networks.refinenet import RefineNet
from sfumato.networks.unet import HoUNet
from sfumato.papers import part_of
from sfumato.papers.ddpm import DDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.score_sde import ScoreSDE
from sfumato.spaces import Pixels, UnitPixels
from tests.models.small import made

RECIPE = DDPM((1, 8, 8), HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0))
OUT = {"sfumato": "out.safetensors", "official": "out.pt", "diffusers": "out"}


@contextmanager
def full_disk(size: int) -> Iterator[None]:
    """No file can be larger than this."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("to", OUT)
def test_a_full_disk_leaves_nothing_and_the_next_run_writes(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.safetensors", tmp_path / "there" / OUT[to]
    made(RECIPE).save(source)
    out.parent.mkdir()
    arguments = ["convert", str(source), "--to", to, "--out", str(out)]
    with full_disk(20_000):
        assert main(arguments) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert list(out.parent.iterdir()) == []
    assert main(arguments) == 0
    assert list(out.parent.iterdir()) == [out]


@pytest.mark.parametrize("to", ["official", "diffusers"])
def test_a_self_conditioned_model_has_no_place_there(
    to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = tmp_path / "a.safetensors", tmp_path / OUT[to]
    made(replace(RECIPE, conditioning=SelfConditioned())).save(source)
    assert main(["convert", str(source), "--to", to, "--out", str(out)]) == 2
    assert "cannot hold a self-conditioned model" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize(("space", "words"), [
    ("latents", "no place for an autoencoder"), ("unit-pixels", "from -0.5 to 0.5"),
    ("standardised?std=0.5&mean=0.25", "from -2.5 to 1.5"),
])  # fmt: skip
def test_a_space_that_the_other_code_does_not_assume_is_refused(space: str, words: str, tmp_path: Path) -> None:
    """Nothing in a foreign file tells a space, so it would be read, and sampled, as another one."""
    recipe = replace(RECIPE, shape=(1, 32, 32), space=part_of("space", space))
    network = recipe.model()
    with pytest.raises(ForeignError, match=words):
        foreign.official_state(recipe, network)
    with pytest.raises(ForeignError, match=words):
        foreign.save_folder(recipe, network, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    held = replace(recipe, network=LucidrainsUNet(8, (1, 2), (2,)))
    with pytest.raises(ForeignError, match=words):
        training_state(held, held.model())


def test_score_networks_are_written_of_the_space_that_their_own_code_has() -> None:
    """1 wide where sigmas count so, 2 wide for VP; the other way round it is refused."""
    for sde, own, other in (("ve", UnitPixels(), Pixels()), ("vp", Pixels(), UnitPixels())):
        network = NCSNpp(16, (1,), 1, (), fourier=True) if sde == "ve" else DDPMpp(16, (1,), 1, ())
        recipe = ScoreSDE((1, 8, 8), network, sde=sde, space=own)  # type: ignore[arg-type]
        assert foreign.official_state(recipe, recipe.model())
        with pytest.raises(ForeignError, match="would not sample there"):
            foreign.official_state(replace(recipe, space=other), recipe.model())
    small = NCSN((1, 8, 8), RefineNet(8))
    assert foreign.official_state(small, small.model())
    with pytest.raises(ForeignError, match=r"from -0.5 to 0.5, and this model on numbers from -1 to 1 \(Pixels\)"):
        foreign.official_state(replace(small, space=Pixels()), small.model())


def test_graphs_that_fail_leave_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(self: Export, *_: Any) -> dict[str, Any]:
        (self.folder / "prior.onnx").write_bytes(b"half")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(Export, "about", fail)
    with pytest.raises(OSError, match="No space left"):
        export(RECIPE, RECIPE.model(), tmp_path / "out")
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_run_left_goes_at_the_next(tmp_path: Path) -> None:
    """Of any name; files that are not ours stay."""
    made(RECIPE).save(tmp_path / "a.safetensors")
    (tmp_path / ".theirs.0123abcd.tmp" / "unet").mkdir(parents=True)
    (tmp_path / ".out.0123abcd.tmp" / "unet").mkdir(parents=True)
    (tmp_path / ".b.pt.0123abcd.tmp").write_bytes(b"half")
    (tmp_path / ".keep.tmp").write_bytes(b"not ours")
    for path in tmp_path.iterdir():
        os.utime(path, (time.time() - 10,) * 2)
    command = ["convert", str(tmp_path / "a.safetensors"), "--to", "diffusers", "--out", str(tmp_path / "out")]
    assert main(command) == 0
    assert {path.name for path in tmp_path.iterdir()} == {"a.safetensors", ".keep.tmp", "out"}


def test_the_place_is_looked_at_before_the_source(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "link.pt").symlink_to(tmp_path / "absent")
    for to, name, words in (
        ("official", "link.pt", "exists already"),
        ("official", "absent/a.pt", "is no folder"),
        ("official", "a.bin", "writes a .pt file"),
    ):
        assert main(["convert", str(tmp_path / "missing.pt"), "--to", to, "--out", str(tmp_path / name)]) == 2
        assert words in capsys.readouterr().err


def test_the_folder_holds_what_diffusers_opens(tmp_path: Path) -> None:
    foreign.save_folder(RECIPE, RECIPE.model(), tmp_path / "out")
    files = sorted(str(path.relative_to(tmp_path / "out")) for path in (tmp_path / "out").rglob("*.*"))
    weights = "unet/diffusion_pytorch_model.safetensors"
    assert files == ["model_index.json", "scheduler/scheduler_config.json", "unet/config.json", weights]


def test_the_librarys_network_has_its_number_of_parameters() -> None:
    with torch.device("meta"):
        network = NETWORKS["unet2d"]().build((3, 32, 32), 3)
    count = sum(p.numel() for p in network.parameters())
    library = pytest.importorskip("diffusers")
    with torch.device("meta"):
        assert count == sum(p.numel() for p in library.UNet2DModel().parameters()) == 274_056_163


@pytest.mark.parametrize(("levels", "depth"), [(65536, "16 bits"), (0, "real numbers"), (256, "")])
def test_what_depth_a_foreign_file_loses_is_said(
    levels: Literal[0, 256, 65536], depth: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe, source = replace(RECIPE, space=Pixels(levels=levels)), tmp_path / "deep.safetensors"
    Model(recipe, recipe.model().eval(), ()).save(source)
    assert main(["convert", str(source), "--to", "official", "--out", str(tmp_path / "a.pt")]) == 0
    said = capsys.readouterr().out
    assert ("tells no depth" in said) == bool(depth)
    assert depth in said
