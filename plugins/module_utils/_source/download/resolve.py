# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Resolve a key before its download: which objects it names, and the expected digest of each.

Invariant: whatever can be refused without the bytes is refused in ``ask``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Callable, Protocol

from ..._errors import Unsupported
from ..._host.retry import Retry
from ..._names import Digest, ObjectKey, printable
from ..digests.checksum import ChecksumPolicy, Expected, Trust, resolve
from ..digests.family import family_sha256, refuse_other_family, resolve_family, weakest
from ..found import Found, look, require_size
from ..objects import ObjectInfo
from ..source import Source
from .run_concurrently import together

_HEADS_AT_ONCE = 8


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched. ``checksum`` and ``policy``: see ``checksum.resolve``; ``max_bytes`` bounds all objects together."""

    key: ObjectKey
    checksum: str = ""
    policy: ChecksumPolicy = ChecksumPolicy.FIRST_USE
    max_bytes: int = 1 << 40


class Known(Protocol):
    """What the caller has from earlier runs."""

    def sha256_of(self, info: ObjectInfo) -> str:
        """The digest (hex) of an earlier download of this very object, or empty."""

    def has(self, digest: Digest, info: ObjectInfo) -> bool:
        """Whether the bytes with that digest, which ``info`` must have, need not be fetched."""


class Nothing:
    """For a caller without earlier downloads."""

    def sha256_of(self, info: ObjectInfo) -> str:
        """None is known."""
        return ""

    def has(self, digest: Digest, info: ObjectInfo) -> bool:
        """None is here."""
        return False


@dataclass(frozen=True)
class Asked:
    """What a key names, what each of its objects must hash to, and what they must hash to together (``None``: nothing)."""

    found: Found
    infos: tuple[ObjectInfo, ...]
    expected: tuple[Expected, ...]
    whole: Digest | None

    @property
    def trust(self) -> Trust:
        """The trust level that the bytes will have."""
        return weakest(one.trust for one in self.expected)

    @property
    def sha256(self) -> str:
        """What the key's digest will be, in hex; empty when only the bytes can show it."""
        known = [(info.key, one.sha256) for info, one in zip(self.infos, self.expected) if one.sha256]
        if self.whole is not None or len(known) < len(self.expected):
            return self.whole.hex if self.whole is not None else ""
        return family_sha256(self.found.key, known) if self.found.key.is_family else known[0][1]


def ask(bucket: Source, wanted: Wanted, known: Known, retry: Retry, found: Found | None = None) -> Asked:
    """What the key's objects (``found``, from a recent ``look``) must hash to; of a family, after one HEAD of each.

    Raises as ``look``, ``require_size`` and ``resolve`` do.
    """
    key = wanted.key
    if found is None:
        found = retry.call(lambda: look(bucket, key))
    require_size(found, wanted.max_bytes)
    if not key.is_family:
        [info] = found.objects
        expected = retry.call(
            lambda: resolve(bucket, info, key, wanted.checksum, wanted.policy, recorded_sha256=known.sha256_of(info))
        )
        _require_identity(info, expected)
        return Asked(found, found.objects, (expected,), None)
    heads = [_head_later(bucket, ObjectKey(one.key), retry) for one in found.objects]
    infos = tuple(together(heads, at_once=_HEADS_AT_ONCE, give_up=lambda: None))
    family = retry.call(lambda: resolve_family(bucket, key, infos, wanted.checksum, wanted.policy, known.sha256_of))
    for info, one in zip(infos, family.objects):
        if family.whole is None:
            _require_identity(info, one)
    if all(info.sha256 for info in infos):  # what would be found after the download is reported before it
        refuse_other_family(key, family.whole, [(info.key, info.sha256) for info in infos])
    return Asked(found, infos, family.objects, family.whole)


def _require_identity(info: ObjectInfo, expected: Expected) -> None:
    """Refuse an object that cannot be distinguished from another version of it, now or in a later run."""
    if not info.etag and expected.digest is None:
        raise Unsupported(
            f"the server gives {printable(info.key)} neither an ETag nor a Last-Modified that lasts, so that its versions cannot be distinguished "
            "from another",
            hint="give checksum (sha256:… or a checksum file): then its bytes are compared; or see the server's or the gateway's settings",
        )


def _head_later(bucket: Source, key: ObjectKey, retry: Retry) -> Callable[[], ObjectInfo]:
    return lambda: retry.call(lambda: bucket.head(key))
