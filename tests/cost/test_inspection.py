"""What `sfumato inspect` says about memory: the numbers of `cost.memory`, for a machine that need not be here."""

from __future__ import annotations

from dataclasses import replace

import pytest

from sfumato.cli import main
from sfumato.cost import memory
from sfumato.cost.inspection import Plan, size
from sfumato.papers.presets import PRESETS


def lines(capsys: pytest.CaptureFixture[str], *arguments: str) -> list[str]:
    assert main(["inspect", *arguments, "--no-measure"]) == 0
    return capsys.readouterr().out.splitlines()


def test_the_predicted_memory_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    said = lines(capsys, "ddpm/digits", "--batch", "32", "--precision", "float32", "--device", "cpu")
    preset = PRESETS["ddpm/digits"]
    config = replace(preset.train, batch=32, precision="float32")
    found = memory.training(preset.recipe, config)
    less = memory.training(preset.recipe, replace(config, checkpoint_activations=True))
    sampled = memory.sampling(preset.recipe, 32, precision="float32")
    start = said.index("predicted peak memory (cpu, float32), batch 32; 1 GB is 10^9 bytes:")
    assert said[start + 1].startswith(f"  training {size(found.peak)}: weights {size(found.weights)}, gradients")
    assert said[start + 2].startswith(f"  with --train.checkpoint-activations {size(less.peak)}, kept")
    assert said[start + 3] == f"  sampling {size(sampled)}, 32 pictures at a time"


def test_many_gpus_need_not_be_here(capsys: pytest.CaptureFixture[str]) -> None:
    asked = ["ddpm/digits", "--device", "cuda", "--processes", "8", "--shard", "--checkpoint-activations"]
    said = lines(capsys, *asked)
    start = said.index("predicted peak memory (cuda, bf16), batch 64; 1 GB is 10^9 bytes:")
    assert " a process of 8: weights " in said[start + 1]
    assert "whole blocks" in said[start + 1]
    assert said[start + 2].startswith("  sampling "), "checkpointing is asked for, so it is not offered"


@pytest.mark.parametrize(
    ("what", "batch"),
    [("ddpm/fashion", PRESETS["ddpm/fashion"].train.batch), ("ddpm/cifar10", 64), ("adm/fashion", 32)],
)
def test_a_preset_for_short_runs_counts_with_its_own_batch(
    what: str, batch: int, capsys: pytest.CaptureFixture[str]
) -> None:
    assert f", batch {batch}; " in next(line for line in lines(capsys, what) if line.startswith("predicted"))


def test_what_has_no_blocks_is_not_offered_them(capsys: pytest.CaptureFixture[str]) -> None:
    assert not any("checkpoint-activations" in line for line in lines(capsys, "dpm/digits"))
    assert any("cannot be predicted" in line for line in lines(capsys, "dpm/heartbeat"))
    assert main(["inspect", "dpm/digits", "--checkpoint-activations", "--no-measure"]) == 2
    assert "has no blocks that could be computed again" in capsys.readouterr().err


def test_a_preset_that_asks_for_a_precision_gets_it() -> None:
    assert Plan(device="cpu").decided("float32").precision == "float32"
    assert Plan(device="cpu", precision="bf16").decided("float32").precision == "bf16"
    assert Plan(device="cuda").decided("auto").precision == "bf16"


def test_sizes_are_decimal() -> None:
    assert [size(n) for n in (0, 1500, 4_449_000, 999_900_000, 178_200_000_000, 1_782_000_000_000)] == [
        "0 kB", "1.5 kB", "4.45 MB", "1 GB", "178 GB", "1782 GB",
    ]  # fmt: skip
