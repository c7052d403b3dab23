# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Counters of the log's lines, kept in log/counters.json beside the place in the log up to which they count.

Invariant: each line is counted once. Who writes a line counts it and all before it that are not counted yet, so a kill between the line and
its count costs nothing. A log that is shorter than its counted part (a power cut, a file that was exchanged) is never counted again.
"""

from __future__ import annotations

import contextlib
import json
import math
import os
from collections.abc import Iterator
from typing import Any

from .rotation import MAX_BYTES, NAME, LogDirectory, rotated_name

FILE = "counters.json"
Key = tuple[
    str, ...
]  # what is counted, and its labels: ("transitions", name, outcome, error kind), ("failures", error kind) …
_MAX_IMPORT_BYTES = 2 * MAX_BYTES  # of a log that was there before the counters
_MAX_TAIL_BYTES = 1 << 20  # that a reader counts for itself
_MAX_FILE_BYTES = 1 << 20


class Counters:
    """Counts by key, and the place: file ``number`` (that which flyd.jsonl has or will get) up to ``offset``."""

    def __init__(self, counts: dict[Key, float], number: int, offset: int) -> None:
        self.counts = counts
        self.number = number
        self.offset = offset

    def count(self, directory: LogDirectory, *, at_most: int) -> bool:
        """Count the lines behind the place, and move it behind them; says whether any counted.

        More bytes than ``at_most`` are passed over uncounted.
        """
        before = dict(self.counts)
        todo = list(self._uncounted(directory))
        if self.uncounted_bytes(directory) > at_most:
            self.number, _name, _start, self.offset = todo[-1]
            return True
        for number, name, start, end in todo:
            data = directory.read(name, start, end)
            whole = data[: data.rfind(b"\n") + 1]
            for text in whole.splitlines():
                _count_line(self.counts, text)
            self.number, self.offset = number, start + len(whole)
        return self.counts != before

    def uncounted_bytes(self, directory: LogDirectory) -> int:
        """How much lies behind the place."""
        return sum(max(0, end - start) for _number, _name, start, end in self._uncounted(directory))

    def _uncounted(self, directory: LogDirectory) -> Iterator[tuple[int, str, int, int]]:
        """Number, name, first and last byte of what is behind the place, oldest first; flyd.jsonl is always among it."""
        rotated = directory.numbers()
        current = max([self.number, *(number + 1 for number in rotated)])
        for number in (*(one for one in rotated if one >= self.number), current):
            name = NAME if number == current else rotated_name(number)
            yield number, name, self.offset if number == self.number else 0, directory.size(name)

    def settle_place(self, directory: LogDirectory) -> None:
        """Before a line is appended: where the log is shorter than what was counted of it, count from its end on."""
        rotated = directory.numbers()
        if not rotated or self.number > rotated[-1]:
            self.offset = min(self.offset, directory.size(NAME))

    def save(self, directory: LogDirectory) -> None:
        """Replace the file; ``OSError`` leaves the old one, from which the next writer counts."""
        part = f"{FILE}.new"
        rows = [[*key, value] for key, value in self.counts.items()]
        text = json.dumps({"number": self.number, "offset": self.offset, "counts": rows})
        with contextlib.suppress(FileNotFoundError):
            os.unlink(part, dir_fd=directory.fd)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        with os.fdopen(os.open(part, flags, 0o600, dir_fd=directory.fd), "w", encoding="ascii") as file:
            file.write(text)
        os.rename(part, FILE, src_dir_fd=directory.fd, dst_dir_fd=directory.fd)


def load(directory: LogDirectory) -> Counters:
    """The counters as they were saved.

    Where there are none, and nothing was rotated yet, a log that an older version has written is counted from its beginning. Where they
    were lost, counting begins at the log's end: Prometheus takes counters that begin at zero for a restart.
    """
    rotated = directory.numbers()
    data = directory.read(FILE, 0, _MAX_FILE_BYTES)
    with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
        return _parsed(json.loads(data))
    if not rotated and not directory.has(FILE):
        return Counters({}, 1, 0)
    return Counters({}, rotated[-1] + 1 if rotated else 1, directory.size(NAME))


def read(directory: LogDirectory) -> Counters | None:
    """The counters with what is behind the place, which is little; for those who write nothing.

    None for a long log that an older version has written, until the next line counts it.
    """
    counters = load(directory)
    counters.settle_place(directory)
    if directory.has_turn and counters.uncounted_bytes(directory) <= _MAX_TAIL_BYTES:
        counters.count(directory, at_most=_MAX_TAIL_BYTES)
        return counters
    return counters if counters.counts else None


def write_line(directory: LogDirectory, line: bytes) -> None:
    """Append ``line``, count it, and rotate the log when that is due. Raises ``OSError``; what comes behind the line may then be undone."""
    if not directory.has_turn:
        directory.append(line)
        return
    counters = load(directory)
    counters.settle_place(directory)
    directory.append(line)
    due = directory.is_due()
    if counters.count(directory, at_most=_MAX_IMPORT_BYTES) or due:
        with contextlib.suppress(OSError):  # the next writer counts from the old place
            counters.save(directory)
    if due:
        directory.rotate(counters.number)


def _parsed(saved: Any) -> Counters:
    counts = {tuple(map(str, key)): float(value) for *key, value in saved["counts"]}
    number, offset = int(saved["number"]), int(saved["offset"])
    if number < 1 or offset < 0 or not all(map(math.isfinite, counts.values())):
        raise ValueError(saved)
    return Counters(counts, number, offset)


def _count_line(counts: dict[Key, float], text: bytes) -> None:
    """One line; what is none (a full disk has cut it short) counts nothing."""
    with contextlib.suppress(ValueError, TypeError, OverflowError, RecursionError):
        line = json.loads(text)
        for key, value in _counted(line) if isinstance(line, dict) else ():
            if math.isfinite(value):
                counts[key] = counts.get(key, 0) + value


def _counted(line: dict[str, Any]) -> list[tuple[Key, float]]:
    event, kind = line.get("event"), str(line.get("error_kind", ""))
    if event == "end":
        name = str(line.get("transition"))
        transition = ("transitions", name, str(line.get("outcome")), kind)
        return [(transition, 1), (("seconds", name), round(float(line.get("seconds", 0)), 3))]
    if event == "failed":
        return [(("failures", kind), 1), *([(("security",), 1.0)] if line.get("security") else [])]
    return [((event,), 1)] if event in ("settled", "lost") else []
