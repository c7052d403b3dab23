#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Campaigns that run one after the other beside the tests, from the start of the session: they take minutes, and must only come to a good end.

    beside.py COMMANDS      a JSON list of [NAME, [WORD, …]], each run with its output in the file NAME.said and its exit code in NAME.code

Invariant: what was begun has ended when the session has. No thread and no child of the tests' own process has to do with it, as tests count
those.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_POLL_SECONDS = 0.5
_STARTER = 'setsid "$@" > /dev/null 2>&1 < /dev/null & echo $!'


@dataclass(frozen=True)
class Run:
    """A program of tests/campaigns with its arguments, on a machine of the lab."""

    program: str
    vm: str
    arguments: tuple[str, ...]

    def argv(self) -> list[str]:
        """The command line."""
        return [sys.executable, str(ROOT / "tests/campaigns" / self.program), "--vm", self.vm, *self.arguments]


class Beside:
    """The runs of a session, of which all have another program."""

    def __init__(self, runs: Sequence[Run]) -> None:
        self._runs = runs
        self._directory = Path(tempfile.mkdtemp(prefix="flyd-beside-"))
        self._pid = self._started = 0
        if runs:
            commands = json.dumps([[str(self._directory / run.program), run.argv()] for run in runs])
            # The shell ends, so that it has no parent here.
            argv = ["sh", "-c", _STARTER, "sh", sys.executable, __file__, commands]
            self._pid = int(subprocess.run(argv, capture_output=True, check=True, timeout=60).stdout)
            self._started = _started(self._pid)

    def outcome(self, run: Run) -> tuple[int, str]:
        """The exit code and the output, waited for."""
        code = self._directory / f"{run.program}.code"
        while not code.exists():
            if not self.is_running() and not code.exists():  # it may have come to its end since it was looked for
                raise AssertionError(f"{run.program} was ended: {self._said(run)}")
            time.sleep(_POLL_SECONDS)
        return int(code.read_text()), self._said(run)

    def end(self) -> list[str]:
        """Nothing goes on, or is left, behind the session; returns the machines that may be left."""
        left = [run.vm for run in self._runs if not (self._directory / f"{run.program}.code").exists()]
        if self.is_running():
            try:
                os.killpg(self._pid, signal.SIGKILL)
            except ProcessLookupError:  # it has only just been started, and has no group of its own yet
                os.kill(self._pid, signal.SIGKILL)
        shutil.rmtree(self._directory, ignore_errors=True)  # the tests that asked have read what was said
        return left

    def is_running(self) -> bool:
        """Whether the process of that number is still ours. (What it runs does not tell: in the middle of an exec that is nothing.)"""
        return bool(self._started) and _started(self._pid) == self._started

    def _said(self, run: Run) -> str:
        path = self._directory / f"{run.program}.said"
        return path.read_text(errors="replace") if path.exists() else ""


def _started(pid: int) -> int:
    """When the process began to run, in clock ticks since the boot (proc(5)); 0 when there is none, or only what is left of one."""
    try:
        state, *others = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return 0
    return 0 if state in "ZX" else int(others[18])


def main() -> int:
    """Run the commands; returns the exit code."""
    for name, argv in json.loads(sys.argv[1]):
        with Path(f"{name}.said").open("wb") as said:
            done = subprocess.run(argv, stdout=said, stderr=subprocess.STDOUT, check=False)
        part = Path(f"{name}.part")
        part.write_text(str(done.returncode))
        part.rename(f"{name}.code")
    return 0


if __name__ == "__main__":
    sys.exit(main())
