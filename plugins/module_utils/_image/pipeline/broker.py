# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Serve requests that the reader's sandbox does not permit: start confined decoders, and create files in the spool.

Invariant: no byte of an archive is parsed here. The reader may be compromised, so each request is checked completely
before anything is done: a decoder reads only files that the broker knows, all decoders together get no more memory than the limits allow,
and there are no more of them than processors. The reader receives only descriptors: of pipes, of files to read, and of new unnamed files.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Sequence
from functools import partial
from typing import Callable, NamedTuple, NoReturn

from ..._errors import CommandFailed
from ..._host.files.durable import file_errors
from ..._host.processes.answer import Json
from ..._host.processes.child import Helper
from ..._host.processes.conversation import Reply
from ..._host.processes.pipes import wide_pipe
from ..compression.decoder_process import PROCESS_BYTES, Stream, decode
from ..compression.sniffing import Compression
from ..compression.streams import Open
from ..options import Options
from .offer import MAX_IDENTITY, Layer, Offer

_MAX_STREAMS = 1 << 14
_MAX_KEPT_FILES = 8
_MAX_NAME = 1 << 12
_PACKED = {one.value: one for one in Compression if one is not Compression.NONE}


class NotAsked(CommandFailed):
    """An invalid request of the reader."""


class Wanted(NamedTuple):
    """A stream that a decoder is to be able to decompress: ``source`` is the number of a file that the broker knows."""

    compression: Compression
    what: str
    source: int
    size_bytes: int


class Broker:
    """For the reader of ``source_fds``, which it knows by their positions; files that may be read again get the numbers behind."""

    def __init__(self, options: Options, source_fds: Sequence[int], offer: Offer | None = None) -> None:
        self._offer = offer
        self._limits = options.limits
        self._directory = options.spool_directory
        self._sources = list(source_fds)
        self._first_kept = len(self._sources)
        self._helpers: list[Helper] = []
        self._taken_bytes = 0
        self._kept = contextlib.ExitStack()

    def answer(self, question: Json) -> Reply:
        """Do what is asked for; the descriptors that are returned are the caller's. Raises ``NotAsked``, or what went wrong.

        ``{"decoder": {"memory_bytes": …, "streams": [[compression, name, source, bytes], …]}}`` gives the number of a decoder; the ends of
        the pipes of its output and its orders, and the files that it reads, once each, in the order of their numbers.
        ``{"end": null}`` ends all decoders, ``{"why": number}`` raises what one of them ended with.
        ``{"file": {"again": …}}`` gives a new file, and, if streams in it are to be read again, its number.
        ``{"origin": {"layers": [[identity, bytes], …]}}`` gives, once, the manifest of the base that the caller chooses, and what
        there is of the archive that it was made of; or none.
        """
        return self._understood(question)()

    def close(self) -> None:
        """End all decoders, and close all files that were kept."""
        self._end()
        self._kept.close()

    def _understood(self, question: Json) -> Callable[[], Reply]:
        try:
            ((verb, given),) = question.items()
            if verb == "decoder":
                return partial(self._decoder, self._memory(given["memory_bytes"]), self._streams(given["streams"]))
            if verb == "file":
                return partial(self._file, is_kept=bool(given["again"]) and self._may_keep())
            if verb == "origin":
                return partial(self._origin, self._may_ask(), self._layers(given["layers"]))
            if verb == "why":
                return partial(self._why, self._helpers[_number(given, len(self._helpers))])
            return {"end": self._end}[verb]
        except (TypeError, ValueError, KeyError, AttributeError):
            _refuse()

    def _memory(self, memory_bytes: object) -> int:
        checked = _number(memory_bytes, self._limits.decoder_memory_bytes - PROCESS_BYTES - self._taken_bytes + 1)
        if len(self._helpers) >= len(os.sched_getaffinity(0)):
            _refuse()
        return checked

    def _streams(self, rows: Json) -> list[Wanted]:
        if not isinstance(rows, list) or not 0 < len(rows) <= _MAX_STREAMS:
            _refuse()
        return [
            Wanted(_PACKED[kind], str(what)[:_MAX_NAME], _number(source, len(self._sources)), _number(size, 1 << 63))
            for kind, what, source, size in rows
        ]

    def _may_keep(self) -> bool:
        if len(self._sources) >= self._first_kept + _MAX_KEPT_FILES:
            _refuse()
        return True

    def _may_ask(self) -> Offer:
        offer, self._offer = self._offer, None
        return offer or _refuse()

    def _layers(self, rows: Json) -> list[Layer]:
        # One more than the image may have: that of added files.
        if not isinstance(rows, list) or len(rows) > self._limits.layers + 1:
            _refuse()
        return [Layer(_text(identity), _number(size, 1 << 63)) for identity, size in rows]

    def _origin(self, offer: Offer, layers: Sequence[Layer]) -> Reply:
        found = offer(layers)
        if found is None:
            return Reply(None, [])
        fds = [os.dup(fd) for fd in (found.manifest_fd, *found.archive_fds)]
        return Reply({"trusted": found.is_trusted, "layers": found.layer_sha256}, fds)

    def _decoder(self, memory_bytes: int, streams: Sequence[Wanted]) -> Reply:
        opened = _decoders(streams)
        with contextlib.ExitStack() as stack:
            files = {}
            for number in sorted({one.source for one in streams}):
                # A description of its own: its position reports how far the decoder has read.
                files[number] = _open(f"/proc/self/fd/{self._sources[number]}", stack)
            out, target = wide_pipe()
            orders, order_end = os.pipe()
            stack.callback(os.close, out)
            stack.callback(os.close, order_end)
            os.set_blocking(out, False)
            works = [Stream(opened[one[:2]], files[one.source], one.size_bytes) for one in streams]
            try:
                helper = Helper(
                    lambda: decode(works, orders, target, self._limits, memory_bytes),
                    what="decompressing",
                    kept_fds={orders, target, *files.values()},
                    apart=True,
                )
            finally:
                os.close(orders)
                os.close(target)
            self._helpers.append(helper)
            self._taken_bytes += memory_bytes + PROCESS_BYTES
            stack.pop_all()
            return Reply(len(self._helpers) - 1, [out, order_end, *files.values()])

    def _why(self, helper: Helper) -> Reply:
        helper.stop()  # it has hung up, and should not have: its result is not waited for
        return Reply(helper.result(), [])

    def _end(self) -> Reply:
        self._taken_bytes = 0
        while self._helpers:
            self._helpers.pop().close()
        return Reply(None, [])

    def _file(self, *, is_kept: bool) -> Reply:
        fd = _nameless_file(self._directory)
        if not is_kept:
            return Reply(None, [fd])
        self._sources.append(os.dup(fd))
        self._kept.callback(os.close, self._sources[-1])
        return Reply(len(self._sources) - 1, [fd])


