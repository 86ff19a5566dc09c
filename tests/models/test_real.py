"""Real images for a model: what is given to an upsampler of pictures of other sizes and proportions."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from sfumato.cli.inputs import chosen
from sfumato.conditioning import LowRes
from sfumato.core.randomness import ImageNoise
from sfumato.data import pictures, to_float
from sfumato.models.real import middle, shrunk
from sfumato.networks.unet import ADMUNet
from sfumato.papers.adm import ADM
from tests.models.small import made

UNET = ADMUNet(channels=32, multipliers=(1,), blocks=1, attention=(), head_channels=32)


def noise(*shape: int) -> torch.Tensor:
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("size", "proportions", "kept"), [
    ((64, 128), (32, 32), (64, 64)), ((128, 64), (32, 32), (64, 64)), ((64, 128), (32, 64), (64, 128)),
    ((64, 64), (32, 64), (32, 64)), ((3, 1), (1, 5), (1, 1)),
])  # fmt: skip
def test_the_middle_has_the_proportions_of_the_model(
    size: tuple[int, int], proportions: tuple[int, int], kept: tuple[int, int]
) -> None:
    images = noise(2, 1, *size)
    found = middle(images, proportions)
    assert found.shape == (2, 1, *kept)
    top, left = (size[0] - kept[0]) // 2, (size[1] - kept[1]) // 2
    assert torch.equal(found, images[:, :, top : top + kept[0], left : left + kept[1]])


def test_a_square_in_a_wide_picture_stays_one() -> None:
    image = torch.zeros(1, 1, 64, 128, dtype=torch.uint8)
    image[..., 16:48, 48:80] = 255
    small = shrunk(image, 16, (64, 64))
    assert small.dtype == torch.uint8
    assert [len(set(side)) for side in (small[0, 0] == 255).nonzero().T.tolist()] == [8, 8]  # a quarter, both ways


@pytest.mark.parametrize("shape", [(1, 16, 16), (1, 16, 32)])
def test_pictures_of_the_models_own_shape_are_shrunk_as_in_training(shape: tuple[int, int, int]) -> None:
    images = noise(2, *shape)
    trained = LowRes(8).made(to_float(images), ImageNoise(0, range(2)))
    given = to_float(shrunk(images, 8, (shape[1], shape[2])))
    assert (given - trained).abs().max() <= 1.01 / 255  # to the nearest byte


@pytest.mark.parametrize(
    ("size", "given"), [((24, 12), (8, 8)), ((12, 24), (8, 8)), ((8, 8), (8, 8)), ((24, 4), (24, 4))]
)
def test_the_command_shrinks_pictures_that_are_larger(
    size: tuple[int, int], given: tuple[int, int], tmp_path: Path
) -> None:
    """What is smaller on one side is left as it is, and refused later."""
    pictures.save_npz(tmp_path / "a.npz", noise(3, 1, *size))
    model = made(ADM((1, 16, 16), UNET, LowRes(8), steps=20))
    found = chosen(2, str(tmp_path / "a.npz"), None, None, model).pictures
    assert found is not None
    assert found.shape == (2, 1, *given)
