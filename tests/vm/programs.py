"""The one place where the lab starts a program and waits for it.

Invariant: a program gets an argument vector and no stdin, runs for a bounded time, and when it
fails, is too slow or is interrupted, its whole process group is gone before the caller goes on.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import IO

SEARCH_PATH = os.pathsep.join([os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"])
"""mke2fs and its like live in sbin, which the PATH of an ordinary user leaves out."""


class LabError(Exception):
    """What failed and what to do about it, in one line for the person at the terminal."""


def find_program(name: str) -> str | None:
    """The path of a program, or None when this machine has none of that name."""
    return shutil.which(name, path=SEARCH_PATH)


def run(argv: Sequence[str | Path], *, timeout_seconds: float, log: Path | None = None) -> str:
    """Run a program to its end and return what it wrote to stdout.

    With ``log``, both output streams are appended to that file instead and the result is empty.
    Raises LabError when it cannot be started, exits with another status than 0, or is too slow.
    """
    command = [os.fspath(argument) for argument in argv]
    if log is None:
        return _run(command, timeout_seconds, None)
    with log.open("ab") as stream:
        try:
            return _run(command, timeout_seconds, stream)
        except LabError as error:
            raise LabError(f"{error}; see {log}") from None


def _run(command: list[str], timeout_seconds: float, stream: IO[bytes] | None) -> str:
    try:
        child = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=stream or subprocess.PIPE,
            stderr=stream or subprocess.PIPE,
            env={**os.environ, "LC_ALL": "C", "PATH": SEARCH_PATH, "DEBIAN_FRONTEND": "noninteractive"},
            start_new_session=True,
        )
    except OSError as error:
        raise LabError(f"{command[0]} cannot be started: {error.strerror}") from None
    with child:
        try:
            stdout, stderr = child.communicate(timeout=timeout_seconds)
        except BaseException as error:
            _end_group(child)
            if isinstance(error, subprocess.TimeoutExpired):
                raise LabError(f"{command[0]} was stopped after {timeout_seconds:g} s") from None
            raise
    if child.returncode != 0:
        raise LabError(f"{command[0]} failed ({_verdict(child.returncode)}){_last_line(stderr)}")
    return (stdout or b"").decode(errors="replace")


def _end_group(child: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(child.pid, signal.SIGKILL)
    except ProcessLookupError:
        pass  # it ended between the time-out and the signal


def _verdict(returncode: int) -> str:
    return f"signal {-returncode}" if returncode < 0 else f"exit status {returncode}"


def _last_line(stderr: bytes | None) -> str:
    lines = (stderr or b"").decode(errors="replace").split("\n")
    said = [line.strip() for line in lines if line.strip()]
    return f": {said[-1]}" if said else ""
