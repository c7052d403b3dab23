# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of flyd_instance, parsed, and those of them that are remembered.

Invariant: an option that is left out is as it was recorded; of a new instance, its default.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from ..._host.health import Check, Watch
from ..._names import ObjectKey, ShortName
from ..params import ModuleParams
from ..snapshot.options import SnapshotOptions

SWITCH_SECONDS = 120.0


class Settings(NamedTuple):
    """What is done around a flip, as it is recorded: times in seconds, ``confirm_within`` 0 for at once."""

    switch: tuple[str, ...] = ()
    switch_timeout: float = SWITCH_SECONDS
    check: Check = Check()
    watch: Watch = Watch()
    confirm_within: int = 0

    def to_json(self) -> dict[str, Any]:
        """Under the names of the options, as it is recorded and shown."""
        return {
            "switch": list(self.switch),
            "switch_timeout": self.switch_timeout,
            "health": self.check.to_json(),
            "min_healthy": self.watch.min_healthy,
            "healthy_deadline": self.watch.deadline,
            "health_interval": self.watch.interval,
            "confirm_within": self.confirm_within,
        }

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """As it was recorded; what an older release did not record has its default."""
        return Asked(**_parsed(json.loads(text))).over(cls())


class Asked(NamedTuple):
    """The same options as they were given; None for one that was left out."""

    switch: tuple[str, ...] | None = None
    switch_timeout: float | None = None
    check: Check | None = None
    min_healthy: float | None = None
    healthy_deadline: float | None = None
    health_interval: float | None = None
    confirm_within: int | None = None

    @classmethod
    def of(cls, given: ModuleParams) -> Asked:
        """From the options of flyd_instance."""
        words, health = given.raw("switch"), given.raw("health")
        return cls(
            None if words is None else tuple(given.words("switch")),
            given.optional_number("switch_timeout"),
            None if health is None else Check.parse(given.mapping("health")),
            given.optional_number("min_healthy"),
            given.optional_number("healthy_deadline"),
            given.optional_number("health_interval"),
            given.optional_int("confirm_within"),
        )

    def over(self, recorded: Settings) -> Settings:
        """``recorded`` with what was given."""
        watch = recorded.watch
        return Settings(
            recorded.switch if self.switch is None else self.switch,
            recorded.switch_timeout if self.switch_timeout is None else self.switch_timeout,
            recorded.check if self.check is None else self.check,
            Watch(
                watch.min_healthy if self.min_healthy is None else self.min_healthy,
                watch.deadline if self.healthy_deadline is None else self.healthy_deadline,
                watch.interval if self.health_interval is None else self.health_interval,
            ),
            recorded.confirm_within if self.confirm_within is None else self.confirm_within,
        )


def _parsed(recorded: dict[str, Any]) -> dict[str, Any]:
    found = {name: value for name, value in recorded.items() if name in Asked._fields and name != "switch"}
    if "switch" in recorded:
        found["switch"] = tuple(recorded["switch"])
    if "health" in recorded:
        found["check"] = Check.parse(recorded["health"])
    return found


class InstanceOptions(NamedTuple):
    """What flyd_instance was asked for; ``sha256`` in hex is one generation of ``key``, empty for the current one."""

    name: ShortName
    key: ObjectKey
    sha256: str
    asked: Asked
    snapshot: SnapshotOptions
    assume: frozenset[str] = frozenset()  # in check mode, what earlier steps would have changed: "generation", "pool"
