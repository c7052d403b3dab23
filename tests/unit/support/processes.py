"""Whether a process still runs."""

from __future__ import annotations

import time
from pathlib import Path


def runs(pid: str) -> bool:
    """Whether process ``pid`` runs; one that is dead may stay listed until its new parent has looked."""
    try:
        return Path(f"/proc/{pid.strip()}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False


def assert_ends(pid: str) -> None:
    """Process ``pid`` is gone soon: a signal that was sent need not have been seen yet."""
    until = time.monotonic() + 10
    while runs(pid):
        assert time.monotonic() < until, f"process {pid.strip()} still runs"
        time.sleep(0.01)
