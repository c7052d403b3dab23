# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that says more than one thing, and is given an open file on the way.

Invariant: what it says is JSON, and read as ``answer`` reads it; it dies with this process, and when it is stopped. A descriptor crosses by
SCM_RIGHTS (unix(7)), so the child needs to see neither the file nor the mount that it lies in.
"""

from __future__ import annotations

# The module socket takes as long to load as a child takes to be forked, and nothing of what it adds is needed here.
import _socket
import array
import contextlib
import json
import os
import select
import signal
import time
from collections.abc import Collection
from typing import Callable

from ..._errors import CommandFailed
from .answer import Json
from .child import Helper

_PART_BYTES = 1 << 16
_MAX_BYTES = 64 << 20  # of one message: a configuration is in it
_FD = array.array("i", [0])


class Late(Exception):
    """The child has not said anything in time."""


class Line:
    """The child's end."""

    def __init__(self, end: _socket.socket) -> None:
        self._end = end

    def say(self, message: Json) -> None:
        """Send ``message``; it has no newline in it, as JSON has none."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[self._end.send(data) :]

    def take_fd(self) -> int:
        """The descriptor that the parent gives, waited for; ends this process when the parent gives none."""
        _data, ancillary, _flags, _address = self._end.recvmsg(
            1, _socket.CMSG_SPACE(_FD.itemsize), _socket.MSG_CMSG_CLOEXEC
        )
        for level, kind, data in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                return array.array("i", data)[0]
        os._exit(0)


class Conversation:
    """The parent's end, which any descendant of the maker may use, one at a time.

    What ``child.Helper`` says of the work, its result, its errors and its descriptors holds here too.
    """

    def __init__(self, work: Callable[[Line], Json], *, what: str, kept_fds: Collection[int]) -> None:
        self._what = what
        self._said = b""
        self._end, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        line = Line(theirs)
        self._helper = Helper(lambda: work(line), what=what, kept_fds={*kept_fds, theirs.fileno()})
        self._pid = self._helper.pid
        theirs.close()

    def hear(self, timeout_seconds: float) -> dict[str, Json] | None:
        """The next message, an object, or ``None`` when there will be none: then ``result`` says why.

        Raises ``Late`` after ``timeout_seconds``. The child does not hang up before it has given its result, so it is killed when it does.
        """
        until = time.monotonic() + timeout_seconds
        readable = select.poll()
        readable.register(self._end, select.POLLIN)
        while b"\n" not in self._said:
            if not readable.poll(max(0.0, until - time.monotonic()) * 1000):
                raise Late
            part = self._end.recv(_PART_BYTES)
            if not part:
                self.stop()
                return None
            self._said += part
            if len(self._said) > _MAX_BYTES:
                raise CommandFailed(
                    f"the child for {self._what} says more than {_MAX_BYTES >> 20} MiB",
                    hint="run again; if it does the same, the image is malicious",
                )
        said, _newline, self._said = self._said.partition(b"\n")
        with contextlib.suppress(ValueError, RecursionError):
            message = json.loads(said)
            if isinstance(message, dict):
                return message
        raise CommandFailed(f"the child for {self._what} says what is no message", hint="run again")

    def give(self, fd: int) -> None:
        """Send the descriptor ``fd``; what is wrong with the child then comes out of ``result``."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            rights = (_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", [fd]))
            self._end.sendmsg([b"."], [rights], _socket.MSG_NOSIGNAL)

    def result(self) -> Json:
        """The result of the work, waited for as long as it takes; raises its error."""
        return self._helper.result()

    def stop(self) -> None:
        """Kill the child, and with it all that it has started; the maker reaps it with ``close``."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)

    def close(self) -> None:
        """Stop the child, if it still runs, and reap it; for the maker."""
        self._end.close()
        self._helper.close()
