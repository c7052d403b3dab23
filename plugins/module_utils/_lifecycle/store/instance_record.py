# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The record of an instance: one row of ``instances``; records.py has the other tables."""

from __future__ import annotations

from typing import NamedTuple


class Instance(NamedTuple):
    """A name that points at a snapshot of one generation: ``current``, the last one that was confirmed; empty before there is one.

    While a bind is open, the name points at ``target``; ``deadline_seconds`` (CLOCK_BOOTTIME; 0 for none) is until when it waits to be
    confirmed. ``previous_id`` was current before; ``left_id`` is the generation that the name was rolled back from, until the next bind is
    confirmed. An ``_id`` is a generation's, an ``_ulid`` a snapshot's. ``settings`` and ``target_settings`` are JSON, see
    instance/options.py.
    """

    name: str
    current_id: str = ""
    current_ulid: str = ""
    previous_id: str = ""
    left_id: str = ""
    target_id: str = ""
    target_ulid: str = ""
    settings: str = "{}"
    target_settings: str = "{}"
    deadline_seconds: int = 0
    created_at: str = ""
    updated_at: str = ""

    @property
    def shown(self) -> tuple[str, str]:
        """The generation and the snapshot that the name points at; empty for a name that points at none."""
        return (self.target_id, self.target_ulid) if self.target_id else (self.current_id, self.current_ulid)

    @property
    def is_confirmed(self) -> bool:
        """Whether what the name points at was confirmed."""
        return bool(self.current_id) and not self.target_id
