# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns that run one after the other beside the tests, from the start of the session: they take minutes, and must only come to a good end.

Invariant: what was begun has ended when the session has.
"""

from __future__ import annotations

import subprocess
import sys
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field

from tests.e2e.machine import ROOT, lab

_LONGEST_SECONDS = 2400.0


@dataclass(frozen=True)
class Run:
    """A program of tests/campaigns with its arguments, on a machine of the lab."""

    program: str
    vm: str
    arguments: tuple[str, ...]

    def argv(self) -> list[str]:
        """The command line."""
        return [sys.executable, str(ROOT / "tests/campaigns" / self.program), "--vm", self.vm, *self.arguments]


@dataclass
class Beside:
    """The runs of a session."""

    _pool: ThreadPoolExecutor = field(default_factory=lambda: ThreadPoolExecutor(1))
    _begun: dict[Run, Future[tuple[int, str]]] = field(default_factory=dict)
    _running: subprocess.Popen[str] | None = None

    def begin(self, run: Run) -> None:
        """Have it run behind those that were begun before."""
        self._begun[run] = self._pool.submit(self._run, run)

    def outcome(self, run: Run) -> tuple[int, str]:
        """The exit code and the output, waited for."""
        return self._begun[run].result()

    def end(self) -> None:
        """Nothing goes on behind the session."""
        for future in self._begun.values():
            future.cancel()
        if self._running is not None:
            self._running.kill()
        self._pool.shutdown()
        for run, future in self._begun.items():
            if future.cancelled() or future.result()[0] < 0:
                lab("down", run.vm)

    def _run(self, run: Run) -> tuple[int, str]:
        with subprocess.Popen(run.argv(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as self._running:
            try:
                said = self._running.communicate(timeout=_LONGEST_SECONDS)[0]
            except subprocess.TimeoutExpired:
                self._running.kill()
                said = self._running.communicate()[0]
        code, self._running = self._running.returncode, None
        return code, said
