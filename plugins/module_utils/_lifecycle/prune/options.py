# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of flyd_prune, parsed."""

from __future__ import annotations

import re
from typing import NamedTuple

from ..._errors import BadInput
from ..._names import ObjectKey, printable
from ..params import ModuleParams
from ..pool.data_size import DataSize

_DURATION = re.compile(r"([0-9]{1,9})\s*([smhdw]?)")
_UNIT_SECONDS = {"": 1, "s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}


class PruneOptions(NamedTuple):
    """What flyd_prune was asked for. Empty strings and None: left out."""

    key: str = ""
    keep: int = 2
    older_than_seconds: int | None = None
    min_free: DataSize | None = None
    archives: bool = True

    @classmethod
    def parse(cls, given: ModuleParams) -> PruneOptions:
        """From the options of the module; raises ``BadInput`` that names the one that cannot be right."""
        key, older_than, min_free = given.text("key"), given.text("older_than"), given.text("min_free")
        return cls(
            key=ObjectKey(key).value if key else "",
            keep=int(given.number("keep")),
            older_than_seconds=parse_duration(older_than, what="older_than") if older_than else None,
            min_free=DataSize.parse(min_free, what="min_free") if min_free else None,
            archives=given.flag("archives"),
        )


def parse_duration(text: str, *, what: str) -> int:
    """Seconds from ``7d``, ``12h``, ``90``: a whole number of s, m, h, d or w. Raises ``BadInput`` that names ``what``."""
    match = _DURATION.fullmatch(text.strip())
    if match is None:
        raise BadInput(
            f"{what} is {printable(text)!r}, which is not a duration",
            hint=f"write {what} as a whole number with s, m, h, d or w, for example 7d",
        )
    return int(match[1]) * _UNIT_SECONDS[match[2]]
