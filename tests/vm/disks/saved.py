"""States of machines that were kept under a name, memory and all, to start others from.

Invariant: a saved disk is only ever copied. It belongs to one golden disk, whose fingerprint is in its name: a changed
recipe of the machines never meets a state of the old one.
"""

from __future__ import annotations

import re
from pathlib import Path

from disks.cache import Cache, made_whole
from disks.golden import SNAPSHOT
from processes import Daemon
from programs import LabError
from qemu import Machine

_NAME = re.compile(r"[a-z][a-z0-9-]{0,60}")


def state_path(cache: Cache, golden: Path, state: str) -> Path:
    """Where that state is kept, if it is; ``golden`` is the golden disk that its machine started from."""
    if not _NAME.fullmatch(state):
        raise LabError(f"{state!r} is no name for a state: up to 61 of a-z, 0-9 and -, a letter first")
    return cache.root / f"state-{state}-{golden.stem}.qcow2"


def saved_disk(cache: Cache, golden: Path, state: str) -> Path:
    """The disk of that state; LabError when there is none."""
    path = state_path(cache, golden, state)
    if not path.exists():
        raise LabError(f"no machine was saved as {state}: save one first (lab.py save NAME {state})")
    return path


def save_state(cache: Cache, golden: Path, state: str, machine: Machine, daemon: Daemon) -> None:
    """Save the running ``machine`` and take its disk; it is off afterwards, without one."""
    path = state_path(cache, golden, state)
    with cache.lock(f"state-{state}"):
        # The saved state that it started from goes first: its place in the file is used again.
        machine.forget(SNAPSHOT)
        machine.save(SNAPSHOT)
        machine.quit()
        if not daemon.await_end():
            raise LabError(f"QEMU does not end after saving {machine.name}")
        with made_whole(path) as part:
            machine.disk.rename(part)
