# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Run the operator's commands: those that switch a guest to another device, and those that check its health.

Invariant: argv only, no shell; an environment made from scratch, with what the caller adds; a time limit, a process group of its own,
killed whole when the time is over. A process that it leaves in the background stays. Only the last lines of its output are kept in memory. It is
the only gate for programs that are no ``Program``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from ..._errors import BadInput, CommandFailed
from ..._names import printable
from .command import SEARCH_PATH, CommandLine, Runner, run_argv

MAX_OUTPUT_BYTES = 4096


class Answer(NamedTuple):
    """How a program ended; ``output`` is the end of what it wrote to both outputs."""

    returncode: int
    output: str
    seconds: float


def resolved(argv: Sequence[str], *, what: str) -> tuple[str, ...]:
    """``argv`` with the path of its program; raises ``BadInput`` that names ``what`` when this host has no such program."""
    name = argv[0]
    path = shutil.which(name, path=os.pathsep.join(SEARCH_PATH)) if "/" not in name or name.startswith("/") else None
    if path is None:
        raise BadInput(
            f"{what} names the program {printable(name)!r}, which this host does not have, or which cannot be run",
            hint=f"give {what} an absolute path, or the name of a program in {':'.join(SEARCH_PATH)}, as the first element of a list",
        )
    return (path, *argv[1:])


def call(argv: Sequence[str], *, what: str, timeout_seconds: float, environment: Mapping[str, str]) -> Answer:
    """Run ``argv`` to its end, whatever its exit code; raises ``CommandFailed`` when time is up, ``BadInput`` for a program that is missing."""
    done = run_argv(resolved(argv, what=what), "", timeout_seconds, environment, most_bytes=MAX_OUTPUT_BYTES)
    text = "\n".join(part.strip() for part in (done.stdout, done.stderr) if part.strip())
    return Answer(done.returncode, text[-MAX_OUTPUT_BYTES:], done.seconds)


def switch(runner: Runner, argv: Sequence[str], *, timeout_seconds: float, environment: Mapping[str, str]) -> None:
    """Run what makes a guest use another device; raises ``CommandFailed`` unless it ends with 0. Stands in the run's actions."""
    runner.ran.append(CommandLine("switch", *argv))
    done = call(argv, what="switch", timeout_seconds=timeout_seconds, environment=environment)
    if done.returncode != 0:
        raise CommandFailed(
            f"the switch command `{printable(' '.join(argv))}` ended with {done.returncode}: {printable(done.output[-600:], 600)}",
            hint="run it by hand and read what it says; it must end with 0 once the guest uses the new device",
            program=os.path.basename(argv[0]),
            returncode=done.returncode,
        )
