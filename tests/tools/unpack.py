#!/usr/bin/env python3
# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Unpack an image archive into an empty directory: the engine of flyd_unpack without Ansible, a device or a database.

    unpack.py ARCHIVE DIR [--limits NAME=VALUE,...] [--image-name NAME] [--platform OS/ARCH] [--device-nodes HOW] ...

ARCHIVE is a file, or a directory whose files are the layers of a family. An image for another platform is taken when it is the only one.

Invariant: exactly one JSON object on standard output, nothing on standard error, whatever happens. Exit 0: the summary, with the
image's configuration. Exit 1: ``error_kind``, ``msg``, ``hint``, ``member`` (empty when it is about none). An answer that no one can
be given, because standard output is closed or full, is exit 1 too.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
from typing import Any

_ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.realpath(__file__))))
sys.path[:0] = [os.path.join(_ROOT, "plugins"), _ROOT]

_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
_RESERVE = [bytearray(1 << 20)]  # given back when memory has ended, as an answer needs some


class _Stopped(BaseException):
    """A signal asked us to end."""


def _stop(number: int, _frame: object) -> None:
    _ignore_signals()
    raise _Stopped(signal.Signals(number).name)


def _ignore_signals() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _outcome(argv: list[str]) -> tuple[int, dict[str, Any]]:
    """The exit code and the answer; only ``_Stopped`` is raised."""
    try:
        # Loaded here: what a low limit of memory does to the loading is an answer too.
        from module_utils._errors import FlydError
        from module_utils._host.files.durable import from_os_error
        from tests.tools.engine import unpack

        try:
            return 0, unpack(argv)
        except FlydError as error:
            return 1, _failure(error)
        except OSError as error:
            return 1, _failure(from_os_error(error, "unpacking"))
    except (MemoryError, ImportError, OSError) as error:
        _RESERVE.clear()
        hint = "raise the limit of memory (`ulimit -v`), or check that the checkout is whole"
        return 1, _refusal("unsupported", f"the engine could not be loaded or had not enough memory: {error!r}", hint)
    except Exception as error:  # noqa: BLE001 - who drives this reads JSON, of an internal error too
        return 1, _refusal("internal", f"{type(error).__name__}: {error}", " | ".join(_trail(error)))


def _trail(error: BaseException) -> list[str]:
    """Where the error is, without the words of a traceback."""
    step, found = error.__traceback__, []
    while step is not None:
        found.append(f"{os.path.basename(step.tb_frame.f_code.co_filename)}:{step.tb_lineno}")
        step = step.tb_next
    return found


def _refusal(kind: str, msg: str, hint: str) -> dict[str, Any]:
    return {"error_kind": kind, "msg": msg, "hint": hint, "member": ""}


def _failure(error: Any) -> dict[str, Any]:
    details = {key: value for key, value in error.details.items() if key != "member"}
    answer = {**_refusal(error.kind.value, str(error), error.hint), "member": error.details.get("member", "")}
    return {**answer, "details": details} if details else answer


def _open_what_is_closed() -> None:
    """Give the three standard descriptors something, or the archive would be opened under one of their numbers; silence the third."""
    null = os.open(os.devnull, os.O_RDWR)
    while null <= 2:
        null = os.dup(null)
    os.dup2(null, 2)


def _answer(answer: dict[str, Any]) -> bool:
    """Write the one object; says whether all of it was taken."""
    data = memoryview((json.dumps(answer) + "\n").encode())
    try:
        while data:
            data = data[os.write(1, data) :]
    except OSError:
        return False
    return True


def main(argv: list[str]) -> int:
    """Answer with what came of unpacking; returns the exit code."""
    can_answer = _is_open(1)
    _open_what_is_closed()
    try:
        for number in _SIGNALS:
            signal.signal(number, _stop)
        code, answer = _outcome(argv)
        _ignore_signals()
    except _Stopped as stopped:
        code = 1
        answer = _refusal("transient", f"stopped by {stopped}", "empty the directory, then run again")
    return code if can_answer and _answer(answer) else 1


def _is_open(fd: int) -> bool:
    try:
        os.fstat(fd)
    except OSError:
        return False
    return True


if __name__ == "__main__":
    gc.disable()  # nothing here makes garbage in circles, and a short process needs no collection
    # Nothing is left to clean up, and an interpreter that ends may still have something to say. Taking the whole tree apart again,
    # object by object, would only cost time.
    os._exit(main(sys.argv[1:]))
