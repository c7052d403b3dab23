# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several processes for one piece of work.

Invariant: either all of them answered, or the first error is raised and none is left; each dies with this process. Nothing richer
than JSON comes back from them (see ``_host.isolation``).
"""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Sequence
from typing import Any, Callable

from .._errors import FlydError, error_to_json
from .._host.child import result_of
from .._host.death_signal import die_with_parent
from .._host.files import from_os_error

Json = Any
Work = Callable[[], Json]


class _Worker:
    def __init__(self, pid: int, answer: int) -> None:
        self.pid = pid
        self.answer = answer


def run_all(works: Sequence[Work], what: str) -> list[Json]:
    """The results of ``works``, run side by side; the first is run here, which saves a process."""
    workers: list[_Worker] = []
    try:
        workers.extend(_start(work, what) for work in works[1:])
        return [works[0](), *[_result(worker, what) for worker in workers]]
    finally:
        for worker in workers:
            _end(worker)


def _start(work: Work, what: str) -> _Worker:
    set_death_signal = die_with_parent()
    read_end, write_end = os.pipe()
    pid = os.fork()
    if pid == 0:
        set_death_signal()
        _answer(work, write_end, what)
    os.close(write_end)
    return _Worker(pid, read_end)


def _answer(work: Work, write_end: int, what: str) -> None:
    try:
        try:
            message = {"result": work()}
        except FlydError as error:
            message = {"error": error_to_json(error)}
        except OSError as error:
            message = {"error": error_to_json(from_os_error(error, what))}
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(json.dumps(message).encode())
        os._exit(0)
    finally:  # whatever happened, this process must never return into its parent's code
        os._exit(70)


def _result(worker: _Worker, what: str) -> Json:
    with os.fdopen(worker.answer, "rb") as pipe:
        worker.answer = -1
        answer = pipe.read()
    return result_of(answer, f"a process for {what} ended without an answer")


def _end(worker: _Worker) -> None:
    if worker.answer >= 0:
        os.close(worker.answer)
        os.kill(worker.pid, signal.SIGKILL)
    os.waitpid(worker.pid, 0)
