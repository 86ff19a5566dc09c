"""Draw the repository's small copy of the recorded numbers from the full recording: `python -m tests.golden.distill`.

Keeps every case's recipe and a few dozen numbers of every output, in openai_ddim.json.gz and openai_ddim.npz.
"""

from __future__ import annotations

import gzip
import json

import numpy as np

from tests.golden.cases import FULL, HERE, KINDS, places


def main() -> None:
    recipes, arrays = {}, {}
    for path in sorted(FULL.glob("*.json")):
        recipe = json.loads(path.read_text())
        if recipe["kind"] not in KINDS:
            continue
        with np.load(path.with_suffix(".npz")) as file:
            kept = [
                file[name].reshape(-1)[places(name, about["shape"])].astype(np.float64)
                for name, about in sorted(recipe["outputs"].items())
            ]
        flat = np.concatenate(kept)
        single = flat.astype(np.float32)
        arrays[recipe["case"]] = single if np.array_equal(single.astype(np.float64), flat, equal_nan=True) else flat
        recipes[recipe["case"]] = recipe
    text = json.dumps(recipes, separators=(",", ":")).encode()
    (HERE / "openai_ddim.json.gz").write_bytes(gzip.compress(text, mtime=0))
    np.savez_compressed(HERE / "openai_ddim.npz", **arrays)
    print(f"{len(recipes)} cases, {sum(len(a) for a in arrays.values()):,} numbers")


if __name__ == "__main__":
    main()
