# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Mode and owner of an inode.

Invariant: equal ones are mostly one object, since a million inodes share a handful of them.
"""

from __future__ import annotations

from typing import NamedTuple


class Access(NamedTuple):
    """``mode`` is the low twelve bits, the owner is numeric."""

    mode: int
    uid: int
    gid: int
