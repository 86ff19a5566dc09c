"""`make gpu` at its smallest, on a CPU: every stage leaves its rows, and the models that it trains can be loaded."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from pathlib import Path

from sfumato.models import load_model

ROOT = Path(__file__).parents[2]


def test_every_stage_on_a_cpu(tmp_path: Path) -> None:
    out = tmp_path / "out"
    command = [sys.executable, "scripts/gpu.py", "--tiny", "--device", "cpu", "--out", str(out), "--train", "1"]
    command += ["--prepare", "100", "--bench", "100", "--judge", "100"]  # at most, where other work is heavy
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False, timeout=290)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    found = json.loads((out / "gpu.json").read_text())
    assert not [row for rows in found.values() for row in rows if "error" in row]
    assert all(row["ok"] for row in found["checks"])
    assert {row["work"] for row in found["bench"]} == {"forward", "training"}
    assert {row["name"] for row in found["training"]} == {"ddpm-digits", "adm_classifier-digits", "edm-digits"}
    assert found["distance"][0]["fd"] > found["distance"][0]["floor"] > 0
    assert len((out / "rows.jsonl").read_text().splitlines()) == sum(map(len, found.values()))
    with tarfile.open(out / "models-1.tar") as file:
        file.extractall(tmp_path, filter="data")
    model = load_model(tmp_path / "models" / "ddpm-digits.safetensors")
    assert model.sample(2, steps=2).shape == (2, 1, 8, 8)
    assert model.about["images"] > 0
