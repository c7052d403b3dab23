# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive is on disk under its digest, and is the one that was asked for.

Invariant: a file in state_dir/archives bears the name of the SHA-256 that was computed while its bytes arrived; it got that name by
rename after fsync. An object key never becomes a file name.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass

from .._errors import FlydError, NoSpace, Untrusted
from .._host.crash import crash_point
from .._host.files import file_errors, free_bytes, remove_file
from .._names import Digest, ObjectKey, new_ulid
from .._source.checksum import ChecksumPolicy, Expected, resolve
from .._source.download import Downloaded, download, publish
from .._source.s3 import Bucket, ObjectInfo, S3Options
from .host import Host
from .outcome import Facts
from .records import Image, Operation, OperationKind, State
from .store import utc_now

_DISK_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True)
class FetchOptions:
    """What flyd_fetch was asked for; ``checksum`` is a digest or names a sidecar, ``max_bytes`` bounds the archive."""

    key: ObjectKey
    s3: S3Options
    checksum: str
    policy: ChecksumPolicy
    max_bytes: int


class Fetch:
    """The arrow of flyd_fetch."""

    name = "fetch"
    start = State.NEW
    end = State.FETCHED

    def __init__(self, options: FetchOptions) -> None:
        self._options = options
        self._bucket: Bucket | None = None
        self._info: ObjectInfo | None = None

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether the recorded archive is the asked one: without a question to S3 when its checksum is pinned, else by one HEAD."""
        if not image.base_ulid and not os.path.exists(host.archive_path(image.sha256)):
            return None
        pinned = _pinned(self._options.checksum)
        if pinned is not None:
            same = pinned.hex == image.sha256
        else:
            info = self._head(host)
            seen = (image.bucket, image.etag, image.size_bytes, image.version_id)
            same = seen == (self._options.s3.bucket, info.etag, info.size_bytes, info.version_id)
        return self._facts(host, image) if same else None

    def predict(self, host: Host, image: Image) -> tuple[Image, Facts]:
        """What would be downloaded; asks S3 for the object's size, and so finds a missing object in check mode too."""
        info = self._head(host)
        self._require_size(host, info)
        after = dataclasses.replace(
            image,
            state=State.FETCHED,
            bucket=self._options.s3.bucket,
            size_bytes=info.size_bytes,
            etag=info.etag,
            sha256=info.sha256,
        )
        return after, {
            **self._facts(host, after),
            "path": None,
            "sha256": info.sha256 or None,
            "image_id": image.id or None,
            "trust": None,
        }

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation and the old one is retired."""
        info = self._head(host)
        self._require_size(host, info)
        expected = resolve(
            self._require_bucket(),
            info,
            self._options.key,
            self._options.checksum,
            self._options.policy,
            recorded_sha256=image.sha256,
        )
        operation = host.begin(OperationKind.FETCH, str(self._options.key))
        with host.store.transaction():
            host.store.put(operation)
        crash_point("fetch:planned")
        part = os.path.join(host.directory("spool"), f"{operation.ulid}.part")
        begun = time.monotonic()
        try:
            got = self._download(host, info, expected, part)
            after = self._record(host, image, info, got, expected, operation, part)
        except BaseException:
            _give_up(host, operation, part)
            raise
        seconds = round(time.monotonic() - begun, 3)
        log.update(
            attempt=got.attempts, bytes=got.size_bytes, waited_seconds=round(got.waited_seconds, 3), trust=after.trust
        )
        return after, {
            **self._facts(host, after),
            "bytes_received": got.size_bytes - got.resumed_bytes,
            "seconds": seconds,
            "attempts": got.attempts,
        }

    def _download(self, host: Host, info: ObjectInfo, expected: Expected, part: str) -> Downloaded:
        with file_errors("downloading the archive"):
            return download(
                self._require_bucket(),
                info,
                part,
                expected=expected.digest,
                max_bytes=self._options.max_bytes,
                retry=host.settings.retry(),
            )

    def _record(
        self,
        host: Host,
        image: Image,
        info: ObjectInfo,
        got: Downloaded,
        expected: Expected,
        operation: Operation,
        part: str,
    ) -> Image:
        host.directory("archives")
        crash_point("fetch:downloaded")
        publish(part, host.archive_path(got.sha256))
        crash_point("fetch:published")
        after = _generation(image, got.sha256)
        after = dataclasses.replace(
            after,
            bucket=self._options.s3.bucket,
            size_bytes=info.size_bytes,
            etag=got.etag,
            version_id=info.version_id,
            trust=expected.trust.value,
            updated_at=utc_now(),
        )
        with host.store.transaction():
            if image.id and after.id != image.id:
                host.store.retire(image)
            host.store.put(after)
            host.store.drop(operation)
        return after

    def _head(self, host: Host) -> ObjectInfo:
        if self._info is None:
            bucket = self._require_bucket()
            self._info = host.settings.retry().call(lambda: bucket.head(self._options.key))
        return self._info

    def _require_bucket(self) -> Bucket:
        if self._bucket is None:
            self._bucket = Bucket(self._options.s3)
        return self._bucket

    def _require_size(self, host: Host, info: ObjectInfo) -> None:
        if info.size_bytes > self._options.max_bytes:
            raise Untrusted(
                f"the object {self._options.key} has {info.size_bytes} bytes; max_size allows {self._options.max_bytes}",
                hint="raise max_size when this image is meant to be so large",
                size_bytes=info.size_bytes,
            )
        free = free_bytes(host.settings.state_dir)
        if info.size_bytes + _DISK_RESERVE_BYTES > free:
            raise NoSpace(
                f"the object {self._options.key} has {info.size_bytes} bytes; {host.settings.state_dir} has {free} free",
                hint="make room on the file system of state_dir, or put state_dir on a larger one",
                free_bytes=free,
            )

    def _facts(self, host: Host, image: Image) -> Facts:
        path = host.archive_path(image.sha256)
        return {
            "image_id": image.id,
            "sha256": image.sha256,
            "size": image.size_bytes,
            "etag": image.etag,
            "path": path if image.sha256 and os.path.exists(path) else None,
            "trust": image.trust,
            "bytes_received": 0,
            "seconds": 0.0,
            "attempts": 0,
        }


def _pinned(checksum: str) -> Digest | None:
    return Digest.parse(checksum, what="checksum") if checksum.startswith("sha256:") else None


def _generation(image: Image, sha256: str) -> Image:
    """``image`` itself when its content is the same, else a new generation of its key."""
    if image.sha256 == sha256:
        return image
    return Image(
        id=str(new_ulid()), object_key=image.object_key, sha256=sha256, state=State.FETCHED, created_at=utc_now()
    )


def _give_up(host: Host, operation: Operation, part: str) -> None:
    """Remove what the failed download left; the first error stays the one that is told."""
    try:
        remove_file(part)
        with host.store.transaction():
            host.store.drop(operation)
    except (FlydError, OSError) as second:
        host.log.write("cleanup_failed", operation=operation.ulid, error=str(second))
