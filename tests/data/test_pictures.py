"""Files of pictures by their path, as text or as a Path."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from sfumato.data import pictures

IMAGES = torch.randint(0, 256, (3, 1, 4, 4), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize("kind", [str, Path])
def test_a_path_is_a_text_or_a_path(kind: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A bare name too, in the current folder."""
    monkeypatch.chdir(tmp_path)
    pictures.save_png(kind("one.png"), pictures.grid(IMAGES))
    pictures.save_npz(kind("all.npz"), IMAGES)
    pictures.save_animation(kind("film.webp"), list(IMAGES))
    pictures.write_text(kind("text.json"), "[1]")
    with Image.open("one.png") as file:
        assert file.size[0] > 64
    with np.load("all.npz") as arrays:
        assert (arrays["arr_0"][..., 0] == IMAGES[:, 0].numpy()).all()
    with Image.open("film.webp") as film:
        assert film.n_frames == 3  # type: ignore[attr-defined]
    assert json.loads(Path("text.json").read_text()) == [1]
    with pytest.raises(ValueError, match=r"\.webp, \.gif or \.png, not '\.mov'"):
        pictures.save_animation(kind("film.mov"), list(IMAGES))
