# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The names of all locks, in the order in which a run takes them.

Invariant: a run that holds a lock takes only locks that come after it here, so two runs never wait for each other:

1. ``pool_setup_lock``: a pool is created, grown, activated, repaired or removed
2. ``instance_lock``: an instance is bound to a generation, confirmed, rolled back or removed
3. ``image_lock``: an image, its archive, its base and its snapshots are changed
4. ``RECOVERY``: one abandoned operation is finished or undone
5. ``dump_lock``: the metadata of a pool is dumped
6. ``pool_lock``: a thin volume is created or deleted, or the pool's table is changed
"""

from __future__ import annotations

RECOVERY = "recovery"
_POOL_SETUP, _INSTANCE, _IMAGE, _DUMP, _POOL = "pool setup ", "instance ", "image ", "dump ", "pool "


def pool_setup_lock(pool_name: str) -> str:
    """The lock of a pool's creation, growth, activation, repair and removal."""
    return f"{_POOL_SETUP}{pool_name}"


def instance_lock(name: str) -> str:
    """The lock of an instance and of its link."""
    return f"{_INSTANCE}{name}"


def image_lock(key: str) -> str:
    """The lock of an image and all that was made of it."""
    return f"{_IMAGE}{key}"


def dump_lock(pool_name: str) -> str:
    """The lock of the dumps of a pool's metadata."""
    return f"{_DUMP}{pool_name}"


def pool_lock(pool_name: str) -> str:
    """The lock of a pool's metadata: one thin volume is created or deleted at a time."""
    return f"{_POOL}{pool_name}"


def lock_text(name: str) -> str:
    """A lock's name for messages: "image images/redis.tar", "the pool 'fleet'", "the setup of the pool 'fleet'"."""
    kinds = (
        (_POOL_SETUP, "the setup of the pool"),
        (_INSTANCE, "the instance"),
        (_DUMP, "the dump of the pool"),
        (_POOL, "the pool"),
    )
    for begin, text in kinds:
        if name.startswith(begin):
            return f"{text} '{name[len(begin) :]}'"
    return name
