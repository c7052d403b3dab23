# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Compare computed digests with the expected ones.

Invariant: only this module reports a wrong digest, and it shows both.
"""

from __future__ import annotations

import hashlib

from .._errors import BadInput
from .._names import Digest
from .refusal import Name, malformed


def check_digest(expected: Digest, found_hex: str, what: str) -> None:
    """Raise ``Untrusted`` unless ``found_hex`` is ``expected``."""
    if found_hex != expected.hex:
        raise malformed(f"{what} has the digest {expected.algorithm}:{found_hex} and not {expected}, as it must")


def sha256_of(data: bytes) -> Digest:
    """The SHA-256 of ``data``."""
    return Digest("sha256", hashlib.sha256(data).hexdigest())


def has_digest(data: bytes, digest: Digest) -> bool:
    """Whether ``digest`` is that of ``data``."""
    return hashlib.new(digest.algorithm, data).hexdigest() == digest.hex


def check_bytes(expected: Digest | None, data: bytes, what: str) -> None:
    """Raise ``Untrusted`` unless ``data`` has the digest ``expected``, if there is one."""
    if expected is not None:
        check_digest(expected, hashlib.new(expected.algorithm, data).hexdigest(), what)


def parse_digest(text: str, member: Name) -> Digest:
    """A digest that an archive states; raises ``Untrusted``, since the archive's maker wrote it."""
    try:
        return Digest.parse(text, what="the digest")
    except BadInput as error:
        raise malformed(error.msg, member) from None
