# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A child that sends several messages, requests what it cannot do itself, and receives open files.

Invariant: its messages are JSON, read as by ``answer``; it dies with this process, and when it is stopped. Descriptors are passed by
SCM_RIGHTS (unix(7)), so the child needs access neither to the file nor to its mount.
"""

from __future__ import annotations

# The module socket takes as long to load as a child takes to be forked, and nothing of what it adds is needed here.
import _socket
import array
import contextlib
import json
import os
import select
import threading
import time
from collections.abc import Collection, Sequence
from typing import Callable, NamedTuple

from ..._errors import CommandFailed
from .answer import Json, result_of
from .child import Helper

_PART_BYTES = 1 << 16
_MAX_BYTES = 64 << 20  # of one message: a configuration is in it
_FD_BYTES = array.array("i").itemsize
_MOST_FDS = 253  # that one message carries: SCM_MAX_FD of the kernel


class Reply(NamedTuple):
    """The answer to a question, and the descriptors that come with it, which are the receiver's."""

    result: Json
    fds: list[int]


Ask = Callable[[Json], Reply]


class Late(Exception):
    """The child has not sent a message in time."""


class Line:
    """The child's end."""

    def __init__(self, end: _socket.socket) -> None:
        self._end = end
        self._is_asking = threading.Lock()

    def say(self, message: Json) -> None:
        """Send ``message``; it has no newline in it, as JSON has none."""
        data = memoryview(json.dumps(message).encode() + b"\n")
        while data:
            data = data[self._end.send(data) :]

    def take_fd(self) -> tuple[bytes, int]:
        """The descriptor that the parent gives, with the word that comes with it, waited for; ends this process when the parent gives none."""
        word, fds = self._received(1)
        if not fds:
            os._exit(0)
        return word, fds[0]

    def ask(self, question: Json) -> Reply:
        """The parent's answer to ``question``, waited for; raises its error. Several threads may ask."""
        with self._is_asking:
            self.say({"ask": question})
            said = b""
            fds: list[int] = []
            while not said.endswith(b"\n"):
                part, more = self._received(_PART_BYTES)
                said, fds = said + part, fds + more
        try:
            return Reply(result_of(said.strip(), "the parent answers what cannot be understood"), fds)
        except BaseException:
            for fd in fds:
                os.close(fd)
            raise

    def _received(self, count: int) -> tuple[bytes, list[int]]:
        """At most ``count`` bytes, and the descriptors that come with them; ends this process when the parent has hung up."""
        data, ancillary, _flags, _address = self._end.recvmsg(
            count, _socket.CMSG_SPACE(_MOST_FDS * _FD_BYTES), _socket.MSG_CMSG_CLOEXEC
        )
        fds = array.array("i")
        for level, kind, sent in ancillary:
            if (level, kind) == (_socket.SOL_SOCKET, _socket.SCM_RIGHTS):
                fds.frombytes(sent[: len(sent) - len(sent) % _FD_BYTES])
        if not data:
            os._exit(0)
        return data, list(fds)


class Conversation:
    """The parent's end, which any descendant of the maker may use, one at a time.

    What ``child.Helper`` says of the work, its result, its errors and its descriptors holds here too.
    """

    def __init__(
        self, work: Callable[[Line], Json], *, what: str, kept_fds: Collection[int], apart: bool = False
    ) -> None:
        self._what = what
        self._said = b""
        self._end, theirs = _socket.socketpair(_socket.AF_UNIX, _socket.SOCK_STREAM)
        line = Line(theirs)
        self._helper = Helper(lambda: work(line), what=what, kept_fds={*kept_fds, theirs.fileno()}, apart=apart)
        theirs.close()

    def hear(self, timeout_seconds: float) -> dict[str, Json] | None:
        """The next message, an object, or ``None`` when there will be none: then ``result`` says why. A question is ``{"ask": …}``.

        Raises ``Late`` after ``timeout_seconds``. The child does not hang up before it has given its result, so it is killed when it does.
        """
        until = time.monotonic() + timeout_seconds
        readable = select.poll()
        readable.register(self._end, select.POLLIN)
        if timeout_seconds <= 0:  # one that asks without end is late, too
            raise Late
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

    def give(self, fd: int, word: bytes = b".") -> None:
        """Send the descriptor ``fd`` with ``word``, one byte; what is wrong with the child then comes out of ``result``."""
        self._send(word, [fd])

    def reply(self, answer: dict[str, Json], fds: Sequence[int] = ()) -> None:
        """Answer the question that was heard last: ``{"result": …}`` with the descriptors ``fds``, or ``{"error": …}`` (``answer``)."""
        for at in range(0, len(fds), _MOST_FDS):
            self._send(b" ", fds[at : at + _MOST_FDS])
        self._send(json.dumps(answer).encode() + b"\n", ())

    def _send(self, data: bytes, fds: Sequence[int]) -> None:
        rights = [(_socket.SOL_SOCKET, _socket.SCM_RIGHTS, array.array("i", fds))] if fds else []
        try:
            # One that asks and does not listen must not keep this process waiting.
            sent = self._end.sendmsg([data], rights, _socket.MSG_NOSIGNAL | _socket.MSG_DONTWAIT)
        except (BrokenPipeError, ConnectionResetError):
            return
        except BlockingIOError:
            sent = 0
        if sent < len(data):
            raise CommandFailed(f"the child for {self._what} does not listen to what it asked for", hint="run again")

    def result(self) -> Json:
        """The result of the work, waited for as long as it takes; raises its error."""
        return self._helper.result()

    def stop(self) -> None:
        """Kill the child, and with it all that it has started; the maker reaps it with ``close``."""
        self._helper.stop()

    def close(self) -> None:
        """Stop the child, if it still runs, and reap it; for the maker."""
        self._end.close()
        self._helper.close()
