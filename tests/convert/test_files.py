"""Foreign files: what is opened, what stays shut, and what names and shapes alone tell of a network."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch

from sfumato import convert
from sfumato.convert.facts import Facts, recognise
from sfumato.convert.files import ForeignError, read_state

UNET: dict[str, Any] = {
    "in_channels": 3, "model_channels": 32, "out_channels": 6, "num_res_blocks": 2, "attention_resolutions": [2],
    "channel_mult": [1, 2], "num_heads": 2, "use_scale_shift_norm": True, "resblock_updown": True,
}  # fmt: skip
ENCODER: dict[str, Any] = {**UNET, "image_size": 16, "out_channels": 7, "pool": "attention"}
DDIM: dict[str, Any] = {
    "type": "simple", "in_channels": 3, "out_ch": 3, "ch": 32, "ch_mult": [1, 2, 2], "num_res_blocks": 2,
    "attn_resolutions": [8], "dropout": 0.0, "resamp_with_conv": True,
}  # fmt: skip


def told(layout: str, args: dict[str, Any]) -> Facts:
    """What the shapes of an official network tell."""
    return recognise(convert.official_shapes(layout, args))


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (1, 2), (2, 4), (3, 3), (3, 6), (4, 4), (4, 8)])
@pytest.mark.parametrize("residual", [True, False])
def test_channels_and_variance(channels: int, outputs: int, residual: bool) -> None:
    """Two or four channels are an image too, not two that an upsampler sees."""
    args = {**UNET, "in_channels": channels, "out_channels": outputs, "resblock_updown": residual}
    facts = told("guided/UNetModel", args)
    assert (facts.image_channels, facts.variance, facts.low_res) == (channels, outputs > channels, False)
    assert facts.residual is residual


@pytest.mark.parametrize(("channels", "outputs"), [(1, 1), (1, 2), (3, 3), (3, 6)])
def test_an_upsampler_sees_two_images(channels: int, outputs: int) -> None:
    facts = told("improved/SuperResModel", {**UNET, "in_channels": channels, "out_channels": outputs})
    assert (facts.image_channels, facts.variance, facts.low_res) == (channels, outputs > channels, True)


@pytest.mark.parametrize(
    ("multipliers", "blocks", "attention"),
    [((1,), 2, (1,)), ((1, 2), 1, ()), ((1, 1, 2), 2, (2, 4)), ((0.5, 1, 1.5), 3, (1, 4)), ((1, 1, 1), 2, (1, 2, 4))],
)
@pytest.mark.parametrize("layout", ["guided/UNetModel", "guided/EncoderUNetModel"])
def test_levels(layout: str, multipliers: tuple[float, ...], blocks: int, attention: tuple[int, ...]) -> None:
    args = UNET if layout == "guided/UNetModel" else ENCODER
    more = {"model_channels": 64, "channel_mult": multipliers, "num_res_blocks": blocks}
    facts = told(layout, {**args, **more, "attention_resolutions": attention})
    assert (facts.multipliers, facts.blocks, facts.attention) == (multipliers, blocks, attention)
    assert facts.family == ("openai" if layout == "guided/UNetModel" else "classifier")


@pytest.mark.parametrize("pool", ["attention", "adaptive", "spatial", "spatial_v2"])
def test_pools(pool: str) -> None:
    facts = told("guided/EncoderUNetModel", {**ENCODER, "pool": pool})
    assert (facts.pool, facts.classes) == (pool, 7)


def test_a_classifier_whose_levels_look_alike_is_not_guessed() -> None:
    """Residual blocks that resample look as those that do not, so equal widths without attention say too little."""
    args = {**ENCODER, "channel_mult": [1, 1, 1, 1], "num_res_blocks": 3, "attention_resolutions": []}
    with pytest.raises(ForeignError, match="fall into levels in 4 ways"):
        told("guided/EncoderUNetModel", args)


def test_ddim() -> None:
    facts = told("ddim/Model", {"model": {**DDIM, "out_ch": 6}, "data": {"image_size": 16}})
    assert facts == Facts("ddim", 3, 32, (1, 2, 2), 2, (2,), variance=True)


# ---------------------------------------------------------------- files


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "is empty"),
        (b"<!DOCTYPE html><html>", "no PyTorch file"),
        (b"version https://git-lfs.github.com/spec/v1\n", "no PyTorch file"),
        (b"\x89PNG\r\n\x1a\n" + bytes(64), "no PyTorch file"),
        (b"PK\x05\x06" + bytes(18), "no PyTorch file"),
    ],
)
def test_what_is_no_pytorch_file(content: bytes, words: str, tmp_path: Path) -> None:
    """A failed download is not called a pickle with code."""
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(ForeignError, match=words) as error:
        read_state(path)
    assert "run code" not in str(error.value)


@pytest.mark.parametrize("found", [torch.zeros(2), [torch.zeros(2)], {0: torch.zeros(2)}, {}, {"model": {"step": 3}}])
def test_what_holds_no_weights(found: Any, tmp_path: Path) -> None:
    torch.save(found, tmp_path / "model.pt")
    with pytest.raises(ForeignError, match=r"no network's weights|without weights"):
        read_state(tmp_path / "model.pt")


@pytest.mark.parametrize("zipped", [True, False])
def test_both_of_torchs_formats(zipped: bool, tmp_path: Path) -> None:
    state = OrderedDict(a=torch.arange(3.0), b=torch.zeros(2, 2).half())
    torch.save(state, tmp_path / "model.pt", _use_new_zipfile_serialization=zipped)
    back, notes, _ = read_state(tmp_path / "model.pt")
    assert list(back) == ["a", "b"]
    assert notes == []
    assert all(torch.equal(back[name], state[name]) for name in state)
