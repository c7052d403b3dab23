# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run found or did, in the form of a module's result."""

from __future__ import annotations

from typing import Any, NamedTuple

from .findings import Finding

Facts = dict[str, Any]


class Outcome(NamedTuple):
    """``before`` and ``after`` are for the diff, ``facts`` the module's own returns: all ready for JSON."""

    before: Facts
    after: Facts
    changed: bool
    facts: Facts
    settled: tuple[Finding, ...] = ()
