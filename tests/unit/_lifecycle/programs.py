# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The fake programs without a process each: hundreds of runs of the machine would spend nearly all of their time on starting Python.

Invariant: the same code answers as when the program is started, through the same ``Runner``; one test runs the whole machine with real
processes and compares.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import os

from module_utils._host.processes.command import Completed
from module_utils._host.processes.command import _run as run_for_real
from tests.unit.fakes.host import FAKES

__all__ = ["run_for_real", "run_in_this_process"]

MODULES = {program.value: module for program, module in FAKES.items()}


def run_in_this_process(argv: tuple[str, ...], stdin: str, limit: float) -> Completed:
    """What ``_host.command._run`` does, for a program below the directory of a fake host."""
    del stdin, limit
    program = os.path.basename(argv[0])
    root = os.path.dirname(os.path.dirname(argv[0]))
    fake = importlib.import_module(f"tests.unit.fakes.{MODULES[program]}")
    out, err, code = io.StringIO(), io.StringIO(), 0
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = fake.run(root, program, list(argv[1:])) or 0
        except SystemExit as exit_:
            code = 1
            err.write(f"{exit_.code}\n")
    return Completed(argv, code, out.getvalue(), err.getvalue(), 0.0)
