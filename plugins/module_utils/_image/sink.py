# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Where decompressed bytes go: hashed and written by a thread, beside the decompressing of the next ones.

Invariant: chunks are taken in order; after an error nothing more is written, and the error comes out where the chunks go in, or at
the end. hashlib, write(2) and the decompressors let go of the interpreter's lock, so two CPUs are busy.
"""

from __future__ import annotations

import os
import queue
import threading
from typing import Any, Callable

_CHUNKS_WAITING = 4


class Sink:
    """Writes chunks to ``fd`` and feeds them to ``hasher``; ``look`` is called with the count of bytes that are in the file."""

    def __init__(self, fd: int, hasher: Any, look: Callable[[int], None]) -> None:
        self._fd = fd
        self._hasher = hasher
        self._look = look
        self._waiting: queue.Queue[bytes] = queue.Queue(_CHUNKS_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def put(self, chunk: bytes) -> None:
        """Take ``chunk``, which is not empty; raises what went wrong with an earlier one."""
        self._raise()
        self._waiting.put(chunk)

    def close(self) -> None:
        """Take no more, and wait until all is done; raises nothing."""
        if self._thread.is_alive():
            self._waiting.put(b"")
            self._thread.join()

    def finish(self) -> None:
        """Wait until all is written; raises what went wrong."""
        self.close()
        self._raise()

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        written = 0
        while True:
            chunk = self._waiting.get()
            if not chunk:
                return
            if self._error is not None:
                continue  # who puts chunks in must not wait for ever
            try:
                if self._hasher:
                    self._hasher.update(chunk)
                _write(self._fd, chunk)
                written += len(chunk)
                self._look(written)
            except BaseException as error:  # noqa: BLE001 - it is raised in the thread that waits
                self._error = error


def _write(fd: int, chunk: bytes) -> None:
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]
