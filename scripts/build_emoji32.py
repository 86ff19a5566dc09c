"""Build the emoji32 data set: the 1,906 base Noto emoji at 32x32 on white, as one lossless atlas and a JSON index.

Get the pictures with `npm pack emoji-datasource-google@16.0.0 && tar xzf emoji-datasource-google-16.0.0.tgz`, then run
`python scripts/build_emoji32.py package`; it writes sfumato/data/assets/emoji32.png and emoji32.json again.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from PIL import Image

ASSETS = Path(__file__).parent.parent / "sfumato" / "data" / "assets"
SIDE, COLUMNS, TEST_SHARE = 32, 48, 0.1


def picture(path: Path) -> np.ndarray:
    """One emoji, (32, 32, 3) uint8: laid on white at full size, then shrunk, so that no edge turns dark."""
    image = Image.open(path).convert("RGBA")
    white = Image.new("RGBA", image.size, (255, 255, 255, 255))
    white.alpha_composite(image)
    return np.asarray(white.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))


def is_test(code: str) -> bool:
    """A tenth of all first code points: variants of one emoji (man, woman, with hair) stay on one side."""
    digest = hashlib.sha256(code.split("-")[0].encode()).digest()
    return int.from_bytes(digest[:4], "big") / 2**32 < TEST_SHARE


def main(package: Path) -> None:
    entries = json.loads((package / "emoji.json").read_text())
    base = [e for e in entries if e["has_img_google"] and e["category"] != "Component"]
    base.sort(key=lambda e: e["sort_order"])
    rows = -(-len(base) // COLUMNS)
    atlas = np.full((rows * SIDE, COLUMNS * SIDE, 3), 255, np.uint8)
    for i, entry in enumerate(base):
        y, x = divmod(i, COLUMNS)
        atlas[y * SIDE : (y + 1) * SIDE, x * SIDE : (x + 1) * SIDE] = picture(
            package / "img/google/64" / entry["image"]
        )
    Image.fromarray(atlas).save(ASSETS / "emoji32.png", optimize=True)
    classes = sorted({e["category"] for e in base})
    index = {
        "side": SIDE,
        "columns": COLUMNS,
        "classes": classes,
        "emoji": [
            [
                e["unified"],
                e["name"].lower(),
                classes.index(e["category"]),
                "test" if is_test(e["unified"]) else "train",
            ]
            for e in base
        ],
    }
    (ASSETS / "emoji32.json").write_text(json.dumps(index, separators=(",", ":"), ensure_ascii=True))
    print(len(base), "emoji,", sum(is_test(e["unified"]) for e in base), "of them test")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
