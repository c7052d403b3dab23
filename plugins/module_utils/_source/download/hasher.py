# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Hash the part file in order, behind the workers, and record the progress of the download.

Invariant: what is hashed is read back from the part file, so the digest is that of the bytes that will be used, also of those
that an earlier run left; those must first prove to be what its state says.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import replace

from ..._errors import Unsupported
from ..._names import Digest
from .partfile import PartFile, Received
from .receiver import Receiver
from .retry_policy import DownloadOptions, Patience
from .segments import Ledger

Progress = Callable[[int, int], None]  # bytes received, bytes in all
_BUFFER_BYTES = 1 << 20
_POLL_SECONDS = 0.02


class ResumeMismatch(Exception):
    """The bytes of an earlier run are not what its state says: begin again without them."""


class Follower:
    """Reads the part file up to where it has no gap yet, hashes it, and records the state now and then."""

    def __init__(
        self,
        part: PartFile,
        ledger: Ledger,
        expected: Digest | None,
        options: DownloadOptions,
        on_progress: Progress | None,
    ) -> None:
        self._part = part
        self._ledger = ledger
        self._options = options
        self._on_progress = on_progress
        self._hashes = {name: hashlib.new(name) for name in ("sha256", expected.algorithm if expected else "sha256")}
        self._hashed_bytes = 0
        self._buffer = memoryview(bytearray(_BUFFER_BYTES))
        self._recorded_bytes = ledger.received_bytes()
        self._recorded_at = time.monotonic()

    def follow(self, receiver: Receiver, patience: Patience) -> None:
        """Hash until the last byte, then wait for the workers' end; raises what a worker failed with."""
        while self._hashed_bytes < self._ledger.size_bytes or receiver.is_working():
            if receiver.failure is not None:
                raise receiver.failure
            patience.check_time()
            ready_bytes = self._ledger.contiguous_bytes()
            if self._hashed_bytes < ready_bytes:
                self._hash_some(ready_bytes)
            else:
                receiver.news.wait(_POLL_SECONDS)
                receiver.news.clear()
            self._checkpoint_when_due()
        if receiver.failure is not None:
            raise receiver.failure

    def digests(self) -> dict[str, str]:
        """The digests of everything hashed, hex by algorithm."""
        return {name: one.hexdigest() for name, one in self._hashes.items()}

    def checkpoint(self) -> None:
        """Record what is good now, for the next run and for other processes."""
        received = self._ledger.received_bytes()
        if received:
            self._part.save(self._good())
        if self._on_progress:
            self._on_progress(received, self._ledger.size_bytes)
        self._recorded_bytes, self._recorded_at = received, time.monotonic()

    def _good(self) -> Received:
        claimed, spans = self._part.received, tuple(self._ledger.spans())
        if (
            self._hashed_bytes < claimed.hashed_bytes
        ):  # not read again so far: the claim stays for the next run to check
            return replace(claimed, spans=spans)
        return Received(self._hashed_bytes, self._hashes["sha256"].hexdigest(), spans, claimed.promise)

    def _checkpoint_when_due(self) -> None:
        # By the clock alone: counting what is here costs more the more segments an object has.
        waited = time.monotonic() - self._recorded_at
        if waited >= self._options.checkpoint_seconds and self._ledger.received_bytes() > self._recorded_bytes:
            self.checkpoint()

    def _hash_some(self, ready_bytes: int) -> None:
        claimed = self._part.received
        limit = claimed.hashed_bytes if self._hashed_bytes < claimed.hashed_bytes else ready_bytes
        count = self._part.read_at(self._buffer[: min(_BUFFER_BYTES, limit - self._hashed_bytes)], self._hashed_bytes)
        if count == 0:
            raise Unsupported(
                f"the download at {self._part.path} was shortened by another",
                hint="keep others out of the state directory, then run again",
            )
        for one in self._hashes.values():
            one.update(self._buffer[:count])
        self._hashed_bytes += count
        if self._hashed_bytes == claimed.hashed_bytes and self._hashes["sha256"].hexdigest() != claimed.hashed_sha256:
            raise ResumeMismatch
