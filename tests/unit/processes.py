"""Whether a process still runs."""

from __future__ import annotations

from pathlib import Path


def runs(pid: str) -> bool:
    """Whether process ``pid`` runs; one that is dead may stay listed until its new parent has looked."""
    try:
        return Path(f"/proc/{pid.strip()}/stat").read_text().rpartition(")")[2].split()[0] not in ("Z", "X")
    except (FileNotFoundError, ProcessLookupError):
        return False
