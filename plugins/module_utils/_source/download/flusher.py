# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Write the download to disk while it is still in progress.

Otherwise the kernel keeps hundreds of megabytes in memory until the final fsync, which would add the time of the disk to that of the network.

Invariant: the kernel reports an error of the disk once (errseq), so the one that is met here is kept and raised.
"""

from __future__ import annotations

import threading

from ..._errors import FlydError
from .partfile import PartFile
from .segments import Ledger

_FLUSH_BYTES = 64 << 20
_LOOK_SECONDS = 0.1


class Flusher:
    """A thread that syncs the part file whenever enough has come; use it in a ``with`` around the workers."""

    def __init__(self, part: PartFile, ledger: Ledger) -> None:
        self._part = part
        self._ledger = ledger
        self._flushed_bytes = ledger.received_bytes()
        self._stop = threading.Event()
        self._failure: FlydError | None = None
        self._thread = threading.Thread(target=self._work, name="download-flush", daemon=True)

    def __enter__(self) -> Flusher:
        if self._ledger.size_bytes - self._flushed_bytes > _FLUSH_BYTES:
            self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def sync(self) -> None:
        """Sync the rest; raises what any sync of this download met."""
        if self._failure is not None:
            raise self._failure
        self._part.sync()

    def _work(self) -> None:
        while not self._stop.wait(_LOOK_SECONDS):
            received = self._ledger.received_bytes()
            if received - self._flushed_bytes < _FLUSH_BYTES:
                continue
            try:
                self._part.sync()
            except FlydError as error:
                self._failure = error
                return
            self._flushed_bytes = received
