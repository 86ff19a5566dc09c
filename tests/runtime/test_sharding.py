"""A network that several processes share computes what it did whole, and its checkpoints fit any number of them."""

from __future__ import annotations

import copy
import os
import pickle
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.distributed as dist

from sfumato import cli
from sfumato.core.randomness import ImageNoise
from sfumato.models import load_model
from sfumato.papers.presets import PRESETS
from sfumato.runtime import checkpoint, sharding, weights
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.folder import RunFolder
from sfumato.train.ema import EMA
from tests.train import toy

CPU = torch.device("cpu")
ABOUT = {"recipe": {"paper": "toy"}, "ema": []}


@pytest.fixture
def alone() -> Iterator[None]:
    """A group of one process, which shards into one part."""
    dist.init_process_group("gloo", store=dist.HashStore(), rank=0, world_size=1)
    yield
    dist.destroy_process_group()


# ---------------------------------------------------------------- networks


@toy.shards
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("name", ["dpm/swiss_roll", "ddpm/digits", "adm/digits", "adm_classifier/digits", "ncsn/digits",
                                  "ncsnv2/digits", "score_sde/digits"])  # fmt: skip
def test_every_kind_of_network_can_be_sharded(name: str) -> None:
    recipe = PRESETS[name].recipe
    torch.manual_seed(0)
    whole = recipe.model().train()
    sharded = copy.deepcopy(whole)
    sharding.shard_network(sharded, CPU)
    assert all(sharding.is_sharded(p) for p in sharded.parameters())
    x0 = torch.rand(2, *recipe.shape) * 2 - 1
    diffusion = recipe.build()
    t, _ = diffusion.times.draw(torch.tensor([0.2, 0.7], dtype=torch.float64))
    labels = {"y": torch.tensor([0, 1])} if recipe.conditioning.classes else {}
    found = []
    for network in (whole, sharded):
        torch.manual_seed(1)
        losses = diffusion.loss(network, x0, t, ImageNoise(0, range(2)), **labels)
        losses.sum().backward()
        found.append([losses.detach(), *(sharding.whole(p.grad) for p in network.parameters() if p.grad is not None)])
    assert len(found[0]) == len(found[1]) > 1
    for a, b in zip(*found, strict=True):
        torch.testing.assert_close(b, a)


@toy.shards
@pytest.mark.usefixtures("alone")
def test_a_sharded_network_can_be_averaged() -> None:
    """Whole weights that a forward pass left behind would hide the average."""
    network = toy.Toy(dropout=0.0).model()
    sharding.shard_network(network, CPU)
    ema = EMA(network, (0.9,))
    inputs = torch.randn(2, 1, 8, 8), torch.ones(2), torch.zeros(2, dtype=torch.long)
    first = network(*inputs)
    first.sum().backward()
    with torch.no_grad():
        for parameter in network.parameters():
            parameter.mul_(2)
    said = []
    for _ in range(2):
        with torch.inference_mode():
            said.append(network(*inputs))
        with ema.swapped(0.9) as averaged, torch.inference_mode():
            said.append(averaged(*inputs))
    torch.testing.assert_close(said[1], first.detach())
    assert (said[0] - said[1]).abs().max() > 0.1
    assert torch.equal(said[0], said[2])
    assert torch.equal(said[1], said[3])


@toy.shards
@pytest.mark.usefixtures("alone")
@pytest.mark.parametrize("precision", ["bf16", "float32"])
def test_a_sharded_network_makes_pictures(precision: str) -> None:
    model = load_model("ddpm/emoji32")
    sharded = replace(model, network=copy.deepcopy(model.network))
    sharding.shard_network(sharded.network, CPU)
    with torch.no_grad():  # pictures are made after a step or more
        sharded.network(torch.zeros(1, *model.recipe.shape), torch.ones(1), y=torch.zeros(1, dtype=torch.long))
    ours, theirs = (m.sample(2, steps=2, precision=precision).int() for m in (sharded, model))
    assert (ours - theirs).abs().max() <= (1 if precision == "float32" else 16)
    assert (ours - theirs).abs().float().mean() < 1


