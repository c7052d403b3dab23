"""A command after whose end the machines and the S3 server that it started are gone, however it ends.

Invariant: only what was started under this session is ended. A session within a session is part of the outer one.
"""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
from collections.abc import Sequence
from types import FrameType
from typing import Any

from disks.cache import Cache
from programs import LabError
from s3_server.s3 import S3
from session_note import VARIABLE, has_session
from vm import known_vms

KEEP = "FLYD_KEEP"
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


def run_session(cache: Cache, argv: Sequence[str]) -> int:
    """Run ``argv`` to its end, then end what it started in the lab; returns its exit code, unless an outer session replaces this process."""
    if not argv:
        raise LabError("session needs a command: lab.py session -- COMMAND …")
    if os.environ.get(VARIABLE) or os.environ.get(KEEP):
        os.execvp(argv[0], list(argv))  # noqa: S606  an outer session ends what this one starts, or all of it is to be kept
    name = secrets.token_hex(8)
    with _Signals() as signals:
        try:
            return run_command(argv, name, signals)
        finally:
            end_session(cache, name)


def end_session(cache: Cache, name: str) -> None:
    """End the machines and the S3 server that the session ``name`` has started; one that cannot be ended does not keep the others."""
    failed: list[str] = []
    for vm in known_vms(cache):
        if has_session(vm.session_file, name):
            try:
                vm.remove()
            except (LabError, OSError) as error:
                failed.append(f"VM {vm.name}: {error}")
    if has_session(S3(cache).session_file, name):
        S3(cache).down()
    if failed:
        raise LabError(f"still running: {'; '.join(failed)}")


class _Signals:
    """Passes signals to this process on to the command, and keeps them from interrupting what is done after it."""

    def __init__(self) -> None:
        self.first = 0  # the number of the first one that came
        self.command: subprocess.Popen[bytes] | None = None
        self._before: dict[int, Any] = {}

    def __enter__(self) -> _Signals:
        self._before = {number: signal.signal(number, self._pass_on) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    def pass_on_first(self) -> None:
        """Pass on what came while the command was started."""
        if self.first and self.command is not None:
            self.command.send_signal(self.first)

    def _pass_on(self, number: int, _frame: FrameType | None) -> None:
        self.first = self.first or number
        if self.command is not None and self.command.poll() is None:
            self.command.send_signal(number)


def run_command(argv: Sequence[str], session: str, signals: _Signals) -> int:
    """Run ``argv`` under ``session`` to its end and return its exit code."""
    if not signals.first:
        signals.command = subprocess.Popen(argv, env={**os.environ, VARIABLE: session})
        signals.pass_on_first()
        code = signals.command.wait()
    else:
        code = -signals.first
    return code if code >= 0 else 128 - code
