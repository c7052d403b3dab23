# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Digest trust levels, in a module of their own because a run with nothing to do needs them too."""

from __future__ import annotations

import enum
import hashlib
from typing import NamedTuple

from ..._redaction import redacted_url


class ChecksumPolicy(str, enum.Enum):
    """What to do without any digest: ``first_use`` (the default) records the first one seen, ``require`` refuses."""

    REQUIRE = "require"
    FIRST_USE = "first_use"


class Trust(str, enum.Enum):
    """Digest trust levels; part of the result.

    ``pinned``: the operator's, in ``checksum``. ``sidecar``: a checksum file's. ``object``: S3's own SHA-256 of the full object, which
    its uploader sets. ``first_use``: none; the digest of the first download is recorded.
    """

    PINNED = "pinned"
    SIDECAR = "sidecar"
    OBJECT = "object"
    FIRST_USE = "first_use"

    @property
    def rank(self) -> int:
        """0 for ``first_use`` up to 3 for ``pinned``."""
        return (Trust.FIRST_USE, Trust.OBJECT, Trust.SIDECAR, Trust.PINNED).index(self)


class Voucher(NamedTuple):
    """The source of an expected digest: ``name`` for people (the digest, or the checksum file without secrets), ``digest`` as it was said.

    ``identity`` reports whether a checksum file that is named later is this one; it is a hash, as the name may hold a secret.
    """

    trust: Trust
    name: str = ""
    identity: str = ""
    digest: str = ""


def voucher(trust: Trust, checksum_option: str, bucket: str, digest: str) -> Voucher:
    """The voucher of that trust for ``digest`` (``sha256:…``); a checksum file without a scheme is an object of ``bucket``."""
    option = checksum_option.strip()
    if trust is Trust.SIDECAR:
        name = option if "://" in option else f"s3://{bucket}/{option}"
        return Voucher(trust, redacted_url(name), hashlib.sha256(name.encode()).hexdigest(), digest)
    names = {Trust.PINNED: option.lower(), Trust.OBJECT: "the SHA-256 of the object in S3", Trust.FIRST_USE: ""}
    return Voucher(trust, names[trust], "", digest)


def is_pinned(checksum_option: str) -> bool:
    """Whether the option is a digest itself, so that no request is needed."""
    return checksum_option.strip().lower().startswith(("sha256:", "sha512:"))
