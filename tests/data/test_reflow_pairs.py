"""Reflow pairs: written, gone on with and read again, each picture with the noise that it was made from."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import papers
from sfumato.cli import main
from sfumato.conditioning import Augmented, Labels
from sfumato.core.randomness import ImageNoise
from sfumato.data import DataError, open_source
from sfumato.data.reflow import Pairs, write
from sfumato.data.stream import open_for_training
from sfumato.models import Model, load_model
from sfumato.models.generate import Request
from sfumato.models.reflow import check_pairs, pairs
from sfumato.networks.unet import HoUNet
from sfumato.noising import Offset
from sfumato.papers.dpm import DPM
from sfumato.papers.flow_matching import FlowMatching
from sfumato.runtime.folder import RunFolder
from sfumato.train.batches import Batches
from sfumato.train.loop import train
from tests.train import toy

FLOW = FlowMatching(
    (1, 8, 8), HoUNet(channels=32, multipliers=(1,), blocks=1, attention=(), dropout=0.0), Labels(3, 0.2)
)  # fmt: skip
ABOUT = {"model": "mine", "pairs": 10}


def model() -> Model:
    torch.manual_seed(0)
    return Model(FLOW, FLOW.model().eval().requires_grad_(False), ("a", "b", "c"))


def made(first: int, stop: int = 10) -> Iterator[Pairs]:
    generator = torch.Generator().manual_seed(0)
    images = torch.randint(0, 256, (10, 1, 4, 4), generator=generator, dtype=torch.uint8)
    noise = torch.randn(10, 1, 4, 4, generator=generator)
    for i in range(first, stop, 3):
        rows = slice(i, min(i + 3, 10))
        yield Pairs(images[rows], noise[rows], torch.arange(10)[rows] % 2)


@pytest.mark.parametrize("shape", [(1, 8), (1, 2, 4, 4)])
def test_signals_and_clips_come_back_with_their_noise(shape: tuple[int, ...], tmp_path: Path) -> None:
    images, noise = torch.randint(0, 256, (4, *shape), dtype=torch.uint8), torch.randn(4, *shape)
    read = write(tmp_path / "pairs", ABOUT, 4, (), lambda first: iter([Pairs(images, noise, None)]))
    assert read.noise is not None
    assert torch.equal(read.images, images)
    assert torch.equal(read.noise.half(), noise.half())


def interrupted(first: int) -> Iterator[Pairs]:
    yield from made(first, 6)
    raise KeyboardInterrupt


def test_what_is_written_is_read_whole_or_in_two_goes(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", ABOUT, 10, ("x", "y"), made)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "halves", ABOUT, 10, ("x", "y"), interrupted)
    with pytest.raises(DataError, match="beginning of other pairs"):
        write(tmp_path / "halves", {**ABOUT, "model": "another"}, 10, ("x", "y"), made)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "torn", ABOUT, 10, ("x", "y"), interrupted)
    noise = tmp_path / "torn.partial" / "noise.npy"
    noise.write_bytes(noise.read_bytes()[:-1])
    with pytest.raises(DataError, match=r"noise.npy is shorter than its journal says\); remove it first"):
        write(tmp_path / "torn", ABOUT, 10, ("x", "y"), made)
    journal = tmp_path / "torn.partial" / "journal.json"
    for rows in (1.5, -5, True, "6"):
        journal.write_text(json.dumps({**json.loads(journal.read_text()), "rows": rows}))
        with pytest.raises(DataError, match="rows is no count in its journal"):
            write(tmp_path / "torn", ABOUT, 10, ("x", "y"), made)
    told: list[int] = []
    halves = write(tmp_path / "halves", ABOUT, 10, ("x", "y"), made, told.append)
    assert told[0] == 6
    every = [torch.cat(parts) for parts in zip(*((p.images, p.noise) for p in made(0)), strict=True)]
    for images in (whole, halves, open_source(f"reflow:{tmp_path / 'whole'}")):
        assert images.noise is not None
        assert torch.equal(images.images, every[0])
        assert torch.allclose(images.noise.float(), every[1], atol=2e-3)
        assert images.labels is not None
        assert images.labels.tolist() == [0, 1] * 5
    kept = open_source(f"reflow:{tmp_path / 'whole'}?limit=4")
    assert kept.noise is not None
    assert len(kept) == len(kept.noise) == 4
    assert not (tmp_path / "halves.partial").exists()


def test_what_could_not_get_its_name_is_not_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refused(*paths: Path) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as context:
        context.setattr(os, "rename", refused)
        with pytest.raises(OSError, match="No space left"):
            write(tmp_path / "pairs", ABOUT, 10, ("x", "y"), made)
    write(tmp_path / "pairs", ABOUT, 10, ("x", "y"), lambda first: pytest.fail(f"pairs from {first} on are made again"))
    assert sorted(path.name for path in (tmp_path / "pairs").iterdir()) == [
        "images.npy", "noise.npy", "reflow.json", "rows.jsonl", "set.json",
    ]  # fmt: skip


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    write(tmp_path / "pairs", ABOUT, 10, (), lambda first: (replace(p, labels=None) for p in made(first)))
    with pytest.raises(DataError, match="exists"):
        write(tmp_path / "pairs", ABOUT, 10, (), made)
    with pytest.raises(DataError, match="sfumato reflow MODEL --pairs N"):
        open_source(f"reflow:{tmp_path}")
    for read in (open_source, open_for_training):
        with pytest.raises(DataError, match="would cut pictures apart from the noise"):
            read(f"reflow:{tmp_path / 'pairs'}?size=6&crop=random")
    content = (tmp_path / "pairs" / "noise.npy").read_bytes()
    (tmp_path / "pairs" / "noise.npy").write_bytes(content[:-2])
    with pytest.raises(DataError, match=r"noise.npy has 446 bytes, not 448"):
        open_source(f"reflow:{tmp_path / 'pairs'}")
    check_pairs(FLOW, (1, 8, 8))
    wrong: list[tuple[Any, tuple[int, ...], str]] = [
        (FLOW, (3, 8, 8), "the model's space has"),
        (replace(FLOW, conditioning=Augmented()), (1, 8, 8), "leave the augmentation out"),
        (replace(FLOW, noising=Offset()), (1, 8, 8), "bring their noise"),
        (DPM((1, 8, 8)), (1, 8, 8), "models of Gaussian noise"),
    ]
    for recipe, noise, said in wrong:
        with pytest.raises(ValueError, match=said):
            check_pairs(recipe, noise)


def test_a_pair_is_the_noise_and_what_the_model_samples_from_it() -> None:
    net, request = model(), Request(6, 4, "heun", seed=5, precision="float32")
    labels = net.labels(None, 6)
    found = pairs(net, range(2, 6), request, labels)
    sampled = net.sample(6, steps=4, sampler="heun", seed=5, precision="float32")
    assert int((found.images.int() - sampled[2:].int()).abs().max()) <= 1
    assert torch.equal(found.noise, ImageNoise(5, range(2, 6))(torch.empty(4, 1, 8, 8)))
    assert found.labels is not None
    assert found.labels.tolist() == [2, 0, 1, 2]
    with pytest.raises(ValueError, match="draws no noise on its way"):
        pairs(net, range(2), Request(2, 4, "ddim?eta=0.5"), labels)


def test_the_command_makes_pairs_and_training_takes_them(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    model().save(tmp_path / "flow.safetensors")
    flow, out = str(tmp_path / "flow.safetensors"), str(tmp_path / "p")
    words = ["reflow", flow, "--pairs", "12", "--steps", "3", "--out", out]
    assert main([*words, "--sampler", "ddim?eta=1"]) == 2
    assert "draws no noise on its way" in capsys.readouterr().err
    assert not (tmp_path / "p").exists()
    assert not (tmp_path / "p.partial").exists()
    assert main(words) == 0
    assert f"--data reflow:{tmp_path / 'p'} --from" in capsys.readouterr().out
    assert main(words) == 2
    assert "exists" in capsys.readouterr().err
    images = open_source(f"reflow:{tmp_path / 'p'}")
    again = load_model(tmp_path / "flow.safetensors")
    assert torch.equal(images.images, again.sample(12, steps=3, sampler="heun"))
    assert images.noise is not None
    settings = replace(toy.SMALL, images=48, flip=True)
    batch = Batches(images, FLOW.build().times, settings, True)(range(4))
    rows = [images.keys.index(key) for key in batch.keys]
    assert torch.equal(batch.given["eps"], images.noise[rows].float())
    assert torch.allclose(batch.x0, images.images[rows] / 127.5 - 1, atol=1e-6)  # a pair is not mirrored
    train(FLOW, images, settings, tmp_path / "run", config={"recipe": papers.to_json(FLOW)})
    assert RunFolder.open(tmp_path / "run").latest() is not None
    assert "not mirrored, so flip does nothing" in capsys.readouterr().out
