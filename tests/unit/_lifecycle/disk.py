# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What tests ask of files and of other processes."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path


def picture(directory: Path) -> dict[str, tuple[object, ...]]:
    """Everything below ``directory``: type, mode, owner, size, content and time of change. Equal pictures: nothing was written."""
    found: dict[str, tuple[object, ...]] = {}
    for path in [directory, *sorted(directory.rglob("*"))]:
        seen = path.lstat()
        content = path.read_bytes() if path.is_file() and not path.is_symlink() else b""
        facts = (seen.st_ino, seen.st_mode, seen.st_uid, seen.st_size, seen.st_mtime_ns)
        found[str(path)] = (*facts, hashlib.sha256(content).hexdigest())
    return found


def in_process(work: Callable[[], object]) -> int:
    """Run ``work`` in a process of its own; its wait status: 0 when it came to its end, 9 when it was killed."""
    return at_once(work)[0]


def at_once(*works: Callable[[], object]) -> list[int]:
    """Run every one of ``works`` in a process of its own, side by side; their wait statuses."""
    return [os.waitpid(pid, 0)[1] for pid in [_started(work) for work in works]]


def _started(work: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            work()
            status = 0
        except BaseException:  # noqa: BLE001 - it must not return into the test runner
            traceback.print_exc()
        finally:
            os._exit(status)
    return pid


@contextlib.contextmanager
def beside(work: Callable[[], object]) -> Iterator[int]:
    """Another process that has done ``work`` and lives on; gives its pid and kills it in the end."""
    read_end, write_end = os.pipe()

    def work_and_wait() -> None:
        work()
        os.write(write_end, b"done")
        signal.pause()

    pid = _started(work_and_wait)
    os.close(write_end)
    try:
        assert os.read(read_end, 4) == b"done", "the other process has failed"
        yield pid
    finally:
        os.close(read_end)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(pid, 0)


def kill_myself() -> None:
    """End at once, as a power cut would have it."""
    os.kill(os.getpid(), signal.SIGKILL)


def gone_pid() -> int:
    """A pid that no process has."""
    pid = _started(lambda: None)
    os.waitpid(pid, 0)
    return pid
