"""Writes networks.json.gz anew from the full recording of the official networks; run it from the repository's root.

What it keeps and why stands in tests/convert/golden_networks.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "convert"))

import golden_networks

golden_networks.distil()
print(f"{golden_networks.DISTILLED}: {golden_networks.DISTILLED.stat().st_size} bytes")
