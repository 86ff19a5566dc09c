"""Writes evaluations.json.gz anew from the full recording of ADM's evaluator; run it from the repository's root.

`python -m tests.golden.distill_evaluations`: what it keeps and why stands in evaluations.py.
"""

from __future__ import annotations

from tests.golden.evaluations import DISTILLED, distil

if __name__ == "__main__":
    print(f"{DISTILLED}: {distil()} bytes")
