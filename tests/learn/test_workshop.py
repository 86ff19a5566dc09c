"""Answers in processes of their own: whatever a learner types, a word comes back in time, and all else is whole."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sfumato.learn.catalogue import exercise
from sfumato.learn.worker import SHOWN
from sfumato.learn.workshop import WORKSHOP, Verdict, Workshop

SIGMA = exercise("ddim.1")
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="these limits are the kernel's of Linux")


@pytest.fixture
def own() -> Iterator[Workshop]:
    """A workshop whose processes are nobody else's."""
    made = Workshop()
    yield made
    made.close()


def said(code: str) -> str:
    """What is said of an answer that is not right; the next one must be judged as ever."""
    verdict = WORKSHOP.judge(SIGMA, code)
    assert not verdict.right
    assert WORKSHOP.judge(SIGMA, SIGMA.solution).right
    return verdict.words


@pytest.mark.parametrize(
    "code",
    [
        "while True:\n    pass",
        "def sigma(eta, a, b):\n    while True:\n        try:\n            pass\n        except:\n            pass",
        "import time\ntime.sleep(1000)",
        "import signal\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\nsignal.alarm(0)\nwhile True:\n"
        "    print('x' * 1000)",
    ],
    ids=["loop", "loop that catches everything", "sleep", "print flood"],
)
def test_what_never_ends_is_ended(code: str, own: Workshop) -> None:
    own.judge(SIGMA, SIGMA.solution)  # started
    (worker,) = own.idle
    began = time.monotonic()
    verdict = own.judge(replace(SIGMA, seconds=0.5), code)
    assert verdict.words == "stopped after 0.5 seconds: does a loop never end?"
    assert time.monotonic() - began < 5
    assert worker.process.poll() is not None
    assert not Path(worker.folder.name).exists()
    assert own.judge(SIGMA, SIGMA.solution).right


def test_a_learner_stops_an_answer(own: Workshop) -> None:
    stop, found = threading.Event(), list[Verdict]()
    own.judge(SIGMA, SIGMA.solution)
    thread = threading.Thread(target=lambda: found.append(own.judge(SIGMA, "while True:\n    pass", stop)))
    thread.start()
    time.sleep(0.3)
    stop.set()
    thread.join(5)
    assert found == [Verdict(False, "stopped", judged=False)]


@LINUX
@pytest.mark.parametrize("code", ["x = [0] * 10**10", "x = 1\nx = torch.zeros(10**10)"], ids=["list", "tensor"])
def test_memory_is_bounded(code: str) -> None:
    assert said(code) == f"line {len(code.splitlines())}: MemoryError: an answer has 1 GiB of memory"


@pytest.mark.parametrize("code", ["import os\nos._exit(0)", "def sigma(*_):\n    import os\n    os._exit(0)"])
def test_an_end_without_a_word_is_no_success(code: str) -> None:
    assert "ended its process" in said(code)


@LINUX
def test_a_crash_is_told() -> None:
    assert said("import ctypes\nctypes.string_at(0)") == (
        "the system ended your code (SIGSEGV): does a function call itself for ever?"
    )


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os\nos.fork()", "line 2: PermissionError: an answer starts no other program"),
        ("import os\nos.system('true')", "line 2: PermissionError: an answer starts no other program"),
        ("import os\nos.kill(os.getppid(), 9)", "line 2: PermissionError: an answer ends no other program"),
        ("import socket\nsocket.create_connection(('127.0.0.1', 80))",
         "line 2: PermissionError: an answer makes no connection"),
        ("import os\nopen(f'/proc/{os.getppid()}/environ')",
         "line 2: PermissionError: an answer reads no files but its own"),
        ("import sys\nopen(torch.__file__, 'a')", "line 2: PermissionError: an answer writes no files but its own"),
        ("import shutil\nshutil.rmtree(torch.__path__[0])",
         "line 2: PermissionError: an answer changes no files but its own"),
    ],
    ids=["fork", "shell", "kill", "connect", "environment", "write", "remove"],
)  # fmt: skip
def test_what_is_outside_is_refused(code: str, words: str) -> None:
    assert said(code) == words


def test_progress_and_surroundings_are_unknown_to_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / "progress.json"
    monkeypatch.setenv("SFUMATO_PROGRESS", str(kept))
    monkeypatch.setenv("A_SECRET", "token-0815")
    kept.write_text("{}")
    assert "reads no files" in said(f"open({str(kept)!r}).read()")
    assert "writes no files" in said(f"open({str(kept)!r}, 'w')")
    seen = WORKSHOP.judge(SIGMA, "import os, sys\nfrom sfumato.learn import progress\n"
                          "print(os.environ, sys.argv, os.getcwd(), progress.location())\n"
                          "progress.record('ddim.1', 1)").printed  # fmt: skip
    assert "token-0815" not in seen
    assert str(tmp_path) not in seen.replace(str(Path(__file__).parents[2]), "")
    assert kept.read_text() == "{}"


