# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run work in a child that answers in JSON and dies with its parent.

Invariant: a child that hangs delays neither its parent nor the reader of its parent's output beyond its time limit.
"""

from __future__ import annotations

import contextlib
import io
import os
import select
import signal
import sys
import time
from collections.abc import Collection
from typing import Callable

from ..._errors import CommandFailed
from ..confinement.isolation import NAMESPACES, no_new_privileges, own_namespaces, own_pid_namespace_for_child
from .answer import Json, added, answer_of, read_all, understood
from .death_signal import die_with_parent, die_with_reader
from .without_files import close_all_but, has_left_files

_REAP_SECONDS, _REAP_POLL_SECONDS = 5.0, 0.001
_LOOKS = 8  # at a child's progress, while it may make none
_PIPE_BYTES = 1 << 16


def in_child(
    work: Callable[[], Json],
    *,
    what: str,
    kept_fds: Collection[int] | None = None,
    timeout_seconds: float | None = None,
    progress: Callable[[], object] | None = None,
    apart: bool = False,
) -> Json:
    """The result of ``work``, run in a child that dies with this process; it comes back as JSON.

    Nothing richer than JSON is read from the child (``answer``). A ``FlydError`` or ``OSError`` of the child is raised here. A child
    that ends without a word (killed, out of memory) is ``CommandFailed`` that names ``what``, and so is one that has not answered after
    ``timeout_seconds`` (``None``: for ever). With ``progress``, that is how long what it returns may stay the same.
    With ``kept_fds`` the child holds no other descriptor above 2. With ``apart`` it sees no other process and no network, as far as
    this host allows (``missing_namespaces``).
    """
    pid, read_end = _start(work, what, kept_fds, apart=apart)
    patience = _Patience(timeout_seconds, progress)
    try:
        with os.fdopen(read_end, "rb", buffering=0) as pipe:
            said = _until_the_end(pipe, patience)
    except BaseException:
        _killed(pid)
        raise
    if said is None:
        raise CommandFailed.late(what, patience.seconds, _killed(pid), fault=patience.fault)
    return understood(said, f"the child for {what} ended without an answer (wait status {os.waitpid(pid, 0)[1]})")


class Helper:
    """A child that works beside this process from the moment this is made, and dies with it.

    What ``in_child`` says of the work, its answer, its errors and its descriptors holds here too.
    """

    def __init__(
        self, work: Callable[[], Json], *, what: str, kept_fds: Collection[int] | None = None, apart: bool = False
    ) -> None:
        self._what = what
        self._maker = os.getpid()
        self.pid, read_end = _start(work, what, kept_fds, apart=apart)
        self._answer: int | None = read_end

    def fileno(self) -> int:
        """What is readable once there is a result, for select."""
        if self._answer is None:
            raise ValueError(f"the answer of the child for {self._what} was read before")
        return self._answer

    def result(self) -> Json:
        """The result, waited for as long as it takes. Any descendant of the maker may ask, and only one of them, once."""
        if self._answer is None:
            raise ValueError(f"the answer of the child for {self._what} was read before")
        pipe, self._answer = self._answer, None
        return understood(read_all(pipe), f"the child for {self._what} ended without an answer")

    def stop(self) -> None:
        """Kill the child, and with it all that it has started; the maker reaps it with ``close``."""
        if self.pid:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self.pid, signal.SIGKILL)

    def close(self) -> None:
        """End the child, if it still runs, and reap it, if it ends at all: what hangs in the kernel is left to itself."""
        if self._answer is not None:
            os.close(self._answer)
            self._answer = None
        if self.pid and os.getpid() == self._maker:
            _killed(self.pid)
            self.pid = 0


class _Patience:
    """How long a child may take, or may make no progress."""

    def __init__(self, seconds: float | None, progress: Callable[[], object] | None) -> None:
        self.seconds = float("inf") if seconds is None else seconds
        self.fault = "made no progress for" if progress else "did not end within"
        self._progress = progress
        self._seen: object = None
        self._until = time.monotonic() + self.seconds

    @property
    def next_look_seconds(self) -> float | None:
        """After how long to ask ``is_over``; ``None``: never."""
        if self.seconds == float("inf"):
            return None
        left = max(0.0, self._until - time.monotonic())
        return min(left, self.seconds / _LOOKS) if self._progress else left

    def is_over(self) -> bool:
        """Whether the time is up; what was seen of the child's progress begins it again."""
        now = self._progress() if self._progress else None
        if now != self._seen:
            self._seen, self._until = now, time.monotonic() + self.seconds
        return time.monotonic() >= self._until


