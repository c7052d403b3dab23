# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The real flyd_fetch as a process of its own, against the real S3 server, without a controller or devices."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
_DRIVE = ROOT / "tests/tools/drive.py"


@dataclass
class Module:
    """flyd_fetch with ``options``; ``site`` is a directory that the collection is imported from, ``state`` the state directory."""

    site: Path
    state: Path
    options: dict[str, Any]
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, *, check: bool = False, **options: Any) -> dict[str, Any]:
        """What the module printed."""
        with self.running(check=check, **options) as process:
            return self.result(process)

    @contextlib.contextmanager
    def running(self, *, check: bool = False, **options: Any) -> Iterator[subprocess.Popen[str]]:
        """The module while it runs; killed at the end of the block, if it has not ended."""
        given = {"state_dir": str(self.state), "retry_delay": 0.01, **self.options, **options}
        argv = [sys.executable, str(_DRIVE), "--path", str(self.site)]
        environment = {**os.environ, **self.environment}
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment) as process:
            assert process.stdin is not None
            process.stdin.write(json.dumps([{"module": "flyd_fetch", "options": given, "check": check}]))
            process.stdin.close()
            process.stdin = None  # communicate() would flush it
            try:
                yield process
            finally:
                for pid in descendants(process.pid):  # the module is a fork, in a session of its own
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, signal.SIGKILL)
                process.kill()

    def run_all(self, steps: list[dict[str, Any]]) -> tuple[str, str]:
        """Run flyd_fetch once for each of ``steps``, which are options, although some fail; its output and its errors, a line a run."""
        common = {"state_dir": str(self.state), "retry_delay": 0.01, **self.options}
        given = [{"module": "flyd_fetch", "options": {**common, **options}} for options in steps]
        argv = [sys.executable, str(_DRIVE), "--all", "--path", str(self.site)]
        environment = {**os.environ, **self.environment}
        ran = subprocess.run(
            argv, input=json.dumps(given), capture_output=True, text=True, env=environment, timeout=120, check=False
        )
        return ran.stdout, ran.stderr

    @staticmethod
    def result(process: subprocess.Popen[str]) -> dict[str, Any]:
        """The result of a module that was started, once it has ended."""
        said, complained = process.communicate(timeout=120)
        assert said, complained
        result: dict[str, Any] = json.loads(said.splitlines()[-1])
        return result

    def files(self) -> dict[str, tuple[int, int]]:
        """Size and time of change of every file below the state directory: equal before and after, nothing was written."""
        found = {}
        for path in sorted(self.state.rglob("*")):
            seen = path.lstat()
            found[str(path.relative_to(self.state))] = (seen.st_size, seen.st_mtime_ns)
        return found

    def archives(self) -> list[str]:
        return self._names("archives")

    def parts(self) -> list[str]:
        return self._names("spool")

    def _names(self, directory: str) -> list[str]:
        return sorted(path.name for path in (self.state / directory).glob("*"))


def descendants(pid: int) -> list[int]:
    """The processes that ``pid`` has started, and theirs."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):
        for thread in Path(f"/proc/{pid}/task").iterdir():
            found += [int(child) for child in (thread / "children").read_text().split()]
    return [*found, *(below for child in found for below in descendants(child))]


def make_site(directory: Path) -> Path:
    """A directory that this checkout can be imported from under the collection's name."""
    place = directory / "ansible_collections" / "flyd"
    place.mkdir(parents=True)
    (place / "lite").symlink_to(ROOT)
    return directory
