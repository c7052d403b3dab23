# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""One object, from its key to a verified part file: HEAD, what it must hash to, download; begun again once when it changes meanwhile.

Invariant: the digest and the bytes belong to one generation of the object: when it is replaced in the middle, the digest is asked
for again too.
"""

from __future__ import annotations

from dataclasses import dataclass

from .._host.retry import Retry
from .._names import ObjectKey
from .checksum import ChecksumPolicy, Expected, resolve
from .download import Downloaded, download
from .follower import Progress
from .patience import DownloadOptions
from .s3 import Bucket, ObjectChanged, ObjectInfo


@dataclass(frozen=True)
class Wanted:
    """What is to be fetched. ``checksum`` and ``policy``: see ``checksum.resolve``; ``max_bytes`` bounds the object."""

    key: ObjectKey
    checksum: str = ""
    policy: ChecksumPolicy = ChecksumPolicy.FIRST_USE
    max_bytes: int = 1 << 40


@dataclass(frozen=True)
class Fetched:
    """An object as it was announced, what was expected of it, and what came."""

    info: ObjectInfo
    expected: Expected
    downloaded: Downloaded


def ask(bucket: Bucket, wanted: Wanted, retry: Retry) -> tuple[ObjectInfo, Expected]:
    """What is behind the key now and what it must hash to: one HEAD, and what the checksum file needs."""
    info = retry.call(lambda: bucket.head(wanted.key))
    return info, retry.call(lambda: resolve(bucket, info, wanted.key, wanted.checksum, wanted.policy))


def fetch(
    bucket: Bucket,
    wanted: Wanted,
    part_path: str,
    *,
    retry: Retry,
    options: DownloadOptions | None = None,
    on_progress: Progress | None = None,
) -> Fetched:
    """Fetch ``wanted`` into ``part_path``; errors are those of ``Bucket.head``, ``resolve`` and ``download``."""
    try:
        return _fetch_once(bucket, wanted, part_path, retry, options, on_progress)
    except ObjectChanged:
        return _fetch_once(bucket, wanted, part_path, retry, options, on_progress)


def _fetch_once(
    bucket: Bucket,
    wanted: Wanted,
    part_path: str,
    retry: Retry,
    options: DownloadOptions | None,
    on_progress: Progress | None,
) -> Fetched:
    info, expected = ask(bucket, wanted, retry)
    downloaded = download(
        bucket,
        info,
        part_path,
        expected=expected.digest,
        max_bytes=wanted.max_bytes,
        retry=retry,
        options=options,
        on_progress=on_progress,
    )
    return Fetched(info, expected, downloaded)
