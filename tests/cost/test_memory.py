"""Predicted against measured memory: the peak of what torch's allocator gives out, in training and in sampling.

The measured side is the profiler's record of every allocation on the CPU (`measuring.peak_bytes`), which is exact and
has no allocator overhead; on a GPU it is torch.cuda.max_memory_allocated.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.multiprocessing as mp
from torch import nn
from torch.utils._pytree import tree_leaves

from sfumato.conditioning import Labels
from sfumato.cost import memory
from sfumato.cost.memory import gathered
from sfumato.networks import fused
from sfumato.networks.classifier import Encoder
from sfumato.networks.ncsnpp import NCSNpp
from sfumato.networks.refinenet import RefineNet
from sfumato.networks.unet import HoUNet
from sfumato.papers.adm_classifier import NoisyClassifier
from sfumato.papers.ddpm import DDPM
from sfumato.papers.ncsn import NCSN
from sfumato.papers.presets import PRESETS
from sfumato.papers.recipe import Trainable
from sfumato.papers.score_sde import ScoreSDE
from sfumato.papers.training import TrainConfig
from sfumato.runtime import sharding
from tests.cost.measuring import peak_bytes, sample_two_moves, train_two_steps
from tests.train import toy

SHAPE = (1, 16, 16)
SMALL: dict[str, Any] = {"channels": 32, "multipliers": (1, 2), "blocks": 1, "attention": (2,), "dropout": 0.1}
RECIPES: dict[str, Trainable] = {
    "ddpm": DDPM(SHAPE, HoUNet(**SMALL)),
    "ncsnpp": ScoreSDE(SHAPE, NCSNpp(**SMALL), sde="ve", first_sigma=20.0),
    "classifier": NoisyClassifier(SHAPE, Encoder(**SMALL, head_channels=32), Labels(10)),
    "ncsn": NCSN(SHAPE, RefineNet(channels=16)),
}
TOLERANCE = 0.2


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """A second thread has nothing to do at these sizes, and waits for the first."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


KERNELS = ("fused kernel", "torch")
OTHERS = ("ncsnpp", "classifier", "ncsn")
ENDS = (("fused kernel", "float32", "kept"), ("torch", "bf16", "recomputed"))
"""Of each recipe; DDPM's others, and what of sampling they repeat, are longer checks."""
BETWEEN = [pair for pair in product(KERNELS, ("float32", "bf16"), ("kept", "recomputed")) if pair not in ENDS]
CASES = [(name, *rest) for name in ("ddpm", *OTHERS) for rest in ENDS] + [
    pytest.param("ddpm", *rest, marks=pytest.mark.slow) for rest in BETWEEN
]
SAMPLED = [("ddpm", "fused kernel", "float32"), ("ncsnpp", "torch", "bf16")] + [
    pytest.param(name, kernel, precision, marks=pytest.mark.slow)
    for name, kernel, precision in (
        ("ddpm", "torch", "bf16"), ("ncsnpp", "fused kernel", "float32"),
        *((name, *rest[:2]) for name in ("classifier", "ncsn") for rest in ENDS),
    )
]  # fmt: skip


@pytest.fixture
def kernel(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """With the compiled kernel, where it is at hand, and its memory layout; and without it."""
    if request.param == "torch":
        monkeypatch.setattr(fused, "load", lambda: False)
    elif not fused.load():
        pytest.skip("the kernel is not compiled here")


def assert_near(predicted: int, measured: int) -> None:
    assert abs(predicted / measured - 1) < TOLERANCE, f"predicted {predicted:,} bytes, measured {measured:,}"


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("name", "kernel", "precision", "blocks"), CASES, indirect=["kernel"])
def test_training(name: str, precision: Any, blocks: str) -> None:
    config = TrainConfig(batch=16, precision=precision, checkpoint_activations=blocks == "recomputed", ema=(0.9, 0.99))
    predicted = memory.training(RECIPES[name], config)
    assert_near(predicted.peak, peak_bytes(lambda: train_two_steps(RECIPES[name], config)))


