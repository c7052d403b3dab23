# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs of modules in a machine, one request after the other, by a program there that has imported everything once.

Invariant: a session that broke off (the power was cut, the machine was reset, a run hung) is closed, and the next request opens a new one.
"""

from __future__ import annotations

import contextlib
import json
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from tests.campaigns.harness.target import AtOnce, Shell, Step, Target
from tests.e2e.machine import LAB

_LONGEST_SECONDS = 900.0
_LONGEST_ERROR = 2000
Action = Step | Shell | AtOnce


class Session:
    """tools/drive.py --serve in ``target``."""

    def __init__(self, target: Target) -> None:
        self.target = target
        self._process: subprocess.Popen[bytes] | None = None
        self._errors = ""  # of the session that broke off last

    def drive(self, steps: Sequence[Action], *, go_on: bool = False) -> list[dict[str, Any]]:
        """What the steps came to, as far as they ran."""
        return list(self.stream(steps, go_on=go_on))

    def stream(
        self, steps: Sequence[Action], *, go_on: bool = False, when_begun: Callable[[], object] = lambda: None
    ) -> Iterator[dict[str, Any]]:
        """The results, each as soon as it is there; ends early when the session breaks off."""
        process = self._opened()
        request = {"steps": [step.to_json() for step in steps], "all": go_on}
        assert process.stdin is not None
        with contextlib.suppress(BrokenPipeError):
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            when_begun()
        yield from self._answer(process)

    def succeed(self, steps: Sequence[Action]) -> list[dict[str, Any]]:
        """The results of steps that must all come to a good end."""
        results = self.drive(steps) if steps else []
        last: dict[str, Any] = results[-1] if results else {}
        done = len(results) == len(steps) and last.get("driven", 0) == 0
        assert done, f"{steps[max(len(results) - 1, 0)]} was the last: {last} {self._errors}"
        return results

    def close(self) -> None:
        """End it; the next request opens another."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None
            self._stderr.seek(0)
            self._errors = self._stderr.read().decode("utf-8", "replace")[-_LONGEST_ERROR:]
            self._stderr.close()

    def _opened(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            argv = [*LAB, "ssh", self.target.name, "--", Target.session_command()]
            self._errors = ""
            # A file: no one reads it meanwhile, and a full pipe would hold up the machine.
            self._stderr = tempfile.TemporaryFile()  # noqa: SIM115 - closed with the session
            self._process = subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._stderr)
            for _nothing in self._answer(self._process):
                pass
        assert self._process is not None, f"{self.target.name} runs no modules: {self._errors}"
        return self._process

    def _answer(self, process: subprocess.Popen[bytes]) -> Iterator[dict[str, Any]]:
        watch = threading.Timer(_LONGEST_SECONDS, process.kill)
        watch.start()
        try:
            assert process.stdout is not None
            for line in process.stdout:
                if not line.startswith(b"{") or not line.endswith(b"\n"):
                    continue
                result: dict[str, Any] = json.loads(line)
                if not result:
                    return
                yield result
        finally:
            watch.cancel()
        self.close()
