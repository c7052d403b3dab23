# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompressed archives and layers, in files without a name.

Invariant: no file is left behind, however the process ends; no more is written than the limits and the file system's reserve allow; and input and
output are hashed as they pass, not afterwards. No decoder runs in this process (``decoders``), and ``sharing`` keeps all decoders
within ``limits.decoder_memory_bytes``.
"""

from __future__ import annotations

import collections
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from functools import partial
from typing import Callable, NamedTuple

from ..._errors import Untrusted
from ..._host.processes.conversation import Ask
from ..._names import Digest
from ..extent import Extent
from ..limits import Deadline, Limits
from ..merge.entry_counter import EntryCounter
from ..tar.header import BLOCK
from .decoders import Decoder, Packed
from .sharing import Need, rounds
from .sniffing import sniff
from .spooling import Account, Spooling
from .windows import HEAD_BYTES, memory_bytes


class Compressed(NamedTuple):
    """A compressed stream; ``stored`` is the digest of its bytes as they are, ``content`` that of the decompressed ones.

    ``hint`` is what to do when it is damaged or has another digest, where that is known better than usual.
    """

    source: Extent
    what: str
    stored: Digest | None = None
    content: Digest | None = None
    hint: str = ""


class Spool:
    """The nameless files of one unpacking; close it and they are gone.

    ``ask`` reaches the broker, which makes files and decoders and knows the files ``source_fds``, by their positions.
    ``missing_isolation`` names the isolation that this host could not set up for the decoders.
    """

    def __init__(self, ask: Ask, source_fds: Sequence[int], limits: Limits, deadline: Deadline) -> None:
        self.limits = limits
        self.missing_isolation: set[str] = set()
        self._ask = ask
        self._numbers = {fd: number for number, fd in enumerate(source_fds)}
        self._is_archive = False
        self._deadline = deadline
        self.account = Account(limits, deadline)
        self._fds: list[int] = []

    def decompress(
        self, streams: Sequence[Compressed], census: EntryCounter, *, is_archive: bool = False
    ) -> list[Extent]:
        """``streams`` decompressed, side by side; ``Untrusted`` when one is damaged, too large, or has another digest than it must.

        ``census`` counts members while they come out. With ``is_archive``, what comes out may be given to this again.
        """
        self._is_archive = is_archive
        packed, needs = [], []
        for at, one in enumerate(streams):
            compression = sniff(one.source.read(0, BLOCK))
            wanted = memory_bytes(compression, one.source.read(0, HEAD_BYTES))
            packed.append(Packed(one.source, self._numbers[one.source.fd], one.what, compression))
            needs.append(Need(at, one.what, wanted, one.source.size, is_checked=one.content is not None))
        batch = _Batch(self, streams, packed, census)
        while needs:
            needs = batch.run(needs)
        return [batch.done[at] for at in range(len(streams))]

    @contextlib.contextmanager
    def decoders(self, streams: Sequence[Packed], count: int, memory_bytes: int) -> Iterator[list[Decoder]]:
        """``count`` processes, each of which can decompress all of ``streams``."""
        self.account.side_by_side = count
        with contextlib.ExitStack() as stack:
            stack.callback(self._ask, {"end": None})
            made = []
            for _number in range(count):
                made.append(Decoder(streams, self._ask, self._deadline, memory_bytes))
                stack.callback(made[-1].close)
            yield made
            for one in made:
                self.missing_isolation.update(one.missing_isolation)

    def new_file(self) -> int:
        """A file that has no name."""
        number, (fd,) = self._ask({"file": {"again": self._is_archive}})
        self._fds.append(fd)
        if number is not None:
            self._numbers[fd] = number
        return fd

    def close(self) -> None:
        """Give the files up."""
        while self._fds:
            os.close(self._fds.pop())


class _Batch:
    """Streams on their way through decoders; ``done`` is what came out, by number."""

    def __init__(
        self, spool: Spool, streams: Sequence[Compressed], packed: Sequence[Packed], census: EntryCounter
    ) -> None:
        self.done: dict[int, Extent] = {}
        self._spool = spool
        self._streams = streams
        self._packed = packed
        self._census = census
        self._again: list[Need] = []
        self._errors: list[BaseException] = []

    def run(self, needs: Sequence[Need]) -> list[Need]:
        """Decompress what ``needs`` says; returns what must be done once more with more memory."""
        self._again = []
        by_number = {need.at: need for need in needs}
        for part in rounds(needs, self._spool.limits, len(os.sched_getaffinity(0))):
            packed = [self._packed[at] for at in part.streams]
            with self._spool.decoders(packed, part.processes, part.memory_bytes) as decoders:
                waiting = collections.deque(enumerate(by_number[at] for at in part.streams))
                lanes = [partial(self._lane, one, waiting, once=part.once) for one in decoders]
                _side_by_side(lanes)
            if self._errors:
                raise self._errors[0]
        return self._again

    def _lane(self, decoder: Decoder, waiting: collections.deque[tuple[int, Need]], *, once: bool) -> None:
        """Let ``decoder`` decompress one stream after the other, until none is left or there was an error."""
        try:
            while (next_one := _taken(waiting)) is not None:
                with _hinting(self._streams[next_one[1].at].hint):
                    self._decompress(decoder, *next_one)
                if once:
                    return
        except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
            self._errors.append(error)
            self._spool.account.stop()

    def _decompress(self, decoder: Decoder, number: int, need: Need) -> None:
        one, fd, walk = self._streams[need.at], self._spool.new_file(), self._census.next_tar()
        account = self._spool.account
        spooling = Spooling(
            one.what, fd, account, one.content, lambda count: self._census.look(Extent(fd, 0, count), walk)
        )
        answer = decoder.run(number, spooling.add)
        if "needed_bytes" in answer:
            os.ftruncate(fd, 0)
            account.give_back(spooling.written_bytes, spooling.read_bytes)
            self._census.forget(walk)
            self._again.append(need.after(answer["needed_bytes"], self._spool.limits))
            return
        spooling.check(one.source, one.stored)
        self.done[need.at] = Extent(fd, 0, spooling.written_bytes)


@contextlib.contextmanager
def _hinting(hint: str) -> Iterator[None]:
    try:
        yield
    except Untrusted as error:
        if hint and "limit" not in error.details:
            error.hint = hint
        raise


def _taken(waiting: collections.deque[tuple[int, Need]]) -> tuple[int, Need] | None:
    """The next of ``waiting``, which several threads take from."""
    try:
        return waiting.popleft()
    except IndexError:
        return None


def _side_by_side(works: Sequence[Callable[[], None]]) -> None:
    """Run ``works``, the first of them here; none of them raises."""
    threads = [threading.Thread(target=work) for work in works[1:]]
    for thread in threads:
        thread.start()
    works[0]()
    for thread in threads:
        thread.join()
