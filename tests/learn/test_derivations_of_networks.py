"""What the lessons derive of the networks, evaluated on the library's layers: one test a derivation."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from sfumato.claims.toys import linear, normal
from sfumato.inverse import MeanPool
from sfumato.networks.blocks import GroupNorm, ResBlock, attend, cos_sin, sin_cos
from sfumato.networks.instance_norm import InstanceNorm, InstanceNormPlus
from sfumato.networks.unet import ADMUNet, HoUNet


def close(a: Tensor, b: Tensor, rtol: float = 1e-4, atol: float = 1e-5) -> None:
    torch.testing.assert_close(a.detach(), b.detach(), rtol=rtol, atol=atol)


def test_ddpm_embedding() -> None:
    n, t = 256, torch.tensor([3, 4, 300, 600])
    for embed in (sin_cos, cos_sin):
        e = embed(t, 2 * n)
        close(e.square().sum(1), torch.full((4,), float(n)))
        close(e @ e.T, embed(t + 77, 2 * n) @ embed(t + 77, 2 * n).T, atol=0.05)  # of the difference alone
        start, turned = embed(torch.tensor([10, 400]), 2 * n), embed(torch.tensor([35, 425]), 2 * n)
        zero, there = embed(torch.tensor([0]), 2 * n), embed(torch.tensor([25]), 2 * n)
        sines, cosines = (slice(0, n), slice(n, None)) if embed is sin_cos else (slice(n, None), slice(0, n))
        assert float(zero[:, sines].abs().max()) == 0
        s, c = there[:, sines], there[:, cosines]  # the sine and cosine of each angle omega_i 25
        close(turned[:, sines], start[:, sines] * c + start[:, cosines] * s, atol=1e-3)
        close(turned[:, cosines], start[:, cosines] * c - start[:, sines] * s, atol=1e-3)
        gaps = torch.tensor([5, 10, 50, 250, 500])
        similar = (embed(500 + gaps, 2 * n) @ embed(torch.tensor([500]), 2 * n).T)[:, 0] / n
        stated = 1 - (gaps.double().log() + 0.577) / math.log(1e4)
        assert float((similar - stated).abs().max()) < 0.03
        near, far = float(similar[0] - similar[1]), float(similar[3] - similar[4])
        assert near == pytest.approx(far, abs=0.03)
        assert near == pytest.approx(math.log(2) / math.log(1e4), abs=0.03)


def test_ddpm_network() -> None:
    eps = normal(0, 200, 1, 16, 16)
    for k in (2, 4, 8):  # the best guess of the noise from the means over k x k
        guess = MeanPool(k)(eps).repeat_interleave(k, 2).repeat_interleave(k, 3)
        assert float((eps - guess).square().mean()) == pytest.approx(1 - 1 / k**2, abs=0.01)
        assert abs(float(((eps - guess) * guess).mean())) < 1e-12  # what is left is uncorrelated with them
    h, scaled = normal(1, 100_000), normal(1, 100_000)
    for n in range(1, 7):
        F = normal(n + 1, 100_000)
        h, scaled = h + F, (scaled + F) / math.sqrt(2)
        assert float(h.var()) == pytest.approx(1 + n, rel=0.02)
        assert float(scaled.var()) == pytest.approx(1, rel=0.02)
    torch.manual_seed(0)
    block = ResBlock(32, 32, 8)
    x = normal(0, 2, 32, 8, 8).float()
    close(block(x, torch.randn(2, 8)), x)
    for backbone in (HoUNet(channels=32, blocks=1), ADMUNet(channels=32, multipliers=(1, 2), blocks=1, attention=())):
        out = backbone.build((3, 16, 16), 3)(torch.randn(2, 3, 16, 16), torch.tensor([5.0, 900.0])).detach()
        noise = torch.randn(2, 3, 16, 16)
        assert float((out - noise).square().mean()) == pytest.approx(float(noise.square().mean()), rel=1e-3)
    d = 64
    q, k, v = (normal(n, 1, 1, 256, d) for n in (3, 4, 5))
    products = (q @ k.transpose(-1, -2)).flatten()
    assert float(products.var()) == pytest.approx(d, rel=0.05)
    weights = (q @ k.transpose(-1, -2) / math.sqrt(d)).softmax(-1)
    close(attend(q.float(), k.float(), v.float()).double(), weights @ v, rtol=1e-3, atol=1e-4)
    sharp = (q @ k.transpose(-1, -2)).softmax(-1)
    assert float(weights.amax(-1).mean()) < 0.2 < 0.6 < float(sharp.amax(-1).mean())
    assert products.numel() == 65_536


def test_adm_adagn() -> None:
    h, b = 0.5 + 2 * normal(0, 1, 8, 24, 24).float(), normal(1, 8).float()
    h = h - h.mean((2, 3), keepdim=True) + 0.5  # so that h and the constants are uncorrelated
    norm = GroupNorm(8, groups=2, eps=0.0)
    added = norm(h + b[None, :, None, None])
    for group in (slice(0, 4), slice(4, 8)):
        of_h, of_b = h[:, group], b[group, None, None]
        scale = (of_h.var(correction=0) + of_b.var(correction=0)).sqrt()
        close(added[:, group], (of_h - of_h.mean() + of_b - of_b.mean()) / scale, rtol=1e-3, atol=1e-4)
    close(norm(h + 7), norm(h), atol=1e-4)
    alone = GroupNorm(8, groups=8, eps=0.0)
    close(alone(h + b[None, :, None, None]), alone(h), atol=1e-4)
    close(norm(5 * h), norm(h), atol=1e-4)

    torch.manual_seed(0)
    block = ResBlock(8, 8, 4, scale_shift=True, act=lambda x: x)
    torch.nn.init.normal_(block.conv2.weight)
    emb = torch.randn(1, 4)
    assert block.emb is not None
    scale, shift = (c[..., None, None] for c in block.emb(emb).chunk(2, dim=1))
    inner = block.norm2(block.conv1(block.norm1(h)))
    close(block(h, emb), h + block.conv2((1 + scale) * inner + shift), rtol=1e-3, atol=1e-3)

    # the gain that the best denoiser of Gaussians needs, against one gain for all levels
    process, v, times = linear(), 0.25, torch.arange(1, 1001)
    alpha, sigma = process.schedule.alpha_sigma(times)
    power = alpha**2 * v + sigma**2
    gain = sigma / power
    least = 1 - gain * sigma  # E (eps - g x)^2 of unit noise: the variance of eps given x

    def error(w: Tensor | float) -> float:
        return float((1 - 2 * w * sigma + w**2 * power).mean())

    assert error(gain) == pytest.approx(float(least.mean()), rel=1e-9)
    one = float((gain * power).mean() / power.mean())
    more = [error(w) - float(least.mean()) for w in (one, one + 0.1)]
    assert more[0] == pytest.approx(float(((gain - one) ** 2 * power).mean()), rel=1e-6)
    assert 0.005 < more[0] < more[1]


def test_ncsn_normalisation() -> None:
    x, t = normal(0, 2, 5, 6, 6).float(), torch.tensor([0, 3])
    torch.manual_seed(0)
    plain, plus = InstanceNorm(5, levels=4), InstanceNormPlus(5, levels=4)
    constants = torch.tensor([3.0, -1.0, 0.5, 2.0, -4.0])[None, :, None, None]
    close(plain(x + constants, t), plain(x, t), atol=1e-3)
    assert float((plus(x + constants, t) - plus(x, t)).detach().abs().max()) > 0.1
    close(plus(x + 3, t), plus(x, t), atol=1e-3)
    assert float((plain(x, t) - plain(x, t + torch.tensor([1, 0]))).detach().abs().max()) > 1e-3
    mean, std = x.mean((2, 3), keepdim=True), x.std((2, 3), correction=0, keepdim=True)
    m, v = mean.mean(1, keepdim=True), mean.std(1, keepdim=True)
    gamma, alpha, beta = (c[..., None, None] for c in plus.weight[t].chunk(3, dim=-1))
    close(plus(x, t), gamma * ((x - mean) / std + alpha * (mean - m) / v) + beta, atol=1e-3)
