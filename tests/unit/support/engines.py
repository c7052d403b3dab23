# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""An engine in which one file was compiled from another text than its CRC-32 says, which shows where code came from."""

from __future__ import annotations

import json
import os
import zlib
from collections.abc import Mapping

from module_utils import _engine
from module_utils._host import compiling

ROOT_ALONE = "/var/lib"
CAN_TRY = os.geteuid() == 0 and _engine.unsafe_parent(f"{ROOT_ALONE}/x") is None
WHY_NOT = "the engine is root's, in a directory of root's"


def with_other_code(sources: Mapping[str, bytes], path: str, other: bytes) -> bytes:
    """What the engine of ``sources`` holds, but for the code of ``path``, which is that of ``other``."""
    assert other != sources[path]
    data = compiling.packed({**sources, path: other})[_engine.CRC_DIGITS :]
    head, _, codes = data.partition(b"\n")
    said = json.loads(head)
    said["files"][path][:2] = [zlib.crc32(sources[path]), len(sources[path])]
    data = json.dumps(said).encode() + b"\n" + codes
    return b"%08x" % zlib.crc32(data) + data
