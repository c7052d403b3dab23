"""Places to unpack into: a new ext4 on a loop device on a file in memory, so that no disk's noise is in the figures.

Invariant: every mount is private to this program and every loop device goes with its mount, so nothing is left behind, whatever
ends us (see ``privately``).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench.harness.measuring import BenchError, environment, run

MEMORY = Path("/dev/shm")  # noqa: S108 - a file system in memory, not a temporary file's name
_INSIDE = "FLYD_BENCH_INSIDE"
_MKFS = ("mkfs.ext4", "-q", "-F", "-b", "4096", "-m", "0")
# All is initialised beforehand, so that no thread of the kernel works on it while the clock runs.
_INITIALISED = "lazy_itable_init=0,lazy_journal_init=0,nodiscard"


def privately(module: str) -> None:
    """Go on as ``python -m module`` in namespaces of our own: mounts end with us, and so do all our processes."""
    if os.environ.get(_INSIDE):
        return
    if os.geteuid() != 0:
        raise BenchError("loop devices and owners need root: run this as root")
    os.environ[_INSIDE] = "yes"
    own = ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", "--propagation", "private"]
    os.execvp(own[0], [*own, sys.executable, "-m", module, *sys.argv[1:]])  # noqa: S606 - we become it


@contextlib.contextmanager
def workspace() -> Iterator[Path]:
    """An empty directory in memory, removed afterwards."""
    path = Path(tempfile.mkdtemp(prefix="flyd-bench-", dir=MEMORY))
    try:
        yield path
    finally:
        shutil.rmtree(path)


@contextlib.contextmanager
def new_ext4(work: Path, size_bytes: int, *, inodes: int) -> Iterator[Path]:
    """An empty directory: the root of a new ext4 without lost+found, all of which is on its device."""
    disk, root = work / "disk", work / "root"
    env = environment()
    root.mkdir(exist_ok=True)
    with disk.open("wb") as file:
        file.truncate(size_bytes)
    run([*_MKFS, "-N", str(inodes), "-E", _INITIALISED, disk], env)
    run(["mount", "--options", "loop,noatime", disk, root], env)
    try:
        (root / "lost+found").rmdir()
        os.sync()
        yield root
    finally:
        run(["umount", root], env)
        disk.unlink()
