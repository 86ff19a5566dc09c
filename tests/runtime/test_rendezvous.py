"""Cut into processes a run is the same to rounding, also where one of them is killed on the way."""

from __future__ import annotations

import multiprocessing
import os
import socket
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch.distributed as dist

from sfumato import cli
from sfumato.runtime import processes
from sfumato.runtime.folder import RunFolder
from tests.train import toy

WATCHED: dict[str, Any] = {"preview_images": 1, "preview_every": 0.5, "validate_every": 0.5, "checkpoint_every": 0.0}


def test_two_processes_are_one(tmp_path: Path) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    toy.run(one, toy.Toy(dropout=0.0))
    said = toy.launch(two, dropout=0.0)
    assert said.count("machine  cpu, 2 processes") == 1
    toy.assert_close(one, two)


@pytest.mark.parametrize(
    ("shard", "mortal"),
    [(False, 0), pytest.param(True, 1, marks=[pytest.mark.slow, toy.shards])],
)
def test_a_process_is_killed_and_the_run_is_whole(shard: bool, mortal: int, tmp_path: Path) -> None:
    """torchrun starts both processes again, and they go on from the last checkpoint: nothing is lost or doubled."""
    one, two = tmp_path / "one", tmp_path / "two"
    toy.run(one, toy.Toy(dropout=0.0), preview=toy.first_look, **WATCHED)
    said = toy.launch(two, restarts=1, dropout=0.0, mortal=mortal, shard=shard, **WATCHED)
    assert (tmp_path / "died").exists()
    assert "going on at 112 images" in said
    toy.assert_close(one, two)
    assert [r["images"] for r in RunFolder.open(two).metrics("preview")] == [120, 240]
    assert [path.name for path in two.rglob(".*") if path.name != ".metadata"] == []


@pytest.mark.slow
def test_a_process_is_killed_on_one_of_two_machines(tmp_path: Path) -> None:
    """Which start it is, each machine counts for itself; yet both go on from the same checkpoint."""
    one, two = tmp_path / "one", tmp_path / "two"
    toy.run(one, toy.Toy(dropout=0.0), preview=toy.first_look, **WATCHED)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    place = ["--nnodes", "2", "--nproc-per-node", "1", "--rdzv-backend", "c10d", "--rdzv-id", "mine",
             "--rdzv-endpoint", f"127.0.0.1:{port}"]  # fmt: skip
    with ThreadPoolExecutor(2) as machines:
        said = [
            machines.submit(toy.launch, two, restarts=2, place=place, dropout=0.0, mortal=0, **WATCHED) for _ in "ab"
        ]
    assert (tmp_path / "died").exists()
    assert sum("going on at 112 images" in machine.result() for machine in said) == 1
    toy.assert_close(one, two)


def test_those_who_meet_are_not_misled_by_the_dead() -> None:
    """Calls and answers of an earlier start are still in the store; one that comes late is waited for."""
    store = dist.HashStore()
    old = processes._lead(store, 1)[0]
    store.set(f"{processes.CALL}/1", "who died")
    store.set(f"{processes.CALL}/2", "who died as well")
    store.set(processes.RUN, "/runs/mine")
    heard: dict[int, tuple[str, str]] = {}

    def follow(rank: int) -> None:
        heard[rank] = processes._follow(store, rank)

    def lead() -> None:
        heard[0] = processes._lead(store, 3)

    late = ((0.0, lead), (0.1, lambda: follow(2)), (0.2, lambda: follow(1)))
    people = [threading.Timer(delay, do) for delay, do in late]
    for person in people:
        person.start()
    for person in people:
        person.join(20)
    assert len(heard) == 3
    assert len(set(heard.values())) == 1
    assert heard[0][0] != old
    assert heard[0][1] == "/runs/mine"


def _alone(folder: str, queue: Any) -> None:
    """A process that a launcher started twice, as far as it can see."""
    server = dist.TCPStore("127.0.0.1", 0, is_master=True, wait_for_workers=False)
    os.environ.update(TORCHELASTIC_USE_AGENT_STORE="True", RANK="0", WORLD_SIZE="1", MASTER_ADDR="127.0.0.1",
                      MASTER_PORT=str(server.port))  # fmt: skip
    found = [processes.started(folder)]
    processes.note_start(Path(folder))
    found.append(processes.started(folder))
    dist.destroy_process_group()
    processes.rendezvous.cache_clear()
    found += [processes.started(folder), processes.started(folder + "-other")]
    queue.put(found)


def test_a_launch_knows_which_run_it_began(tmp_path: Path) -> None:
    """So a folder that held a run before is refused at every start, and not taken over by the second."""
    context = multiprocessing.get_context("forkserver")
    queue = context.Queue()
    child = context.Process(target=_alone, args=(str(tmp_path), queue))
    child.start()
    assert queue.get(timeout=60) == [False, False, True, False]
    child.join(20)
    assert not processes.started(tmp_path)  # without a launcher


def test_several_processes_need_one_folder(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert cli.main(["train", "ddpm/digits", "--train.images", "8"]) == 2
    assert "several processes need one run folder: --out DIR" in capsys.readouterr().err
