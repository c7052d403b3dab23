# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""What the store remembers of a base beside its volume: how another one can be made of it."""

from __future__ import annotations

from typing import NamedTuple


class BaseRecord(NamedTuple):
    """The base with the volume ``base_ulid``; the row goes with the volume's.

    ``origin_ulid`` is the base that it was made of, empty for none, which may be gone since; ``depth`` is how many bases stand before it.
    ``recipe`` names the kind of its file system, which was made for ``inodes``. ``volume_blocks`` are the blocks of 4096 bytes that its tree was
    counted to take. Its manifest lies in state_dir/manifests under the ULID.
    """

    base_ulid: str
    origin_ulid: str
    depth: int
    recipe: str
    inodes: int
    volume_blocks: int
    manifest_sha256: str
