# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""The decoded header of one member of a tar.

Invariant: nothing of it is validated yet: names and numbers are as in the archive.
"""

from __future__ import annotations

import enum
from typing import NamedTuple

from . import pax, sparse
from .access import Access


class Kind(enum.Enum):
    """What a member is."""

    FILE = "file"
    HARD_LINK = "hard link"
    SYMLINK = "symbolic link"
    CHARACTER = "character device"
    BLOCK = "block device"
    DIRECTORY = "directory"
    FIFO = "FIFO"


class Member(NamedTuple):
    """One member of an archive.

    ``size`` is logical, in bytes; ``stored`` bytes stand in the archive from ``data`` on, and ``ranges`` says where in the file
    they belong when it is sparse. ``device`` is (major, minor).
    """

    name: bytes
    kind: Kind
    access: Access
    mtime_ns: int
    link: bytes
    device: tuple[int, int]
    records: pax.Records
    size: int
    data: int
    stored: int
    ranges: sparse.Ranges | None
