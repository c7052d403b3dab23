# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the volume of a new base is, and what is said when it was too small.

Invariant: a size that was computed suffices; if it does not, that is a fault of flyd.lite and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from ..._errors import BadInput, CommandFailed, Internal, NoSpace
from ..._host.processes.command import Program
from ..._image.opening import PlanFigures
from ..._names import option_size, size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.sizing import volume_bytes_for
from ..store.records import PoolRecord
from .options import UnpackOptions

_GIB = 1 << 30


def base_bytes(pool: PoolRecord, plan: PlanFigures, asked: UnpackOptions, free_bytes: int, least_bytes: int) -> int:
    """The size of the base: what is asked for, or what is computed and at least ``least_bytes``; whole blocks of ``pool``."""
    if asked.size_bytes and asked.size_bytes < plan.content_bytes:
        raise BadInput(
            f"size: {option_size(asked.size_bytes)} is less than the {size_text(plan.content_bytes)} that the files of {asked.key} have",
            hint=_size_hint(plan),
        )
    computed = asked.size_bytes or volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=free_bytes)
    wanted = max(computed, least_bytes)
    block_bytes = pool.block_sectors * SECTOR_BYTES
    return -(-wanted // block_bytes) * block_bytes


def _size_hint(plan: PlanFigures) -> str:
    least = option_size(volume_bytes_for(plan.volume_blocks, plan.inodes, free_bytes=0))
    return f"set size: {least} or more on flyd_unpack (role activate: activate_size), or leave it out"


@contextlib.contextmanager
def size_named(plan: PlanFigures, size_bytes: int, *, is_computed: bool) -> Iterator[None]:
    """Say of a new volume that is full whose size it was: no room that is made elsewhere helps."""
    try:
        yield
    except CommandFailed as error:
        if not is_computed and error.details.get("program") == Program.MKFS_EXT4.value:
            error.hint = f"{_size_hint(plan)}; {error.hint}"
        raise
    except NoSpace as error:
        size = size_text(size_bytes)
        if not is_computed:
            error.msg = f"the image does not fit the volume of {size} that size asked for: {error.msg}"
            error.hint = _size_hint(plan)
            raise
        larger = option_size(-(-size_bytes * 2 // _GIB) * _GIB)
        fault = Internal(
            f"a fault in flyd.lite itself: the volume of {size} that was computed for this image is too small: {error.msg}",
            hint=f"set size: {larger} on flyd_unpack (role activate: activate_size), and please report it: "
            f"{plan.volume_blocks} blocks and {plan.inodes} inodes were computed",
            volume_bytes=size_bytes,
            volume_blocks=plan.volume_blocks,
            inodes=plan.inodes,
        )
        fault.trail = list(error.trail)
        raise fault from error
