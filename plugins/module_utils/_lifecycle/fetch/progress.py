# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Publish the progress of a download: a small file beside the parts, and periodic lines in the log.

Invariant: the file is always complete (it is replaced by rename), and is removed when the download ends.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..log.log import Log
    from ..settings import Settings
    from ..store.records import Operation

SUFFIX = ".progress"
_FILE_SECONDS = 0.5
_LOG_SECONDS = 10.0


class Progress:
    """Called with the bytes that are here and the bytes in all; ``path`` is the file."""

    def __init__(self, log: Log, key: str, path: str) -> None:
        self._log = log
        self._key = key
        self._path = path
        self._begun = time.monotonic()
        self._first_bytes = -1
        self._written_at = 0.0
        self._logged_at = self._begun

    def __call__(self, received_bytes: int, total_bytes: int) -> None:
        now = time.monotonic()
        if self._first_bytes < 0:
            self._first_bytes = received_bytes
        if now - self._written_at >= _FILE_SECONDS or received_bytes == total_bytes:
            self._written_at = now
            self._write(received_bytes, total_bytes, now)
        if now - self._logged_at >= _LOG_SECONDS:
            self._logged_at = now
            self._log.write(
                "progress", transition="fetch", key=self._key, received_bytes=received_bytes, total_bytes=total_bytes
            )

    def _write(self, received_bytes: int, total_bytes: int, now: float) -> None:
        spent = max(now - self._begun, 1e-3)
        shown = {
            "key": self._key,
            "run_id": str(self._log.run),
            "received_bytes": received_bytes,
            "total_bytes": total_bytes,
            "bytes_per_second": round((received_bytes - self._first_bytes) / spent),
        }
        # Who watches is not worth a failed download: a full disk loses a state, as it loses lines of the log.
        with contextlib.suppress(OSError):
            fd = os.open(
                f"{self._path}.new", os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600
            )
            with os.fdopen(fd, "w", encoding="utf-8") as file:
                json.dump(shown, file)
            os.rename(f"{self._path}.new", self._path)


def read(path: str) -> dict[str, object] | None:
    """What the file says, or None when there is none."""
    with contextlib.suppress(OSError, ValueError), open(path, encoding="utf-8") as file:
        shown: dict[str, object] = json.load(file)
        return shown
    return None


def progress_path(settings: Settings, operation: Operation) -> str:
    """The progress file of the download of an open operation."""
    return settings.path("spool", operation.ulid + SUFFIX)
