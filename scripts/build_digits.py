"""Build the digits data set from scikit-learn's copy of the UCI optical digits: `python scripts/build_digits.py`.

Needs scikit-learn; writes sfumato/data/assets/digits.npz with images (1797, 8, 8) in 0..16 and labels (1797,).
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from sklearn.datasets import load_digits

if __name__ == "__main__":
    digits = load_digits()
    out = Path(__file__).parent.parent / "sfumato" / "data" / "assets" / "digits.npz"
    np.savez_compressed(out, images=digits.images.astype(np.uint8), labels=digits.target.astype(np.uint8))
