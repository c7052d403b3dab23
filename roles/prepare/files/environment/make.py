# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the environment of a host's modules, on the host; load.py starts it with what was sent.

    HOME build [BUNDLE]    HOME/venv becomes what the plan says, from the wheels in BUNDLE or from pip's index
    HOME clean             remove what stopped runs have left behind

The plan is what plan.py printed. BUNDLE has the wheels one behind another, each followed by a newline that it does not end with. Prints
an object of JSON: ``changed``, ``without`` (optional packages that there are none of for this platform), ``removed``. Exit code 0, or 1
with what is wrong and what to do on standard error.

Invariant: a run that fails or is killed leaves HOME/venv as it was; what else it leaves is removed by the next one.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import tempfile
from typing import Any

from packages import fill
from place import Failed, clean, current, exchange, locked


class Stopped(BaseException):
    """A signal asked us to end."""


def build(home: str, plan: dict[str, Any], bundle: str, lock: int) -> dict[str, Any]:
    """HOME/venv is what the plan says."""
    removed = clean(home, keep=bundle)
    directory = tempfile.mkdtemp(prefix=f"venv-{plan['id']}.", dir=home)
    try:
        left_out = fill(directory, plan, bundle, lock)
        exchange(home, directory)
    finally:
        if current(home) != directory:
            shutil.rmtree(directory, ignore_errors=True)
    return {"changed": True, "without": left_out, "removed": removed}


def work(home: str, verb: str, bundle: str, plan: dict[str, Any]) -> dict[str, Any]:
    """What the verb asks for, alone in ``home``; what was sent for it is gone in the end."""
    with locked(home) as lock:
        try:
            if verb == "build":
                return build(home, plan, bundle, lock)
            removed = clean(home)
            return {"changed": bool(removed), "without": [], "removed": removed}
        finally:
            clean(home)


def main(home: str, verb: str, bundle: str = "", *, plan: dict[str, Any]) -> int:
    """Entry point."""

    def stop(number: int, _frame: object) -> None:
        raise Stopped(signal.Signals(number).name)

    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, stop)
    os.umask(0o022)
    try:
        answer = work(home, verb, bundle, plan)
    except Failed as failed:
        sys.stderr.write("\n".join(failed.args))
    except OSError as error:
        sys.stderr.write(f"{error}\nmake room, or look at the file system of {home}")
    except Stopped as stopped:
        sys.stderr.write(f"stopped by {stopped}\nrun prepare again: the environment is as it was")
    else:
        sys.stdout.write(json.dumps(answer))
        return 0
    return 1
