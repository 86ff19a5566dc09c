"""How commands end: known kinds of trouble in one line, the last net, signals at any instant, output cut off."""

from __future__ import annotations

import contextlib
import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from sfumato import cli
from sfumato.cli import endings, streams

START = (
    "import signal, sys; signal.signal(signal.SIGINT, signal.default_int_handler);"
    "from sfumato.cli import main; print('ready', flush=True); sys.exit(main())"
)
"""The program as it is installed, which says when it begins; SIGINT ends it, where the tests ignore it, too."""


def raising(error: BaseException, monkeypatch: pytest.MonkeyPatch) -> None:
    """The command `presets` raises this."""

    def run(_: list[str]) -> int:
        raise error

    monkeypatch.setattr(cli, "command", lambda _: run)


def test_every_command_is_there() -> None:
    assert all(callable(cli.command(name)) for name in cli.COMMANDS)


def test_help_and_version_need_nothing_heavy() -> None:
    code = (
        "import sys; from sfumato.cli import main; main(['--version']); main(['--help']);"
        "print([m for m in ('torch', 'numpy', 'tyro', 'PIL') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


# ---------------------------------------------------------------- known kinds and the net


def test_a_value_quoted_whole_is_shortened() -> None:
    line, _ = endings.ended(ValueError(f"there is no {'x' * 100_000}; write folder:PATH"))
    assert len(line) < 2_100
    assert line.startswith("sfumato: there is no xxx")
    assert line.endswith("xxx; write folder:PATH")


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("one\nline"), "sfumato: one line"),
        (ValueError(), "sfumato: ValueError"),
        (ValueError("\x1b[31mred\u202e"), r"sfumato: \x1b[31mred\u202e"),
        (FileNotFoundError(2, "No such file or directory", "a\x1bb"), r"sfumato: No such file or directory: a\x1bb"),
        (MemoryError(), "sfumato: not enough memory; "),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: 8 bytes"), "not enough memory ("),
        (RuntimeError("CUDA out of memory. Tried to allocate 2 GiB"), "sfumato: not enough memory ("),
        (torch.OutOfMemoryError("out of memory"), "sfumato: not enough memory ("),
        (RecursionError("maximum recursion depth exceeded"), "sfumato: the input is nested too deeply"),
        (ModuleNotFoundError("No module named 'x'", name="x"), "sfumato: the package x is missing here"),
    ],
)
def test_known_kinds(
    error: Exception, line: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    raising(error, monkeypatch)
    assert cli.main(["presets"]) == endings.USAGE
    said = capsys.readouterr().err
    assert line in said
    assert said.count("\n") == 1
    assert endings.NET not in said


@pytest.mark.parametrize(
    "error", [KeyError("a\nb"), AssertionError(), RuntimeError("mat1 and mat2"), ImportError("sfumato.gone")]
)
def test_the_last_net_keeps_the_traceback(
    error: Exception, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    raising(error, monkeypatch)
    assert cli.main(["presets"]) == endings.INTERNAL
    said = capsys.readouterr().err
    assert said.startswith(f"sfumato: {endings.NET}: {type(error).__name__}")
    assert said.count("\n") == 1
    (kept,) = tmp_path.iterdir()
    assert str(kept) in said
    assert kept.stat().st_mode & 0o777 == 0o600
    assert "Traceback" in kept.read_text()
    assert "in run" in kept.read_text()


def test_the_net_without_a_place_for_the_traceback(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path / "gone"))
    raising(KeyError("a"), monkeypatch)
    assert cli.main(["presets"]) == endings.INTERNAL
    assert "could not be written" in capsys.readouterr().err


# ---------------------------------------------------------------- output


def test_nothing_that_is_printed_acts_on_the_terminal(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(_: list[str]) -> int:
        print("class \x1b]0;title\x07\udcff", "\u202e", "line 2\n\ttab", "\r", sep="\n")
        print("\r 50% \x1b[A\x1b[31m", end="", file=sys.stderr)
        return 0

    monkeypatch.setattr(cli, "command", lambda _: run)
    assert cli.main(["presets"]) == 0
    out, err = capsys.readouterr()
    assert out == "class \\x1b]0;title\\x07\\xff\n\\u202e\nline 2\n\ttab\n\\x0d\n"
    assert err == "\r 50% \x1b[A\\x1b[31m"


def test_zero_has_no_sign() -> None:
    raw = io.StringIO()
    streams.Plain(raw).write("-0.0000 to -0.00%, (-0.0), -0; -0.01, -0.05, 1e-0, a-0, -0.0x, --0, run-0.0, -0.001.")
    assert raw.getvalue() == "0.0000 to 0.00%, (0.0), 0; -0.01, -0.05, 1e-0, a-0, -0.0x, --0, run-0.0, -0.001."


def test_letters_that_the_encoding_lacks() -> None:
    raw = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    streams.Plain(raw).write("Flüsse 猫")
    raw.flush()
    assert raw.buffer.getvalue() == rb"Fl\xfcsse \u732b"  # type: ignore[attr-defined]


def test_a_reader_that_goes_away() -> None:
    with subprocess.Popen([sys.executable, "-m", "sfumato", "--help"], stdout=subprocess.PIPE,
                          stderr=subprocess.PIPE) as process:  # fmt: skip
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == endings.GONE


def test_a_full_disk_behind_the_output() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    with open("/dev/full", "wb") as full:
        done = subprocess.run([sys.executable, "-m", "sfumato", "--help"], stdout=full, stderr=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (2, b"sfumato: No space left on device\n")


# ---------------------------------------------------------------- signals


@pytest.mark.parametrize(("number", "line"), [(signal.SIGINT, "stopped"), (signal.SIGTERM, "terminated")])
def test_a_signal_at_any_instant_is_one_line(number: int, line: str, tmp_path: Path) -> None:
    """Above all during `import torch`, where an exception becomes whatever the import makes of it."""
    arguments = ["sample", "ddpm/emoji32", "-n", "64", "--steps", "1000", "--sampler", "ancestral", "--device", "cpu"]
    started = []
    for delay in (0.01, 0.15, 0.4, 0.8, 1.6):
        process = subprocess.Popen(
            [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
            env=os.environ | {"OMP_NUM_THREADS": "1"},
        )  # fmt: skip
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        time.sleep(delay)
        process.send_signal(number)
        started.append(process)
    try:
        for process in started:
            _, error = process.communicate(timeout=60)
            assert error == f"sfumato: {line}\n".encode()
            assert process.returncode == 128 + number
    finally:
        for process in started:
            process.kill()


def test_handlers_come_back(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    assert cli.main(["--version"]) == 0
    raising(KeyboardInterrupt(), monkeypatch)
    assert cli.main(["presets"]) == 130
    assert capsys.readouterr().err == "sfumato: stopped\n"
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_ctrl_c_ends_the_workers_too(tmp_path: Path) -> None:
    """A terminal sends it to every process of the group; only the first says something."""
    arguments = ["sample", "ddpm/emoji32", "-n", "64", "--steps", "1000", "--sampler", "ancestral", "--device", "cpu",
                 "--batch", "1", "--processes", "2"]  # fmt: skip
    process = subprocess.Popen(
        [sys.executable, "-c", START, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, cwd=tmp_path,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, start_new_session=True,
    )  # fmt: skip
    time.sleep(5)
    try:
        os.killpg(process.pid, signal.SIGINT)
        _, error = process.communicate(timeout=60)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
    assert error == b"sfumato: stopped\n"
    assert process.returncode == 130
    assert gone(process.pid)


def test_workers_end_with_a_command_that_is_killed(tmp_path: Path) -> None:
    arguments = ["sample", "ddpm/emoji32", "-n", "8", "--batch", "1", "--steps", "1000", "--sampler", "ancestral",
                 "--processes", "2", "--device", "cpu"]  # fmt: skip
    process = subprocess.Popen([sys.executable, "-m", "sfumato", *arguments], cwd=tmp_path, start_new_session=True)
    time.sleep(8)
    process.kill()
    process.wait()
    assert gone(process.pid)


def gone(group: int) -> bool:
    """Whether no process of a group is left, or will be in a moment."""
    for _ in range(100):
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.1)
    return False
