# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Distribute streams and memory among decoder processes.

Invariant: all decoders that run at a time take at most ``limits.decoder_memory_bytes`` together, their processes included, whatever the
number of processors. A process continues with another stream only if the digest of its output is known: one that was compromised by the
first stream could forge the second.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..limits import Limits
from .decoder_process import PROCESS_BYTES

_MAX_STATED_BYTES = 1 << 40  # of memory that a decoder says it needs: it may say anything


class Need(NamedTuple):
    """Stream number ``at`` of ``size_bytes``, the memory that its decoder takes, and whether the digest of its content is known."""

    at: int
    what: str
    memory_bytes: int
    size_bytes: int
    is_checked: bool

    def after(self, stated_bytes: object, limits: Limits) -> Need:
        """The same once its decoder has said that it needs ``stated_bytes``, or more than it had when it cannot say how much (0)."""
        most = limits.decoder_memory_bytes - PROCESS_BYTES
        shown = stated_bytes if isinstance(stated_bytes, int) and 0 < stated_bytes < _MAX_STATED_BYTES else 0
        wanted = shown + (4 << 20) if shown else most
        if wanted <= self.memory_bytes:  # it has had that
            wanted = 2 * most
        return self._replace(memory_bytes=wanted)


class Round(NamedTuple):
    """Streams that ``processes`` share, with ``memory_bytes`` for each decoder; with ``once``, a process takes one stream alone."""

    streams: tuple[int, ...]
    processes: int
    memory_bytes: int
    once: bool


def rounds(needs: Sequence[Need], limits: Limits, processors: int) -> list[Round]:
    """Rounds, one after the other, that decompress all of ``needs``; raises ``Untrusted`` where one alone needs too much."""
    budget = limits.decoder_memory_bytes
    for need in needs:
        if need.memory_bytes + PROCESS_BYTES > budget:
            limits.exceeded("decoder_memory_bytes", need.memory_bytes + PROCESS_BYTES, need.what)
    # What needs more than its share would make all others wait: it has rounds of its own.
    share = budget // processors - PROCESS_BYTES
    groups = [[need for need in needs if (need.memory_bytes <= share) is is_small] for is_small in (False, True)]
    return [one for group in groups for one in _rounds_of(group, budget, processors)]


def _rounds_of(needs: Sequence[Need], budget: int, processors: int) -> list[Round]:
    if not needs:
        return []
    most = max(need.memory_bytes for need in needs) + PROCESS_BYTES
    processes = min(processors, budget // most)
    largest_first = sorted(needs, key=lambda need: -need.size_bytes)
    checked = [need.at for need in largest_first if need.is_checked]
    others = [need.at for need in largest_first if not need.is_checked]
    parts = [(checked, False)] if checked else []
    parts += [(others[at : at + processes], True) for at in range(0, len(others), processes)]
    found = []
    for streams, once in parts:
        used = min(processes, len(streams))
        found.append(Round(tuple(streams), used, budget // used - PROCESS_BYTES, once))
    return found
