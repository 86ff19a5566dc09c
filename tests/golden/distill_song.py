"""Writes song.json.gz and song.npz anew from the full recording of the official score-based code; run from the root.

`python -m tests.golden.distill_song`: what they keep and why stands in song.py.
"""

from __future__ import annotations

from tests.golden.song import distil

if __name__ == "__main__":
    print(f"{distil():,} bytes")
