"""What ADM needs on 1 to 512 GPUs, computed: `python scripts/scaling.py` writes the tables of docs/scaling.md anew.

Operations, parameters and memory are counted on the network of the preset `adm/imagenet256` (no GPU is needed); the
device's facts and every assumption stand at the top of this file, and in the page. Text outside the tables stays.
"""

from __future__ import annotations

import importlib.util
import json
import math
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import flop_registry

from sfumato.cost import memory
from sfumato.cost.memory import gathered
from sfumato.cost.network import forward_flops, some_times
from sfumato.cost.pretend import Pretence, backward
from sfumato.data.stream import LANES
from sfumato.papers.presets import PRESETS

PAGE = Path(__file__).parents[1] / "docs" / "scaling.md"
PRESET = PRESETS["adm/imagenet256"]
PRESET = replace(PRESET, train=replace(PRESET.train, profiles=()))  # the paper tracks one average
GPUS = (1, 8, 64, 512)

# ---------------------------------------------------------------- facts of the device (its maker's)
PEAK = 989e12  # FLOP/s, dense bfloat16, H100 SXM
HBM_BYTES = 80e9
HBM = 3.35e12  # bytes/s
NVLINK = 450e9  # bytes/s one way: 900 GB/s both ways
NIC = 50e9  # bytes/s one way of 400 Gb/s InfiniBand, one for each GPU
NODE = 8  # GPUs

# ---------------------------------------------------------------- assumptions
MFU = (0.25, 0.35, 0.45)  # share of PEAK that forward and backward pass reach
EXPECTED = 0.25
ARITHMETIC = 0.7  # share of PEAK that a large convolution or product reaches
ACHIEVED = 0.8  # share of a link's, or the memory's, rate that a collective, or an elementwise operation, reaches
OVERLAP = 0.9  # share of the exchange that may hide behind computation: the first gathering and the last sending cannot
USABLE = 0.9  # share of the memory that tensors may fill: the rest is libraries, workspaces, fragmentation
FAILURE_HOURS = 50_000  # GPU-hours between two failures
ONE_WRITER, ALL_WRITERS = 2e9, 40e9  # bytes/s to shared storage: of one process, and of all together
COMMIT = 2.0  # seconds of a checkpoint besides its bytes: names, barriers
RESTART = 300.0  # seconds from a failure to the next step: noticing, starting, loading
PNG_BYTES, DECODING = 115e3, 4e-3  # of a 256x256 photograph in a shard: bytes, and seconds of one core
BATCH, LARGE_BATCH = 256, 2048  # the paper's, and that of 512 GPUs
IMAGES = PRESET.train.images or 0
TRAINING_SET = 1_281_167


@dataclass(frozen=True)
class Job:
    """A way to train: how many GPUs, whether the state is split, whether blocks are computed again."""

    gpus: int
    shard: bool
    recompute: bool

    @property
    def batch(self) -> int:
        """Images a step; the paper's batch cannot be split among 512."""
        return LARGE_BATCH if self.gpus > BATCH else BATCH

    @property
    def images(self) -> int:
        """Images a step and GPU."""
        return self.batch // self.gpus


@cache
def parameters() -> int:
    with torch.device("meta"):
        return sum(p.numel() for p in PRESET.recipe.model().parameters())


@cache
def flops() -> int:
    """Of one image, forward."""
    return forward_flops(PRESET.recipe)


@cache
def needed(job: Job, accumulate: int = 1) -> memory.Memory:
    """Predicted memory of one GPU, bf16."""
    config = replace(
        PRESET.train, batch=job.batch, precision="bf16", accumulate=accumulate, checkpoint_activations=job.recompute
    )
    return memory.training(PRESET.recipe, config, device="cuda", processes=job.gpus, shard=job.shard)


def parts(job: Job) -> int | None:
    """The least --train.accumulate that fits; None where not even one image at a time does."""
    for count in (2**i for i in range(10)):
        if count <= job.images and needed(job, count).peak <= USABLE * HBM_BYTES:
            return count
    return None


# ---------------------------------------------------------------- one step


def computing(job: Job, mfu: float = EXPECTED) -> float:
    """Seconds of forward and backward pass; a forward pass more where blocks are computed again."""
    return (4 if job.recompute else 3) * flops() * job.images / (mfu * PEAK)


def ring(gpus: int, size: float) -> float:
    """Bytes that each GPU sends in a ring reduce-scatter, or all-gather, of `size` bytes."""
    return (gpus - 1) / gpus * size


