# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What a rollout on a simulated fleet has come to: where it ended, what became of the hosts, which invariants do not hold.

Invariant: hosts are judged by what is on them. Of the output of ansible-playbook only that is read which an operator is meant to read: the
waves that began, and the hosts that are named.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from tests.fleet.simulation import Done, Host, Simulation, digest

_FAILED = re.compile(r"^TASK \[flyd\.lite\.rollout : Mark the rollout as failed\] \**\nok: ", re.MULTILINE)
WAVES = (1, 0.05, 0.25, 1.0)
_PLAYS = {
    "Plan the rollout": "plan",
    "Stage the image on the first host": "first host",
    "Compare the need with the room of all hosts": "capacity",
    "Stage the image on the other hosts": "staging",
    "Count the hosts that have the image": "staging",
}


class Outcome(NamedTuple):
    """A rollout from the image ``before`` to the image ``wanted``, as it ended."""

    done: Done
    hosts: dict[str, Host]
    wanted: str
    before: str

    @classmethod
    def of(cls, fleet: Simulation, done: Done, *, wanted: int, before: int) -> Outcome:
        return cls(done, fleet.hosts(), digest(wanted), digest(before))

    @property
    def waves_begun(self) -> int:
        return len(self.done.lines("Wave "))

    @property
    def is_stopped(self) -> bool:
        """Whether the rollout did not stay: it ended before its last wave, or took hosts back."""
        return not self._has_reported or bool(_FAILED.search(self.done.output))

    @property
    def ended_in(self) -> str:
        """The phase in which it stopped."""
        if not self.is_stopped:
            return "went on"
        if self.waves_begun:
            return f"wave {self.waves_begun}"
        plays = [play for play in re.findall(r"^PLAY \[(.*)\]", self.done.output, re.MULTILINE) if play in _PLAYS]
        return _PLAYS[plays[-1]]

    @property
    def named(self) -> set[str]:
        """The hosts that are said to be not as wanted."""
        text = self.done.output
        return set(re.findall(r"fatal: \[([\w-]+)\]", text.partition("PLAY [Report the outcome]")[2] or text))

    @property
    def switched(self) -> list[str]:
        """The hosts whose guest has run the new image, if only for a moment."""
        return [name for name, host in self.hosts.items() if host.was_tried or host.points_at == self.wanted]

    @property
    def hurt(self) -> list[str]:
        """The switched hosts that were not well, or are dead now."""
        return [name for name in self.switched if self.hosts[name].was_hurt or self.hosts[name].is_dead]

    def at(self, sha256: str, names: Sequence[str] | None = None) -> list[str]:
        """The hosts whose name points at an image."""
        return [name for name in (self.hosts if names is None else names) if self.hosts[name].points_at == sha256]

    @property
    def _has_reported(self) -> bool:
        return "PLAY [Report the outcome]" in self.done.output

    def broken_invariants(self) -> list[str]:
        """What does not hold that always has to."""
        broken = [text for name, host in self.hosts.items() for text in self._broken_on(name, host)]
        if not self._has_reported and self.switched:
            broken.append(f"it ended without a report, and has switched {self.switched}")
        if bool(self.named) != bool(self.done.returncode):
            broken.append(f"the exit code is {self.done.returncode}, and named are {sorted(self.named)}")
        return broken

    def _broken_on(self, name: str, host: Host) -> list[str]:
        broken = []
        if host.current not in (self.wanted, self.before):
            broken.append(f"{name} has {host.current}")
        if not host.is_dead and (host.points_at != host.current or not host.confirmed or host.open_operations):
            broken.append(f"{name} is left open: {host}")
        # What is not as wanted: after a rollout that stayed, the old image; after one that did not, the new one.
        if name not in self.named and (host.points_at == self.wanted) == self.is_stopped:
            broken.append(f"{name} is not as wanted, and not named: {host}")
        return broken


def waves(names: Sequence[str]) -> list[list[str]]:
    """The hosts of each wave."""
    rest, found = list(names), []
    for size in WAVES:
        count = size if isinstance(size, int) else int(size * len(names)) or 1
        found.append(rest[:count])
        rest = rest[count:]
    return [wave for wave in found if wave]


def last_wave(names: Sequence[str], lost: Sequence[str], allowed: int) -> int:
    """The wave after which none may begin when ``lost`` are lost: that in which the budget is passed, or a first one that is lost."""
    count = 0
    for number, wave in enumerate(waves(names), 1):
        here = [name for name in wave if name in lost]
        count += len(here)
        if count > allowed or (number == 1 and len(here) == len(wave)):
            return number
    return len(waves(names))