@pytest.mark.usefixtures("alone")
def test_a_torch_that_cannot_shard_here_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "current_stream", lambda: object())
    with pytest.raises(ValueError, match=r"shards networks on GPUs only; update it, or leave out --train\.shard"):
        sharding.shard_network(toy.Toy().model(), CPU)


# ---------------------------------------------------------------- runs


@toy.shards
def test_two_processes_that_share_the_weights_are_one(tmp_path: Path) -> None:
    """What they leave can be sampled from, and gone on with by one process: the same run."""
    one, two = tmp_path / "one", tmp_path / "two"
    options: dict[str, Any] = {"accumulate": 2, "preview_images": 1, "validate_every": 0.5, "preview_every": 0.5}
    toy.run(one, toy.Toy(dropout=0.0), preview=toy.first_look, **options)
    said = toy.launch(two, dropout=0.0, shard=True, look=True, **options)
    assert "2 processes, which share the weights" in said
    assert [path.name for path in RunFolder.open(two).checkpoints()] == ["000000240.parts"]
    toy.assert_close(one, two)
    looks = [RunFolder.open(out).metrics("preview") for out in (one, two)]
    for a, b in zip(*looks, strict=True):
        assert a["online"]["mean"] == pytest.approx(b["online"]["mean"], abs=1)
        assert a["ema"]["mean"] == pytest.approx(b["ema"]["mean"], abs=1)
    for out, shard in ((one, False), (two, True)):
        toy.run(out, toy.Toy(dropout=0.0), resume=True, images=320, shard=shard, accumulate=2, ema=(0.99, 0.5))
    toy.assert_close(one, two)