def sent(job: Job) -> float:
    """Bytes that each GPU sends in a step, float32: an all-reduce of gradients (twice a ring), or where the state is
    split two gatherings of the weights, forward and backward, with each part, and one scattering of gradients."""
    return (2 * (parts(job) or 1) + 1 if job.shard else 2) * ring(job.gpus, 4 * parameters())


def bandwidth(job: Job) -> float:
    """Bytes/s of a ring: a node's NVLink, or where there are several nodes all their cards, as each of 8 rings leaves
    the node by another card."""
    return ACHIEVED * (NVLINK if job.gpus <= NODE else min(NVLINK, NODE * NIC))


def updating(job: Job) -> float:
    """Seconds of clipping, AdamW and average, which read or write 13 float32 numbers a parameter; split with the state.

    Norm: g. Scaling: g, g. AdamW: p, g, m, v, and p, m, v again. Average: p, e, and e again.
    """
    return 4 * 13 * parameters() / (job.gpus if job.shard else 1) / (ACHIEVED * HBM)


def step(job: Job, mfu: float = EXPECTED) -> float:
    """Seconds of a step: computing, what of the exchange does not hide behind it, and the update."""
    exchange = sent(job) / bandwidth(job)
    hidden = min(OVERLAP * exchange, computing(job, mfu) * (1.0 if job.shard else 2 / 3))
    return computing(job, mfu) + exchange - hidden + updating(job)


def rate(job: Job, mfu: float = EXPECTED) -> float:
    """Images/s of all GPUs."""
    return job.batch / step(job, mfu)


def efficiency(job: Job) -> float:
    """Images/s against so many times those of one GPU that neither exchanges nor recomputes, with the paper's batch."""
    return rate(job) / (job.gpus * rate(Job(1, False, False)))


# ---------------------------------------------------------------- the bound that the operations themselves set


BOUNDED = 8
"""Images of the step whose operations are counted one by one."""


class Roofline(TorchDispatchMode):
    """Seconds that each operation takes, one after the other: its arithmetic or its bytes, whichever is slower.

    Attributes:
        least: at PEAK and HBM.
        usual: at the shares of both that are reached in practice.
        flops: counted on the way.
    """

    def __init__(self) -> None:
        super().__init__()
        self.least, self.usual, self.flops = 0.0, 0.0, 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        more = dict(kwargs or {})
        result = func(*args, **more)
        tensors = [x for x in tree_leaves((args, more, result)) if isinstance(x, Tensor) and x.device.type == "meta"]
        count = flop_registry.get(func._overloadpacket)
        work = count(*args, **more, out_val=result) if count else 0
        is_view = func.is_view or func._overloadpacket is torch.ops.aten.detach
        size = 0 if is_view else sum(x.numel() * x.element_size() for x in tensors)
        self.flops += work
        self.least += max(work / PEAK, size / HBM)
        self.usual += max(work / (ARITHMETIC * PEAK), size / (ACHIEVED * HBM))
        return result


@cache
def roofline() -> Roofline:
    """A training step of BOUNDED images in bf16, operation by operation as torch launches them."""
    pretence, counted = Pretence("cuda", "bf16"), Roofline()
    diffusion, network = PRESET.recipe.build(), pretence.network(PRESET.recipe)
    x0 = pretence.images(BOUNDED, PRESET.recipe.shape)
    y = torch.zeros(BOUNDED, dtype=torch.long, device=x0.device)
    with pretence.running() as autocast, counted:
        with autocast():
            loss = diffusion.loss(network, x0, some_times(diffusion.times, BOUNDED), torch.randn_like, y=y).mean()
        backward(loss)
    return counted


# ---------------------------------------------------------------- failures


def checkpoint_bytes() -> int:
    """Weights, two moments and the averages, float32."""
    return 4 * parameters() * (3 + memory.averages_of(PRESET.train))


def writing(job: Job) -> float:
    """Seconds of a checkpoint: one process writes it, or each its part."""
    return COMMIT + checkpoint_bytes() / (min(job.gpus * ONE_WRITER, ALL_WRITERS) if job.shard else ONE_WRITER)


def between_failures(gpus: int) -> float:
    """Seconds."""
    return 3600 * FAILURE_HOURS / gpus


def interval(write: float, failures: float) -> float:
    """Seconds between checkpoints that lose the least: Young 1974, sqrt(2 write failures), with Daly's 2006 terms of
    higher order. Both in seconds, the write less than twice the time between failures."""
    share = write / (2 * failures)
    return math.sqrt(2 * write * failures) * (1 + math.sqrt(share) / 3 + share / 9) - write


