"""The background processes of the lab: QEMU and the S3 server.

Invariant: nothing is ever signalled that the lab did not start. A pid is only believed when the
process has our mark among its arguments, and it is held by a pidfd from before that look until after
the signal, so that a pid used again in between cannot be hit (pidfd_open(2), pidfd_send_signal(2)).
"""

from __future__ import annotations

import os
import select
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from programs import LabError

_END_TIMEOUT_SECONDS = 30.0


@dataclass(frozen=True)
class Daemon:
    """A process known by the file with its pid and by one argument that no other process has."""

    pid_file: Path
    mark: str

    def is_running(self) -> bool:
        with self._held() as pidfd:
            return pidfd is not None

    def kill(self) -> bool:
        """End the process at once, without asking it; returns when it is gone, True when there was one."""
        with self._held() as pidfd:
            if pidfd is not None:
                signal.pidfd_send_signal(pidfd, signal.SIGKILL)
                if not _has_ended(pidfd, within_seconds=_END_TIMEOUT_SECONDS):
                    raise LabError(f"the process of {self.pid_file} is still there after {_END_TIMEOUT_SECONDS:g} s")
            self.pid_file.unlink(missing_ok=True)
            return pidfd is not None

    def await_end(self) -> bool:
        """Wait for a process that was asked in its own way to end; False when it is still there."""
        with self._held() as pidfd:
            return pidfd is None or _has_ended(pidfd, within_seconds=_END_TIMEOUT_SECONDS)

    @contextmanager
    def _held(self) -> Iterator[int | None]:
        pid = self._recorded_pid()
        pidfd = _open_pidfd(pid) if pid is not None else None
        try:
            yield pidfd if pidfd is not None and self.mark in arguments_of(pid or 0) else None
        finally:
            if pidfd is not None:
                os.close(pidfd)

    def _recorded_pid(self) -> int | None:
        try:
            text = self.pid_file.read_text().strip()
        except FileNotFoundError:
            return None
        return int(text) if text.isdecimal() else None


def _has_ended(pidfd: int, *, within_seconds: float) -> bool:
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(within_seconds * 1000))


def _open_pidfd(pid: int) -> int | None:
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        return None


def arguments_of(pid: int) -> list[str]:
    """The arguments of a live process; empty for a zombie or a pid that is not there."""
    try:
        raw = Path(f"/proc/{pid}/cmdline").read_bytes()
    except (FileNotFoundError, ProcessLookupError):
        return []
    return [os.fsdecode(part) for part in raw.split(b"\0")]
