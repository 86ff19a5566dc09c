"""Writes song_networks.json.gz anew from the full recording of the official score networks; run it from the root.

What it keeps and why stands in tests/convert/golden_song.py.
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "convert"))

import golden_song

golden_song.distil()
print(f"{golden_song.DISTILLED}: {golden_song.DISTILLED.stat().st_size} bytes")
