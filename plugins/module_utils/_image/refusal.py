# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Errors that refuse an archive.

Invariant: every error names the member concerned, escaped, and has a hint.
"""

from __future__ import annotations

from typing import Union

from .._errors import Untrusted
from .._names import printable

Name = Union[bytes, str]

_DAMAGED = (
    "the archive is damaged or malicious: compare its checksum with its publisher's, then fetch it again (flyd_fetch)"
)


def malformed(problem: str, member: Name = "", *, hint: str = _DAMAGED) -> Untrusted:
    """The error for an archive that is malformed or hostile; ``member`` is the raw name of what it was found at."""
    shown = printable(member)
    if not shown:
        return Untrusted(problem, hint=hint)
    return Untrusted(f"{shown}: {problem}", hint=hint, member=shown)