@pytest.mark.slow
@toy.shards
def test_one_process_hands_over_to_two_that_share_the_weights(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    for out in (one, two):
        toy.run(out, toy.Toy(dropout=0.0))
    toy.run(one, toy.Toy(dropout=0.0), resume=True, images=400)
    toy.launch(two, dropout=0.0, shard=True, resume=True, images=400)
    assert {path.suffix for path in RunFolder.open(two).checkpoints()} == {".safetensors", ".parts"}
    toy.assert_close(one, two)


@pytest.mark.slow
@toy.shards
def test_the_command_trains_what_another_samples_from(tmp_path: Path) -> None:
    out = tmp_path / "run"
    words = ["ddpm/digits", "--train.images", "256", "--train.shard", "--train.preview-steps", "2", "--out", str(out)]
    said = toy.torchrun("-m", "sfumato", "train", *words)
    assert "2 processes, which share the weights" in said
    assert f"sfumato sample {out}" in said
    assert (out / "report.html").exists()
    assert [path.name for path in RunFolder.open(out).checkpoints()] == ["000000256.parts"]
    assert cli.main(["sample", str(out), "-n", "4", "--steps", "2"]) == 0


# ---------------------------------------------------------------- checkpoints in parts


def example(folder: Path) -> tuple[Path, dict[str, torch.Tensor]]:
    """A checkpoint in one part."""
    path = folder / "000000008.parts"
    torch.manual_seed(0)
    tensors = {f"model/{name}": value for name, value in toy.Net(4, 0.0, 3).state_dict().items()}
    checkpoint.save_parts(path, tensors, ABOUT)
    return path, tensors


@pytest.mark.usefixtures("alone")
def test_everything_comes_back(tmp_path: Path) -> None:
    path, tensors = example(tmp_path)
    saved = checkpoint.read(path)
    assert saved.recipe == {"paper": "toy"}
    assert saved.weights == ("online",)
    assert toy.same(saved.tensors(""), tensors)
    network = toy.Net(4, 0.0, 3)
    assert weights.load_weights(saved, network) == "online"
    assert torch.equal(network.first.weight, tensors["model/first.weight"])
    with pytest.raises(CheckpointError, match="another architecture"):
        weights.load_weights(saved, toy.Net(5, 0.0, 3))
    assert [child.name for child in tmp_path.iterdir()] == [path.name]


@pytest.mark.usefixtures("alone")
def test_what_cannot_be_written_leaves_what_was_there(tmp_path: Path) -> None:
    path, tensors = example(tmp_path)
    (tmp_path / ".000000016.parts.tmp").write_text("in the way")
    with pytest.raises(OSError, match=r"000000016\.parts"):
        checkpoint.save_parts(tmp_path / "000000016.parts", tensors, ABOUT)
    assert toy.same(checkpoint.read(path).tensors(""), tensors)
    assert not (tmp_path / "000000016.parts").exists()


@pytest.mark.usefixtures("alone")
def test_a_damaged_folder_is_one_clear_line(tmp_path: Path) -> None:
    path, _ = example(tmp_path)
    part = next(path.glob("*.distcp"))
    whole = part.read_bytes()
    part.write_bytes(whole[:-200])
    with pytest.raises(CheckpointError, match="is truncated"):
        checkpoint.read(path)
    part.write_bytes(bytes(len(whole)))
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read(path).tensors("model/")
    part.unlink()
    with pytest.raises(CheckpointError, match=r"__0_0\.distcp is missing"):
        checkpoint.read(path)
    (path / "about.json").write_text('{"format": 9}')
    with pytest.raises(CheckpointError, match=r"about\.json is not what was written, by its checksum"):
        checkpoint.read(path)
    (path / "checksums.json").unlink()
    for text, words in (("[]", "is damaged"), ("{", "is damaged"), ('{"format": 9}', r"distcp is missing")):
        (path / "about.json").write_text(text)
        with pytest.raises(CheckpointError, match=words):
            checkpoint.read(path)
    part.write_bytes(whole)
    with pytest.raises(CheckpointError, match="has format 9"):
        checkpoint.read(path)


class Evil:
    """Runs a command when it is unpickled."""

    def __init__(self, command: str) -> None:
        self.command = command

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (self.command,)


@pytest.mark.usefixtures("alone")
def test_an_index_that_asks_for_code_is_not_read(tmp_path: Path) -> None:
    path, _ = example(tmp_path)
    (path / "checksums.json").unlink()
    evil = pickle.dumps(Evil(f"touch {tmp_path / 'ran'}"))
    for content, words in ((evil, r"posix\.system|nt\.system"), (b"", "damaged"), (pickle.dumps([]), "damaged")):
        (path / ".metadata").write_bytes(content)
        with pytest.raises(CheckpointError, match=words):
            checkpoint.read(path)
    (path / ".metadata").unlink()
    with pytest.raises(CheckpointError, match=r"\.metadata is missing"):
        checkpoint.read(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.usefixtures("alone")
def test_a_run_folder_whose_newest_checkpoint_is_in_parts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every command takes it, and a damaged one is passed over."""
    run = RunFolder.create(tmp_path / "run", {})
    emoji = load_model("ddpm/emoji32")
    emoji.save(run.path / "checkpoints" / "000000008.safetensors")
    source = checkpoint.read(run.path / "checkpoints" / "000000008.safetensors")
    path = run.save_checkpoint(16, source.tensors(""), source.about, parts=True)
    for target in (run.path, path):
        found = load_model(target)
        assert found.about["path"] == str(path)
        assert toy.same(found.network.state_dict(), emoji.network.state_dict())
    assert cli.main(["sample", str(run.path), "-n", "2", "--steps", "1", "--out", str(tmp_path / "ours")]) == 0
    words = ["-n", "8", "--steps", "1", "--metrics", "fd", "--training", "none", "--cache", str(tmp_path / "cache")]
    out = ["--out", str(tmp_path / "evaluation")]
    assert cli.main(["evaluate", str(path), "--reference", "emoji32:test?limit=16", *words, *out]) == 0
    assert "FD-emoji32" in capsys.readouterr().out
    run.save_checkpoint(24, source.tensors(""), source.about, parts=True)
    assert [p.name for p in run.checkpoints()] == ["000000024.parts", "000000016.parts"]
    (run.path / "checkpoints" / "000000024.parts" / "about.json").unlink()
    assert run.latest_checkpoint() == path
    run.rewind(8)
    assert not list((run.path / "checkpoints").iterdir())
