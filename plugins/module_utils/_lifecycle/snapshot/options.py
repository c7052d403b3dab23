# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The options of flyd_snapshot, parsed."""

from __future__ import annotations

from typing import NamedTuple

from ..._names import ObjectKey, ShortName
from .device_node import NodeAccess


class SnapshotOptions(NamedTuple):
    """What flyd_snapshot was asked for; ``size_bytes`` 0 and ``read_only`` None: as it is, of a new one as large as the base and writable."""

    key: ObjectKey
    name: ShortName
    size_bytes: int
    read_only: bool | None
    access: NodeAccess
    assume: frozenset[str] = frozenset()  # in check mode, what earlier steps would have changed: "generation", "pool"
    sha256: str = ""  # of the generation that is meant; empty for the current one
    recreate: bool = False  # replace a snapshot that exists