@pytest.mark.usefixtures("kernel")
@pytest.mark.parametrize(("name", "kernel", "precision"), SAMPLED, indirect=["kernel"])
def test_sampling(name: str, precision: str) -> None:
    predicted = memory.sampling(RECIPES[name], 16, precision=precision)
    assert_near(predicted, peak_bytes(lambda: sample_two_moves(RECIPES[name], 16, precision)))


def test_parts_of_a_batch() -> None:
    """Accumulation divides what is kept; the prediction follows the measurement."""
    whole = TrainConfig(batch=16, precision="float32")
    parts = replace(whole, accumulate=4)
    predicted = memory.training(RECIPES["ddpm"], parts)
    assert_near(predicted.peak, peak_bytes(lambda: train_two_steps(RECIPES["ddpm"], parts)))
    assert predicted.activations < 0.3 * memory.training(RECIPES["ddpm"], whole).activations


def test_a_real_run(tmp_path: Path) -> None:
    """`train` itself, with its data, noise, validation and checkpoints: no more than its activations' share apart."""
    recipe = toy.Toy(width=64)
    config = replace(toy.SMALL, batch=120, accumulate=1)
    predicted = memory.training(recipe, config)
    measured = peak_bytes(lambda: toy.run(tmp_path / "run", recipe, batch=120, images=240, validation_images=0))
    assert_near(predicted.peak, measured)


def test_parts_of_the_state_are_exact() -> None:
    recipe, config = RECIPES["ddpm"], TrainConfig(batch=8, precision="float32", ema=(0.9, 0.99, 0.999), profiles=(0.1,))
    count = 4 * sum(p.numel() for p in recipe.model().parameters())
    found = memory.training(recipe, config)
    assert (found.weights, found.gradients, found.moments, found.averages) == (count, count, 2 * count, 4 * count)
    assert found.peak > 7 * count + found.activations - count, "gradients come while activations go"


def test_kept_activations_are_what_autograd_saves() -> None:
    """The ledger's difference over a forward pass against the distinct storages that the graph's hooks see."""
    recipe = RECIPES["ncsn"]
    torch.manual_seed(0)
    network, x0 = recipe.model(), torch.zeros(8, *recipe.shape)
    own = {p.untyped_storage().data_ptr() for p in tree_leaves(list(network.parameters()))}
    saved: dict[int, torch.Tensor] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        saved.setdefault(x.untyped_storage().data_ptr(), x)
        return x

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
        loss = recipe.build().loss(network, x0, torch.arange(8) + 1).mean()
    measured = sum(x.untyped_storage().nbytes() for key, x in saved.items() if key not in own)
    assert loss.isfinite()
    found = memory.training(recipe, TrainConfig(batch=8, precision="float32", channels_last=False))
    assert found.activations == pytest.approx(measured, rel=0.02)


# ---------------------------------------------------------------- several processes


def one_of_two(rank: int, folder: str, shard: bool, precision: Any, recompute: bool) -> None:
    """One of two processes that train with copies or with everything split; the first leaves its peak in a file."""
    import torch.distributed as dist

    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)

    def prepared(network: nn.Module) -> nn.Module:
        if not shard:
            return nn.parallel.DistributedDataParallel(network)
        sharding.shard_network(network, torch.device("cpu"))
        return network

    config = TrainConfig(
        batch=8, precision=precision, checkpoint_activations=recompute, clip=0.0, channels_last=False, ema=(0.9,)
    )
    peak = peak_bytes(lambda: train_two_steps(WIDE, config, prepared=prepared))
    if rank == 0:
        Path(folder, "peak").write_text(str(peak))
    dist.barrier()
    dist.destroy_process_group()


WIDE = DDPM(SHAPE, HoUNet(channels=128, multipliers=(1, 2, 2), blocks=1, attention=(4,), dropout=0.1))


