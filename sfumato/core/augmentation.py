"""Non-leaky augmentation: random geometric transforms and the nine numbers that tell a network of them.

Karras et al. 2022, appendix F.2 and table 6, after Karras et al. 2020 (StyleGAN2-ADA, appendix B): mirroring, scale,
rotation, anisotropy and translation, in this order. Resampling is by a cubic kernel (Keys 1981) that is stretched where
an image shrinks, so that nothing aliases, and exact where pixels fall on pixels.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from sfumato.core.distributions import Noise

NUMBERS = 9
"""Conditioning numbers: flips in x and y, log scale n, cos - 1 and sin of the angle, anisotropy n along x and y as
n cos phi and n sin phi, shifts in x and y in eighths of the image. All are 0 for an image as it is."""

SCALE = 0.2
"""Scale and anisotropy are 2^(0.2 n) with a normal n."""
SHIFT = 1 / 8
"""The deviation of a shift, in widths and heights."""
SNAP = 2.0**-20
"""Positions are rounded to this share of a pixel, so that whole steps are exact."""
DRAWS = 14


def augmented(images: Tensor, p: float, mirror: float, noise: Noise) -> tuple[Tensor, Tensor]:
    """Augment images by random geometric transforms: (B, C, H, W) in [-1, 1] -> like them, and the numbers (B, 9).

    Each image's transform follows from its own noise alone, whatever the batch.

    Args:
        p: the probability of each transform but the mirroring left to right.
        mirror: the share that is mirrored left to right.
    """
    drawn = noise(torch.zeros(len(images), DRAWS)).double().cpu()
    numbers, matrices = transforms(drawn, p, mirror, images.shape[-1], images.shape[-2])
    return warped(images, matrices), numbers.float().to(images.device, non_blocking=True)


def transforms(drawn: Tensor, p: float, mirror: float, width: int, height: int) -> tuple[Tensor, Tensor]:
    """Normal noise (B, 14) -> the conditioning numbers (B, 9) and matrices (B, 3, 3), float64, on the host.

    A matrix takes homogeneous positions in the image, x to the right and y down in pixels from the centre, to where
    they lie afterwards.
    """
    uniform = 0.5 * (1 + torch.erf(drawn / math.sqrt(2)))
    on, value, angles = uniform[:, :6] < p, drawn[:, 6:10], math.pi * (2 * uniform[:, 10:12] - 1)
    flip_x, flip_y = (uniform[:, 12] < mirror).double(), (on[:, 0] & (uniform[:, 13] < 0.5)).double()
    size, angle = torch.where(on[:, 1], value[:, 0], 0.0), torch.where(on[:, 2], angles[:, 0], 0.0)
    stretch, axis = torch.where(on[:, 3], value[:, 1], 0.0), angles[:, 1]
    right, down = (torch.where(on[:, 4], value[:, i], 0.0) for i in (2, 3))
    numbers = torch.stack([
        flip_x, flip_y, size, angle.cos() - 1, angle.sin(), stretch * axis.cos(), stretch * axis.sin(), right, down,
    ], dim=1)  # fmt: skip
    flips = _scaling(1 - 2 * flip_x, 1 - 2 * flip_y)
    grown = _scaling(torch.exp2(SCALE * size), torch.exp2(SCALE * size))
    pulled = _rotation(axis) @ _scaling(torch.exp2(SCALE * stretch), torch.exp2(-SCALE * stretch)) @ _rotation(-axis)
    pulled = torch.where((stretch == 0)[:, None, None], torch.eye(3, dtype=torch.float64), pulled)
    moved = _shift(right * SHIFT * width, down * SHIFT * height)
    return numbers, moved @ pulled @ _rotation(angle) @ grown @ flips


def _scaling(x: Tensor, y: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([x, y, torch.ones_like(x)], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    c, s, zero, one = angle.cos(), angle.sin(), torch.zeros_like(angle), torch.ones_like(angle)
    return torch.stack([c, -s, zero, s, c, zero, zero, zero, one], dim=1).unflatten(1, (3, 3))


def _shift(x: Tensor, y: Tensor) -> Tensor:
    matrix = torch.eye(3, dtype=torch.float64).repeat(len(x), 1, 1)
    matrix[:, 0, 2], matrix[:, 1, 2] = x, y
    return matrix


# ---------------------------------------------------------------- resampling


def warped(images: Tensor, matrices: Tensor) -> Tensor:
    """Images (B, C, H, W) resampled under the affine transforms (B, 3, 3) of `transforms`; borders are reflected.

    What stays as it is stays bit for bit. Values are kept within [-1, 1], since a cubic kernel overshoots.
    """
    changed = (matrices != torch.eye(3, dtype=torch.float64)).flatten(1).any(1).nonzero()[:, 0]
    if not len(changed):
        return images
    where = changed.to(images.device, non_blocking=True)
    out = images.clone()
    out[where] = _resampled(images[where], matrices[changed].inverse()).clamp(-1, 1)
    return out


def _resampled(images: Tensor, back: Tensor) -> Tensor:
    """Images under transforms whose inverses are `back` (B, 3, 3)."""
    (height, width), device = images.shape[-2:], images.device
    reach = _narrowing(back)  # from offsets in the source to offsets in units of the kernel
    offsets = torch.stack(torch.meshgrid(_centred(width), _centred(height), indexing="xy"), dim=-1)  # (H, W, x and y)
    source = torch.einsum("bij,hwj->bhwi", back[:, :2, :2], offsets) + back[:, None, None, :2, 2]
    source = source + torch.tensor([(width - 1) / 2, (height - 1) / 2], dtype=torch.float64)
    source = (source / SNAP).round() * SNAP
    whole = source.floor()
    rest, corner = (source - whole).float().to(device), whole.long().to(device)
    of = reach.float().to(device)[:, None, None]
    radius = math.ceil(2 / float(torch.linalg.svdvals(reach).min()) - 1e-9)
    batch = torch.arange(len(images), device=device)[:, None, None]
    total, weights = torch.zeros_like(images), torch.zeros_like(rest[..., 0])
    for dy in range(1 - radius, radius + 1):
        for dx in range(1 - radius, radius + 1):
            apart = torch.tensor([dx, dy], device=device) - rest
            weight = _cubic((of * apart[..., None, :]).sum(-1)).prod(-1)
            x, y = _reflected(corner[..., 0] + dx, width), _reflected(corner[..., 1] + dy, height)
            pixels = images[batch, :, y, x].permute(0, 3, 1, 2)
            total, weights = total + weight[:, None] * pixels, weights + weight
    return total / weights[:, None]


def _centred(n: int) -> Tensor:
    return torch.arange(n, dtype=torch.float64) - (n - 1) / 2


def _narrowing(back: Tensor) -> Tensor:
    """(B, 2, 2): by how much the kernel is wider in each direction of the source, where the image shrinks; inverted."""
    u, s, _ = torch.linalg.svd(back[:, :2, :2])
    narrowed = u @ torch.diag_embed(1 / s.clamp(min=1)) @ u.mT
    return torch.where((s <= 1 + 1e-9).all(1)[:, None, None], torch.eye(2, dtype=torch.float64), narrowed)


def _cubic(d: Tensor) -> Tensor:
    """Keys' cubic convolution kernel with a = -1/2, which reproduces parabolas: 1 at 0, 0 at other whole numbers."""
    d = d.abs()
    near, far = (1.5 * d - 2.5) * d * d + 1, ((-0.5 * d + 2.5) * d - 4) * d + 2
    return torch.where(d < 1, near, torch.where(d < 2, far, 0.0))


def _reflected(i: Tensor, n: int) -> Tensor:
    """Indices reflected about the middles of the first and the last pixel into [0, n)."""
    if n == 1:
        return torch.zeros_like(i)
    i = i.remainder(2 * n - 2)
    return torch.minimum(i, 2 * n - 2 - i)