def _decoders(streams: Sequence[Wanted]) -> dict[tuple[Compression, str], Open]:
    # Loaded by need: most layers are plain, and the libraries behind it take a fifth of our start.
    from ..compression.choice import decoder

    return {one[:2]: decoder(one.compression, one.what) for one in streams}


def _open(path: str, stack: contextlib.ExitStack) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    stack.callback(os.close, fd)
    return fd


def _nameless_file(directory: str) -> int:
    """A new file in ``directory`` that has no name, and where O_TMPFILE is known never gets one."""
    with file_errors("making a file in the spool"):
        try:
            return os.open(directory, os.O_TMPFILE | os.O_EXCL | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
            # A file system or a kernel without O_TMPFILE (open(2), "BUGS"): take a name, and give it up at once.
            import tempfile  # it takes longer to load than all else here, and is hardly ever needed

            fd, path = tempfile.mkstemp(prefix=".spool-", dir=directory)
            os.unlink(path)
            return fd


def _number(value: object, below: int) -> int:
    """``value``, if it is a whole number from 0 on and ``below`` that one."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < below:
        _refuse()
    return value


def _text(value: object) -> str:
    if not isinstance(value, str) or len(value) > MAX_IDENTITY:
        _refuse()
    return value


def _refuse() -> NoReturn:
    raise NotAsked(
        "the child for reading the image asks for what no reader needs",
        hint="compare the image's checksum with its publisher's, then fetch it again (flyd_fetch): it may be malicious",
    ) from None