def _until_the_end(pipe: io.FileIO, patience: _Patience) -> bytes | None:
    """All that the child says, or ``None`` when time is up."""
    said = b""
    readable = select.poll()  # select() knows no descriptor above 1023, and an image may have a thousand files
    readable.register(pipe, select.POLLIN)
    while True:
        left = patience.next_look_seconds
        if readable.poll(None if left is None else left * 1000):
            part = pipe.read(_PIPE_BYTES)
            if not part:
                return said
            said = added(said, part)
        elif patience.is_over():
            return None


def _start(
    work: Callable[[], Json], what: str, kept_fds: Collection[int] | None, *, apart: bool = False
) -> tuple[int, int]:
    """The pid of a child that does ``work``, and the descriptor at which it answers."""
    set_death_signal = die_with_parent()
    read_end, write_end = os.pipe()
    with own_pid_namespace_for_child() if apart else contextlib.nullcontext(False) as is_first:
        pid = os.fork()
        if pid == 0:
            os.close(read_end)
            if is_first:
                die_with_reader(write_end)
            else:
                set_death_signal()
            if kept_fds is not None:
                close_all_but({write_end, *kept_fds})
            _answer(_set_apart(work, is_first=is_first) if apart else work, write_end, what)
    os.close(write_end)
    return pid, read_end


class _Apart:
    """What this process, a child, was given of what it was to have of its own; ``missing`` is ``None`` in any other process."""

    missing: list[str] | None = None


def missing_namespaces() -> list[str]:
    """The namespaces that this process shares with the host: those that it could not get when it was started ``apart``."""
    return ["pid", *NAMESPACES] if _Apart.missing is None else list(_Apart.missing)


def is_in_own_pid_namespace() -> bool:
    """Whether all processes that this one can name are its own children."""
    return "pid" not in missing_namespaces()


def _set_apart(work: Callable[[], Json], *, is_first: bool) -> Callable[[], Json]:
    def work_apart() -> Json:
        _Apart.missing = [*([] if is_first else ["pid"]), *own_namespaces()]
        return work()

    return work_apart


def _killed(pid: int) -> str:
    """What became of a child that is killed; its end is waited for no longer than makes sense: what hangs in the kernel does not die."""
    try:
        os.kill(pid, signal.SIGKILL)
    except (
        PermissionError
    ):  # a list of system calls without kill, where no pid namespace could be had: it dies with this process
        return "and ends with the process that wanted it"
    until = time.monotonic() + _REAP_SECONDS
    while time.monotonic() < until:
        if os.waitpid(pid, os.WNOHANG)[0] == pid:
            return "and was killed"
        time.sleep(_REAP_POLL_SECONDS)
    return f"and its process {pid} cannot be killed: it hangs in the kernel"


def _leave_to_the_parent(write_end: int) -> None:
    """Signals to the group and what the controller reads: unwinding is the parent's work, and a child that hangs must keep neither waiting.

    What is written to standard error goes where the answer goes.
    """
    os.setsid()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)
    if not has_left_files():  # else the parent has left them to its own parent
        nowhere = os.open(os.devnull, os.O_RDWR)
        os.dup2(nowhere, 0)
        os.dup2(nowhere, 1)
        os.close(nowhere)
    os.dup2(write_end, 2)
    sys.stderr = sys.__stderr__


def _answer(work: Callable[[], Json], write_end: int, what: str) -> None:
    try:
        _leave_to_the_parent(write_end)
        no_new_privileges()
        answer = answer_of(work, what)
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(b"\n" + answer)
        os._exit(0)
    except BaseException:  # noqa: BLE001 - whatever it was, this process must never return into its parent's code
        sys.__excepthook__(*sys.exc_info())  # written in C: nothing can be imported from in here
    finally:
        os._exit(70)
