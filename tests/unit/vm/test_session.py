"""What a command starts in the lab ends with the command, and nothing else does."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
LAB = [sys.executable, str(Path(__file__).parents[2] / "vm" / "lab.py")]
# Stands for a machine: a process with the pid file that the lab knows a machine by.
START = """
import os, subprocess, sys
sys.path.insert(0, {lab!r})
from disks.cache import Cache
from session_note import note_session
from vm import Vm
vm = Vm(Cache.from_environment(os.environ), {name!r})
vm.directory.mkdir(parents=True)
note_session(vm.session_file)
vm.port_file.write_text("22001\\n")
argv = [sys.executable, "-c", "import time; time.sleep(600)", str(vm.daemon.pid_file)]
child = subprocess.Popen(argv, stdout=subprocess.DEVNULL, start_new_session=True)
(vm.directory / "pid").write_text(str(child.pid))
"""


def start(name: str, then: str = "") -> list[str]:
    """A command that starts a stand-in for the machine ``name``."""
    return [sys.executable, "-c", START.format(lab=str(Path(LAB[1]).parent), name=name) + then]


def running(cache: Path) -> list[str]:
    """The machines of the cache whose process runs."""
    pid_files = sorted(cache.glob("run/vms/*/pid"))
    return [one.parent.name for one in pid_files if os.path.exists(f"/proc/{one.read_text()}/stat")]


@pytest.fixture
def cache(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A cache in which ``other1`` runs, which another command has started. Its path is short: sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as directory:
        monkeypatch.setenv("FLYD_LAB_CACHE", directory)
        for name in ("FLYD_LAB_SESSION", "FLYD_KEEP"):
            monkeypatch.delenv(name, raising=False)
        subprocess.run(start("other1"), check=True)
        yield Path(directory)


@pytest.fixture(autouse=True)
def nothing_left(cache: Path) -> Iterator[None]:
    """Remove what a failed test leaves."""
    yield
    subprocess.run([*LAB, "down"], check=False, capture_output=True)


@pytest.mark.parametrize("code", [0, 3])
def test_what_a_command_started_is_ended_and_its_exit_code_returned(cache: Path, code: int) -> None:
    done = subprocess.run([*LAB, "session", "--", *start("mine1", f"sys.exit({code})")], check=False)
    assert (done.returncode, running(cache)) == (code, ["other1"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_an_interrupted_command_leaves_nothing_running(cache: Path, number: int) -> None:
    said = "print('up', flush=True); import time; time.sleep(600)"
    session = subprocess.Popen([*LAB, "session", "--", *start("mine1", said)], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    assert session.stdout.readline() == "up\n"
    assert running(cache) == ["mine1", "other1"]
    session.send_signal(number)
    assert session.wait(30) != 0
    session.stdout.close()
    assert running(cache) == ["other1"]


def test_a_second_interrupt_does_not_keep_the_session_from_ending_what_runs(cache: Path) -> None:
    """The command ends at the first; the second comes while its machines are ended, or just before."""
    said = "print('up', flush=True); import time; time.sleep(600)"
    session = subprocess.Popen([*LAB, "session", "--", *start("mine1", said)], stdout=subprocess.PIPE, text=True)
    assert session.stdout is not None
    assert session.stdout.readline() == "up\n"
    with session.stdout:
        while session.poll() is None:
            session.send_signal(signal.SIGINT)
            time.sleep(0.02)
    assert running(cache) == ["other1"]


def test_a_session_in_a_session_leaves_the_end_to_the_outer_one(cache: Path) -> None:
    inner = [*LAB, "session", "--", *start("mine1")]
    script = f"import subprocess, sys, os; subprocess.run({inner!r}, check=True); " + (
        "sys.exit(0 if os.path.exists(os.environ['FLYD_LAB_CACHE'] + '/run/vms/mine1/pid') else 9)"
    )
    done = subprocess.run([*LAB, "session", "--", sys.executable, "-c", script], check=False)
    assert (done.returncode, running(cache)) == (0, ["other1"])


def test_a_session_to_be_kept_ends_nothing(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FLYD_KEEP", "1")
    subprocess.run([*LAB, "session", "--", *start("mine1")], check=True)
    assert running(cache) == ["mine1", "other1"]
