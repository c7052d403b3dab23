# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A confined process that decompresses, seen from the process that wants its output.

Invariant: it may have been compromised by its input. No frame of it may exceed the maximum, its progress is the kernel's file offset of the
descriptor that it reads through, and one that sends nothing for too long is given up.
"""

from __future__ import annotations

import os
import select
from collections.abc import Sequence
from typing import Callable, NamedTuple

from ..._errors import CommandFailed
from ..._host.processes.answer import Json, result_of
from ..._host.processes.conversation import Ask
from ..extent import Extent
from ..limits import Deadline
from .decoder_process import ANSWER, MAX_ANSWER_BYTES, MAX_FRAME_BYTES, ORDER_BYTES
from .sniffing import Compression

_LOOK_SECONDS = 0.5  # at the deadline, while nothing comes


class Packed(NamedTuple):
    """A compressed stream; ``source_number`` is that under which the broker knows the file that it lies in."""

    source: Extent
    source_number: int
    what: str
    compression: Compression


class Decoder:
    """A process for ``streams``, each of which may be asked for once; with ``memory_bytes`` for a stream at a time.

    It is got from the broker behind ``ask``, which ends it, too.
    """

    def __init__(self, streams: Sequence[Packed], ask: Ask, deadline: Deadline, memory_bytes: int) -> None:
        self._streams = streams
        self._ask = ask
        self._deadline = deadline
        self._buffer = memoryview(bytearray(MAX_FRAME_BYTES))
        self._missing_isolation: list[str] | None = None
        rows = [[one.compression.value, one.what, one.source_number, one.source.size] for one in streams]
        self.number, fds = ask({"decoder": {"memory_bytes": memory_bytes, "streams": rows}})
        self._out, self._orders, *files = self._fds = fds
        self._sources = dict(zip(sorted({one.source_number for one in streams}), files))

    def run(self, at: int, take: Callable[[memoryview, int], object]) -> dict[str, Json]:
        """Decompress stream ``at``; returns the decoder's answer, and raises what it found.

        ``take`` is given each piece that comes out, which is good until it returns, and how much of the stream has been read by then.
        """
        source = self._streams[at].source
        position = self._sources[self._streams[at].source_number]
        if self._missing_isolation is None:
            self._missing_isolation = [str(name) for name in self._answer(self._head())]
        os.lseek(position, source.offset, os.SEEK_SET)
        os.write(self._orders, at.to_bytes(ORDER_BYTES, "little"))
        while not (head := self._head()) & ANSWER:
            data = self._filled(head, MAX_FRAME_BYTES)
            take(data, os.lseek(position, 0, os.SEEK_CUR) - source.offset)
        return dict(self._answer(head))

    @property
    def missing_isolation(self) -> list[str]:
        """The names of the walls that this host could not put around the process; none before it has decompressed."""
        return self._missing_isolation or []

    def close(self) -> None:
        """Let go of the process, which then ends if it can."""
        while self._fds:
            os.close(self._fds.pop())

    def _head(self) -> int:
        return int.from_bytes(self._filled(4, 4), "little")

    def _answer(self, head: int) -> Json:
        said = bytes(self._filled(head & ~ANSWER, MAX_ANSWER_BYTES))
        return result_of(said, "a process that decompresses answers what cannot be understood")

    def _filled(self, count: int, most: int) -> memoryview:
        """The next ``count`` bytes."""
        if count > most:
            raise CommandFailed(
                "a process that decompresses does not keep to the protocol",
                hint="compare the image's checksum with its publisher's, then fetch it again (flyd_fetch): it may be malicious",
            )
        got = 0
        while got < count:
            try:
                part = os.readv(self._out, [self._buffer[got:count]])
            except BlockingIOError:
                select.select([self._out], [], [], _LOOK_SECONDS)
                self._deadline.check()
                continue
            if part == 0:
                self._ask({"why": self.number})  # raises: it should not have ended
                raise CommandFailed("a process that decompresses has ended too early", hint="run again", retryable=True)
            got += part
        return self._buffer[:count]
