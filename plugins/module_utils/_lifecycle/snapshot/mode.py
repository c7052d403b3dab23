# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The mode of a device node, written as ansible.builtin.file takes modes.

Invariant: a ``Mode`` that was parsed gives the permission bits for any node. Source: chmod(1), "Mode"; POSIX.1-2017, chmod, "Extended
description".
"""

from __future__ import annotations

import os
import re
from typing import NamedTuple

from ..._errors import BadInput
from ..._names import printable

_MOST_BITS = 0o7777
_CLAUSE = re.compile(r"(a|[ugo]*)((?:[-+=](?:[ugo]|[rwxXst]*))+)")
_ACTION = re.compile(r"([-+=])([ugo]|[rwxXst]*)")
_CLASSES = {"u": (6, 0o4000), "g": (3, 0o2000), "o": (0, 0o1000)}
_BITS = {"r": 4, "w": 2, "x": 1}


class Mode(NamedTuple):
    """Permission bits, or clauses such as ``u=rw,g=r`` that change those of a node."""

    bits: int = 0
    clauses: str = ""

    @classmethod
    def parse(cls, value: object) -> Mode | None:
        """From an octal string, a symbolic mode, or a number as YAML reads it; None for what was left out. Raises ``BadInput``.

        ``0660`` without quotes is the octal number 432 in YAML, and that is what arrives here.
        """
        if value is None or value == "":
            return None
        if isinstance(value, int) and not isinstance(value, bool):
            return cls(_checked(value, value))
        text = str(value).strip()
        try:
            return cls(_checked(-1 if text[:1] == "-" and text[1:].isdecimal() else int(text, 8), text))
        except ValueError:
            if all(_CLAUSE.fullmatch(clause) for clause in text.split(",")):
                return cls(clauses=text)
            raise _refused(text) from None

    def of(self, now: int) -> int:
        """The bits for a node that has ``now``."""
        for clause in self.clauses.split(",") if self.clauses else ():
            now = _changed(now, clause)
        return now if self.clauses else self.bits

    def __str__(self) -> str:
        return self.clauses or f"{self.bits:04o}"


def _checked(bits: int, value: object) -> int:
    if not 0 <= bits <= _MOST_BITS:
        raise _refused(value)
    return bits


def _refused(value: object) -> BadInput:
    return BadInput(
        f"mode is {printable(str(value))!r}, which is not a mode",
        hint="give an octal mode in quotes such as '0660', or a symbolic one such as u=rw,g=r,o=",
    )


def _changed(now: int, clause: str) -> int:
    match = _CLAUSE.fullmatch(clause)
    if match is None:
        raise _refused(clause)
    classes = match[1] if match[1] not in ("", "a") else "ugo"
    allowed = 0o777 if match[1] else ~_umask()
    for operator, permissions in _ACTION.findall(match[2]):
        for one in classes:
            now = _applied(now, one, operator, _given(now, one, permissions, allowed))
    return now


def _applied(now: int, one: str, operator: str, given: int) -> int:
    shift, special = _CLASSES[one]
    if operator == "+":
        return now | given
    if operator == "-":
        return now & ~given
    return now & ~(7 << shift | special) | given


def _given(now: int, one: str, permissions: str, allowed: int) -> int:
    """The bits that ``permissions`` are for the class ``one`` of a file that is no directory."""
    shift, special = _CLASSES[one]
    bits = 0
    for letter in permissions:
        if letter in _BITS:
            bits |= _BITS[letter] << shift & allowed
        elif letter == "X":
            bits |= 1 << shift if now & 0o111 else 0
        elif letter == ("t" if one == "o" else "s"):
            bits |= special
        elif letter in _CLASSES:
            bits |= (now >> _CLASSES[letter][0] & 7) << shift
    return bits


def _umask() -> int:
    now = os.umask(0o077)
    os.umask(now)
    return now
