"""The layers: what each computes, against its formula, and that a shortcut taken for speed changes nothing.

DDPM (Ho et al. 2020, appendix B), Improved DDPM (Nichol & Dhariwal 2021), ADM (Dhariwal & Nichol 2021).
"""

from __future__ import annotations

import pytest
import torch
import torch.nn.functional as F

from sfumato.networks import blocks, fir


def test_sinusoids_run_from_rate_1_to_1_over_10000() -> None:
    t = torch.tensor([0.0, 10_000.0])
    ho, openai = blocks.sin_cos(t, 64), blocks.cos_sin(t, 64)
    assert ho.shape == openai.shape == (2, 64)
    assert torch.equal(ho[0], torch.cat([torch.zeros(32), torch.ones(32)]))
    assert torch.equal(openai[0], torch.cat([torch.ones(32), torch.zeros(32)]))
    assert ho[1, 31].item() == pytest.approx(torch.tensor(1.0).sin().item(), abs=1e-4)
    assert openai[1, 63].item() == pytest.approx(torch.tensor(10_000.0 ** (1 / 32)).sin().item(), abs=1e-4)


def test_sinusoids_take_integers_and_odd_widths() -> None:
    t = torch.tensor([3, 500])
    for embedding in (blocks.sin_cos, blocks.cos_sin):
        assert torch.equal(embedding(t, 32), embedding(t.double(), 32))
        odd = embedding(t, 33)
        assert odd.shape == (2, 33)
        assert not odd[:, 32].any()


@pytest.mark.parametrize(("channels", "groups"), [(32, 32), (48, 16), (20, 4), (64, 32)])
def test_group_norm_fits_its_groups_to_the_channels(channels: int, groups: int) -> None:
    assert blocks.GroupNorm(channels).num_groups == groups


@pytest.mark.parametrize("channels", [32, 64, 512])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_group_norm_keeps_values_and_memory_format(channels: int, dtype: torch.dtype) -> None:
    norm = blocks.GroupNorm(channels)
    x = torch.randn(2, channels, 6, 6).to(dtype)
    last = x.contiguous(memory_format=torch.channels_last)
    assert norm(last).is_contiguous(memory_format=torch.channels_last)
    assert norm(x).is_contiguous()
    torch.testing.assert_close(norm(last), norm(x))


def test_group_norm_has_float32_statistics_under_autocast() -> None:
    """With a mean of 100 and a deviation of 1, statistics in bfloat16 would be lost."""
    norm, x = blocks.GroupNorm(64), (100 + torch.randn(2, 64, 16, 16)).bfloat16()
    with torch.autocast("cpu", torch.bfloat16):
        ours = norm(x).float()
    torch.testing.assert_close(ours, norm(x.float()), atol=2e-2, rtol=1e-2)


@pytest.mark.parametrize("heads", [1, 4])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_attention_is_its_formula(heads: int, dtype: torch.dtype) -> None:
    qkv = torch.randn(2, 30, 3 * 16, dtype=torch.float64)
    whole = torch.stack([part.view(2, 30, heads, 16 // heads) for part in qkv.chunk(3, dim=2)])
    q, k, v = whole
    weights = torch.einsum("bnhd,bmhd->bhnm", q, k).div((16 / heads) ** 0.5).softmax(dim=3)
    expected = torch.einsum("bhnm,bmhd->bhnd", weights, v)
    ours = blocks.attend(*blocks.heads_first(qkv.to(dtype), heads))
    tolerance = {torch.float64: 1e-12, torch.float32: 1e-5, torch.bfloat16: 4e-2}[dtype]
    torch.testing.assert_close(ours.double(), expected, atol=tolerance, rtol=tolerance)


def test_both_ways_to_attend_agree() -> None:
    """The plain products for bfloat16 and the fused kernel."""
    q, k, v = torch.randn(3, 2, 4, 50, 16).bfloat16().unbind()
    fused = F.scaled_dot_product_attention(q, k, v)
    torch.testing.assert_close(blocks.attend(q, k, v), fused, atol=2e-2, rtol=2e-2)


def test_attention_layer_starts_as_identity_and_refuses_uneven_heads() -> None:
    x = torch.randn(2, 32, 5, 3)
    assert torch.equal(blocks.Attention(32, heads=4)(x), x)
    with pytest.raises(ValueError, match="attention at 32 channels cannot be split into 3 heads"):
        blocks.Attention(32, heads=3)


@pytest.mark.parametrize("scale_shift", [False, True])
def test_residual_block_starts_as_its_shortcut(scale_shift: bool) -> None:
    x, emb = torch.randn(2, 32, 4, 4), torch.randn(2, 8)
    assert torch.equal(blocks.ResBlock(32, 32, 8, scale_shift=scale_shift)(x, emb), x)
    wider = blocks.ResBlock(32, 64, 8, scale_shift=scale_shift)
    torch.testing.assert_close(wider(x, emb), wider.shortcut(x))
    halved = blocks.ResBlock(32, 32, 8, scale_shift=scale_shift, resample=fir.halve)
    torch.testing.assert_close(halved(x, emb), F.avg_pool2d(x, 2))
