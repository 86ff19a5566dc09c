"""docs/scaling.md: its arithmetic, and that its tables are what the script computes."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from pathlib import Path
from types import ModuleType

import pytest
import torch

ROOT = Path(__file__).parents[2]


def script(folder: str, name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, ROOT / folder / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # where dataclasses look their names up
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def scaling() -> ModuleType:
    return script("scripts", "scaling")


def test_counted_as_published(scaling: ModuleType) -> None:
    """554 million parameters and 1.12 TFLOP of multiply-adds, as the paper's table 4 and later papers count."""
    assert scaling.parameters() == 553_838_086
    assert scaling.flops() / 2e12 == pytest.approx(1.12, rel=0.01)
    assert scaling.checkpoint_bytes() == 16 * 553_838_086


def test_what_a_ring_sends(scaling: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Step by step: each of n GPUs sends a chunk of size / n to its neighbour, n - 1 times."""
    monkeypatch.setattr(scaling, "parts", lambda job: 1)
    for gpus in (1, 2, 8, 64):
        assert scaling.ring(gpus, 1000.0) == pytest.approx(sum(1000.0 / gpus for _ in range(gpus - 1)))
    copies, split = scaling.Job(8, False, False), scaling.Job(8, True, False)
    assert scaling.sent(split) == pytest.approx(1.5 * scaling.sent(copies))
    monkeypatch.setattr(scaling, "parts", lambda job: 4)
    assert scaling.sent(split) == pytest.approx(4.5 * scaling.sent(copies)), "weights are gathered anew for each part"


def test_nothing_is_faster_than_its_parts(scaling: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scaling, "parts", lambda job: 1)
    for gpus in scaling.GPUS:
        for shard in (False, True):
            job = scaling.Job(gpus, shard, False)
            total = scaling.computing(job) + scaling.sent(job) / scaling.bandwidth(job) + scaling.updating(job)
            assert scaling.computing(job) < scaling.step(job) <= total
            assert scaling.efficiency(job) <= 1
    assert scaling.step(scaling.Job(8, False, True)) > scaling.step(scaling.Job(8, False, False))


def test_memory_decides_the_parts(scaling: ModuleType) -> None:
    """Eight GPUs take 32 images in parts, or at once where blocks are recomputed; half as many parts would not fit."""
    job = scaling.Job(8, False, False)
    count = scaling.parts(job)
    assert scaling.needed(job, count).peak <= scaling.USABLE * scaling.HBM_BYTES < scaling.needed(job, count // 2).peak
    assert scaling.parts(scaling.Job(8, False, True)) == 1


def test_the_interval_loses_least(scaling: ModuleType) -> None:
    """Daly's interval against a search over the exact expected time with exponential failures (Daly 2006, eq. 20)."""
    for write, failures in ((4.4, 352_000.0), (60.0, 7200.0), (300.0, 20_000.0)):

        def exact(every: float, write: float = write, failures: float = failures) -> float:
            return failures * math.expm1((every + write) / failures) / every

        found = scaling.interval(write, failures)
        least = min((found * 1.01**i for i in range(-100, 101)), key=exact)
        assert exact(found) <= exact(least) * 1.001
        young = math.sqrt(2 * write * failures)
        assert exact(found) <= exact(young) * (1 + 1e-9)


def test_the_bound_is_a_bound(scaling: ModuleType) -> None:
    """Its operations are those of the forward count, three times; and the share of peak that is expected is below."""
    bound = scaling.roofline()
    assert bound.flops == pytest.approx(3 * scaling.BOUNDED * scaling.flops(), rel=0.03)
    assert bound.flops / scaling.PEAK < bound.least < bound.usual
    assert bound.flops / bound.usual / scaling.PEAK > scaling.EXPECTED


@pytest.mark.slow
def test_the_page_is_what_the_script_writes(scaling: ModuleType) -> None:
    """Word for word, but for the bytes that another torch may keep."""
    page = scaling.PAGE.read_text(encoding="utf-8")
    anew = scaling.written(page)
    if torch.__version__.startswith("2.13"):
        assert anew == page, "run: make scaling"
    words = re.compile(r"[\d.]+")
    assert words.sub("", anew).split() == words.sub("", page).split()


def test_a_page_without_its_tables_is_told(scaling: ModuleType) -> None:
    with pytest.raises(ValueError, match="the page has the tables memory, not counted"):
        scaling.written("<!-- begin memory -->\n<!-- end memory -->")


def test_weak_scaling_table() -> None:
    weak = script("benchmarks", "weak_scaling")
    turn = {way: {"rate": rate, "other": 0.5} for way, rate in zip(weak.WAYS, (100.0, 180.0, 150.0), strict=True)}
    lines = weak.table({"machine": {"cores": 2}, "turns": [turn, turn, turn]}).splitlines()
    assert "| two, apart | 180 | 180 to 180 | 90% | 90% | 0.50 |" in lines
    assert "| two, together | 150 | 150 to 150 | 75% | 75% | 0.50 |" in lines
    assert lines[-1] == "Together against apart: 83%, of the best turns 83%."
