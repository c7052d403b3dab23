# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Answers of a child process: written by the child, read by its parent.

Invariant: the child may have been compromised by a hostile archive. Only JSON is read from it, since unpickling would let it
run code here; it cannot fill the parent's memory, nor write anything but plain text to a terminal or a log.
"""

from __future__ import annotations

import json
import os
import sys
from typing import Any, Callable

from ..._errors import CommandFailed, FlydError, error_from_json, error_to_json
from ..files.durable import from_os_error

_MAX_BYTES = 4 << 20
_PART_BYTES = 1 << 16
_MAX_LINES, _MAX_LINE = 200, 1000  # of what it writes to standard error
Json = Any  # what json.dumps takes and json.loads gives back


def answer_of(work: Callable[[], Json], what: str) -> bytes:
    """In the child: the answer, one line with the result of ``work``, or its ``FlydError`` or ``OSError``, as one at ``what``."""
    try:
        message = {"result": work()}
    except FlydError as error:
        message = {"error": error_to_json(error)}
    except OSError as error:
        message = {"error": error_to_json(from_os_error(error, what))}
    return json.dumps(message).encode()


def read_all(pipe: int) -> bytes:
    """In the parent: all that the child writes to ``pipe``, which is closed then; raises what ``added`` does."""
    said = b""
    with os.fdopen(pipe, "rb", buffering=0) as file:
        while part := file.read(_PART_BYTES):
            said = added(said, part)
    return said


def added(said: bytes, part: bytes) -> bytes:
    """``said`` with ``part`` behind it; raises ``CommandFailed`` when that is more than any answer holds."""
    if len(said) + len(part) > _MAX_BYTES:
        raise CommandFailed(
            f"a child process answers with more than {_MAX_BYTES >> 20} MiB",
            hint="run again; if it does the same, the image is malicious",
        )
    return said + part


def understood(said: bytes, silence: str) -> Json:
    """The answer: the last line that is one. What comes before, or instead of it, is what was written to standard error."""
    shown, _newline, answer = said.rpartition(b"\n")
    if not answer.startswith(b"{"):
        shown, answer = said, b""
    if shown.strip() and sys.stderr is not None:  # None: it was closed when the program began
        lines = shown.decode("utf-8", "replace").splitlines()
        sys.stderr.write("".join(f"{_plain(line)[:_MAX_LINE]}\n" for line in lines[:_MAX_LINES]))
    return result_of(answer, silence)


def result_of(answer: bytes, silence: str) -> Json:
    """The result in a child's answer; raises its error, or ``CommandFailed`` that says ``silence`` when there is no answer."""
    error: FlydError | None = None
    try:
        message = json.loads(answer) if answer else {}
        if "error" in message:
            error = _plain_error(error_from_json(message["error"]))
        elif answer:
            return message["result"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError):  # not what a child of this project says
        error = None
    raise error or CommandFailed(
        silence,
        hint="look for the out-of-memory killer in `dmesg`; then run again",
        retryable=True,
    )


def _plain_error(error: FlydError) -> FlydError:
    error.msg, error.hint = _plain(error.msg), _plain(error.hint)
    error.args = (error.msg,)
    error.trail = [_plain(step) for step in error.trail]
    error.details = {
        _plain(key): _plain(value) if isinstance(value, str) else value for key, value in error.details.items()
    }
    return error


def _plain(text: str) -> str:
    return "".join(char if char.isprintable() or char in "\n\t" else "\N{REPLACEMENT CHARACTER}" for char in text)