def lost(job: Job) -> float:
    """Share of the time that checkpoints, work done twice and restarts take at that interval."""
    write, failures = writing(job), between_failures(job.gpus)
    every = interval(write, failures)
    return write / (every + write) + (every / 2 + write + RESTART) / failures


# ---------------------------------------------------------------- tables


def gb(size: float) -> str:
    if size >= 1e12:
        return f"{size / 1e12:.2f} TB"
    return f"{size / 1e9:.3g} GB" if size >= 0.9995e9 else f"{size / 1e6:.3g} MB"


def days(seconds: float) -> str:
    if seconds >= 2 * 86_400:
        return f"{seconds / 86_400:.0f} days" if seconds >= 100 * 86_400 else f"{seconds / 86_400:.1f} days"
    return f"{seconds / 3600:.1f} hours" if seconds >= 7200 else f"{seconds / 60:.1f} minutes"


def table(head: list[str], rows: list[list[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def counted_table() -> str:
    bound = roofline()
    least, usual = (f"{1e3 * s / BOUNDED:.1f} ms an image: {bound.flops / s / PEAK:.0%} of peak"
                    for s in (bound.least, bound.usual))  # fmt: skip
    return table(["counted", ""], [
        ["parameters", f"{parameters() / 1e6:.1f}M, {gb(4 * parameters())} in float32"],
        ["operations of an image, forward", f"{flops() / 1e12:.2f} TFLOP"],
        ["of an image in training", f"{3 * flops() / 1e12:.2f} TFLOP; {4 * flops() / 1e12:.2f} with blocks recomputed"],
        ["of the whole training", f"{3 * flops() * IMAGES:.2e} FLOP: {IMAGES / 1e6:.0f}M images"],
        ["checkpoint", gb(checkpoint_bytes())],
        ["operations one by one, at best", least],
        [f"at {ARITHMETIC:.0%} of the arithmetic and {ACHIEVED:.0%} of the memory's rate", usual],
    ])  # fmt: skip


def memory_table() -> str:
    head = ["GPUs", "images a GPU", "copies", "copies, recomputed", "split", "split, recomputed"]
    rows = []
    for gpus in GPUS:
        cells = []
        for shard in (False, True):
            for recompute in (False, True):
                job = Job(gpus, shard, recompute)
                if gpus == 1 and shard:
                    cells.append("")
                    continue
                count = parts(job)
                if count is None:
                    cells.append(f"{gb(needed(job).peak)}: does not fit")
                elif count == 1:
                    cells.append(f"{gb(needed(job).peak)}: fits")
                else:
                    cells.append(f"{gb(needed(job).peak)}: in {count} parts {gb(needed(job, count).peak)}")
        rows.append([f"{gpus}", f"{Job(gpus, False, False).images}", *cells])
    return table(head, rows)


def state_table() -> str:
    head = ["GPUs", "", "weights", "gradients", "Adam", "average", "exchange", "kept of one image"]
    rows = []
    for gpus, shard in [(1, False), (8, False), *((n, True) for n in GPUS[1:])]:
        found = needed(Job(gpus, shard, False), Job(gpus, shard, False).images)
        less = needed(Job(gpus, shard, True), Job(gpus, shard, True).images)
        numbers = (found.weights, found.gradients, found.moments, found.averages, found.buckets)
        kept = f"{gb(found.activations)}, recomputed {gb(less.activations)}"
        rows.append([f"{gpus}", "split" if shard else "copies", *(gb(n) if n else "" for n in numbers), kept])
    return table(head, rows)


def best(gpus: int) -> Job:
    """The fastest way that fits."""
    ways = [Job(gpus, shard, recompute) for shard in (False, True) for recompute in (False, True)]
    return max((job for job in ways if parts(job) and (gpus > 1 or not job.shard)), key=rate)


def step_table() -> str:
    head = ["GPUs", "state", "images a GPU", "computing", "sent by a GPU", "exchange", "update", "step", "images/s",
            "efficiency"]  # fmt: skip
    rows = []
    for gpus in GPUS:
        for shard in (False, True)[: 1 if gpus == 1 else 2]:
            ways = [Job(gpus, shard, recompute) for recompute in (False, True)]
            job = next(job for job in ways if parts(job))
            how = ("split" if shard else "copies") + (", recomputed" if job.recompute else "")
            count = parts(job) or 1
            rows.append([
                f"{gpus}", how, f"{job.images}" + (f" in {count} parts" if count > 1 else ""),
                f"{1e3 * computing(job):.0f} ms",
                gb(sent(job)) if gpus > 1 else "", f"{1e3 * sent(job) / bandwidth(job):.1f} ms" if gpus > 1 else "",
                f"{1e3 * updating(job):.1f} ms", f"{1e3 * step(job):.0f} ms", f"{rate(job):.0f}",
                f"{efficiency(job):.0%}",
            ])  # fmt: skip
    return table(head, rows)


def time_table() -> str:
    head = ["GPUs", "batch", "steps", *(f"at {mfu:.0%} of peak" for mfu in MFU), f"GPU-days at {EXPECTED:.0%}"]
    rows = []
    for gpus in GPUS:
        job = best(gpus)
        steps = IMAGES / job.batch
        times = [days(steps * step(job, mfu) / (1 - lost(job))) for mfu in MFU]
        total = steps * step(job) / (1 - lost(job)) * gpus / 86_400
        rows.append([f"{gpus}", f"{job.batch}", f"{steps / 1e6:.2f}M", *times, f"{total:.0f}"])
    return table(head, rows)


def loader_table() -> str:
    side = PRESET.recipe.shape[1]
    raw = 3 * side * side
    head = ["GPUs", "images/s", "memory map, read", "shards, read", "decoding", "once through the set"]
    rows = []
    for gpus in GPUS:
        speed = rate(best(gpus))
        again = max(1, gpus / LANES)
        rows.append([
            f"{gpus}", f"{speed:.0f}", f"{speed * raw / 1e6:.0f} MB/s", f"{again * speed * PNG_BYTES / 1e6:.0f} MB/s",
            f"{speed * DECODING:.1f} cores", days(TRAINING_SET / speed),
        ])  # fmt: skip
    size = f"The whole set: {gb(TRAINING_SET * raw)} as a memory map, {gb(TRAINING_SET * PNG_BYTES)} as shards."
    return table(head, rows) + f"\n\n{size}"


def failure_table() -> str:
    head = ["GPUs", "state", "between failures", "in the run", "writing", "Young", "Daly", "`--train.checkpoint-every`",
            "lost"]  # fmt: skip
    rows = []
    for gpus in GPUS:
        job = best(gpus)
        length = IMAGES / job.batch * step(job)
        write, failures = writing(job), between_failures(gpus)
        every = interval(write, failures)
        rows.append([
            f"{gpus}", "split" if job.shard else "copies", days(failures), f"{length / failures:.1f}", f"{write:.1f} s",
            f"{math.sqrt(2 * write * failures) / 60:.0f} minutes", f"{every / 60:.0f} minutes", f"{every / 60:.0f}",
            f"{lost(job):.2%}",
        ])  # fmt: skip
    return table(head, rows)


def blocks_line() -> str:
    with torch.device("meta"):
        whole = gathered(PRESET.recipe.model())
    return (
        f"At 512 GPUs the split state is {gb(20 * parameters() / 512)} a GPU; the whole blocks at hand are {gb(whole)}."
    )


def weak_table() -> str:
    """The stored result of benchmarks/weak_scaling.py, as it prints it."""
    path = PAGE.parents[1] / "benchmarks" / "weak_scaling.py"
    spec = importlib.util.spec_from_file_location("weak_scaling", path)
    assert spec is not None and spec.loader is not None  # noqa: PT018
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    found: str = module.table(json.loads(module.RESULTS.read_text(encoding="utf-8")))
    return found


TABLES = {
    "counted": counted_table, "memory": memory_table, "state": state_table, "blocks": blocks_line,
    "step": step_table, "time": time_table, "loader": loader_table, "failures": failure_table,
    "weak": weak_table,
}  # fmt: skip


def written(page: str) -> str:
    """The page with every table between its markers made anew. ValueError where the markers are not the tables'."""
    found = re.findall(r"<!-- begin (\w+) -->", page)
    if sorted(found) != sorted(TABLES):
        raise ValueError(f"the page has the tables {', '.join(found)}, not {', '.join(TABLES)}")
    for name, make in TABLES.items():
        pattern = rf"(<!-- begin {name} -->\n).*?(<!-- end {name} -->)"
        made = make()
        page = re.sub(pattern, lambda m, made=made: f"{m[1]}\n{made}\n\n{m[2]}", page, flags=re.DOTALL)
    return page


if __name__ == "__main__":
    if sys.argv[1:]:
        sys.exit("scaling.py takes no arguments; it writes the tables of docs/scaling.md anew")
    PAGE.write_text(written(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
    print(f"{PAGE} is written.")
