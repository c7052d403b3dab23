# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The line that shows how far a phase of a rollout has come: hosts, bytes, and how long the rest takes at that pace.

Invariant: it is computed from results that have arrived; a phase that is complete has the line of the role instead.
"""

from __future__ import annotations

from . import words

WIDTH = 24
LABELS = {"plan": "Plan", "fetch": "Stage", "unpack": "Stage", "flip": "Wave", "back": "Back", "prune": "Prune"}


class Progress:
    """One task on many hosts. ``size_bytes`` is what each host fetches, 0 when that is not known."""

    def __init__(self, step: str, hosts: int, now: float, size_bytes: int = 0) -> None:
        self.step = step
        self.hosts = hosts
        self.done = 0
        self._begun = now
        self._size_bytes = size_bytes
        self._received_bytes = 0

    def add(self, received_bytes: int) -> None:
        """One more host has answered."""
        self.done += 1
        self._received_bytes += received_bytes

    def line(self, now: float) -> str:
        """The line; empty for a step that is not shown, before the first answer and after the last."""
        label = LABELS.get(self.step, "")
        if not label or not 0 < self.done < self.hosts:
            return ""
        seconds = max(0.001, now - self._begun)
        filled = WIDTH * self.done // self.hosts
        drawn = "[" + "#" * filled + "." * (WIDTH - filled) + "]"
        parts = [f"{drawn} {self.done:,}/{self.hosts:,} hosts"]
        if self._received_bytes:
            pace = words.size(self._received_bytes / seconds)
            of = f" of {words.size(self._size_bytes * self.hosts)}" if self._size_bytes else ""
            parts += [f"{words.size(self._received_bytes)}{of}", f"{pace}/s"]
        rest = seconds * (self.hosts - self.done) / self.done
        if rest >= 1:
            parts.append(f"about {rest:.0f} s" if rest < 90 else f"about {rest / 60:.0f} min")
        return words.line(label, parts)
