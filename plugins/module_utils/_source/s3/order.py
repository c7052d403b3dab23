# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The order of a family's objects.

Invariant: it depends on the keys alone, and two different keys are never equal in it.
"""

from __future__ import annotations

import re


def natural_order(key: str) -> tuple[tuple[int, int, str], ...]:
    """A sort key by which runs of digits count as numbers: layer2 before layer10."""
    parts = re.split(r"([0-9]+)", key)
    return tuple(
        (0, int(part), part) if part.isdecimal() and part.isascii() else (1, 0, part) for part in parts if part
    )
