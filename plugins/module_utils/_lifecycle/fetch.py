# Copyright (c) 2026, The flyd.lite authors
# GNU General Public License v3.0+ (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
"""new → fetched: the archive is on disk under its digest, and is the one that was asked for.

Invariant: a row says ``fetched`` only after its archive was verified and published. When the object behind a key has changed, a new
generation takes the row, and the old one keeps its base and snapshots.
"""

from __future__ import annotations

import dataclasses
import os
import time
from dataclasses import dataclass

from .._errors import BadInput, MissingLibrary, NoSpace, Unsupported, Untrusted
from .._host.files import free_bytes
from .._names import Digest, ObjectKey, new_ulid
from .._source.checksum import ChecksumPolicy, Expected, Trust, is_pinned, resolve
from .._source.s3 import Bucket, ObjectChanged, ObjectInfo, S3Options
from .advance import Arrow
from .host import Host
from .outcome import Facts
from .receipt import Receipt, receive
from .records import Image, State
from .store import utc_now
from .views import UNKNOWN, fetched, image_view

_DISK_RESERVE_BYTES = 64 << 20


@dataclass(frozen=True)
class FetchOptions:
    """What flyd_fetch was asked for; ``checksum`` is a digest or names a sidecar, ``max_bytes`` bounds the archive."""

    key: ObjectKey
    s3: S3Options
    checksum: str
    policy: ChecksumPolicy
    max_bytes: int


class Fetch(Arrow):
    """The arrow of flyd_fetch."""

    name = "fetch"
    start = State.NEW
    end = State.FETCHED

    def __init__(self, options: FetchOptions) -> None:
        if options.key.is_family:
            raise Unsupported(
                f"the key {options.key} names a family of objects, which this version cannot activate",
                hint="name one archive, such as images/redis_latest.tar",
            )
        self._options = options
        self._pinned = _pinned(options.checksum)
        self._bucket: Bucket | None = None
        self._info: ObjectInfo | None = None

    def holds(self, host: Host, image: Image) -> Facts | None:
        """Whether the recorded archive is the asked one: without a question to S3 when its checksum is pinned, else by one HEAD."""
        if not image.base_ulid and not os.path.exists(host.archive_path(image.sha256)):
            return None
        if self._pinned is not None:
            return self._facts(host, image) if self._pinned.hex == image.sha256 else None
        if self._options.policy is ChecksumPolicy.REQUIRE and image.trust == Trust.FIRST_USE.value:
            return None  # nobody has vouched for it yet
        return self._facts(host, image) if self._is_of(image, self._head(host)) else None

    def predict(self, host: Host, image: Image) -> tuple[Facts, Facts]:
        """What would be downloaded. S3 is asked for the object and its digest, so what is missing there is found in check mode too.

        On a host that ``prepare`` was only simulated on there is no boto3: then the prediction does without S3.
        """
        known = {"sha256": self._pinned.hex if self._pinned else UNKNOWN, "etag": UNKNOWN, "trust": UNKNOWN}
        size_bytes = None
        try:
            info = self._head(host)
            self._require_size(host, info)
            expected = self._expected(host, image, info)
            if expected.digest is not None and expected.digest.algorithm == "sha256":
                known["sha256"] = expected.digest.hex
            known.update(etag=info.etag, trust=expected.trust.value)
            size_bytes = info.size_bytes
        except MissingLibrary:
            if host.settings.starts_over:
                raise
        told = {name: None if value == UNKNOWN else value for name, value in known.items()}
        changes = fetched(image_view(host, image), [host.archive_path(known["sha256"])], **known)
        return changes, {**self._facts(host, image), **told, "size": size_bytes, "path": None}

    def perform(self, host: Host, image: Image, log: Facts) -> tuple[Image, Facts]:
        """Download, verify, publish, record; a changed object becomes a new generation and the old one is retired."""
        begun = time.monotonic()
        try:
            info, expected, got = self._receive(host, image)
        except ObjectChanged:  # replaced while it was read: begun again once, with what is announced now
            self._info = None
            info, expected, got = self._receive(host, image)
        after = self._record(host, image, info, got, expected)
        seconds = round(time.monotonic() - begun, 3)
        log.update(
            attempt=max(1, got.attempts),
            bytes=info.size_bytes,
            bytes_received=got.received_bytes,
            waited_seconds=round(got.waited_seconds, 3),
            trust=after.trust,
        )
        received = {"bytes_received": got.received_bytes, "seconds": seconds, "attempts": got.attempts}
        return after, {**self._facts(host, after), **received}

    def _receive(self, host: Host, image: Image) -> tuple[ObjectInfo, Expected, Receipt]:
        info = self._head(host)
        self._require_size(host, info)
        expected = self._expected(host, image, info)
        bucket, asked = self._require_bucket(), self._options
        return info, expected, receive(host, bucket, info, asked.key, expected, asked.max_bytes)

    def _expected(self, host: Host, image: Image, info: ObjectInfo) -> Expected:
        bucket, asked = self._require_bucket(), self._options
        recorded = image.sha256 if self._is_of(image, info) else ""
        return host.settings.retry().call(
            lambda: resolve(bucket, info, asked.key, asked.checksum, asked.policy, recorded_sha256=recorded)
        )

    def _record(self, host: Host, image: Image, info: ObjectInfo, got: Receipt, expected: Expected) -> Image:
        after = dataclasses.replace(
            _generation(image, got.sha256),
            bucket=self._options.s3.bucket,
            size_bytes=info.size_bytes,
            etag=info.etag,
            version_id=info.version_id,
            trust=expected.trust.value,
            updated_at=utc_now(),
        )
        with host.store.transaction():
            if image.id and after.id != image.id:
                host.store.retire(image)
            host.store.put(after)
            host.store.drop(got.operation)
        return after

    def _is_of(self, image: Image, info: ObjectInfo) -> bool:
        """Whether ``image`` was made of this very version of the object."""
        recorded = (image.bucket, image.etag, image.size_bytes, image.version_id)
        return recorded == (self._options.s3.bucket, info.etag, info.size_bytes, info.version_id)

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
            "image_id": image.id or None,
            "sha256": image.sha256 or None,
            "size": image.size_bytes or None,
            "etag": image.etag or None,
            "path": path if image.sha256 and os.path.exists(path) else None,
            "trust": image.trust or None,
            "bytes_received": 0,
            "seconds": 0.0,
            "attempts": 0,
        }


def _pinned(checksum: str) -> Digest | None:
    """The digest that ``checksum`` is, or None when it is empty or names a sidecar."""
    if not is_pinned(checksum):
        return None
    digest = Digest.parse(checksum, what="checksum")
    if digest.algorithm != "sha256":
        raise BadInput(f"checksum is a {digest.algorithm} digest", hint="archives are known by SHA-256: give sha256:…")
    return digest


def _generation(image: Image, sha256: str) -> Image:
    """``image`` itself when its content is the same, else a new generation of its key."""
    if image.sha256 == sha256:
        return image
    return Image(
        id=str(new_ulid()), object_key=image.object_key, sha256=sha256, state=State.FETCHED, created_at=utc_now()
    )
