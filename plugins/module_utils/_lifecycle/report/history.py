# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What runs have done, newest first, from the log and its rotated files.

Invariant: a line that cannot be read is passed over, and no more than ``MOST_BYTES`` is read of each file, from its end.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

from ..._errors import FlydError
from ..log.rotation import NAME, LogDirectory, opened, rotated_name
from ..outcome import Facts
from ..run import Run

MOST_BYTES = 4 << 20
SHOWN = ("time", "run_id", "transition", "key", "pool", "instance", "outcome", "error_kind", "error", "seconds")


def history(host: Run, key: str, pool: str, count: int) -> list[Facts]:
    """The last ``count`` transitions that came to an end, of the image ``key`` and the ``pool`` where those are given."""
    found: list[Facts] = []
    try:
        with opened(host.settings.path("log"), writable=False) as directory:
            for line in _lines(directory):
                if len(found) == count:
                    break
                if line.get("event") == "end" and _is_meant(line, key, pool):
                    found.append({name: line.get(name) for name in SHOWN})
    except (FlydError, OSError):  # no log yet
        return found
    return found


def _is_meant(line: dict[str, Any], key: str, pool: str) -> bool:
    return (not key or line.get("key") == key) and (not pool or line.get("pool", pool) == pool)


def _lines(directory: LogDirectory) -> Iterator[dict[str, Any]]:
    """The lines of all files, the newest first."""
    for name in (NAME, *map(rotated_name, reversed(directory.numbers()))):
        size = directory.size(name)
        for raw in reversed(directory.read(name, max(0, size - MOST_BYTES), size).splitlines()):
            try:
                line = json.loads(raw)
            except ValueError:
                continue
            if isinstance(line, dict):
                yield line
