# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""On whose word bytes are right: the words for it, which a run that finds everything as it was needs too."""

from __future__ import annotations

import enum


class ChecksumPolicy(str, enum.Enum):
    """What to do without any digest: ``first_use`` (the default) records the first one seen, ``require`` refuses."""

    REQUIRE = "require"
    FIRST_USE = "first_use"


class Trust(str, enum.Enum):
    """On whose word the bytes are right; part of the result.

    ``pinned``: the operator's, in ``checksum``. ``sidecar``: a checksum file's. ``object``: S3's own SHA-256 of the full object, which
    whoever uploads it sets. ``first_use``: nobody's; the digest of the first download is recorded.
    """

    PINNED = "pinned"
    SIDECAR = "sidecar"
    OBJECT = "object"
    FIRST_USE = "first_use"


def is_pinned(checksum_option: str) -> bool:
    """Whether the option is a digest itself, so that nobody must be asked what it is."""
    return checksum_option.strip().lower().startswith(("sha256:", "sha512:"))
