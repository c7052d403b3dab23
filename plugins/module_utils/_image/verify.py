# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digests of what is written straight from the archive, computed beside the writing.

Invariant: whoever asks for the verdict gets it from a process that read every byte of every range; no answer is an error. The helper
has no threads to fork with, dies with its parent, and keeps no descriptor but those that it reads from.
"""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
from collections.abc import Sequence
from typing import NamedTuple

from .._errors import CommandFailed, FlydError, error_from_json, error_to_json
from .._host.child import close_all_but
from .._host.death_signal import die_with_parent
from .._host.files import from_os_error
from .._names import Digest
from .digests import check_digest
from .extent import Extent
from .refusal import refused

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
        self._pid = 0
        self._maker = os.getpid()
        self._answer: int | None = None
        if sum(check.extent.size for check in checks) <= _WORTH_A_PROCESS_BYTES:
            for check in checks:
                _check(check)
            return
        set_death_signal = die_with_parent()
        read_end, write_end = os.pipe()
        self._pid = os.fork()
        if self._pid == 0:
            set_death_signal()
            _answer(checks, write_end)
        os.close(write_end)
        self._answer = read_end

    def join(self) -> None:
        """Wait for the verdict; raises ``Untrusted`` when a digest is wrong."""
        if self._answer is None:
            return
        with os.fdopen(self._answer, "rb") as pipe:
            self._answer = None
            answer = pipe.read()
        if not answer:
            raise CommandFailed(
                "the process that computes the layers' digests ended without an answer",
                hint="look for the out-of-memory killer in `dmesg`; then run again",
                retryable=True,
            )
        message = json.loads(answer)
        if message is not None:
            raise error_from_json(message)

    def close(self) -> None:
        """End the helper, if it still runs, and reap it."""
        if self._answer is not None:
            os.close(self._answer)
            self._answer = None
        if self._pid and os.getpid() == self._maker:
            os.kill(self._pid, signal.SIGKILL)
            os.waitpid(self._pid, 0)
            self._pid = 0


def _answer(checks: Sequence[Check], write_end: int) -> None:
    """What the helper does; it never returns."""
    try:
        close_all_but({write_end, *(check.extent.fd for check in checks)})
        message = None
        try:
            _run(checks)
        except FlydError as error:
            message = error_to_json(error)
        except OSError as error:
            message = error_to_json(from_os_error(error, "computing digests"))
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(json.dumps(message).encode())
        os._exit(0)
    finally:  # whatever happened, this process must never return into its parent's code
        os._exit(70)


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
            raise refused(f"{check.what} ends at byte {at}: the file was cut while it was read")
        hasher.update(buffer[:count])
        at += count
    check_digest(check.expected, hasher.hexdigest(), check.what)
