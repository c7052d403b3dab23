"""How much memory a program and all that it starts take at the most, added up over its processes."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "unpack.py"
_LOOK_SECONDS = 0.004
# The tool on a host that says it has so many processors; threads and processes are real.
_ON_PROCESSORS = """
import os, runpy, sys
count = int(sys.argv[1])
os.sched_getaffinity = lambda _pid: set(range(count))
del sys.argv[:2]
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@dataclass(frozen=True)
class Taken:
    """What a program answered, and its peak of memory: pages that processes share are counted once."""

    stdout: bytes
    seconds: float
    peak_bytes: int
    processes: int


def unpack(archive: Path, target: Path, spool: Path, processors: int, limits: str = "") -> Taken:
    """Run unpack.py as if there were ``processors``; without a fork of this process' memory."""
    command = [sys.executable, "-c", _ON_PROCESSORS, str(processors), str(TOOL), str(archive), str(target)]
    return taken_by([*command, "--spool", str(spool), "--limits", limits])


def taken_by(command: Sequence[str]) -> Taken:
    """Run ``command`` and look at it and all its descendants until it ends."""
    begun, peak, most = time.monotonic(), 0, 0
    with subprocess.Popen(command, stdout=subprocess.PIPE) as child:
        while child.poll() is None:
            family = [child.pid, *_descendants(child.pid)]
            peak, most = max(peak, sum(map(_proportional_bytes, family))), max(most, len(family))
            time.sleep(_LOOK_SECONDS)
        said = child.stdout.read() if child.stdout else b""
    return Taken(said, time.monotonic() - begun, peak, most)


def _descendants(pid: int) -> Iterator[int]:
    try:
        tasks = os.listdir(f"/proc/{pid}/task")
        children = " ".join(Path(f"/proc/{pid}/task/{task}/children").read_text() for task in tasks).split()
    except OSError:
        return
    for child in map(int, children):
        yield child
        yield from _descendants(child)


def _proportional_bytes(pid: int) -> int:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    except OSError:  # it has ended
        return 0
    return sum(int(line.split()[1]) << 10 for line in lines if line.startswith("Pss:"))
