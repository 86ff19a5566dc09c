"""Convolutions of clips (B, C, T, H, W) that are right in bfloat16 on a CPU, too.

There oneDNN, in torch 2.13, returns memory that was never written as the gradient of the weights of a 3x3x3 convolution
over two frames, and with a stride of 2 writes past its end. A convolution over images is right, so one over clips is
made of it: the kernel's frames become channels.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def is_unsafe(x: Tensor) -> bool:
    """Whether torch's own convolutions of this clip would be taken in low precision on the CPU."""
    if x.device.type != "cpu":
        return False
    low = x.dtype in (torch.bfloat16, torch.float16)
    return low or (x.dtype == torch.float32 and torch.is_autocast_enabled("cpu"))


def convolve(
    x: Tensor, weight: Tensor, bias: Tensor | None = None, *, stride: int = 1, padding: int = 0, groups: int = 1
) -> Tensor:
    """F.conv3d with the same stride and padding in each dimension.

    Args: x (B, C, T, H, W); weight (C', C / groups, k, k, k); bias (C',).
    """
    frames = weight.shape[2]
    if frames == 1 or not is_unsafe(x):
        return F.conv3d(x, weight, bias, stride=stride, padding=padding, groups=groups)
    padded = F.pad(x, (0, 0, 0, 0, padding, padding))
    count = (padded.shape[2] - frames) // stride + 1
    seen = [padded[:, :, i : i + stride * (count - 1) + 1 : stride] for i in range(frames)]
    stacked = torch.stack(seen, 2).permute(0, 3, 1, 2, 4, 5)  # (B, T', C, k, H, W): each frame with those around it
    images = stacked.flatten(2, 3).flatten(0, 1)
    out = F.conv2d(images, weight.flatten(1, 2), bias, stride=stride, padding=padding, groups=groups)
    return out.unflatten(0, (len(x), count)).transpose(1, 2)


def convolve_transposed(x: Tensor, weight: Tensor, *, stride: int, groups: int = 1) -> Tensor:
    """F.conv_transpose3d; where that would not be safe, in float32."""
    if not is_unsafe(x):
        return F.conv_transpose3d(x, weight, stride=stride, groups=groups)
    with torch.autocast("cpu", enabled=False):
        return F.conv_transpose3d(x.float(), weight.float(), stride=stride, groups=groups).to(x.dtype)


class Conv3d(nn.Conv3d):
    """A convolution of clips, by `convolve`."""

    def forward(self, x: Tensor) -> Tensor:
        (stride, *_), padding = self.stride, self.padding
        assert not isinstance(padding, str)
        return convolve(x, self.weight, self.bias, stride=stride, padding=padding[0], groups=self.groups)
