"""The Inception-v3 of December 2015 that FID is defined by (Szegedy et al. 2015; Heusel et al. 2017), from its weights.

It differs from later ones: pools leave their padding out, the last is a maximum, and there are 1008 logits. Parameters
are named as in torch-fidelity and pytorch-fid, whose files fit.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sfumato.convert.files import read_state
from sfumato.evaluate.nets import Features

Size = int | tuple[int, int]
Step = tuple[int, Size] | list[tuple[int, Size]] | Callable[[Tensor], Tensor]
"""One step of a branch: a convolution (channels, kernel), several side by side, or a pool."""

mean_pool = partial(F.avg_pool2d, kernel_size=3, stride=1, padding=1, count_include_pad=False)
max_pool = partial(F.max_pool2d, kernel_size=3, stride=1, padding=1)
halve = partial(F.max_pool2d, kernel_size=3, stride=2)


class Convolution(nn.Module):
    """Convolution without bias, batch norm and ReLU; it keeps the size unless `stride` is 2 or `valid`."""

    def __init__(self, channels: int, out: int, kernel: Size, stride: int = 1, valid: bool = False) -> None:
        super().__init__()
        height, width = (kernel, kernel) if isinstance(kernel, int) else kernel
        padding = (0, 0) if valid or stride == 2 else (height // 2, width // 2)
        self.conv = nn.Conv2d(channels, out, (height, width), stride, padding, bias=False)
        self.bn = nn.BatchNorm2d(out, eps=1e-3)

    def forward(self, x: Tensor) -> Tensor:
        return torch.relu(self.bn(self.conv(x)))


class Block(nn.Module):
    """Branches side by side, their outputs joined.

    Args:
        channels: of the input.
        stride: 2 where the last convolution of each branch halves the image.
        branches: by name. Convolutions of a branch are NAME_1, NAME_2, ..., those side by side NAME_2a and NAME_2b, and
            a branch of one convolution carries its name alone.
    """

    def __init__(self, channels: int, stride: int = 1, **branches: list[Step]) -> None:
        super().__init__()
        self.branches: list[list[list[str] | Callable[[Tensor], Tensor]]] = []
        for name, steps in branches.items():
            inside, number = channels, 0
            plan: list[list[str] | Callable[[Tensor], Tensor]] = []
            convolutions = sum(not callable(step) for step in steps)
            for step in steps:
                if callable(step):
                    plan.append(step)
                    continue
                number += 1
                group = step if isinstance(step, list) else [step]
                names = [f"{name}_{number}" if convolutions > 1 else name]
                names = [names[0] + letter for letter in "ab"] if len(group) == 2 else names
                for label, (out, kernel) in zip(names, group, strict=True):
                    self.add_module(label, Convolution(inside, out, kernel, stride if number == convolutions else 1))
                inside = group[0][0]
                plan.append(names)
            self.branches.append(plan)

    def forward(self, x: Tensor) -> Tensor:
        outputs = []
        for plan in self.branches:
            y = x
            for step in plan:
                y = step(y) if callable(step) else torch.cat([self.get_submodule(name)(y) for name in step], 1)
            outputs.append(y)
        return torch.cat(outputs, 1)


def _block_a(channels: int, pool: int) -> Block:
    return Block(
        channels, branch1x1=[(64, 1)], branch5x5=[(48, 1), (64, 5)], branch3x3dbl=[(64, 1), (96, 3), (96, 3)],
        branch_pool=[mean_pool, (pool, 1)],
    )  # fmt: skip


def _block_c(width: int) -> Block:
    row, column = (width, (1, 7)), (width, (7, 1))
    return Block(
        768, branch1x1=[(192, 1)], branch7x7=[(width, 1), row, (192, (7, 1))],
        branch7x7dbl=[(width, 1), column, row, column, (192, (1, 7))], branch_pool=[mean_pool, (192, 1)],
    )  # fmt: skip


def _block_e(channels: int, pool: Callable[[Tensor], Tensor]) -> Block:
    both: list[tuple[int, Size]] = [(384, (1, 3)), (384, (3, 1))]
    return Block(
        channels, branch1x1=[(320, 1)], branch3x3=[(384, 1), both], branch3x3dbl=[(448, 1), (384, 3), both],
        branch_pool=[pool, (192, 1)],
    )  # fmt: skip


class Inception(nn.Module):
    """uint8 (N, 3, H, W) -> 2048 pooled features, 7 channels of the 17x17 map (2023), 1008 logits without bias."""

    def __init__(self) -> None:
        super().__init__()
        self.Conv2d_1a_3x3 = Convolution(3, 32, 3, stride=2)
        self.Conv2d_2a_3x3 = Convolution(32, 32, 3, valid=True)
        self.Conv2d_2b_3x3 = Convolution(32, 64, 3)
        self.Conv2d_3b_1x1 = Convolution(64, 80, 1)
        self.Conv2d_4a_3x3 = Convolution(80, 192, 3, valid=True)
        self.Mixed_5b, self.Mixed_5c, self.Mixed_5d = _block_a(192, 32), _block_a(256, 64), _block_a(288, 64)
        self.Mixed_6a = Block(
            288, 2, branch3x3=[(384, 3)], branch3x3dbl=[(64, 1), (96, 3), (96, 3)], branch_pool=[halve]
        )
        self.Mixed_6b, self.Mixed_6c, self.Mixed_6d, self.Mixed_6e = (_block_c(width) for width in (128, 160, 160, 192))
        self.Mixed_7a = Block(
            768, 2, branch3x3=[(192, 1), (320, 3)], branch7x7x3=[(192, 1), (192, (1, 7)), (192, (7, 1)), (192, 3)],
            branch_pool=[halve],
        )  # fmt: skip
        self.Mixed_7b, self.Mixed_7c = _block_e(1280, mean_pool), _block_e(2048, max_pool)
        self.fc = nn.Linear(2048, 1008)

    def forward(self, images: Tensor) -> Features:
        x = (resize_as_tensorflow(images.float(), 299) - 128) / 128
        x = self.Conv2d_2b_3x3(self.Conv2d_2a_3x3(self.Conv2d_1a_3x3(x)))
        x = self.Conv2d_4a_3x3(self.Conv2d_3b_1x1(halve(x)))
        x = self.Mixed_5d(self.Mixed_5c(self.Mixed_5b(halve(x))))
        x = self.Mixed_6d(self.Mixed_6c(self.Mixed_6b(self.Mixed_6a(x))))
        spatial = x[:, :7].permute(0, 2, 3, 1).flatten(1)  # of the 1x1 branch, in the order of ADM's npz files
        pooled = self.Mixed_7c(self.Mixed_7b(self.Mixed_7a(self.Mixed_6e(x)))).mean((2, 3))
        return Features(pooled, spatial, pooled @ self.fc.weight.T)


def resize_as_tensorflow(x: Tensor, size: int) -> Tensor:
    """Bilinear (N, C, H, W) -> (N, C, size, size) as TensorFlow 1 had it: output i reads the input at i H / size."""
    rows, columns = (_taps(length, size).to(x) for length in x.shape[-2:])
    return rows @ x @ columns.T


def _taps(length: int, size: int) -> Tensor:
    """The matrix (size, length) of that interpolation; beyond the last pixel it repeats."""
    place = torch.arange(size, dtype=torch.float64) * (length / size)
    below = place.floor().long()
    above, share = (below + 1).clamp(max=length - 1), (place - below)[:, None]
    one = torch.eye(length, dtype=torch.float64)
    return one[below] * (1 - share) + one[above] * share


def load_inception(path: Path) -> Inception:
    """The net with the weights in a file; ValueError where it holds something else."""
    net = Inception()
    try:
        net.load_state_dict(read_state(path).state)
    except (ValueError, RuntimeError) as error:  # the latter where names or shapes are others
        reason = str(error).splitlines()[0].rstrip(": ")
        raise ValueError(f"{path} does not hold the Inception of 2015: {reason}") from None
    for layer in net.modules():
        if isinstance(layer, nn.Conv2d):  # in this layout a CPU is half as fast again
            layer.weight.data = layer.weight.data.contiguous(memory_format=torch.channels_last)
    return net.eval().requires_grad_(False)
