# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The log: one JSON object a line in state_dir/log/flyd.jsonl.

Invariant: a line is written by one write(2) to a file opened for appending, so lines of several processes never mix. It never
holds a credential: only what callers name is written, they name no options, and every text is redacted. A full disk loses lines, never
the work. How the lines are counted and the file is rotated: counters.py, rotation.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import resource
import time
from collections.abc import Iterator
from typing import Callable, Union

from ..._errors import ErrorKind, FlydError, MissingLibrary
from ..._host.files.durable import from_os_error
from ..._names import Ulid
from ..._redaction import redacted_value
from ..store.store import utc_now
from .counters import write_line
from .rotation import opened

Value = Union[str, int, float, bool, None]


class Log:
    """Writes the lines of one run to ``path``; ``run`` is the run's ULID and stands in each of them.

    None of ``secrets`` is ever written, nor the secret parts of any URL. ``attempts`` gives how many attempts the run has needed so far.
    ``starts_over``: a missing package does not end the run, see ``Settings``.
    """

    def __init__(
        self,
        path: str,
        run: Ulid,
        secrets: frozenset[str] = frozenset(),
        *,
        attempts: Callable[[], int] = lambda: 1,
        starts_over: bool = False,
    ) -> None:
        self._directory = os.path.dirname(path)
        self._secrets = secrets
        self._attempts = attempts
        self._starts_over = starts_over
        self.run = run

    def write(self, event: str, **fields: Value) -> None:
        """Write one line: time, run_id, event and ``fields``."""
        shown = redacted_value(fields, self._secrets)
        line = (
            json.dumps({"time": utc_now(), "run_id": str(self.run), "event": event, **shown}, ensure_ascii=True) + "\n"
        )
        with contextlib.suppress(OSError, FlydError), opened(self._directory, writable=True) as directory:
            write_line(directory, line.encode("ascii"))

    def failed(self, error: FlydError, **subject: Value) -> None:
        """Write the line of a run that failed, whether a transition had begun or not.

        ``security`` is true in it where bytes were not what they must be: a wrong digest, or an archive that is malformed or hostile.
        """
        facts = {"retryable": error.retryable, "security": error.kind is ErrorKind.UNTRUSTED}
        self.write("failed", **subject, **{**_failure(error), **facts})

    @contextlib.contextmanager
    def transition(self, name: str, **subject: Value) -> Iterator[dict[str, Value]]:
        """Log a transition's begin and end with seconds, outcome and resources; the body adds facts to the dictionary it is given."""
        facts: dict[str, Value] = {}
        begun = time.monotonic()
        self.write("begin", transition=name, **subject, attempt=self._attempts(), pid=os.getpid())
        try:
            yield facts
        except BaseException as error:
            if isinstance(error, MissingLibrary) and self._starts_over:
                self.write("started over", transition=name, **subject, library=error.library)
            else:
                self._end(name, begun, subject, {**facts, **_failure(error)})
            raise
        self._end(name, begun, subject, {**facts, "outcome": "ok"})

    def _end(self, name: str, begun: float, subject: dict[str, Value], facts: dict[str, Value]) -> None:
        fields: dict[str, Value] = {
            "transition": name,
            **subject,
            "attempts": self._attempts(),
            **facts,
            "seconds": round(time.monotonic() - begun, 3),
            **_resources(),
        }
        self.write("end", **fields)


def _failure(error: BaseException) -> dict[str, Value]:
    if isinstance(error, OSError):
        error = from_os_error(error, "working on this host")
    if isinstance(error, FlydError):
        return {"outcome": "failed", "error_kind": error.kind.value, "error": str(error), **error.details}
    kind = (
        ErrorKind.INTERNAL if isinstance(error, Exception) else ErrorKind.TRANSIENT
    )  # else a signal has ended the run
    return {"outcome": "failed", "error_kind": kind.value, "error": type(error).__name__}


def _resources() -> dict[str, Value]:
    own, children = resource.getrusage(resource.RUSAGE_SELF), resource.getrusage(resource.RUSAGE_CHILDREN)
    return {
        "cpu_seconds": round(own.ru_utime + own.ru_stime + children.ru_utime + children.ru_stime, 3),
        "peak_memory_kib": max(own.ru_maxrss, children.ru_maxrss),
    }
