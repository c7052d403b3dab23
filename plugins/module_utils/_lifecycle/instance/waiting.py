# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""A bind that waits for its confirmation, and the timer that rolls it back without one.

Invariant: the deadline in the store decides, on CLOCK_BOOTTIME; the timer only starts a run that checks it. A reboot ends the wait: the first
run after it rolls back.
"""

from __future__ import annotations

import os
import sys
import time

from ..._errors import FlydError, Unsupported
from ..._host import environment, host_program
from ..._host.processes.command import Program
from ..._host.processes.process import boot_id
from ..run import Run
from ..store.instance_record import Instance
from ..store.records import Operation

_MARGIN_SECONDS = 1


def now_seconds() -> float:
    """Seconds since the host's start, with the time that it slept."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def waits(host: Run, operation: Operation) -> bool:
    """Whether an open bind is done but for its confirmation."""
    instance = host.store.find(Instance, "name=?", operation.subject)
    return instance is not None and instance.deadline_seconds > 0


def is_in_time(host: Run, operation: Operation) -> bool:
    """Whether one that waits may still be confirmed."""
    instance = host.store.find(Instance, "name=?", operation.subject)
    return instance is not None and operation.boot_id == boot_id() and now_seconds() < instance.deadline_seconds


def require_timer(host: Run) -> None:
    """Raise ``Unsupported`` on a host that could not go back alone."""
    path = os.path.join(host.dm.root, host_program.PATH)
    if not os.path.exists(path):
        raise Unsupported(
            f"confirm_within needs {path}, which the role flyd.lite.prepare installs",
            hint="run that role with prepare_restore_at_boot, or leave confirm_within out",
        )
    host.runner.require(Program.SYSTEMD_RUN, Program.SYSTEMCTL)


def start_timer(host: Run, name: str, seconds: int) -> None:
    """Let systemd start a run that goes back, ``seconds`` from now."""
    stop_timer(host, name)
    python = environment.interpreter()
    host.runner.run(
        Program.SYSTEMD_RUN,
        "--quiet",
        "--collect",
        f"--unit={_unit(name)}",
        f"--on-active={seconds + _MARGIN_SECONDS}s",
        "--timer-property=AccuracySec=1s",
        python if os.path.exists(python) else sys.executable,
        "-I",
        os.path.join(host.dm.root, host_program.PATH),
        "recover",
        host.settings.path(),
    )


def stop_timer(host: Run, name: str) -> None:
    """Stop it, if there is one: a timer that is left over starts a run that finds nothing to do."""
    try:
        host.runner.run(Program.SYSTEMCTL, "--quiet", "stop", f"{_unit(name)}.timer", accept=(0, 1, 5))
    except FlydError as error:
        host.log.write("timer not stopped", instance=name, error_kind=error.kind.value, error=str(error))


def _unit(name: str) -> str:
    return f"flyd-confirm-{name}"
