# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How a pool may grow automatically: how far, in which steps, and what of the host's file system it leaves free.

Invariant: a policy holds the options of flyd_pool as given, never a size that was computed from them: a share is that of the file system or the
device at the time when the pool grows.
"""

from __future__ import annotations

import json
from typing import NamedTuple

from ..outcome import Facts
from ..pool.data_size import DataSize

NO_POLICY = "{}"  # of a record
NEVER = "none"  # of max_size: the pool grows when it is asked to, and not automatically


class Policy(NamedTuple):
    """``max_size`` None: the pool does not grow automatically."""

    max_size: DataSize | None = None
    grow_by: DataSize = DataSize(20, is_percent=True)
    grow_reserve: DataSize = DataSize(10, is_percent=True)

    @classmethod
    def recorded(cls, text: str) -> Policy:
        """As ``to_json`` wrote it; what is missing is the default."""
        found = {name: DataSize.parse(value, what=name) for name, value in json.loads(text).items()}
        return cls(**found)

    def to_json(self) -> str:
        """What is not the default."""
        others = {name: size for name, size in self._asdict().items() if size != self._field_defaults[name]}
        return json.dumps({name: size.text() for name, size in sorted(others.items())})

    def facts(self) -> Facts:
        """For a result, in the words of the options."""
        return {
            "max_size": self.max_size.text() if self.max_size else NEVER,
            "grow_by": self.grow_by.text(),
            "grow_reserve": self.grow_reserve.text(),
        }


def may_grow(recorded: str) -> bool:
    """Whether a pool with that policy ever grows automatically."""
    return recorded != NO_POLICY and Policy.recorded(recorded).max_size is not None


class PolicyRequest(NamedTuple):
    """The options as they were given; empty and None: left out. ``is_never``: max_size is none."""

    max_size: DataSize | None = None
    grow_by: DataSize | None = None
    grow_reserve: DataSize | None = None
    is_never: bool = False

    @classmethod
    def parse(cls, max_size: str, grow_by: str, grow_reserve: str) -> PolicyRequest:
        """Raises ``BadInput`` that names the option."""
        is_never = max_size.strip().lower() == NEVER
        return cls(
            None if is_never else DataSize.parse_optional(max_size, what="max_size"),
            DataSize.parse_optional(grow_by, what="grow_by"),
            DataSize.parse_optional(grow_reserve, what="grow_reserve"),
            is_never,
        )

    def over(self, recorded: Policy) -> Policy:
        """The policy that is wanted: what is left out is as it is."""
        return Policy(
            None if self.is_never else self.max_size or recorded.max_size,
            self.grow_by or recorded.grow_by,
            self.grow_reserve or recorded.grow_reserve,
        )
