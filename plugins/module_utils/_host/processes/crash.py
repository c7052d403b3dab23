# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Labelled crash points: the places where a test may kill this process, as a power cut would.

Invariant: without the environment variable they do nothing at all.
"""

from __future__ import annotations

import os
import signal

VARIABLE = "FLYD_CRASH_POINT"


def crash_point(label: str) -> None:
    """End this process at once, without any clean-up, when the environment names ``label``."""
    if os.environ.get(VARIABLE) == label:
        os.kill(os.getpid(), signal.SIGKILL)
