"""Checkpoints come back bit for bit, are written whole or not at all, and say clearly what is wrong with a file."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import resource
from pathlib import Path

import pytest
import safetensors.torch
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sfumato.runtime import checkpoint, tensor_file, weights
from sfumato.runtime.checkpoint import CheckpointError
from sfumato.runtime.files import whole_file
from tests.train import toy

ABOUT = {"recipe": {"paper": "toy"}, "ema": ["0.99"], "progress": {"images": 3}}


def example(path: Path, width: int = 4) -> dict[str, torch.Tensor]:
    torch.manual_seed(0)
    online, average = toy.Net(width, 0.0, 3).state_dict(), toy.Net(width, 0.0, 3).state_dict()
    tensors = {f"model/{k}": v for k, v in online.items()} | {f"ema/0.99/{k}": v for k, v in average.items()}
    tensors["optimizer/last.bias/step"] = torch.tensor(7.0)
    checkpoint.save(path, tensors, ABOUT)
    return tensors


def test_everything_comes_back(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = example(path)
    saved = checkpoint.read(path)
    assert saved.recipe == {"paper": "toy"}
    assert saved.progress == {"images": 3}
    assert saved.train == saved.data == {}
    assert saved.weights == ("online", "0.99")
    assert saved.about["versions"]["torch"] == torch.__version__
    assert toy.same(saved.tensors(""), tensors)
    assert toy.same(safetensors.torch.load_file(path), tensors)  # the reference reader agrees
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_every_kind_of_tensor(tmp_path: Path) -> None:
    torch.manual_seed(0)
    tensors = {str(kind): (torch.randn(3, 2) * 5).to(kind) for kind in tensor_file.DTYPES}
    tensors |= {"scalar": torch.tensor(2.5), "empty": torch.zeros(0, 3), "odd": torch.ones(3, dtype=torch.uint8)}
    tensors["strided"] = torch.randn(2, 3, 4, 4).to(memory_format=torch.channels_last)
    checkpoint.save(tmp_path / "a", tensors, ABOUT)
    assert toy.same(checkpoint.read(tmp_path / "a").tensors(""), tensors)
    assert toy.same(safetensors.torch.load_file(tmp_path / "a"), tensors)


@pytest.mark.parametrize("meta", [True, False])
def test_weights_go_into_a_network(tmp_path: Path, meta: bool) -> None:
    path = tmp_path / "a.safetensors"
    tensors = example(path)
    saved = checkpoint.read(path)
    for wanted, found in ((None, "0.99"), ("online", "online"), ("0.990", "0.99")):
        with torch.device("meta" if meta else "cpu"):
            net = toy.Net(4, 0.0, 3)
        assert weights.load_weights(saved, net, wanted) == found
        prefix = "model/" if found == "online" else "ema/0.99/"
        assert all(torch.equal(v, tensors[prefix + k]) for k, v in net.state_dict().items())
    with pytest.raises(CheckpointError, match=r"holds no weights '0.5'; it holds online, 0.99"):
        weights.load_weights(saved, net, "0.5")


def test_another_architecture_is_named_by_its_first_differences(tmp_path: Path) -> None:
    example(tmp_path / "a.safetensors")
    with pytest.raises(CheckpointError) as caught:
        weights.load_weights(checkpoint.read(tmp_path / "a.safetensors"), toy.Net(6, 0.0, 0), "online")
    message = str(caught.value)
    assert "another architecture: first.weight is (4, 1, 3, 3) in the file, (6, 1, 3, 3) in the network" in message
    assert message.endswith("; and 1 more")
    assert message.count(" in the file") == 5
    assert "\n" not in message


@pytest.mark.parametrize("share", [0.0, 1e-9, 0.001, 0.01, 0.2, 0.5, 0.9, 0.999])
def test_a_truncated_file_is_called_that(tmp_path: Path, share: float) -> None:
    path = tmp_path / "a.safetensors"
    example(path)
    whole = path.read_bytes()
    path.write_bytes(whole[: int(len(whole) * share) + (share > 0)])
    with pytest.raises(CheckpointError, match=r"truncated|empty"):
        checkpoint.read(path)


def test_every_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    example(path)
    whole = path.read_bytes()
    header = int.from_bytes(whole[:8], "little")
    edges = [header - 1, header, header + 7, header + 8, header + 9, len(whole) - 1]
    for length in [*range(20), *range(100, len(whole), 97), *edges]:
        path.write_bytes(whole[:length])
        with pytest.raises(CheckpointError, match=r"truncated|empty"):
            checkpoint.read(path)


@settings(max_examples=60, deadline=None)
@given(st.binary(max_size=64))
def test_any_bytes_give_one_clear_error(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    with pytest.raises(CheckpointError) as caught:
        checkpoint.read(path)
    assert "\n" not in str(caught.value)


def test_foreign_files(tmp_path: Path) -> None:
    path = tmp_path / "x"
    safetensors.torch.save_file({"a": torch.ones(1)}, path)
    with pytest.raises(CheckpointError, match="is a safetensors file, but not a checkpoint of sfumato"):
        checkpoint.read(path)
    for protocol in (None, 2):
        if protocol:
            path.write_bytes(pickle.dumps({"a": 1}, protocol))
        else:
            torch.save({"a": torch.ones(1)}, path)
        with pytest.raises(CheckpointError, match="is a pickle, which can carry code, so it was not opened"):
            checkpoint.read(path)
    path.write_bytes(b"hello, I am a text and not a checkpoint")
    with pytest.raises(CheckpointError, match="is not a safetensors file"):
        checkpoint.read(path)
    text = json.dumps({"__metadata__": {checkpoint.KEY: json.dumps({"format": 99})}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="has format 99; this version of sfumato reads format 1"):
        checkpoint.read(path)
    text = json.dumps({"__metadata__": {checkpoint.KEY: "{nothing"}}).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text)
    with pytest.raises(CheckpointError, match="is damaged"):
        checkpoint.read(path)
    with pytest.raises(FileNotFoundError):
        checkpoint.read(tmp_path / "absent")


def test_light_weights(tmp_path: Path) -> None:
    tensors = example(tmp_path / "a.safetensors")
    whole = checkpoint.read(tmp_path / "a.safetensors")
    for half in (False, True):
        weights.save_weights(tmp_path / "light.safetensors", whole, half=half)
        light = checkpoint.read(tmp_path / "light.safetensors")
        assert light.weights == ("0.99",)
        assert light.recipe == whole.recipe
        net = toy.Net(4, 0.0, 3)
        assert weights.load_weights(light, net) == "0.99"
        for name, value in net.state_dict().items():
            assert value.dtype == torch.float32
            torch.testing.assert_close(value, tensors[f"ema/0.99/{name}"], rtol=1e-3 if half else 0, atol=0)
        with pytest.raises(CheckpointError, match=r"it holds 0\.99"):
            weights.load_weights(light, net, "online")
    weights.save_weights(tmp_path / "online.safetensors", whole, "online")
    assert weights.load_weights(checkpoint.read(tmp_path / "online.safetensors"), net) == "online"


def test_a_full_disk_leaves_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    tensors = example(path)
    before = path.read_bytes()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (len(before) // 2, hard))
    try:
        with pytest.raises(OSError, match=r"a\.safetensors") as caught:
            checkpoint.save(path, {**tensors, "more": torch.zeros(100)}, ABOUT)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.strerror
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["a.safetensors"]


def test_no_folder_to_write_in(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        checkpoint.save(tmp_path / "absent" / "a.safetensors", {}, ABOUT)
    (tmp_path / "a.safetensors").mkdir()
    with pytest.raises(OSError, match=r"a\.safetensors"):
        checkpoint.save(tmp_path / "a.safetensors", {}, ABOUT)
    assert os.listdir(tmp_path) == ["a.safetensors"]


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write anywhere")
def test_no_permission(tmp_path: Path) -> None:
    tmp_path.chmod(0o500)
    with pytest.raises(PermissionError, match=r"a\.safetensors"):
        checkpoint.save(tmp_path / "a.safetensors", {}, ABOUT)
    tmp_path.chmod(0o700)


def test_an_interruption_while_writing_leaves_nothing(tmp_path: Path) -> None:
    with contextlib.suppress(KeyboardInterrupt), whole_file(tmp_path / "a") as file:
        file.write(b"half")
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []
