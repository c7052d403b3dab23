# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a run has done to the host, program by program, as its result shows it."""

from __future__ import annotations

import itertools


def folded(lines: list[str]) -> list[str]:
    """``lines`` with each line that repeats the one before it counted instead of shown: a device that was busy is tried many times."""
    runs = ((line, len(list(same))) for line, same in itertools.groupby(lines))
    return [line if count == 1 else f"{line} ({count} times)" for line, count in runs]
