# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Records in results: what a run recovered of interrupted runs, and where the store and the host differ.

Invariant: a program reads ``kind`` and ``subject``; only people read ``text``. The kinds are part of the interface: RETURN lists them all.
"""

from __future__ import annotations

import enum
from typing import NamedTuple


class RecoveryKind(str, enum.Enum):
    """How the remains of an interrupted run were recovered (``settled``), or would be in check mode."""

    OPERATION_FINISHED = "operation_finished"
    OPERATION_UNDONE = "operation_undone"
    GROWTH_RECOVERED = "growth_recovered"
    DEVICE_RESUMED = "device_resumed"
    FILE_REMOVED = "file_removed"
    VOLUME_MISSING = "volume_missing"
    BASE_DAMAGED = "base_damaged"
    LINK_RESTORED = "link_restored"
    NOT_RECOVERED = "not_recovered"


# The store no longer has the volume: the next transition makes it again.
FORGOTTEN = frozenset((RecoveryKind.VOLUME_MISSING, RecoveryKind.BASE_DAMAGED))


class DriftKind(str, enum.Enum):
    """A difference between what the store records and what the host has, or what the host lacks (``drift``)."""

    POOL_INACTIVE = "pool_inactive"
    POOL_UNREADABLE = "pool_unreadable"
    POOL_CANNOT_GROW = "pool_cannot_grow"
    TRANSACTION_DIFFERS = "transaction_differs"
    VOLUME_MISSING = "volume_missing"
    VOLUME_UNFINISHED = "volume_unfinished"
    THIN_ID_UNKNOWN = "thin_id_unknown"
    TABLE_DIFFERS = "table_differs"
    SNAPSHOT_UNMAPPED = "snapshot_unmapped"
    DEVICE_SUSPENDED = "device_suspended"
    DEVICE_UNKNOWN = "device_unknown"
    ARCHIVE_CHANGED = "archive_changed"
    ARCHIVE_TOUCHED = "archive_touched"
    FILE_ORPHANED = "file_orphaned"
    DATABASE_COPY = "database_copy"
    INSTANCE_LINK = "instance_link"
    INSTANCE_UNCONFIRMED = "instance_unconfirmed"
    UDEV_RULE = "udev_rule"
    LVM_FILTER = "lvm_filter"
    MDADM_SETTING = "mdadm_setting"
    ENVIRONMENT = "environment"
    BOOT_PROGRAM = "boot_program"


class Finding(NamedTuple):
    """``subject`` is a key, the path of a file or device, ``pool NAME``, or the program that lacks a setting; ``text`` a sentence."""

    kind: RecoveryKind | DriftKind
    subject: str
    text: str

    def record(self) -> dict[str, str]:
        """For a result."""
        return {"kind": self.kind.value, "subject": self.subject, "text": self.text}


def of_pool(name: str) -> str:
    """The subject that a pool is."""
    return f"pool {name}"
