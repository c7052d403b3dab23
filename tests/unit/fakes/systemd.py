# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""systemd-run and systemctl as far as timers go: each is a file below run/systemd, with the command that it starts."""

from __future__ import annotations

import json
from pathlib import Path


def run(root: str, program: str, words: list[str]) -> int:
    """Start or stop a timer."""
    timers = Path(root) / "run" / "systemd"
    if program == "systemd-run":
        [unit] = [word.partition("=")[2] for word in words if word.startswith("--unit=")]
        timers.mkdir(exist_ok=True)
        (timers / f"{unit}.timer").write_text(json.dumps(words))
        return 0
    timer = timers / words[-1]
    if not timer.exists():
        return 5
    timer.unlink()
    return 0