def test_files_of_its_own_are_its_own() -> None:
    code = "import os\nopen('mine.txt', 'w').write('x')\nprint(open('mine.txt').read(), os.listdir())\n"
    for _ in range(2):  # the second time there is nothing left of the first
        assert WORKSHOP.judge(SIGMA, code + SIGMA.solution).printed == "x ['mine.txt']\n"


def test_nothing_that_an_answer_sets_outlives_it() -> None:
    setting = "import math\nmath.sqrt = lambda x: 0\ntorch.set_default_dtype(torch.float64)\ntorch.allclose = print\n"
    WORKSHOP.judge(SIGMA, setting)
    assert WORKSHOP.judge(SIGMA, SIGMA.solution).right
    assert WORKSHOP.judge(SIGMA, "torch.set_grad_enabled(False)\n" + SIGMA.solution).right


# ---------------------------------------------------------------- what is told


def test_an_answer_cannot_end_the_server_by_accident() -> None:
    for leaving in (
        "import sys\nsys.exit()",
        "exit_code = 3\nraise SystemExit(exit_code)",
        "x = 1\nraise BaseException",
    ):
        assert said(leaving).startswith(("line 2: SystemExit", "line 2: BaseException"))


def test_faults_name_their_line() -> None:
    assert said("x = 1\ndef sigma(eta, a, b)\n    return 0") == "line 2: SyntaxError: expected ':'"
    assert said("def sigma(eta, a, b):\n    y = 2\n    return y * beta") == (
        "line 3: NameError: name 'beta' is not defined"
    )
    assert said("def sigma(eta, a, b):\n    eta * 1").startswith("sigma returns nothing")
    assert said("class E(Exception):\n    def __str__(self):\n        return 1 / 0\nraise E") == "line 4: E"
    assert len(said("raise ValueError('x' * 10**6)")) == SHOWN


def test_what_is_printed_is_told() -> None:
    verdict = WORKSHOP.judge(SIGMA, f"{SIGMA.solution}\nprint('here', 1)\nimport warnings\nwarnings.warn('mind')")
    assert verdict.right
    assert verdict.printed.startswith("here 1\n")
    assert "mind" in verdict.printed
    flood = WORKSHOP.judge(SIGMA, "for i in range(10**4):\n    print(i)").printed
    assert flood.endswith("... and 46,890 characters more")
    assert len(flood) < SHOWN + 100


def test_a_reply_of_another_kind_is_no_success() -> None:
    """By accident: what goes to the standard output of the system does not mix with replies."""
    assert not WORKSHOP.judge(SIGMA, "import os\nos.write(1, b'{\"right\": true}\\n')").right


# ---------------------------------------------------------------- several at once


def test_answers_run_beside_each_other(own: Workshop) -> None:
    found: list[bool] = []
    threads = [threading.Thread(target=lambda: found.append(own.judge(SIGMA, SIGMA.solution).right)) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert found == [True] * 3
    assert len(own.idle) <= 2
    running = [worker.process for worker in own.all]
    own.close()
    assert all(process.poll() is not None for process in running)


@LINUX
def test_a_process_that_was_lost_is_replaced(own: Workshop) -> None:
    own.judge(SIGMA, SIGMA.solution)
    os.kill(own.idle[0].process.pid, 9)
    own.idle[0].process.wait()
    assert own.judge(SIGMA, SIGMA.solution).right


KILLED = """
import os, signal, threading, time
from dataclasses import replace
from sfumato.learn.catalogue import exercise
from sfumato.learn.workshop import WORKSHOP
asked = replace(exercise("ddim.1"), seconds=1.0)
WORKSHOP.judge(replace(asked, seconds=60.0), asked.solution)
print(WORKSHOP.idle[0].process.pid, flush=True)
threading.Thread(target=WORKSHOP.judge, args=(asked, "while True: pass"), daemon=True).start()
time.sleep(0.3)
os.kill(os.getpid(), signal.SIGKILL)
"""


@LINUX
@pytest.mark.slow
def test_a_loop_does_not_outlive_a_server_that_was_killed() -> None:
    server = subprocess.run([sys.executable, "-c", KILLED], stdout=subprocess.PIPE, text=True, check=False)
    child, until = Path(f"/proc/{int(server.stdout)}"), time.monotonic() + 60
    assert server.returncode == -9
    while child.exists() and time.monotonic() < until:
        time.sleep(0.2)
    assert not child.exists()
