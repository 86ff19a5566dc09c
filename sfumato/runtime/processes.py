"""Several processes that torchrun started: how they find each other, also when one died and all were started again.

The store of torchrun outlives the processes, and with it the addresses of the dead (pytorch/pytorch issue 135712). So
the living first agree on a fresh corner of it, whoever else may have written there.
"""

from __future__ import annotations

import atexit
import functools
import os
import secrets
import time
from dataclasses import dataclass
from pathlib import Path

import torch.distributed as dist

from sfumato.runtime.precision import usable_device

CALL, RUN = "call", "run"
"""Keys in the store: what a process says when it comes, and the folder of the run that was started."""


@dataclass(frozen=True)
class Launch:
    """One command of torchrun, with all its restarts.

    Attributes:
        store: for notes from one start to the next.
        started: the run folder in which it had started a run before this start, or nothing.
    """

    store: dist.Store
    started: str


@functools.cache
def rendezvous(device: str = "auto") -> Launch | None:
    """Rendezvous: one group of all processes that torchrun started; None for a process that it did not start, or that
    has a group already.

    Args:
        device: where they compute, as `precision.usable_device` takes it: it decides how they talk.
    """
    if os.environ.get("TORCHELASTIC_USE_AGENT_STORE") != "True" or dist.is_initialized():
        return None
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    store = dist.TCPStore(os.environ["MASTER_ADDR"], int(os.environ["MASTER_PORT"]), is_master=False)
    notes = dist.PrefixStore("sfumato", store)
    corner, started = _lead(notes, size) if rank == 0 else _follow(notes, rank)
    backend = "nccl" if usable_device(device) == "cuda" else "gloo"
    dist.init_process_group(backend, store=dist.PrefixStore(corner, store), rank=rank, world_size=size)
    atexit.register(_part)
    return Launch(notes, started)


def note_start(folder: Path, device: str = "auto") -> None:
    """Note that this launch has started the run in a folder; the main process does so."""
    if launch := rendezvous(device):
        launch.store.set(RUN, str(folder.absolute()))


def started(folder: str | Path, device: str = "auto") -> bool:
    """Whether this launch had started the run in a folder when a process died; all processes hear the same."""
    launch = rendezvous(device)
    return launch is not None and launch.started == str(Path(folder).absolute())


def _lead(notes: dist.Store, size: int) -> tuple[str, str]:
    """The first process answers every call with the corner that it chose, until all others have heard it."""
    corner = secrets.token_hex(8)
    started = notes.get(RUN).decode() if notes.check([RUN]) else ""
    waited_for = set(range(1, size))
    while waited_for:
        for rank in waited_for:
            if notes.check([f"{CALL}/{rank}"]):  # perhaps of one who died, which does no harm
                notes.set(notes.get(f"{CALL}/{rank}").decode(), f"{corner} {started}")
        waited_for = {rank for rank in waited_for if not notes.check([f"{corner}/{rank}"])}
        time.sleep(0.01)
    return corner, started


def _follow(notes: dist.Store, rank: int) -> tuple[str, str]:
    """Any other process calls with a name that nobody had before, and waits for the answer to that name."""
    name = secrets.token_hex(8)
    notes.set(f"{CALL}/{rank}", name)
    corner, _, started = notes.get(name).decode().partition(" ")
    notes.set(f"{corner}/{rank}", "heard")
    return corner, started


def _part() -> None:
    """Leave in good order: the threads of gloo may abort a process that merely ends."""
    if dist.is_initialized():
        dist.destroy_process_group()
