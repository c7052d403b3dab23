# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The bytes of one answer of S3, counted.

Invariant: a ``Body`` hands out exactly the bytes that were asked for, or raises: fewer are ``Transient`` (ask for the rest), more
are ``Untrusted``. It relies on its own count, not on the headers.
"""

from __future__ import annotations

import contextlib
import os
import socket
import time
from types import TracebackType
from typing import Any, Callable

from .._errors import Transient, Untrusted
from .s3_errors import PASSES, Where
from .transport_errors import from_exception

_WITHIN_SECONDS = 60.0


class Body:
    """What is left of one answer; ``expected_bytes`` is what was asked for. Use it in a ``with``, from one thread.

    ``abort`` alone may be called from another thread.
    """

    def __init__(self, stream: Any, expected_bytes: int, where: Where) -> None:
        # Entering botocore's StreamingBody gives urllib3's response below it, whose read1 does not wait for a full buffer:
        # a trickle is seen as one.
        self._raw: Any = stream.__enter__()
        self._read_some = reader_of(self._raw)
        self._where = where
        self.expected_bytes = expected_bytes
        self.received_bytes = 0
        self._ended = False

    def read(self, limit_bytes: int) -> bytes:
        """Between 1 and ``limit_bytes`` bytes as they arrive, or ``b""`` when all that was asked for was read."""
        left = self.expected_bytes - self.received_bytes
        try:
            # One byte past the end shows a body that goes on; when it ends there, the connection is free for the next request.
            got = self._read_some(min(limit_bytes, left) if left else 1)
        except Exception as error:
            raise from_exception(error, self._where) from error
        if len(got) > left:
            raise Untrusted(
                f"the server sends more than the {self.expected_bytes} bytes that it announced of {self._where}",
                hint="look at what stands between this host and the bucket (proxies, gateways)",
                endpoint=self._where.endpoint,
            )
        if left and not got:
            raise Transient(
                f"the answer for {self._where} ended after {self.received_bytes} of {self.expected_bytes} bytes",
                hint=PASSES,
                received_bytes=self.received_bytes,
                expected_bytes=self.expected_bytes,
            )
        self.received_bytes += len(got)
        self._ended = not got
        return got

    def abort(self) -> None:
        """Make a read that waits in another thread end now."""
        with contextlib.suppress(OSError, ValueError, AttributeError):
            line = socket.socket(fileno=os.dup(self._raw.fileno()))
            with line:
                line.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Let go of the connection; it is used again only when the end was read too, else http.client takes it for busy."""
        with contextlib.suppress(
            Exception
        ):  # closing what is broken may fail, and the first error is the one to report
            if self._ended:
                self._raw.release_conn()
            else:
                self._raw.close()

    def __enter__(self) -> Body:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def reader_of(raw: Any) -> Callable[[int], bytes]:
    """How to read from a response of urllib3 what has come, at most so many bytes of it."""
    # urllib3 1.26, all that Python 3.9 can have with botocore, has no read1: http.client's own is below it.
    for one in (raw, getattr(raw, "_fp", None)):
        read1 = getattr(one, "read1", None)
        if read1 is not None:
            return read1  # type: ignore[no-any-return]  # urllib3 comes from the host, without types
    return raw.read  # type: ignore[no-any-return]  # as above


def read_within(read_some: Callable[[int], bytes], limit_bytes: int, where: object) -> bytes:
    """All that ``read_some`` gives, or one byte more than ``limit_bytes``: what is small must come soon, whatever trickles."""
    until, pieces, left = time.monotonic() + _WITHIN_SECONDS, list[bytes](), limit_bytes + 1
    while left:
        piece = read_some(min(left, 1 << 16))
        if not piece:
            break
        pieces.append(piece)
        left -= len(piece)
        if time.monotonic() > until:
            raise Transient(f"{where} did not come within {_WITHIN_SECONDS:g} s, small as it is", hint=PASSES)
    return b"".join(pieces)
