"""Each target of the Makefile that starts something in the lab ends it, whether the target comes to its end or is interrupted.

make and the session are real. The command behind it is a stand-in: the Python of an environment that starts what stands for a machine
when it is asked for anything but the session.
"""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.unit.vm.test_session import LAB, running, start

ROOT = Path(__file__).parents[3]
# What starts machines or the S3 server of the lab: the lab, the tests in machines, and what runs those.
STARTS = re.compile(
    r"lab\.py (?!session)|tests/(campaigns|survival|e2e|guests|leaving)|bench\.(second_run|devmapper)"
    r"|tools/(lab/)?(demo|test|test_matrix|prepared_vm|integration|molecule|package|installed)\.sh"
)
INTERRUPTED = ("test-guests", "powercuts", "bench-second-run", "demo", "test")


def recipes() -> dict[str, list[str]]:
    """The recipe of each target, as it stands in the Makefile."""
    found: dict[str, list[str]] = {}
    for line in (ROOT / "Makefile").read_text().splitlines():
        named = re.match(r"([a-z][a-z-]*):(?!=)", line)
        if named:
            target = named[1]
        elif line.startswith("\t"):
            found.setdefault(target, []).append(line.strip())
    return found


TARGETS = sorted(target for target, lines in recipes().items() if any(STARTS.search(line) for line in lines))


@pytest.fixture
def environment() -> Iterator[dict[str, str]]:
    """Variables for make: a cache of the lab, and an environment whose Python is the stand-in. Its path is short: sockets lie below it."""
    with tempfile.TemporaryDirectory(prefix="lab-", dir="/tmp") as directory:
        venv, cache = Path(directory) / "venv", Path(directory) / "cache"
        (venv / "bin").mkdir(parents=True)
        cache.mkdir()
        command = start("mine1", "import time; time.sleep(600 if os.environ['STAND_IN'] == 'hangs' else 0)")
        python = venv / "bin/python"
        text = f'#!/bin/sh\nif [ "$2" = session ]; then exec {shlex.quote(sys.executable)} "$@"; fi\nexec {shlex.join(command)}\n'
        python.write_text(text)
        python.chmod(0o755)
        (venv / ".made-from-requirements").touch()
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("FLYD_", "MAKE"))}
        yield {**kept, "FLYD_LAB_CACHE": str(cache), "FLYD_VENV": str(venv)}
        subprocess.run([*LAB, "down"], check=False, capture_output=True, env={**kept, "FLYD_LAB_CACHE": str(cache)})


def begin(target: str, environment: dict[str, str], stand_in: str) -> subprocess.Popen[bytes]:
    """Begin to make a target whose command ends at once or hangs, in a process group of its own."""
    argv = ["env", "--default-signal=INT", "make", "--no-print-directory", "--old-file=build/collections", target]
    return subprocess.Popen(
        argv,
        cwd=ROOT,
        env={**environment, "STAND_IN": stand_in},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        process_group=0,
    )


def started(environment: dict[str, str]) -> list[Path]:
    return list(Path(environment["FLYD_LAB_CACHE"]).glob("run/vms/*/pid"))


@pytest.mark.parametrize("target", TARGETS)
def test_what_starts_machines_does_so_in_a_session(target: str) -> None:
    lines = [line for line in recipes()[target] if STARTS.search(line)]
    assert [line for line in lines if not re.match(r"@?(FLYD_\w+=\w+ )?\$\(SESSION\) ", line)] == []


def test_there_are_such_targets() -> None:
    assert {"demo", "test", "test-matrix", "survival", "powercuts", "integration", "bench-second-run"} < set(TARGETS)


@pytest.mark.parametrize("target", INTERRUPTED)
def test_an_interrupted_target_leaves_nothing_in_the_lab(target: str, environment: dict[str, str]) -> None:
    """As by Ctrl-C in a terminal: the signal comes to make, the session and the command alike."""
    made = begin(target, environment, "hangs")
    until = time.monotonic() + 60
    while not started(environment):
        assert made.poll() is None, f"make {target} ended with {made.returncode} before it started a machine"
        assert time.monotonic() < until
        time.sleep(0.05)
    os.killpg(made.pid, signal.SIGINT)
    made.wait(60)
    assert running(Path(environment["FLYD_LAB_CACHE"])) == []


@pytest.mark.parametrize("target", ["survival", "at-once", "test-family"])
def test_a_target_that_comes_to_its_end_leaves_nothing_in_the_lab(target: str, environment: dict[str, str]) -> None:
    made = begin(target, environment, "ends")
    assert made.wait(60) == 0
    assert running(Path(environment["FLYD_LAB_CACHE"])) == []
