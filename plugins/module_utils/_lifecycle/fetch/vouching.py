# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""Confirm the digest of bytes that are on this host already, in a run with nothing to download.

Invariant: a named checksum file is read in every run, and compared with the bytes on this host. An object whose own SHA-256 differs from
theirs is another object, whatever its ETag.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from ..._errors import Untrusted
from ..._names import Digest, ObjectKey, printable
from ..._source.digests.trust import ChecksumPolicy, Trust, Voucher, voucher
from ..._source.found import Found
from ..image.seals import hashed, look_at
from ..outcome import Facts
from ..run import Run
from ..store.records import Image

if TYPE_CHECKING:
    from ..._source.objects import ObjectInfo
    from .options import FetchOptions


def recorded_voucher(image: Image) -> Voucher:
    """Who vouched for ``image`` before; only for one that was fetched."""
    return Voucher(Trust(image.trust or "first_use"), image.vouched_by, image.voucher_id, image.vouched_digest)


def vouched(host: Run, options: FetchOptions, image: Image, found: Found) -> Voucher | None:
    """Who vouches now for ``image``, which is of the version ``found``; None when the bytes or more requests must tell.

    Raises ``Untrusted`` when the checksum file that is named says something else, and what reading it raises.
    """
    if options.checksum.strip():
        return by_file(host, options, image, found.objects)
    if not found.key.is_family and found.objects[0].sha256:
        return voucher(Trust.OBJECT, "", "", f"sha256:{image.sha256}")
    return by_record(options, image)


def by_record(options: FetchOptions, image: Image) -> Voucher | None:
    """Who vouched for ``image`` before, when that is enough."""
    recorded = recorded_voucher(image)
    return None if options.policy is ChecksumPolicy.REQUIRE and recorded.trust is Trust.FIRST_USE else recorded


def is_recorded(options: FetchOptions, image: Image) -> bool:
    """Whether the checksum file that is named is the one that vouched for ``image``."""
    named = voucher(Trust.SIDECAR, options.checksum, options.s3.bucket, "")
    return (image.trust, image.voucher_id) == (named.trust.value, named.identity)


def by_file(host: Run, options: FetchOptions, image: Image, infos: tuple[ObjectInfo, ...]) -> Voucher | None:
    """The checksum file that is named, when it says what ``image`` is; None when the bytes it speaks of are not here to be hashed."""
    # Late: most runs name no checksum file, and what reads one takes a while to import.
    from ..._source.digests.checksum import resolve
    from ..._source.digests.family import resolve_family
    from ..._source.s3.bucket import Bucket

    retry, key, recorded = host.retry, ObjectKey(image.object_key), _recorded_digests(image)
    with Bucket(options.s3) as bucket:
        if not key.is_family:
            given = [retry.call(lambda: resolve(bucket, infos[0], key, options.checksum, options.policy)).digest]
        else:
            family = retry.call(
                lambda: resolve_family(bucket, key, infos, options.checksum, options.policy, lambda _info: "")
            )
            given = [family.whole] if family.whole is not None else [one.digest for one in family.objects]
    is_whole = len(given) == 1 and (not key.is_family or family.whole is not None)
    digests = [(str(key), image.sha256)] if is_whole else list(recorded.items())
    pairs = [(name, sha256, digest) for (name, sha256), digest in zip(digests, given) if digest is not None]
    if not all(_agrees(host, image, name, sha256, digest) for name, sha256, digest in pairs):
        return None
    return voucher(Trust.SIDECAR, options.checksum, options.s3.bucket, str(given[0]) if is_whole else "")


def _recorded_digests(image: Image) -> dict[str, str]:
    return {one["object_key"]: one["sha256"] for one in json.loads(image.members)} or {image.object_key: image.sha256}


def _agrees(host: Run, image: Image, name: str, sha256: str, digest: Digest) -> bool:
    """Whether the bytes of that SHA-256 have ``digest``; raises ``Untrusted`` when they have another, false when they are not here."""
    if str(digest) == image.vouched_digest:
        return True
    found = sha256
    if digest.algorithm != "sha256":
        if look_at(host, sha256) is None:
            return False
        found = hashed(host.archive_path(sha256), digest.algorithm)
    if found == digest.hex:
        return True
    raise Untrusted(
        f"{printable(name)} on this host has {digest.algorithm}:{found}, but must have {digest} according to the checksum file; "
        "in S3 it has not changed since it was downloaded",
        hint="the checksum file belongs to another object or to another version: find out which before changing either; to download "
        "the object again all the same, forget it first (flyd_fetch, state: absent)",
        expected=str(digest),
        found=f"{digest.algorithm}:{found}",
    )


def strongest(image: Image, now: Voucher) -> Voucher:
    """What is to be recorded of the same bytes: who vouches now, unless a stronger one, or this checksum file, is recorded."""
    recorded = recorded_voucher(image)
    is_other_file = now.trust is Trust.SIDECAR and (now.name, now.digest) != (recorded.name, recorded.digest)
    if now.trust.rank > recorded.trust.rank or (now.trust is recorded.trust and is_other_file):
        return now
    return recorded


def columns_of(now: Voucher) -> Facts:
    """The columns of an image that say who vouched."""
    return {
        "trust": now.trust.value,
        "vouched_by": now.name,
        "voucher_id": now.identity,
        "vouched_digest": now.digest,
    }