@pytest.mark.slow
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("shard", [False, True], ids=["copies", "sharded"])
def test_two_processes(tmp_path: Path, shard: bool, precision: Any, recompute: bool) -> None:
    if shard and not hasattr(torch.cpu.current_stream(), "record_event"):
        pytest.skip("this torch shards on GPUs only")
    mp.spawn(one_of_two, (str(tmp_path), shard, precision, recompute), nprocs=2)  # type: ignore[no-untyped-call]
    config = TrainConfig(
        batch=16, precision=precision, checkpoint_activations=recompute, channels_last=False, ema=(0.9,)
    )
    found = memory.training(WIDE, config, processes=2, shard=shard)
    assert_near(found.peak, int((tmp_path / "peak").read_text()))


def test_splitting_divides_the_state() -> None:
    config = TrainConfig(batch=16, precision="float32", channels_last=False)
    alone = memory.training(WIDE, config)
    copies = memory.training(WIDE, config, processes=4)
    split = memory.training(WIDE, config, processes=4, shard=True)
    assert copies.moments == alone.moments
    assert copies.buckets == copies.gradients
    assert split.moments == pytest.approx(alone.moments / 4, rel=1e-3)
    assert split.buckets == gathered(WIDE.model())
    assert split.activations == pytest.approx(copies.activations, rel=0.01)
    assert copies.activations == pytest.approx(alone.activations / 4, rel=0.1)


# ---------------------------------------------------------------- GPUs


def test_a_gpu_can_be_pretended_anywhere() -> None:
    """On CUDA autocast leaves group norms and what they keep in float32, so bf16 saves less than on a CPU."""
    config = TrainConfig(batch=16, precision="bf16")
    bf16 = memory.training(RECIPES["ddpm"], config, device="cuda")
    exact = memory.training(RECIPES["ddpm"], replace(config, precision="float32"), device="cuda")
    less = memory.training(RECIPES["ddpm"], replace(config, checkpoint_activations=True), device="cuda")
    assert 0.5 * exact.activations < bf16.activations < exact.activations
    assert less.activations < 0.5 * bf16.activations
    assert less.peak < bf16.peak


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("recompute", [False, True], ids=["kept", "recomputed"])
@pytest.mark.parametrize("precision", ["float32", "bf16"])
@pytest.mark.parametrize("name", ["ddpm", "ncsnpp", "classifier"])
def test_on_a_gpu(name: str, precision: Any, recompute: bool) -> None:
    recipe = replace(RECIPES[name], shape=(1, 32, 32))  # type: ignore[type-var]
    config = TrainConfig(batch=256, precision=precision, checkpoint_activations=recompute)
    train_two_steps(recipe, replace(config, batch=2), "cuda")  # libraries take their workspaces once
    predicted = memory.training(recipe, config, device="cuda")
    assert_near(predicted.peak, peak_bytes(lambda: train_two_steps(recipe, config, "cuda"), "cuda"))
    sampled = peak_bytes(lambda: sample_two_moves(recipe, 256, precision, "cuda"), "cuda")
    assert_near(memory.sampling(recipe, 256, precision=precision, device="cuda"), sampled)


# ---------------------------------------------------------------- what cannot be


def test_clear_errors() -> None:
    config = TrainConfig(batch=4, precision="float32")
    with pytest.raises(ValueError, match="precision is bf16 or float32, not 'auto'"):
        memory.training(RECIPES["ddpm"], replace(config, precision="auto"))
    with pytest.raises(ValueError, match="a batch of 4 images is too small for 8 processes"):
        memory.training(RECIPES["ddpm"], config, processes=8)
    with pytest.raises(ValueError, match="cannot be predicted without its numbers"):
        memory.training(PRESETS["dpm/heartbeat"].recipe, config)
    with pytest.raises(ValueError, match="the batch is at least 1, not 0"):
        memory.sampling(RECIPES["ddpm"], 0, precision="float32")
