# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Several processes for one piece of work.

Invariant: they are forked before the work begins, so that from then on no process of it needs to fork. Either all of them answered, or the
first error is raised and none is left; each dies with this process. Their answers are written and read as
``_host.processes.answer`` says.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Sequence
from typing import Callable

from ..._host.processes.answer import Json, answer_of, read_all, result_of
from ..._host.processes.death_signal import die_with_parent

Work = Callable[[], Json]


class _Worker:
    def __init__(self, pid: int, answer: int) -> None:
        self.pid = pid
        self.answer = answer


class Team:
    """A process for each of ``works``, the first of which is this one; ``settle`` is what each other one does before it works."""

    def __init__(self, works: Sequence[Work], what: str, settle: Callable[[], object]) -> None:
        self._works = works
        self._what = what
        self._settle = settle
        self._workers: list[_Worker] = []
        self._go = -1

    def start(self) -> None:
        """Fork; nothing is done yet."""
        go, self._go = os.pipe()
        try:
            for work in self._works[1:]:
                self._workers.append(self._start(work, go))
        finally:
            os.close(go)

    def run(self) -> list[Json]:
        """Let them work, side by side; returns the results in the order of ``works``."""
        try:
            os.write(self._go, b"." * len(self._workers))
            return [self._works[0](), *[_result(worker, self._what) for worker in self._workers]]
        finally:
            os.close(self._go)
            for worker in self._workers:
                _end(worker)

    def _start(self, work: Work, go: int) -> _Worker:
        set_death_signal = die_with_parent()
        read_end, write_end = os.pipe()
        pid = os.fork()
        if pid == 0:
            set_death_signal()
            os.close(self._go)
            _answer(lambda: self._settled(work, go), write_end, self._what)
        os.close(write_end)
        return _Worker(pid, read_end)

    def _settled(self, work: Work, go: int) -> Json:
        self._settle()
        if not os.read(go, 1):  # given up before it began
            os._exit(0)
        return work()


def _answer(work: Work, write_end: int, what: str) -> None:
    try:
        answer = answer_of(work, what)
        with os.fdopen(write_end, "wb") as pipe:
            pipe.write(answer)
        os._exit(0)
    finally:  # whatever happened, this process must never return into its parent's code
        os._exit(70)


def _result(worker: _Worker, what: str) -> Json:
    pipe, worker.answer = worker.answer, -1
    return result_of(read_all(pipe), f"a process for {what} ended without an answer")


def _end(worker: _Worker) -> None:
    if worker.answer >= 0:
        os.close(worker.answer)
        try:
            os.kill(worker.pid, signal.SIGKILL)
        except PermissionError:  # without a pid namespace of its own it may signal no process: the worker dies with it
            return
    with contextlib.suppress(ChildProcessError):
        os.waitpid(worker.pid, 0)
