# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a result of flyd_info belongs to the run or the moment, so that two reports of one state can be compared without it."""

from __future__ import annotations

OF_A_RUN = frozenset(
    [
        "run_id",
        "run_seconds",
        "actions",
        "attempts",
        "waited_seconds",
        "settled",
        "changed",
        "invocation",
        "host",
        "driven",
        "took",
    ]
)
