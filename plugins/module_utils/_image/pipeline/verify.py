# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of content that is written directly from the archive, computed while it is written.

Invariant: the caller gets the verdict from a process that read every byte of every range; no answer is an error. The helper
has no threads to fork with, and keeps no descriptor but those that it reads from.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Sequence
from typing import NamedTuple

from ..._host.processes.child import Helper
from ..._names import Digest
from ..digests import check_digest
from ..extent import Extent
from ..refusal import malformed

_CHUNK_BYTES = 1 << 18  # stays in a CPU's own cache between being read and being hashed
_WORTH_A_PROCESS_BYTES = 1 << 20  # hashed in the time that a fork takes


class Check(NamedTuple):
    """``what`` stands in ``extent`` and must have the digest ``expected``."""

    what: str
    extent: Extent
    expected: Digest


class Verification:
    """Checks run by a helper process from the moment this is made until ``join``, which any descendant may call, once."""

    def __init__(self, checks: Sequence[Check]) -> None:
        self._helper: Helper | None = None
        if sum(check.extent.size for check in checks) <= _WORTH_A_PROCESS_BYTES:
            for check in checks:
                _check(check)
        else:
            kept_fds = {check.extent.fd for check in checks}
            self._helper = Helper(lambda: _run(checks), what="computing digests", kept_fds=kept_fds)

    def join(self) -> None:
        """Wait for the verdict; raises ``Untrusted`` when a digest is wrong."""
        if self._helper is not None:
            self._helper.result()

    def close(self) -> None:
        """End the helper, if it still runs."""
        if self._helper is not None:
            self._helper.close()


def _run(checks: Sequence[Check]) -> None:
    # hashlib lets go of the interpreter's lock while it hashes. One CPU is left to those who wait for what we find.
    waiting = sorted(checks, key=lambda check: check.extent.size)
    errors: list[BaseException] = []

    def work() -> None:
        try:
            while waiting and not errors:
                _check(waiting.pop())
        except BaseException as error:  # noqa: BLE001 - a thread that ends in any other way has verified nothing either
            errors.append(error)

    threads = [threading.Thread(target=work) for _number in range(max(1, len(os.sched_getaffinity(0)) - 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if errors:
        raise errors[0]


def _check(check: Check) -> None:
    hasher = hashlib.new(check.expected.algorithm)
    buffer = memoryview(bytearray(_CHUNK_BYTES))
    at, end = check.extent.offset, check.extent.offset + check.extent.size
    while at < end:
        count = os.preadv(check.extent.fd, [buffer[: min(_CHUNK_BYTES, end - at)]], at)
        if count == 0:
            raise malformed(f"{check.what} ends at byte {at}: the file was cut while it was read")
        hasher.update(buffer[:count])
        at += count
    check_digest(check.expected, hasher.hexdigest(), check.what)
