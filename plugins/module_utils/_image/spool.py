# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Decompressed archives and layers, in files without a name.

Invariant: nothing is left behind, whatever kills us; no more is written than the limits allow, counted as it comes out of the
decompressor; and what was read and written is hashed on its way, not afterwards.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import threading
from collections.abc import Iterator

from .._host.files import file_errors
from .._names import Digest
from .census import Census
from .digests import check_digest
from .extent import Extent
from .limits import Deadline, Limits
from .refusal import refused
from .sink import Sink
from .sniffing import Compression
from .streams import Stream, ZstdProgram

_CHUNK_BYTES = 1 << 20
_RATIO_FREE_BYTES = 64 << 20  # the first MiB of a log compress well; the ratio says something only behind them


class Spool:
    """The nameless files of one unpacking; close it and they are gone."""

    def __init__(self, directory: str, limits: Limits, deadline: Deadline, zstd: ZstdProgram | None) -> None:
        self.directory = directory
        self.limits = limits
        self.deadline = deadline
        self.zstd = zstd
        self._fds: list[int] = []
        self._written_bytes = 0
        self._stopped = False
        self._lock = threading.Lock()  # layers are decompressed side by side

    def decompress(
        self,
        source: Extent,
        compression: Compression,
        what: str,
        census: Census,
        *,
        stored: Digest | None = None,
        content: Digest | None = None,
    ) -> Extent:
        """``source`` decompressed; raises ``Untrusted`` when it is damaged, too large, or has another digest than it must.

        ``stored`` is the digest of the compressed bytes, ``content`` of the decompressed ones;
        ``census`` counts members while they come out.
        """
        packed = _HashedInput(source, stored)
        hasher = hashlib.new(content.algorithm) if content else None
        with file_errors("writing decompressed layers to the spool"), self._stream(compression, packed, what) as stream:
            fd = self._new_file()
            walk = census.next_tar()
            sink = Sink(fd, hasher, lambda size_bytes: census.look(Extent(fd, 0, size_bytes), walk))
            try:
                written = self._pump(stream, sink, packed, what)
                sink.finish()
            finally:
                sink.close()
        packed.check(what)
        if hasher and content:
            check_digest(content, hasher.hexdigest(), f"{what}, decompressed,")
        return Extent(fd, 0, written)

    def _pump(self, stream: Stream, sink: Sink, packed: _HashedInput, what: str) -> int:
        written = 0
        while True:
            chunk = stream.read(_CHUNK_BYTES)
            if not chunk:
                return written
            written += len(chunk)
            self._count(len(chunk), written, packed.read_bytes, what)
            sink.put(chunk)

    @contextlib.contextmanager
    def _stream(self, compression: Compression, packed: _HashedInput, what: str) -> Iterator[Stream]:
        # Loaded by need: most layers are plain, and the libraries behind it take a fifth of our start.
        from .compression import open_stream

        stream = open_stream(compression, packed, what, self.zstd)
        try:
            yield stream
        finally:
            stream.close()

    def _count(self, new: int, written: int, packed: int, what: str) -> None:
        self.deadline.check()
        if self._stopped:
            raise refused("it was not read to its end, because another layer was refused", what)
        with self._lock:
            self._written_bytes += new
            total = self._written_bytes
        if total > self.limits.decompressed_bytes:
            self.limits.exceeded("decompressed_bytes", total, what)
        if written > _RATIO_FREE_BYTES and written > packed * self.limits.ratio:
            self.limits.exceeded("ratio", written // max(packed, 1), what)

    def stop(self) -> None:
        """Let what is being decompressed in other threads end with an error."""
        self._stopped = True

    def _new_file(self) -> int:
        try:
            fd = os.open(self.directory, os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600)
        except OSError as error:
            if error.errno not in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
                raise
            # A file system or a kernel without O_TMPFILE (open(2), "BUGS"): take a name, and give it up at once.
            import tempfile  # it takes longer to load than all else here, and is hardly ever needed

            fd, path = tempfile.mkstemp(prefix=".spool-", dir=self.directory)
            os.unlink(path)
        self._fds.append(fd)
        return fd

    def close(self) -> None:
        """Give the files up."""
        while self._fds:
            os.close(self._fds.pop())


class _HashedInput:
    """Reads an extent from its beginning to its end, once, and hashes what it reads."""

    def __init__(self, source: Extent, expected: Digest | None) -> None:
        self._source = source
        self._expected = expected
        self._hasher = hashlib.new(expected.algorithm) if expected else None
        self.read_bytes = 0

    def read(self, count: int = -1) -> bytes:
        data = self._source.read(self.read_bytes, count if count >= 0 else _CHUNK_BYTES)
        self.read_bytes += len(data)
        if self._hasher:
            self._hasher.update(data)
        return data

    def check(self, what: str) -> None:
        while self.read():
            pass
        if self._hasher and self._expected:
            check_digest(self._expected, self._hasher.hexdigest(), what)
