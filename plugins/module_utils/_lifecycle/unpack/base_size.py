# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""How large the volume of a new base is, and what is said when it was too small.

Invariant: a size that was computed suffices; if it does not, that is a fault of flyd.lite and says so.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import NamedTuple

from ..._errors import BadInput, CommandFailed, Internal, NoSpace
from ..._host.processes.command import Program
from ..._image.opening import OpenImage, PlanFigures
from ..._names import option_size, size_text
from ..._thin.dm.device import SECTOR_BYTES
from ..._thin.ext4.sizing import default_free_bytes, volume_bytes_for, written_bytes_for
from ..run import Run
from ..store.records import PoolRecord
from ..volumes.room import require_room
from .options import UnpackOptions
from .origins import Candidate, Choice, Fresh, changed_bytes_for, fresh, weighed

_GIB = 1 << 30


class Making(NamedTuple):
    """One attempt: what is made, where, of what, how large."""

    pool: PoolRecord
    image: OpenImage
    asked: UnpackOptions
    origin: Candidate | None
    free_bytes: int
    size_bytes: int
    kind: str = "base"

    @property
    def block_bytes(self) -> int:
        """The size of the pool's blocks."""
        return self.pool.block_sectors * SECTOR_BYTES


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


def sized(
    host: Run, pool: PoolRecord, unpacking: OpenImage, asked: UnpackOptions, choice: Choice
) -> tuple[Making, Fresh | None]:
    """What is made, once the pool has room for it, and why it is made fresh; an origin without room is none."""
    plan = unpacking.plan
    free_bytes = 0 if asked.size_bytes else asked.free_bytes or default_free_bytes(plan.volume_blocks)
    wanted_bytes = base_bytes(pool, plan, asked, free_bytes, 0)
    choice = weighed(choice, unpacking, asked, wanted_bytes)
    size_bytes = base_bytes(pool, plan, asked, free_bytes, choice.least_bytes)
    making = Making(pool, unpacking, asked, choice.origin, free_bytes, size_bytes)
    written_bytes = fresh_bytes(making)
    what = f"the image {asked.key}"
    if making.origin is None:
        require_room(host, pool, written_bytes, what=what)
        return making, choice.fresh_because
    changed_bytes = changed_bytes_for(making.origin, unpacking, size_bytes, making.block_bytes)
    try:
        require_room(host, pool, min(changed_bytes, written_bytes), what=what, snapshots=1)
    except NoSpace:
        return sized(host, pool, unpacking, asked, fresh(Fresh.ROOM))
    return making, None


def fresh_bytes(making: Making) -> int:
    """What making it fresh takes of the pool, at most."""
    plan = making.image.plan
    return written_bytes_for(
        plan.volume_blocks, plan.inodes, making.size_bytes, making.block_bytes, plan.scattered_bytes
    )


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
