"""Runs commands and says what they cost.

Invariant: a command that fails ends the benchmark; a figure is never that of work left undone.
"""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20
_SAMPLE_SECONDS = 0.01
_SYNC = ("sync", "--file-system")

Argv = Sequence[str | Path]


class BenchError(Exception):
    """What cannot be measured, in one line."""


@dataclass(frozen=True)
class Cost:
    """What some commands took: ``seconds`` by the clock, ``sync_seconds`` of these to bring all to disk, ``cpu_seconds`` of their own.

    ``cpu_seconds`` is user and system time of the commands and their children; what the kernel does for them in threads of its own
    (writing back, the loop device) is not in it.
    """

    seconds: float
    sync_seconds: float
    cpu_seconds: float


def environment(**more: str) -> dict[str, str]:
    """An environment that is the same for all."""
    kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
    return {**kept, "LC_ALL": "C", **more}


def measure(commands: Sequence[Argv], *, synced: Path, env: Mapping[str, str]) -> Cost:
    """Run ``commands`` one behind the other, then bring the file system ``synced`` to its device."""
    before = os.times()
    begun = time.monotonic()
    for argv in commands:
        run(argv, env)
    done = time.monotonic()
    after = os.times()
    run([*_SYNC, synced], env)
    end = time.monotonic()
    cpu = after.children_user + after.children_system - before.children_user - before.children_system
    return Cost(end - begun, end - done, cpu)


def run(argv: Argv, env: Mapping[str, str]) -> str:
    """The output of a command that must succeed."""
    done = subprocess.run(argv, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    if done.returncode != 0:
        said = (done.stderr or done.stdout).strip()[-600:]
        raise BenchError(f"`{' '.join(map(str, argv))}` ended with {done.returncode}: {said}")
    return done.stdout


def peak_bytes(commands: Sequence[Argv], env: Mapping[str, str]) -> int:
    """The most memory that all processes of ``commands`` together held at one time.

    Shared pages count once (PSS), so processes that were forked from one another are not counted double. Looked at every 10 ms,
    which slows what is looked at: never measure time with it.
    """
    watch = _Watch()
    watch.start()
    try:
        for argv in commands:
            run(argv, env)
    finally:
        watch.ended.set()
        watch.join()
    return watch.peak_bytes


class _Watch(threading.Thread):
    """Adds up the memory of all descendants of this process, again and again."""

    def __init__(self) -> None:
        super().__init__(daemon=True)
        # What runs beside from before is not measured, nor what it starts meanwhile.
        self._but = descendants(os.getpid())
        self._command_line = _command_line(os.getpid())
        self.ended = threading.Event()
        self.peak_bytes = 0

    def run(self) -> None:
        while not self.ended.wait(_SAMPLE_SECONDS):
            self.peak_bytes = max(self.peak_bytes, sum(map(_pss_bytes, self._own())))

    def _own(self) -> list[int]:
        # Between vfork and exec a child has this process's memory, and its command line.
        found = descendants(os.getpid(), self._but)
        return [pid for pid in found if _command_line(pid) != self._command_line]


def descendants(pid: int, but: Collection[int] = ()) -> list[int]:
    """The processes that ``pid`` has started, and theirs; without those of ``but`` and theirs."""
    found, waiting = [], [pid]
    while waiting:
        parent = waiting.pop()
        try:
            for thread in os.listdir(f"/proc/{parent}/task"):
                with open(f"/proc/{parent}/task/{thread}/children", encoding="ascii") as file:
                    waiting += [int(child) for child in file.read().split() if int(child) not in but]
        except OSError:  # it has just ended
            pass
        found.append(parent)
    return found[1:]


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:  # it has just ended
        return b""


def _pss_bytes(pid: int) -> int:
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) << 10
    except OSError:  # it has just ended
        pass
    return 0
