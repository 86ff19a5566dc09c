"""The queue of trainings goes on where it stood, judges what it has reached, and ships only what is better."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from sfumato.models import load_model

ROOT = Path(__file__).parents[2]


def queue(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    places = ("--runs", f"{folder}/runs", "--results", f"{folder}/rows.json", "--shipped", f"{folder}/shipped")
    command = [sys.executable, str(ROOT / "scripts" / "train_shipped.py"), "--tiny", *places, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=300)


def test_a_job_trains_is_judged_once_and_ships(tmp_path: Path) -> None:
    assert "not begun" in queue(tmp_path, "--list").stdout
    done = queue(tmp_path, "--minutes", "4")
    assert done.returncode == 0, done.stderr
    assert "640 images of 640" in queue(tmp_path, "--list").stdout

    assert "now ships" in queue(tmp_path, "--pack").stdout
    (rows,) = json.loads((tmp_path / "rows.json").read_text()).values()
    assert [row["images"] for row in rows] == [640]
    assert rows[0]["fd"] == rows[0]["shipped"] > rows[0]["floor"] > 0
    assert load_model(str(tmp_path / "shipped" / "ddpm-digits.safetensors")).recipe.network.channels == 8

    assert queue(tmp_path, "--pack").stdout == ""  # nothing new
    kept = (tmp_path / "shipped" / "ddpm-digits.safetensors").read_bytes()
    rows[0] |= {"images": 320, "shipped": 0.0}  # what ships is better than anything
    (tmp_path / "rows.json").write_text(json.dumps({"ddpm-digits": rows}))
    assert "now ships" not in queue(tmp_path, "--pack").stdout
    assert (tmp_path / "shipped" / "ddpm-digits.safetensors").read_bytes() == kept


def test_an_unknown_job_is_named(tmp_path: Path) -> None:
    refused = queue(tmp_path, "--only", "ddpm-cars")
    assert refused.returncode == 1
    assert "no such jobs: ddpm-cars; there are ddpm-digits" in refused.stderr
