# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a host should be: one pool, and images in it, without devices, files or a database.

Invariant: each method answers ``CHANGED``, ``UNCHANGED`` or the kind of the refusal, and a refusal changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

CHANGED, UNCHANGED, REFUSED = "changed", "unchanged", "out_of_order"


@dataclass
class Generation:
    """What was made of one content of a key."""

    content: int
    has_base: bool = False
    names: set[str] = field(default_factory=set)


@dataclass
class Model:
    """``pool`` is absent, down (as after a reboot) or up."""

    pool: str = "absent"
    current: dict[str, Generation] = field(default_factory=dict)
    retired: dict[str, list[Generation]] = field(default_factory=dict)

    def generations(self, key: str) -> list[Generation]:
        """The current one, if any, and the retired ones."""
        return [*filter(None, [self.current.get(key)]), *self.retired.get(key, [])]

    def make_pool(self) -> str:
        """flyd_pool."""
        before, self.pool = self.pool, "up"
        return UNCHANGED if before == "up" else CHANGED

    def fetch(self, key: str, content: int) -> str:
        """flyd_fetch. A content that a retired generation has makes that one current again."""
        now = self.current.get(key)
        if now is not None and now.content == content:
            return UNCHANGED
        if now is not None:
            self.retired.setdefault(key, []).append(now)
        retired = self.retired.get(key, [])
        self.retired[key] = [one for one in retired if one.content != content]
        self.current[key] = next((one for one in retired if one.content == content), Generation(content))
        return CHANGED

    def unpack(self, key: str) -> str:
        """flyd_unpack."""
        now = self.current.get(key)
        if now is not None and now.has_base:
            return UNCHANGED
        if now is None or self.pool != "up":
            return REFUSED
        now.has_base = True
        return CHANGED

    def activate(self, key: str, name: str) -> str:
        """flyd_snapshot."""
        now = self.current.get(key)
        if now is None or not now.has_base or self.pool != "up":
            return REFUSED
        if name in now.names:
            return UNCHANGED
        now.names.add(name)
        return CHANGED

    def remove_snapshot(self, key: str, name: str) -> str:
        """flyd_snapshot, absent: of all generations."""
        return self._remove(
            [one for one in self.generations(key) if name in one.names], lambda one: one.names.discard(name)
        )

    def remove_base(self, key: str, *, force: bool) -> str:
        """flyd_unpack, absent: of all generations, with their snapshots if that is forced."""
        found = [one for one in self.generations(key) if one.has_base]
        if not force and any(one.names for one in found):
            return REFUSED
        return self._remove(found, _without_base)

    def forget(self, key: str, *, force: bool) -> str:
        """flyd_fetch, absent: the key is unknown again."""
        if not self.generations(key):
            return UNCHANGED
        if any(one.has_base for one in self.generations(key)) and (not force or self.pool != "up"):
            return REFUSED
        self.current.pop(key, None)
        self.retired.pop(key, None)
        return CHANGED

    def remove_pool(self, *, force: bool) -> str:
        """flyd_pool, absent: with what lives in it if that is forced."""
        if self.pool == "absent":
            return UNCHANGED
        everything = [one for key in {*self.current, *self.retired} for one in self.generations(key)]
        if not force and any(one.has_base for one in everything):
            return REFUSED
        for one in everything:
            _without_base(one)
        self.pool = "absent"
        return CHANGED

    def reboot(self, *, restored: bool) -> None:
        """The host starts again, with the unit that brings back what there was, or without."""
        if self.pool != "absent":
            self.pool = "up" if restored else "down"

    def _remove(self, found: list[Generation], remove: Callable[[Generation], object]) -> str:
        if not found:
            return UNCHANGED
        if self.pool != "up":
            return REFUSED
        for one in found:
            remove(one)
        return CHANGED

    def state(self, key: str) -> str:
        """As flyd_info reports it."""
        now = self.current.get(key)
        if now is None:
            return "new"
        return "activated" if now.names else "unpacked" if now.has_base else "fetched"

    def snapshots(self) -> list[tuple[str, str, bool]]:
        """Key, name and whether it is mapped, of all generations."""
        keys = sorted({*self.current, *self.retired})
        return sorted(
            (key, name, self.pool == "up") for key in keys for one in self.generations(key) for name in one.names
        )


def _without_base(one: Generation) -> None:
    one.has_base = False
    one.names.clear()
