"""The lab ends its own processes and no others."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from processes import Daemon

_SLEEP = "import time; print(flush=True); time.sleep(60)"


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    # It says that it runs: for a moment around its exec a process has no arguments to be known by.
    with subprocess.Popen([sys.executable, "-c", _SLEEP, "ours"], stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield process
        process.kill()


def _daemon(tmp_path: Path, pid: object, mark: str) -> Daemon:
    (tmp_path / "pid").write_text(f"{pid}\n")
    return Daemon(tmp_path / "pid", mark)


def test_a_marked_process_is_ended_and_forgotten(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    daemon = _daemon(tmp_path, sleeper.pid, "ours")
    assert daemon.is_running()
    assert daemon.kill()
    assert sleeper.wait(timeout=5) == -9
    assert not daemon.is_running()
    assert not daemon.pid_file.exists()


def test_a_process_without_the_mark_is_left_alone(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    daemon = _daemon(tmp_path, sleeper.pid, "somebody else's")
    assert not daemon.is_running()
    assert not daemon.kill()
    assert sleeper.poll() is None


def test_a_process_that_ended_but_was_not_reaped_does_not_run(tmp_path: Path, sleeper: subprocess.Popen[bytes]) -> None:
    daemon = _daemon(tmp_path, sleeper.pid, "ours")
    sleeper.kill()
    assert daemon.await_end()
    assert not daemon.is_running()


@pytest.mark.parametrize("content", ["", "none", "-1"])
def test_a_broken_pid_file_names_no_process(tmp_path: Path, content: str) -> None:
    assert not _daemon(tmp_path, content, "ours").kill()


def test_a_missing_pid_file_names_no_process(tmp_path: Path) -> None:
    assert not Daemon(tmp_path / "pid", "ours").is_running()
